"""Feature frames to the latent that is quantized: causal convolutions, one downsampling block per stride."""

from __future__ import annotations

from torch import Tensor, nn

from systems.socodec.causal import CausalConv, DownBlock, activated, channels_first
from systems.socodec.config import SocodecConfig


class SocodecEncoder(nn.Module):
    """Convolution of 3, downsampling blocks, convolution of 3 (SoCodec, section 2.1; the release's ``encoder``).

    Args:
        config: ``input_dim``, ``width``, ``strides``, ``groups`` and ``whole_frames`` count.
    """

    def __init__(self, config: SocodecConfig) -> None:
        super().__init__()
        width = config.width
        blocks: list[nn.Module] = [DownBlock(width, stride, config.groups, config.whole_frames) for stride in config.strides]
        self.layers = nn.Sequential(CausalConv(config.input_dim, width, 3), nn.SiLU(), *activated(blocks), CausalConv(width, width, 3))

    def forward(self, features: Tensor) -> Tensor:
        """Latent ``[B, T, D]`` of ``features [B, T x stride, input_dim]``."""
        return channels_first(self.layers(channels_first(features)))
