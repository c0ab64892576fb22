"""CAM++ of 3D-Speaker, a speaker encoder trained on Mandarin and English."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.api import FloatArray, JudgeInfo
from harness.judges import NoSpeechError
from harness.judges.checkpoints import check_weights, package, packaged
from harness.judges.speakers import fbank, unit
from harness.judges.weights import WEIGHTS, PinnedJudge, require

DIMENSIONS = 192


class CamPlusPlus(PinnedJudge):
    """CAM++ zh-en (Wang et al. 2023; 3D-Speaker's ``speech_campplus_sv_zh_en_16k-common_advanced``) on funasr's layers.

    Features as in 3D-Speaker: samples within +-1, 25-ms Povey frames every 10 ms, Kaldi's 80 log mel bins without dither, mean over time
    subtracted. Nothing is cut and the level is not normalised. Kaldi takes each frame's mean away, so an offset changes nothing; a gain
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
        self._network, self._device = network.to(device).eval(), device
        self.info = JudgeInfo("campplus", file.name, weights.digest, package("funasr", "torch", "kaldi-native-fbank"))

    def embed(self, samples: FloatArray) -> npt.NDArray[np.float64]:
        """Unit-length ``[192]`` of mono ``samples [N]`` at 16 kHz.

        Raises:
            NoSpeechError: digital silence, or shorter than two 25-ms frames.
        """
        import torch

        features = fbank(samples, "povey", 1.0)
        if len(features) < 2:
            raise NoSpeechError(f"{len(samples)} samples are less than two 25-ms frames")
        if not np.any(samples):
            raise NoSpeechError("the audio is digital silence")
        with torch.inference_mode():
            centred = torch.from_numpy(features - features.mean(axis=0)).to(self._device)
            vector = self._network(centred.T[None])[0].double().cpu().numpy()
        return unit(vector)


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

    style, growth, channels = "batchnorm-relu", 32, 128
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
