"""An ECAPA-TDNN over the hidden states of a speech model (Desplanques et al. 2020; as UniSpeech trained it on WavLM)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

CHANNELS, SCALE, DILATIONS, BOTTLENECK, POOLED = 512, 8, (2, 3, 4), 128, 1536


class ConvolutionNorm(nn.Module):
    """Convolution over time, ReLU, batch normalisation, in this order."""

    def __init__(self, inputs: int, outputs: int, width: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inputs, outputs, width, padding=width // 2)
        self.bn = nn.BatchNorm1d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.bn(self.conv(x).relu())
        return y


class Res2(nn.Module):
    """Convolutions of one eighth of the channels each, every next one fed its own eighth and the last result; the last eighth passes."""

    def __init__(self, dilation: int) -> None:
        super().__init__()
        width = CHANNELS // SCALE
        self.convs = nn.ModuleList(nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation) for _ in range(SCALE - 1))
        self.bns = nn.ModuleList(nn.BatchNorm1d(width) for _ in range(SCALE - 1))

    def forward(self, x: Tensor) -> Tensor:
        *parts, rest = x.chunk(SCALE, dim=1)
        done: list[Tensor] = []
        for part, conv, bn in zip(parts, self.convs, self.bns, strict=True):
            done.append(bn(conv(part + done[-1] if done else part).relu()))
        return torch.cat([*done, rest], dim=1)


class Gate(nn.Module):
    """Squeeze and excitation: every channel times a factor that the means of all decide."""

    def __init__(self) -> None:
        super().__init__()
        self.linear1 = nn.Linear(CHANNELS, BOTTLENECK)
        self.linear2 = nn.Linear(BOTTLENECK, CHANNELS)

    def forward(self, x: Tensor) -> Tensor:
        factors: Tensor = self.linear2(self.linear1(x.mean(dim=2)).relu()).sigmoid()
        return x * factors[:, :, None]


class Block(nn.Module):
    """One SE-Res2Block with its residual."""

    def __init__(self, dilation: int) -> None:
        super().__init__()
        self.first = ConvolutionNorm(CHANNELS, CHANNELS)
        self.res2 = Res2(dilation)
        self.second = ConvolutionNorm(CHANNELS, CHANNELS)
        self.gate = Gate()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.gate(self.second(self.res2(self.first(x))))
        return y


class Pooling(nn.Module):
    """Mean and standard deviation over time, weighted by an attention of each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.linear1 = nn.Conv1d(POOLED, BOTTLENECK, 1)
        self.linear2 = nn.Conv1d(BOTTLENECK, POOLED, 1)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.linear2(self.linear1(x).tanh()).softmax(dim=2)
        mean = (weights * x).sum(dim=2)
        variance = (weights * x.square()).sum(dim=2) - mean.square()
        return torch.cat([mean, variance.clamp(min=1e-9).sqrt()], dim=1)


class EcapaHead(nn.Module):
    """From the hidden states of all layers, ``[L, B, T, D]``, to ``[B, dimensions]``.

    The states are summed with the weights softmax(``feature_weight``), and every feature is brought to mean 0 and variance 1 over time.

    Args:
        layers: L.
        features: D.
        dimensions: of the embedding.
    """

    def __init__(self, layers: int, features: int, dimensions: int = 256) -> None:
        super().__init__()
        self.feature_weight = nn.Parameter(torch.zeros(layers))
        self.instance_norm = nn.InstanceNorm1d(features)
        self.layer1 = ConvolutionNorm(features, CHANNELS, 5)
        self.layer2, self.layer3, self.layer4 = (Block(dilation) for dilation in DILATIONS)
        self.conv = nn.Conv1d(len(DILATIONS) * CHANNELS, POOLED, 1)
        self.pooling = Pooling()
        self.bn = nn.BatchNorm1d(2 * POOLED)
        self.linear = nn.Linear(2 * POOLED, dimensions)

    def forward(self, states: Tensor) -> Tensor:
        summed = torch.einsum("l,lbtd->bdt", self.feature_weight.softmax(dim=0), states)
        x = self.layer1(self.instance_norm(summed))
        second = self.layer2(x)
        third = self.layer3(second)
        fourth = self.layer4(third)
        joined = self.conv(torch.cat([second, third, fourth], dim=1)).relu()
        y: Tensor = self.linear(self.bn(self.pooling(joined)))
        return y
