"""The vocoder by itself as the harness sees a codec: the ceiling of whatever decodes to its mel frames."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from harness.api import Audio, Bitstream, CodecSpec, Encoded, SystemInfo, Weights
from harness.api.libraries import versions
from systems.bundled import lacking, located
from systems.pcm import framed, frames_for, mono

SAMPLE_RATE, HOP, NUM_BANDS = 16000, 160, 80


class MelVocoder:
    """Log-mel frames of the recording, sent as float16, and audio made of them by a vocoder.

    Nothing is quantized but the float16 (128 kbps): what is lost here, a codec that decodes to mel frames loses too.

    Args:
        checkpoint: a bundled name, or the path of a safetensors file of `harness train` or of a BigVGAN in the released layout.
        weights: "trained", or "random" to measure speed only.
        shape: of random weights: ``{"size": "paper"}`` for a BigVGAN.
        seed: of random weights.

    Raises:
        ValueError: impossible parameters, or a file that holds no vocoder.
        FileNotFoundError: no such file, see `missing`.
    """

    def __init__(
        self,
        checkpoint: str | Path | None = "mel_vocoder",
        weights: str = "trained",
        shape: Mapping[str, str] | None = None,
        device: str = "cpu",
        seed: int = 0,
    ) -> None:
        from systems.vocoder.bigvgan import BigVgan, load_vocoder, random_vocoder
        from systems.vocoder.mel import MelFrames

        if reason := self.missing(checkpoint, weights):
            raise FileNotFoundError(reason)
        random = weights == "random"
        made = random_vocoder(dict(shape or {}).get("size", "small"), seed) if random else load_vocoder(located(checkpoint or ""))
        self._model, self._mel, self._device = made.model.to(device), MelFrames().to(device), device
        self.spec = CodecSpec(sample_rate=SAMPLE_RATE, hop_length=HOP)
        self.info = SystemInfo(
            family="mel_vocoder",
            version="1",
            description=f"mel frames to audio, no codec: {made.model.TITLE}",
            size="paper" if isinstance(made.model, BigVgan) else "small",
            weights=Weights(weights),
            weights_digest=made.digest,
            num_parameters=sum(p.numel() for p in made.model.parameters()),
            device=device,
            tools=versions("torch"),
        )

    @classmethod
    def missing(cls, checkpoint: str | Path | None = "mel_vocoder", weights: str = "trained", **others: object) -> str | None:
        """Why it cannot be built here, or None."""
        return lacking({"checkpoint": checkpoint}, weights, shape={})

    def encode(self, audio: Audio) -> Bitstream:
        """One packet of 80 float16 numbers per 10 ms.

        Raises:
            ValueError: another sample rate, or more than one channel.
        """
        import torch

        samples = mono(audio, SAMPLE_RATE)
        padded = framed(samples, frames_for(samples.size, 0, HOP) * HOP, 1)
        with torch.inference_mode():
            mel = self._mel(torch.from_numpy(padded).to(self._device))[0].cpu().numpy()
        return Bitstream(tuple(row.tobytes() for row in mel.astype("<f2")), audio.num_samples, SAMPLE_RATE)

    def decode(self, encoded: Encoded) -> Audio:
        """The audio of mel frames.

        Raises:
            ValueError: not what `encode` returns.
        """
        import torch

        if not isinstance(encoded, Bitstream) or encoded.sample_rate != SAMPLE_RATE:
            raise ValueError(f"the mel vocoder decodes its own packets, got {type(encoded).__name__}")
        frames = -(-encoded.num_samples // HOP)
        if len(encoded.packets) != frames or any(len(packet) != 2 * NUM_BANDS for packet in encoded.packets):
            raise ValueError(f"{encoded.num_samples} samples are {frames} packets of {2 * NUM_BANDS} bytes, got {len(encoded.packets)}")
        mel = np.frombuffer(b"".join(encoded.packets), dtype="<f2").reshape(1, frames, NUM_BANDS).astype(np.float32)
        with torch.inference_mode():
            audio = self._model(torch.from_numpy(mel).to(self._device))[0].float().cpu().numpy()
        return Audio.mono(audio[: encoded.num_samples], SAMPLE_RATE)
