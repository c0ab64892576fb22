"""How the speech encoder is trained: masked prediction of clusters and, where there is a transcription, of phones.

HuBERT (Hsu et al. 2021) predicts clusters of masked frames and gives dense features, a phone at every frame. A recogniser trained
with CTC would learn phones from the same transcriptions, but its frames are blanks with spikes between them, which is nothing a
codec could restore speech from. Clusters of cepstra alone, HuBERT's first round, carry voice and channel as much as phones, and what
makes up for that there is a second round on a thousand hours. Two hours on a CPU do not reach it; a transcription of part of them
says directly what the clusters should come to mean. So there are two targets at once (compare Wang et al. 2022, "Supervision-guided
codebooks for masked prediction in speech pre-training"): k-means clusters for every recording in any language, and phones by forced
alignment for English recordings with a text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from systems.checkpoints import exported
from systems.speech_encoder.model import Hidden, SpeechEncoder, SpeechEncoderConfig
from systems.speech_encoder.objective import UNKNOWN, MaskedPrediction, PhoneAligner, Prediction, draw_mask, warped
from systems.training.recipe import Batch, BatchSpec, Losses, OptimiserSpec


@dataclass(frozen=True)
class SpeechEncoderTraining:
    """Choices of a training run that leave the encoder's shape alone."""

    phones: bool = True  # learn from transcriptions too; without them any recordings will do
    phone_weight: float = 2.0  # of the phones' cross-entropy beside the clusters'
    num_units: int = 100  # clusters
    settling_steps: int = 200  # steps in which the clusters and the bands' statistics still follow the data
    batch_size: int = 8  # crops a step
    crop_s: float = 2.0  # their length
    utterances: int = 4  # transcribed utterances a step
    utterance_s: float = 12.0  # longest of them, in seconds
    mask_start: float = 0.06  # probability that a span of masked frames begins at a frame
    mask_span: int = 8  # its length in frames
    gain_db: tuple[float, float] = (-8.0, 8.0)  # inputs are louder or softer by a number drawn between these
    warp: float = 0.1  # the band axis is stretched or compressed by up to this share
    learning_rate: float = 1.5e-3  # at the peak


