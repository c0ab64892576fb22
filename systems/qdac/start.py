"""Where a small QDAC begins: as a linear transform codec whose basis is the principal components of the first batch.

From random weights the network takes thousands of steps to learn to pass a waveform through; a principal component analysis of
companded MDCT coefficients does so at once: with 64 of 320 components the signal-to-noise ratio is 11.1 dB before any step.
"""

from __future__ import annotations

import torch
from torch import Tensor

from systems.qdac.decoder import LappedDecoder
from systems.qdac.encoder import LappedEncoder
from systems.qdac.model import QdacModel
from systems.quantizers.codebook import over_ranks


@torch.no_grad()
def start(model: QdacModel, audio: Tensor) -> None:
    """Sets the linear maps of a lapped model from ``audio [B, N]``, once.

    Does nothing to a model that has started or is of the waveform kind.

    The latent's components get a mean variance of one, so that a learning rate means the same at any level of the data.
    """
    encoder, decoder = model.encoder, model.decoder
    if not isinstance(encoder, LappedEncoder) or bool(encoder.started):
        return
    assert isinstance(decoder, LappedDecoder)
    flat = encoder.features(audio).flatten(0, 1).double()
    count = over_ranks(torch.tensor(float(flat.shape[0]), dtype=torch.float64, device=flat.device))
    mean = over_ranks(flat.sum(dim=0)) / count
    variances, basis = torch.linalg.eigh(over_ranks((flat - mean).T @ (flat - mean)) / count)
    width, latent = model.config.width, model.config.latent_dim
    taken = min(width, flat.shape[1])
    basis = basis.flip(1)[:, :taken]
    scale = variances.flip(0)[:latent].mean().clamp(min=1e-12).sqrt()
    for weight in (encoder.enter.weight, decoder.head.weight):
        weight.zero_()
    # Features beside the coefficients come in later, when the blocks' gradients ask for them.
    encoder.enter.weight[:taken, : flat.shape[1]] = (basis.T / scale).float()
    encoder.enter.bias.zero_()
    encoder.enter.bias[:taken] = (-(basis.T @ mean) / scale).float()
    torch.nn.init.eye_(encoder.leave.weight)
    torch.nn.init.eye_(decoder.enter.weight)
    encoder.leave.bias.zero_()
    decoder.enter.bias.zero_()
    decoder.head.weight[:, :taken] = (basis * scale).float()
    decoder.head.bias.copy_(mean)
    encoder.started.fill_(True)
