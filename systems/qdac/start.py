"""Where a small QDAC begins: as a linear transform codec whose basis is the principal components of the first batch.

From random weights the network takes thousands of steps to learn to pass a waveform through; a principal component analysis of
compressed spectra does so at once (9.7 dB of signal-to-noise ratio with 64 components, before any step).
"""

from __future__ import annotations

import torch
from torch import Tensor

from systems.qdac.decoder import SpectralDecoder
from systems.qdac.encoder import SpectralEncoder
from systems.qdac.model import QdacModel
from systems.quantizers.ranks import over_ranks


@torch.no_grad()
def start(model: QdacModel, audio: Tensor) -> None:
    """Sets the linear maps of a spectral model from ``audio [B, N]``, once; does nothing to a model that has started or is of the waveform kind.

    The latent's components get a mean variance of one, so that a learning rate means the same at any level of the data.
    """
    encoder, decoder = model.encoder, model.decoder
    if not isinstance(encoder, SpectralEncoder) or not isinstance(decoder, SpectralDecoder) or bool(encoder.started):
        return
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
    encoder.enter.weight[:taken] = (basis.T / scale).float()
    encoder.enter.bias.zero_()
    encoder.enter.bias[:taken] = (-(basis.T @ mean) / scale).float()
    torch.nn.init.eye_(encoder.leave.weight)
    torch.nn.init.eye_(decoder.enter.weight)
    encoder.leave.bias.zero_()
    decoder.enter.bias.zero_()
    decoder.head.weight[:, :taken] = (basis * scale).float()
    decoder.head.bias.copy_(mean)
    encoder.started.fill_(True)