class SpeechEncoderRecipe:
    """Trains a speech encoder."""

    family = "speech_encoder"
    players = ("encoder",)

    def __init__(self, config: SpeechEncoderConfig | None = None, training: SpeechEncoderTraining | None = None, seed: int = 0) -> None:
        self.config = config or SpeechEncoderConfig()
        self.training = training or SpeechEncoderTraining()
        self.sample_rate = self.config.sample_rate
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.model = SpeechEncoder(self.config)
            self.objective = MaskedPrediction(self.config, self.training.num_units)
        self.aligner = PhoneAligner(self.config.hop) if self.training.phones else None

    def modules(self) -> Mapping[str, nn.Module]:
        """The encoder, and what only its training needs: heads, clusters, the substitute of masked frames."""
        return {"model": self.model, "objective": self.objective}

    def parameters(self, player: str) -> list[nn.Parameter]:
        """Everything but the clusters, which follow the data."""
        return [p for module in self.modules().values() for p in module.parameters() if p.requires_grad]

    def optimiser(self, player: str) -> OptimiserSpec:
        """A cosine over the run."""
        return OptimiserSpec(self.training.learning_rate, betas=(0.9, 0.98), warmup_steps=200, schedule="cosine", clip_norm=5.0)

    def averaged(self) -> Sequence[str]:
        """Both: the heads fit the encoder of the same average."""
        return ("model", "objective")

    def wants(self) -> Mapping[str, BatchSpec]:
        """Crops of everything for the clusters; whole English utterances with text for the phones."""
        choices = self.training
        found = {"crops": BatchSpec(choices.batch_size, choices.crop_s)}
        if choices.phones:
            found["utterances"] = BatchSpec(choices.utterances, choices.utterance_s, whole=True, with_text=True, languages=("en",))
        return found

    def losses(self, player: str, batch: Mapping[str, Batch], step: int, generator: torch.Generator) -> Losses:
        """Cross-entropy of clusters over the masked frames, and of phones over all labelled frames."""
        crops = self.predict(batch["crops"], step, generator)
        total = crops.units
        parts = {"units": crops.units, "unit_accuracy": crops.unit_accuracy}
        if self.aligner is not None:
            spoken = batch["utterances"]
            labels = self.aligner.label(spoken.audio, spoken.lengths, spoken.texts)
            whole = self.predict(spoken, step, generator, labels)
            total = 0.5 * (total + whole.units) + self.training.phone_weight * whole.phones
            unlabelled = (labels == UNKNOWN).all(dim=1)
            parts["unlabelled"] = unlabelled.float().mean().to(total.device)
            if not bool(unlabelled.all()):  # else the zeros would count in the log's means
                parts |= {"phones": whole.phones, "phone_accuracy": whole.phone_accuracy}
        return Losses(total, {name: part.detach() for name, part in parts.items()})

    def predict(self, batch: Batch, step: int, generator: torch.Generator, labels: Tensor | None = None) -> Prediction:
        """Masks, perturbs and encodes a batch, and compares with clusters and ``labels`` (int64 ``[B, T]``, or None)."""
        choices, model, audio = self.training, self.model, batch.audio
        spectra, valid = model.spectra(audio, batch.lengths), model.valid(audio, batch.lengths)
        assert valid is not None
        if model.training and step < choices.settling_steps:
            self._settle(spectra, valid, generator)
        rows = audio.shape[0]
        low, high = choices.gain_db
        # Amplitude of 1 dB is ln(10) / 20 on the spectra's scale.
        gain = (low + (high - low) * torch.rand(rows, generator=generator)) * 0.1151
        factors = 1.0 + choices.warp * (2.0 * torch.rand(rows, generator=generator) - 1.0)
        masked = draw_mask((rows, valid.shape[1]), choices.mask_start, choices.mask_span, generator).to(audio.device) & valid
        with torch.autocast(audio.device.type, enabled=False):
            units = self.objective.acoustic(spectra)
            heard = warped(spectra, factors.to(audio.device)) + gain.to(audio.device)[:, None, None]
        features = model.encode(heard, valid, Hidden(masked, self.objective.substitute))
        return self._compare(features, units, masked, labels)

    def validate(self, audios: Sequence[Tensor]) -> Mapping[str, float]:
        """Masked clusters of whole utterances: cross-entropy in nats, and share predicted. The masks are always the same."""
        generator = torch.Generator().manual_seed(0)
        entropy, hits, count = 0.0, 0.0, 0
        for audio in audios:
            spectra = self.model.spectra(audio[None])
            if not (frames := audio.shape[0] // self.config.hop):
                continue
            masked = draw_mask((1, frames), self.training.mask_start, self.training.mask_span, generator).to(audio.device)
            if not bool(masked.any()):
                continue
            features = self.model.encode(spectra, None, Hidden(masked, self.objective.substitute))
            found, weight = self._compare(features, self.objective.acoustic(spectra), masked, None), int(masked.sum())
            entropy, hits, count = entropy + weight * float(found.units), hits + weight * float(found.unit_accuracy), count + weight
        return {"units": entropy / count, "unit_accuracy": hits / count} if count else {}

    def export(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """The encoder alone, in float16."""
        metadata = {"family": self.family, "size": "small", "config": json.dumps(self.config.to_dict())}
        return exported(self.model, torch.float16), metadata

    def _compare(self, features: Tensor, units: Tensor, masked: Tensor, labels: Tensor | None) -> Prediction:
        unknown = torch.full_like(units, UNKNOWN) if labels is None else labels.to(units.device)
        found: Prediction = self.objective(features, units, masked, unknown)
        return found

    def _settle(self, spectra: Tensor, valid: Tensor, generator: torch.Generator) -> None:
        """Lets the bands' statistics and the clusters follow the batch."""
        per_frame = self.config.hop // self.config.spectrum_hop
        self.model.observe(spectra[valid.repeat_interleave(per_frame, dim=1)])
        with torch.autocast(spectra.device.type, enabled=False):
            self.objective.acoustic.learn(spectra, valid, generator)
