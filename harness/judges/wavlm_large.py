"""WavLM-large with an ECAPA-TDNN, fine-tuned for speaker verification: the speaker encoder of seed-tts-eval."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from harness.api import FloatArray
from harness.judges import NoSpeechError
from harness.judges.fairseq import HeadedJudge, Layout
from harness.judges.speakers import unit
from harness.torchaudio import load_torchaudio

_UPSTREAM = "feature_extract.model."
_UNUSED = ("loss_calculator.projection.weight", f"{_UPSTREAM}mask_emb")
_HEAD_NAMES = (
    (".first.", ".Conv1dReluBn1."),
    (".second.", ".Conv1dReluBn2."),
    (".res2.", ".Res2Conv1dReluBn."),
    (".gate.", ".SE_Connect."),
)


def head_name(key: str) -> str:
    """What the file calls a parameter of `EcapaHead`."""
    for own, theirs in _HEAD_NAMES:
        key = key.replace(own, theirs)
    return key


class WavLmLarge(HeadedJudge):
    """UniSpeech's ``wavlm_large_finetune.pth``, whose cosines seed-tts-eval and most papers on language-model synthesis report as SIM.

    As there: the waveform is brought to mean 0 and variance 1, so that neither level nor an offset says anything; the inputs of the 24
    layers and the normalised output of the last are summed with learned weights, and an ECAPA-TDNN makes 256 dimensions of them. Nothing
    is cut. The public script loads the file leniently, which leaves what it does not find at random; here every key has to be there and
    no other, but for the two that only training uses.
    """

    lacking = "the WavLM-large judge needs torchaudio: pip install 'torchaudio==2.11.*'"
    files, where = ("wavlm_large_finetune.pth",), "the speaker verification folder of microsoft/UniSpeech (1.3 GB)"
    name, layout = "wavlm_large", Layout(_UPSTREAM, "2.1", "model", _UNUSED, head_name)

    def embed(self, samples: FloatArray) -> npt.NDArray[np.float64]:
        """Unit-length ``[256]`` of mono ``samples [N]`` at 16 kHz.

        Raises:
            NoSpeechError: digital silence, or shorter than the first convolutions reach (400 samples).
        """
        import torch

        if len(samples) < 400 or not np.any(samples):
            raise NoSpeechError("the audio is shorter than 25 ms or digital silence")
        with torch.inference_mode():
            wave = torch.from_numpy(np.array(samples, dtype=np.float32))[None].to(self._device)
            wave = torch.nn.functional.layer_norm(wave, wave.shape[1:])
            vector = self._head(hidden_states(self._speech, wave))[0].double().cpu().numpy()
        return unit(vector)

    @staticmethod
    def speech_network() -> Any:
        """WavLM-large."""
        return load_torchaudio().models.wavlm_large()

    @staticmethod
    def head(speech: Any) -> Any:
        """The ECAPA-TDNN over its layers."""
        from harness.judges.ecapa_head import EcapaHead

        transformer = speech.encoder.transformer
        return EcapaHead(len(transformer.layers) + 1, transformer.pos_conv_embed.embed_dim)


def hidden_states(wavlm: Any, wave: Any) -> Any:
    """The input of every layer and the normalised output of the last, ``[L + 1, B, T, D]``, of ``wave [B, N]``."""
    import torch

    features, _ = wavlm.feature_extractor(wave, None)
    x = wavlm.encoder.feature_projection(features)
    transformer = wavlm.encoder.transformer
    x = x + transformer.pos_conv_embed(x)
    states, bias = [], None
    for layer in transformer.layers:
        states.append(x)
        x, bias = layer(x, None, position_bias=bias)
    return torch.stack([*states, transformer.layer_norm(x)])
