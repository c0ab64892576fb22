"""CAM++ of 3D-Speaker, a speaker encoder trained on Mandarin and English."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from harness.api import FloatArray, JudgeInfo
from harness.judges import NoSpeechError
from harness.judges.checkpoints import check_weights, package, packaged
from harness.judges.speakers import fbank, unit
from harness.judges.weights import WEIGHTS, PinnedJudge, require

if TYPE_CHECKING:
    from torch import Tensor

DIMENSIONS = 192
GROWTH = 32
"""Channels that a layer adds."""
SEGMENT = 100
"""Frames of 20 ms that share a context."""


class CamPlusPlus(PinnedJudge):
    """CAM++ zh-en (Wang et al. 2023; 3D-Speaker's ``speech_campplus_sv_zh_en_16k-common_advanced``) on funasr's layers.

    Features as in 3D-Speaker: samples within +-1, 25-ms Povey frames every 10 ms, Kaldi's 80 log mel bins without dither, mean over time
    subtracted. The network runs with its normalisations folded into its layers: 1 - cos to what it gives layer by layer is below 1e-9. Nothing is cut and the level is not normalised. Kaldi takes each frame's mean away, so an offset changes nothing; a gain
    is taken away with the mean over time but for what lies near the floor of the logarithm.

    Args:
        checkpoint: a folder with the published file; "" looks in installed packages and the local hub caches.
        device: "cpu", "cuda:0", ...

    Raises:
        MissingDependency: a package or the weights are not here.
        CheckpointError: the file is not the published one, or does not fit funasr's layers.
    """

    pinned = "campplus"
    needs = ("funasr", "kaldi_native_fbank")
    lacking = "CAM++ needs funasr and kaldi-native-fbank: pip install funasr kaldi-native-fbank"

    def __init__(self, checkpoint: str = "", device: str = "cpu") -> None:
        self.require(checkpoint)
        import torch

        weights = WEIGHTS[self.pinned]
        source = require(weights, checkpoint)
        (file,) = weights.files
        state = torch.load(io.BytesIO(source.read()[file.name]), map_location="cpu", weights_only=True)
        network = _network()
        check_weights(network.state_dict(), state, Path(file.name))
        network.load_state_dict(state)
        self._network, self._device = _Fused(network.to(device).eval()), device
        self.info = JudgeInfo("campplus", file.name, weights.digest, package("funasr", "torch", "kaldi-native-fbank"))

    def embed(self, samples: FloatArray) -> npt.NDArray[np.float64]:
        """Unit-length ``[192]`` of mono ``samples [N]`` at 16 kHz.

        Raises:
            NoSpeechError: digital silence, or shorter than three 25-ms frames.
        """
        import torch

        features = fbank(samples, "povey", 1.0)
        if len(features) < 3:  # the network takes every second, and the standard deviation of one is none
            raise NoSpeechError(f"{len(samples)} samples are less than three 25-ms frames")
        if not np.any(samples):
            raise NoSpeechError("the audio is digital silence")
        with torch.inference_mode():
            centred = torch.from_numpy(features - features.mean(axis=0)).to(self._device)
            vector = self._network(centred.T.contiguous()[None]).double().cpu().numpy()
        return unit(vector)


class _Fused:
    """The network of `_network` for one utterance, with the normalisations that follow a convolution folded into it.

    Most of it are 52 small layers, each of which adds 32 channels to what it is given: they write into one array instead of copying it, and
    the context that scales them is computed once for each 100 frames that share it.

    Args:
        network: in evaluation mode; it is changed.
    """

    def __init__(self, network: Any) -> None:
        import torch
        from torch.nn.utils.fusion import fuse_conv_bn_eval

        def fold(owner: Any, convolution: str, norm: str) -> None:
            setattr(owner, convolution, fuse_conv_bn_eval(getattr(owner, convolution), getattr(owner, norm)))
            setattr(owner, norm, torch.nn.Identity())

        self._head, parts = network.head, network.xvector
        for block in (self._head, *self._head.layer1, *self._head.layer2):
            fold(block, "conv1", "bn1")
            fold(block, "conv2", "bn2")
            if len(getattr(block, "shortcut", ())):
                block.shortcut = fuse_conv_bn_eval(*block.shortcut)
        self._head.to(memory_format=torch.channels_last)
        self._first = fuse_conv_bn_eval(parts.tdnn.linear, parts.tdnn.nonlinear.batchnorm)
        with torch.no_grad():
            self._blocks = []
            for number in (1, 2, 3):
                transit = getattr(parts, f"transit{number}")
                layers = [_layer(layer) for layer in getattr(parts, f"block{number}")]
                self._blocks.append((layers, _affine(transit.nonlinear.batchnorm), transit.linear.weight[:, :, 0]))
            self._last = _affine(parts.out_nonlinear.batchnorm)
            scale, shift = _affine(parts.dense.nonlinear.batchnorm)
            self._dense = parts.dense.linear.weight[:, :, 0] * scale, shift[:, 0]

    def __call__(self, features: Tensor) -> Tensor:
        """``[192]`` of features ``[1, 80, T]``."""
        import torch

        x = self._first(self._head(features))[0].relu_()
        for layers, (scale, shift), matrix in self._blocks:
            x = matrix @ torch.addcmul(shift, _grown(x, layers), scale).relu_()
        x = torch.addcmul(self._last[1], x, self._last[0]).relu_()
        matrix, bias = self._dense
        return torch.addmv(bias, matrix, torch.cat([x.mean(dim=1), x.std(dim=1)]))


def _grown(x: Tensor, layers: Sequence[Mapping[str, Any]]) -> Tensor:
    """``x [C, T]`` with the channels of each layer below, each computed from all above it."""
    import torch
    from torch.nn.functional import avg_pool1d, pad

    width, frames = x.shape
    grown = x.new_empty(width + GROWTH * len(layers), frames)
    grown[:width] = x
    for of in layers:
        given = torch.addcmul(of["shift"], grown[:width], of["scale"]).relu_()
        narrow = torch.addmm(of["narrow_bias"], of["narrow"], given).relu_()
        context = narrow.mean(dim=1, keepdim=True) + avg_pool1d(narrow[None], SEGMENT, SEGMENT, ceil_mode=True)[0]
        context = torch.addmm(of["squeeze_bias"], of["squeeze"], context).relu_()
        gate = torch.addmm(of["gate_bias"], of["gate"], context).sigmoid_().repeat_interleave(SEGMENT, dim=1)[:, :frames]
        around = pad(narrow, (of["dilation"], of["dilation"]))
        shifted = torch.cat([around[:, start : start + frames] for start in (0, of["dilation"], 2 * of["dilation"])])
        torch.mul(of["local"] @ shifted, gate, out=grown[width : width + GROWTH])
        width += GROWTH
    return grown


def _layer(layer: Any) -> dict[str, Any]:
    """The arrays of one dense layer, as `_grown` uses them."""
    import torch

    scale, shift = _affine(layer.nonlinear1.batchnorm)
    after, narrow_bias = _affine(layer.nonlinear2.batchnorm)
    cam = layer.cam_layer
    return {
        "scale": scale, "shift": shift, "narrow": layer.linear1.weight[:, :, 0] * after, "narrow_bias": narrow_bias,
        "squeeze": cam.linear1.weight[:, :, 0], "squeeze_bias": cam.linear1.bias[:, None],
        "gate": cam.linear2.weight[:, :, 0], "gate_bias": cam.linear2.bias[:, None],
        "local": torch.cat([cam.linear_local.weight[:, :, tap] for tap in range(3)], dim=1), "dilation": cam.linear_local.dilation[0],
    }  # fmt: skip


def _affine(norm: Any) -> tuple[Tensor, Tensor]:
    """Factor and addend ``[C, 1]`` of each channel of a batch normalisation."""
    import torch

    scale = 1 / torch.sqrt(norm.running_var.double() + norm.eps)
    if norm.affine:
        scale = scale * norm.weight.double()
    shift = -norm.running_mean.double() * scale
    if norm.affine:
        shift = shift + norm.bias.double()
    return scale.float()[:, None], shift.float()[:, None]


def _network() -> Any:
    """The layers of funasr's ``CAMPPlus`` in its order, from features ``[B, 80, T]`` to ``[B, 192]``.

    Only the file with the layers is read: importing it as a part of funasr imports every model of funasr, 10 s of a processor in each
    process.
    """
    import torch

    spec = importlib.util.spec_from_file_location("harness_funasr_campplus", packaged("funasr", "models") / "campplus" / "components.py")
    assert spec is not None and spec.loader is not None
    layers = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(layers)

    style, growth, channels = "batchnorm-relu", GROWTH, 128
    head = layers.FCM(feat_dim=80)
    xvector = torch.nn.Sequential()
    xvector.add_module("tdnn", layers.TDNNLayer(head.out_channels, channels, 5, stride=2, dilation=1, padding=-1, config_str=style))
    for number, (depth, dilation) in enumerate(((12, 1), (24, 2), (16, 2)), start=1):
        block = layers.CAMDenseTDNNBlock(
            num_layers=depth, in_channels=channels, out_channels=growth, bn_channels=4 * growth, kernel_size=3, dilation=dilation,
            config_str=style,
        )  # fmt: skip
        channels += depth * growth
        xvector.add_module(f"block{number}", block)
        xvector.add_module(f"transit{number}", layers.TransitLayer(channels, channels // 2, bias=False, config_str=style))
        channels //= 2
    xvector.add_module("out_nonlinear", layers.get_nonlinear(style, channels))
    xvector.add_module("stats", layers.StatsPool())
    xvector.add_module("dense", layers.DenseLayer(2 * channels, DIMENSIONS, config_str="batchnorm_"))
    network = torch.nn.Sequential()
    network.add_module("head", head)
    network.add_module("xvector", xvector)
    return network
