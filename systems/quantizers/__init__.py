"""Vector quantizers. Law: decoding the codes gives the quantized latent, and a prefix of the codes its partial sum."""
