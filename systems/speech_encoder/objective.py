"""Masked prediction: what is to be said of frames, and what the encoder says of those it may not see.

Clusters of mel-cepstra, and phones by forced alignment: PocketSphinx with its packaged US English model and CMUdict.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from systems.quantizers.codebook import Codebook, CodebookConfig
from systems.speech_encoder.model import SpeechEncoderConfig
from systems.text.tokens import PHONES as _SPOKEN

if TYPE_CHECKING:
    import numpy.typing as npt

PHONES = ("SIL", *_SPOKEN)
"""Silence and the 39 phones of CMUdict without stress; the place of a phone is its label."""

UNKNOWN = -100
"""Label of a frame whose phone is not known; what torch's cross-entropy leaves out by itself."""

SAMPLE_RATE = 16000
_FRAMES_PER_S = 100  # of the aligner


class PhoneAligner:
    """Labels of English utterances, made once each and kept: a pure function of sound and text, at .02 of real time.

    Args:
        hop: samples per frame at 16 kHz, a multiple of the aligner's 160.

    Raises:
        ValueError: another hop.
    """

    def __init__(self, hop: int = 320) -> None:
        self._step, rest = divmod(hop * _FRAMES_PER_S, SAMPLE_RATE)
        if rest or not self._step:
            raise ValueError(f"the aligner has a frame every 160 samples; a hop of {hop} is no multiple of that")
        self._decoder: Any = None
        self._known: dict[str, npt.NDArray[np.int64] | None] = {}

    def label(self, audio: Tensor, lengths: Tensor, texts: Sequence[str]) -> Tensor:
        """Labels int64 ``[B, N // hop]`` of padded utterances, on the CPU: places in `PHONES`, or UNKNOWN.

        Args:
            audio: float32 ``[B, N]`` at 16 kHz, on any device.
            lengths: int64 ``[B]``, valid samples.
            texts: what is said; a row with "" stays UNKNOWN, as does one with a word that is not in the dictionary, or whose sound and
                text do not fit together.
        """
        pcm = (audio.detach().float().cpu().numpy() * 32768.0).round().clip(-32768, 32767).astype("<i2")
        labels = torch.full((audio.shape[0], audio.shape[1] // (self._step * SAMPLE_RATE // _FRAMES_PER_S)), UNKNOWN)
        for row, (length, text) in enumerate(zip(lengths.tolist(), texts, strict=True)):
            found = self._remembered(pcm[row, :length], text) if text else None
            if found is not None:
                count = min(len(found), labels.shape[1])
                labels[row, :count] = torch.from_numpy(found[:count])
        return labels

    def _remembered(self, pcm: npt.NDArray[np.int16], text: str) -> npt.NDArray[np.int64] | None:
        key = hashlib.blake2b(pcm.tobytes() + text.encode(), digest_size=16).hexdigest()
        if key not in self._known:
            self._known[key] = self._aligned(pcm, text)
        return self._known[key]

    def _aligned(self, pcm: npt.NDArray[np.int16], text: str) -> npt.NDArray[np.int64] | None:
        words = "".join(c if c.isalpha() or c == "'" else " " for c in text.lower()).split()
        decoder = self._ready()
        if not words or not pcm.any() or any(decoder.lookup_word(word) is None for word in words):
            return None
        try:
            decoder.set_align_text(" ".join(words))
            self._heard(pcm)
            decoder.set_alignment()  # the words are placed; a second pass places their phones
            self._heard(pcm)
            phones = [(phone.name, phone.start, phone.duration) for phone in decoder.get_alignment().phones()]
        except RuntimeError:  # no path through the text ends with the sound
            self._decoder = None  # what a failed search leaves behind is not specified
            return None
        fine = np.zeros(max(start + duration for _, start, duration in phones), dtype=np.int64)
        for name, start, duration in phones:
            # Noises (+NSN+, +SPN+) are no speech either.
            fine[start : start + duration] = PHONES.index(name) if name in PHONES else 0
        # The aligner's frame i is centred 10 i + 12.8 ms, so that of those in a frame of ours the first lies nearest its middle (at 20 ms).
        return fine[:: self._step]

    def _heard(self, pcm: npt.NDArray[np.int16]) -> None:
        self._decoder.reinit_feat()  # otherwise the result depends on the utterance before
        self._decoder.start_utt()
        self._decoder.process_raw(pcm.tobytes(), no_search=False, full_utt=True)
        self._decoder.end_utt()

    def _ready(self) -> Any:
        if self._decoder is None:
            from pocketsphinx import Decoder, get_model_path

            folder = Path(get_model_path()) / "en-us"
            # Rescoring the lattice (bestpath) can move the last word's end, after which the second pass finds no way: of 574 read
            # sentences 164 were lost to it, 2 are without.
            self._decoder = Decoder(
                hmm=str(folder / "en-us"), dict=str(folder / "cmudict-en-us.dict"), lm=None, bestpath=False, cmn="batch", dither=False,
                loglevel="FATAL",
            )  # fmt: skip
        return self._decoder


NUM_CEPSTRA = 13
_REACH = 2  # spectra on each side of a difference


class Cepstra(nn.Module):
    """Mel-cepstral coefficients 0 to 12 of a frame, with first and second differences: 39 numbers, each of the mean size 1.

    Args:
        per_frame: spectra of a frame, averaged.
    """

    cosines: Tensor
    slope: Tensor

    def __init__(self, num_bands: int, per_frame: int) -> None:
        super().__init__()
        self.per_frame = per_frame
        phase = (torch.arange(num_bands) + 0.5)[:, None] * torch.arange(NUM_CEPSTRA) * (math.pi / num_bands)
        self.register_buffer("cosines", phase.cos() * math.sqrt(2.0 / num_bands), persistent=False)
        reach = torch.arange(-_REACH, _REACH + 1.0)
        self.register_buffer("slope", reach / reach.square().sum(), persistent=False)

    def forward(self, spectra: Tensor) -> Tensor:
        """``[B, T, 39]`` of log-mel spectra ``[B, T per_frame, bands]``, not yet scaled."""
        still = spectra @ self.cosines
        first = self._difference(still)
        joined = torch.cat([still, first, self._difference(first)], dim=-1)
        return joined.reshape(joined.shape[0], -1, self.per_frame, joined.shape[2]).mean(dim=2)

    def _difference(self, x: Tensor) -> Tensor:
        """Slope of the line through five neighbours (Furui 1986)."""
        around = functional.pad(x.transpose(1, 2), (_REACH, _REACH), mode="replicate").unfold(-1, 2 * _REACH + 1, 1)
        return (around @ self.slope).transpose(1, 2)


class AcousticUnits(nn.Module):
    """Clusters of cepstra: k-means on the first batch, moved by the batches that follow, then fixed."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, size: int, num_bands: int, per_frame: int) -> None:
        super().__init__()
        self.cepstra = Cepstra(num_bands, per_frame)
        self.codebook = Codebook(CodebookConfig(size, 3 * NUM_CEPSTRA, decay=0.99))
        self.register_buffer("mean", torch.zeros(3 * NUM_CEPSTRA))
        self.register_buffer("deviation", torch.ones(3 * NUM_CEPSTRA))

    def forward(self, spectra: Tensor) -> Tensor:
        """Cluster int64 ``[B, T]`` of each frame of log-mel spectra ``[B, T per_frame, bands]``."""
        return self.codebook.search((self.cepstra(spectra) - self.mean) / self.deviation)

    @torch.no_grad()
    def learn(self, spectra: Tensor, valid: Tensor, generator: torch.Generator) -> None:
        """Moves the clusters; ``valid`` (bool ``[B, T]``) frames count."""
        frames = self.cepstra(spectra)[valid]
        if not bool(self.codebook.started):
            self.mean.copy_(frames.mean(dim=0))
            self.deviation.copy_(frames.std(dim=0).clamp(min=1e-3))
        self.codebook((frames - self.mean) / self.deviation, generator)


class Prediction(NamedTuple):
    """Losses (cross-entropies in nats) and hits of a batch, scalars."""

    units: Tensor  # loss of the masked frames' clusters
    unit_accuracy: Tensor  # share of them predicted
    phones: Tensor  # loss of the labelled frames' phones; zero where none is labelled
    phone_accuracy: Tensor  # share of the labelled frames that were not masked whose phone is predicted; zero where there is none


class MaskedPrediction(nn.Module):
    """The substitute of masked frames, the clusters, and two linear heads over the features."""

    def __init__(self, config: SpeechEncoderConfig, num_units: int) -> None:
        super().__init__()
        self.substitute = nn.Parameter(torch.zeros(config.width))
        self.acoustic = AcousticUnits(num_units, config.num_bands, config.hop // config.spectrum_hop)
        self.unit_head = nn.Linear(config.dim, num_units)
        self.phone_head = nn.Linear(config.dim, len(PHONES))

    def forward(self, features: Tensor, units: Tensor, masked: Tensor, phones: Tensor) -> Prediction:
        """Compares.

        Args:
            features: ``[B, T, D]``.
            units: int64 ``[B, T]``, clusters.
            masked: bool ``[B, T]``, frames that count for the clusters.
            phones: int64 ``[B, T]``, places in `PHONES` or UNKNOWN.
        """
        said, target = self.unit_head(features[masked]).float(), units[masked]
        labelled = phones != UNKNOWN
        spoken, phone = self.phone_head(features[labelled]).float(), phones[labelled]
        heard = ~masked[labelled]
        return Prediction(
            # Sums, so that an empty choice costs zero and not NaN, which would void the step.
            functional.cross_entropy(said, target, reduction="sum") / max(1, target.numel()),
            (said.argmax(dim=-1) == target).float().sum() / max(1, target.numel()),
            functional.cross_entropy(spoken, phone, reduction="sum") / max(1, phone.numel()),
            ((spoken.argmax(dim=-1) == phone) & heard).float().sum() / heard.sum().clamp(min=1),
        )


def draw_mask(shape: tuple[int, int], start: float, span: int, generator: torch.Generator) -> Tensor:
    """Frames to mask, bool ``[B, T]`` on the CPU: spans of equal length that begin anywhere and may overlap (Baevski et al. 2020).

    Args:
        start: probability that a span begins at a frame; a share of ``1 - (1 - start) ** span`` is masked.
    """
    begins = (torch.rand(shape, generator=generator) < start).float()
    before = functional.pad(begins[:, None], (span - 1, 0))
    return functional.max_pool1d(before, span, stride=1)[:, 0] > 0


def warped(spectra: Tensor, factors: Tensor) -> Tensor:
    """Log-mel spectra ``[B, T, bands]`` with the band axis of row b stretched by ``factors [B]``, as another vocal tract does.

    Band k takes what was at k times the factor, interpolated (Jaitly & Hinton 2013, there as a resampling of the frequency axis).
    """
    last = spectra.shape[2] - 1
    wanted = (torch.arange(last + 1, device=spectra.device) * factors[:, None]).clamp(max=last)
    # Hat functions: row k of the matrix weighs the two bands next to the wanted place.
    weights = (1.0 - (wanted[:, None, :] - torch.arange(last + 1, device=spectra.device)[None, :, None]).abs()).clamp(min=0.0)
    return spectra @ weights
