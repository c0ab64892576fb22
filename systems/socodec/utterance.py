"""The utterance encoder: an ECAPA-TDNN (Desplanques et al. 2020) over mel frames, and the clips it hears in training.

SpeechBrain's class has batch normalisation behind every layer and no switch for it; the released SoCodec has none, so its tensors do not
fit there. This one holds only what SoCodec's has, under the release's names.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from systems.socodec.config import UtteranceConfig
from systems.socodec.networks import channels_first

_KERNEL, _DILATIONS = 3, (2, 3, 4)
_LEAST_FRAMES = 1 + _DILATIONS[-1]  # mirroring needs more frames than it adds at one edge
_SLICE_FRAMES = 100


class _Conv(nn.Module):
    """A convolution that keeps the length, edges mirrored."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv1d(
            channels_in, channels_out, kernel, dilation=dilation, padding=dilation * (kernel - 1) // 2, padding_mode="reflect"
        )

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.conv(x)
        return made


class _Tdnn(nn.Module):
    """Convolution and rectifier."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.conv = _Conv(channels_in, channels_out, kernel, dilation)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.conv(x))


class _Res2Net(nn.Module):
    """Slices of channels: the first passes, each further one is convolved together with the one before."""

    def __init__(self, channels: int, scale: int, kernel: int, dilation: int) -> None:
        super().__init__()
        if channels % scale:
            raise ValueError(f"{scale} slices do not divide {channels} channels")
        self.blocks = nn.ModuleList(_Tdnn(channels // scale, channels // scale, kernel, dilation) for _ in range(scale - 1))

    def forward(self, x: Tensor) -> Tensor:
        first, *rest = x.chunk(len(self.blocks) + 1, dim=1)
        made = [first]
        for i, (block, part) in enumerate(zip(self.blocks, rest, strict=True)):
            made.append(block(part if i == 0 else part + made[-1]))
        return torch.cat(made, dim=1)


class _SqueezeExcitation(nn.Module):
    """A gain per channel, told by the channels' means over time."""

    def __init__(self, channels: int, squeeze: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = _Conv(channels, squeeze), _Conv(squeeze, channels)

    def forward(self, x: Tensor) -> Tensor:
        gain: Tensor = self.conv2(functional.relu(self.conv1(x.mean(dim=2, keepdim=True))))
        return gain.sigmoid() * x


class _SeRes2Net(nn.Module):
    def __init__(self, config: UtteranceConfig, dilation: int) -> None:
        super().__init__()
        channels = config.channels
        self.tdnn1 = _Tdnn(channels, channels)
        self.res2net_block = _Res2Net(channels, config.res2net_scale, _KERNEL, dilation)
        self.tdnn2 = _Tdnn(channels, channels)
        self.se_block = _SqueezeExcitation(channels, config.squeeze_channels)

    def forward(self, x: Tensor) -> Tensor:
        changed: Tensor = x + self.se_block(self.tdnn2(self.res2net_block(self.tdnn1(x))))
        return changed


class _AttentiveStatistics(nn.Module):
    """Mean and deviation of every channel over time, weighted by attention that sees the plain ones beside each frame."""

    def __init__(self, channels: int, attention: int) -> None:
        super().__init__()
        self.tdnn = _Tdnn(3 * channels, attention)
        self.conv = _Conv(attention, channels)

    def forward(self, x: Tensor) -> Tensor:
        plain = _statistics(x, torch.full_like(x, 1.0 / x.shape[2]))
        around = plain.unsqueeze(2).expand(-1, -1, x.shape[2])
        weights = self.conv(self.tdnn(torch.cat([x, around], dim=1)).tanh()).softmax(dim=2)
        return _statistics(x, weights)


def _statistics(x: Tensor, weights: Tensor) -> Tensor:
    """``[B, 2 C]``, means and deviations of ``x [B, C, T]`` under ``weights [B, C, T]`` that sum to one over time."""
    mean = (weights * x).sum(dim=2)
    variance = (weights * (x - mean[..., None]).square()).sum(dim=2)
    return torch.cat([mean, variance.clamp(min=1e-12).sqrt()], dim=1)


class UtteranceEncoder(nn.Module):
    """Mel frames of an utterance to one embedding (SoCodec, section 2.3; the release's ``speaker_encoder``)."""

    def __init__(self, num_mels: int, embedding_dim: int, config: UtteranceConfig) -> None:
        super().__init__()
        blocks: list[nn.Module] = [_Tdnn(num_mels, config.channels, 5)]
        blocks += [_SeRes2Net(config, dilation) for dilation in _DILATIONS]
        self.blocks = nn.ModuleList(blocks)
        self.mfa = _Tdnn(len(_DILATIONS) * config.channels, config.pooled_channels)
        self.asp = _AttentiveStatistics(config.pooled_channels, config.attention_channels)
        self.fc = _Conv(2 * config.pooled_channels, embedding_dim)

    def forward(self, mel: Tensor) -> Tensor:
        """Embeddings ``[B, D]`` of ``mel [B, T, bands]``, T at least 1; fewer than 5 frames are repeated."""
        repeats = -(-_LEAST_FRAMES // mel.shape[1])
        x = channels_first(mel.repeat(1, repeats, 1) if repeats > 1 else mel)
        x = self.blocks[0](x)
        heard = []
        for block in list(self.blocks)[1:]:
            x = block(x)
            heard.append(x)
        embedding: Tensor = self.fc(self.asp(self.mfa(torch.cat(heard, dim=1)))[..., None])
        return embedding[..., 0]


def clip_and_shuffle(mel: Tensor, generator: torch.Generator | None = None, shares: tuple[float, float] = (0.25, 0.75)) -> Tensor:
    """What the utterance encoder hears in training: a part of every utterance, its seconds in random order (SoCodec, section 2.3).

    Voice and room survive that, words and their order do not, so the embedding cannot carry them past the codes. A segment of less than
    three seconds is cut into three equal slices instead, as the release does with all. Segments shorter than the longest of the batch are
    repeated to its length.

    Args:
        mel: ``[B, T, bands]``, T at least 1, without padding.
        generator: of the draws, on the CPU; torch's own by default.
        shares: least and most of an utterance to hear.

    Returns:
        ``[B, T', bands]``, T' the longest segment.
    """
    total = mel.shape[1]
    drawn = torch.rand(mel.shape[0], generator=generator)
    lengths = [max(1, round(total * (shares[0] + (shares[1] - shares[0]) * float(share)))) for share in drawn]
    longest, rows = max(lengths), []
    for length in lengths:
        start = int(torch.randint(total - length + 1, (1,), generator=generator))
        slices = torch.split(start + torch.arange(length), min(_SLICE_FRAMES, -(-length // 3)))
        shuffled = torch.cat([slices[int(i)] for i in torch.randperm(len(slices), generator=generator)])
        rows.append(shuffled.repeat(-(-longest // length))[:longest])
    where = torch.stack(rows).to(mel.device)
    return mel.gather(1, where[..., None].expand(-1, -1, mel.shape[2]))
