"""Initial weights under which a signal keeps its size on the way through.

The release has its normalisation switched off. torch's own initial weights then shrink a signal at every convolution, so that at first
the mel frames hardly feel the code (3e-4 of their deviation is its doing at 40 ms, 1e-5 at 120 ms, 4e-7 at 240 ms) and training is slow
until they do. What follows is He et al. 2015, "Delving deep into rectifiers", for Swish, with small second convolutions in residual units and
small heads.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from systems.socodec.causal import CausalConv, CausalTransposedConv, ResidualUnit
from systems.socodec.model import SocodecModel

_SWISH = 1.0 / math.sqrt(0.356)  # 0.356 is the mean square of Swish of a normal variable
_RECTIFIER = math.sqrt(2.0)
_RESIDUAL = 0.3
_HEAD = 0.05


@torch.no_grad()
def spread(model: SocodecModel) -> None:
    """Draws all convolutions and projections of a codec anew, biases zero."""
    heads = {decoder.layers[-1] for decoder in (model.decoder_1, model.decoder_2) if isinstance(decoder.layers[-1], CausalConv)}
    seconds = {unit.layers[-1] for unit in model.modules() if isinstance(unit, ResidualUnit)}
    for part in (model.encoder, model.decoder_1, model.decoder_2):
        for module in part.modules():
            if isinstance(module, CausalTransposedConv):
                _draw(module, 2 * module.in_channels, _SWISH)  # every output frame is made of two input frames
            elif isinstance(module, CausalConv):
                gain = _HEAD if module in heads else _SWISH * (_RESIDUAL if module in seconds else 1.0)
                _draw(module, module.in_channels // module.groups * module.kernel_size[0], gain)
    for module in model.speaker_encoder.modules():
        if isinstance(module, nn.Conv1d):
            _draw(module, module.in_channels * module.kernel_size[0], 1.0 if module is model.speaker_encoder.fc.conv else _RECTIFIER)
    for projection in (model.quantizer.project_in, model.quantizer.project_out):
        _draw(projection, projection.in_features, 1.0)


def _draw(module: nn.Conv1d | nn.ConvTranspose1d | nn.Linear, fan_in: int, gain: float) -> None:
    module.weight.normal_(0.0, gain / math.sqrt(fan_in))
    if module.bias is not None:
        module.bias.zero_()
