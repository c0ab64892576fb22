"""Quantized latent back to frames: causal transposed convolutions on top of the utterance embedding.

SoCodec has two in a row: decoder_1 climbs to 50 frames a second and tells the features, decoder_2 goes on from decoder_1's last hidden
frames to 100 frames a second and tells the mel spectrum. Both add the utterance embedding to every frame of their input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from systems.socodec.causal import CausalConv, UpBlock, activated, channels_first


@dataclass(frozen=True, eq=False)
class Frames:
    """What a decoder gives.

    Args:
        output: ``[B, T', outputs]``, or None of a decoder without a head.
        hidden: ``[B, T', D]``, what the head reads.
    """

    output: Tensor | None
    hidden: Tensor


class SocodecDecoder(nn.Module):
    """Convolution of 3, upsampling blocks, convolution of 3 as the head.

    Args:
        width: channels D.
        strides: of the blocks, in their order.
        groups: of the residual units.
        outputs: of the head; 0 for a trunk without one.
    """

    def __init__(self, width: int, strides: Sequence[int], groups: int, outputs: int) -> None:
        super().__init__()
        blocks: list[nn.Module] = [UpBlock(width, stride, groups) for stride in strides]
        layers: list[nn.Module] = [CausalConv(width, width, 3), nn.SiLU(), *activated(blocks)]
        self._trunk = len(layers)
        if outputs:
            layers.append(CausalConv(width, outputs, 3))
        self.layers = nn.Sequential(*layers)

    def forward(self, latent: Tensor, embedding: Tensor) -> Frames:
        """Frames of ``latent [B, T, D]`` spoken by ``embedding [B, D]``."""
        x = channels_first(latent + embedding[:, None])
        hidden = self.layers[: self._trunk](x)
        output = channels_first(self.layers[self._trunk](hidden)) if len(self.layers) > self._trunk else None
        return Frames(output, channels_first(hidden))
