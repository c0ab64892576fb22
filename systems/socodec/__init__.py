"""SoCodec (Guo et al. 2024, arXiv 2409.00933): a semantic, ordered-product-quantized codec with its vocoders."""
