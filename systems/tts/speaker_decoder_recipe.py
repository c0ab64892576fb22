"""How the speaker-conditioned decoder is trained: on the codes that language models say where they are told what was said before.

Every recording is spoken along by a language model, frame by frame with the true past, and each code is drawn as in generation. What is drawn
lies in time where the recording does, so that the recording's own mel frames are what the decoder should make of it. Half of the steps
play their recordings faster or slower, which moves pitch and formants: voices that nobody has.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from systems.bundled import located
from systems.checkpoints import exported, load
from systems.lm.backbone import LanguageModel, LmBatch
from systems.lm.codes import CodecChoice, QdacCodes, code_source
from systems.lm.config import lay
from systems.lm.models import HierarchicalLm, MultiStreamLm, load_lm
from systems.lm.recipe import text_batch
from systems.lm.requests import SamplingConfig, sample
from systems.text.tokens import front_end
from systems.training.recipe import Batch, BatchSpec, Losses, OptimiserSpec
from systems.tts.speaker_decoder import FAMILY, SpeakerDecoder, SpeakerDecoderConfig, mel_distance, timbre_of
from systems.vocoder.mel import DB_PER_NEPER, MelFrames


@dataclass(frozen=True)
class SpeakerDecoderTraining:
    """Choices of a training run that leave the decoder's shape alone.

    Args:
        batch_size: utterances a step.
        utterance_s: longest of them.
        languages: only these, if any are named.
        true_codes: share of the utterances whose codes are all the recording's own.
        true_first: codebooks of the others that are the recording's own, too. The first one carries the words: what a model says in it is
            what it means to say, and a decoder that had learned to doubt it would slur.
        voiceless: share of the utterances whose voice is not told.
        warp: largest factor by which recordings are played faster or slower.
        temperature, top_k, top_p: of the drawn codes, see `systems.lm.requests`; those of QTTS's generation.
        learning_rate: at the peak.
    """

    batch_size: int = 8
    utterance_s: float = 12.0
    languages: tuple[str, ...] = ("en", "zh")
    true_codes: float = 0.15
    true_first: int = 1
    voiceless: float = 0.05
    warp: float = 1.18
    temperature: float = 1.0
    top_k: int = 50
    top_p: float = 0.95
    learning_rate: float = 1e-3


class SpeakerDecoderRecipe:
    """Trains a speaker-conditioned decoder for the small QTTS.

    Args:
        codec: whose codes, see `systems.lm.codes.CodecChoice`: a QDAC.
        speakers: bundled names or files of QTTS's language models over that codec, which take turns.
        training: choices other than the usual.
        config: shape other than the usual.
        start: a safetensors file of a decoder of the same shape to go on from, with a new optimiser and a new schedule.
        seed: of the initial weights.

    Raises:
        FileNotFoundError: no codec, no language model, or no decoder to start from.
        ValueError: models that do not fit one another, a decoder to start from that is another, or a codec whose frames are no whole number
            of mel frames at 16 kHz.
    """

    family = FAMILY
    players = ("model",)

    def __init__(
        self,
        codec: CodecChoice = CodecChoice("qdac8_25hz"),  # noqa: B008 - it is frozen
        speakers: Sequence[str] = ("qtts_multihead", "qtts_hierarchical"),
        training: SpeakerDecoderTraining | None = None,
        config: SpeakerDecoderConfig | None = None,
        start: str | None = None,
        seed: int = 0,
    ) -> None:
        source = code_source(codec)
        if not isinstance(source, QdacCodes):
            raise ValueError(f"codec={codec.codec} is no QDAC, whose codes this decoder is for")
        self.source, self.sample_rate = source, source.sample_rate
        self.config = config or SpeakerDecoderConfig.fitting(source)
        self.config.check(source)
        self.training = training or SpeakerDecoderTraining()
        self.front_end = front_end("symbols", None)
        self.speakers = tuple(_speaker(located(name), source, self.front_end.identity) for name in speakers)
        self.mel = MelFrames()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.model = SpeakerDecoder(self.config)
        if start is not None:
            before = load(start, FAMILY, SpeakerDecoder, SpeakerDecoderConfig)
            learnt = before.metadata.get("codec")
            if (before.model.config, learnt) != (self.config, source.digest):
                raise ValueError(
                    f"start={start} cannot be gone on from: it is {before.model.config} of codec {learnt}, to be trained is {self.config} of "
                    f"{source.digest}"
                )
            self.model.load_state_dict(before.model.state_dict())

    def modules(self) -> Mapping[str, nn.Module]:
        """The decoder; codec and language models are frozen and come from their own files."""
        return {"model": self.model}

    def parameters(self, player: str) -> list[nn.Parameter]:
        """Of the decoder."""
        return list(self.model.parameters())

    def optimiser(self, player: str) -> OptimiserSpec:
        return OptimiserSpec(self.training.learning_rate, warmup_steps=100, schedule="cosine", clip_norm=10.0)

    def averaged(self) -> Sequence[str]:
        return ("model",)

    def wants(self) -> Mapping[str, BatchSpec]:
        choices = self.training
        return {"utterances": BatchSpec(choices.batch_size, choices.utterance_s, whole=True, with_text=True, languages=choices.languages)}

    def losses(self, player: str, batch: Mapping[str, Batch], step: int, generator: torch.Generator) -> Losses:
        """Distance of the mel frames, in nepers."""
        found = batch["utterances"]
        speaker = self.speakers[step % len(self.speakers)]
        share = torch.rand(2, len(found.texts), generator=generator).to(found.audio.device)
        with torch.no_grad():
            factor = self._factor(generator)
            audio, lengths = played(found.audio, factor), (found.lengths * factor).long()
            spoken = self._spoken(audio, lengths, found.texts, found.languages)
            drawn = self.drawn(speaker, spoken, generator)
            codes = self._mixed(spoken.codes, drawn, share[0] < self.training.true_codes)
            wanted, frames = self._mel(audio), spoken.frames * self.config.ratio
            voices = [self._half_voice(row[:count], generator) for row, count in zip(wanted, frames.tolist(), strict=True)]
            timbre = torch.stack(voices) * (share[1] >= self.training.voiceless)[:, None]
        loss = self._distance(codes, timbre, wanted, frames)
        return Losses(loss, {"mel_db": loss.detach() * DB_PER_NEPER})

    def drawn(self, speaker: LanguageModel, batch: LmBatch, generator: torch.Generator) -> Tensor:
        """Codes int64 ``[B, K, T]`` that ``speaker`` draws at every frame of ``batch`` after the recording's own frames before it."""
        logits = code_logits(speaker.to(batch.codes.device), batch)
        choices = self.training
        uniform = torch.rand(logits.shape[:-1], generator=generator).to(logits.device)
        return sample(logits, uniform, SamplingConfig(choices.temperature, choices.top_k, choices.top_p))

    @torch.no_grad()
    def validate(self, audios: Sequence[Tensor]) -> Mapping[str, float]:
        """Mel distance in dB, the voice told: of drawn codes (without a text, as held-out recordings come) and of the recording's own."""
        generator = torch.Generator().manual_seed(0)
        found: dict[str, list[float]] = {"mel_db": [], "mel_db_true_codes": []}
        for audio in audios:
            if audio.shape[0] < self.source.hop:
                continue
            spoken = self._spoken(audio[None], torch.tensor([audio.shape[0]], device=audio.device), [""], [""])
            wanted = self._mel(audio[None])
            timbre = timbre_of(wanted[0])[None]
            drawn = self._mixed(spoken.codes, self.drawn(self.speakers[0], spoken, generator))
            for name, codes in (("mel_db", drawn), ("mel_db_true_codes", spoken.codes)):
                distance = self._distance(codes, timbre, wanted, spoken.frames * self.config.ratio)
                found[name].append(float(distance) * DB_PER_NEPER)
        return {name: sum(values) / len(values) for name, values in found.items() if values}

    def export(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """The decoder in float16; the metadata name the codec."""
        metadata = {"family": self.family, "size": "small", "config": json.dumps(self.config.to_dict()), "codec": self.source.digest}
        return exported(self.model, torch.float16), metadata

    def _factor(self, generator: torch.Generator) -> float:
        """How much slower this step plays its recordings; every other time not at all."""
        warp, (place, coin) = self.training.warp, torch.rand(2, generator=generator).tolist()
        return 1.0 / warp + (warp - 1.0 / warp) * place if coin < 0.5 else 1.0

    def _mixed(self, true: Tensor, drawn: Tensor, whole: Tensor | None = None) -> Tensor:
        """``drawn [B, K, T]`` but for the first codebooks, and for the rows that are ``whole`` (bool ``[B]``)."""
        first = self.training.true_first
        mixed = torch.cat([true[:, :first], drawn[:, first:]], dim=1)
        return mixed if whole is None else torch.where(whole[:, None, None], true, mixed)

    def _distance(self, codes: Tensor, timbre: Tensor, wanted: Tensor, frames: Tensor) -> Tensor:
        latent = self.source.model.to(codes.device).quantizer.decode(codes)
        made = self.model(latent, timbre)
        count = min(made.shape[1], wanted.shape[1])
        return mel_distance(made[:, :count], wanted[:, :count], frames)

    def _mel(self, audio: Tensor) -> Tensor:
        with torch.autocast(audio.device.type, enabled=False):
            made: Tensor = self.mel.to(audio.device)(audio)
            return made

    def _spoken(self, audio: Tensor, lengths: Tensor, texts: Sequence[str], languages: Sequence[str]) -> LmBatch:
        """Codes and text of ``audio [B, N]``, of which ``lengths [B]`` samples are valid."""
        hop = self.source.hop
        codes = self.source.encode(functional.pad(audio, (0, -audio.shape[1] % hop))).codes
        text, sizes = text_batch(texts, languages, self.front_end)
        return LmBatch(text.to(audio.device), sizes.to(audio.device), codes, lengths // hop)

    def _half_voice(self, mel: Tensor, generator: torch.Generator) -> Tensor:
        """The voice of a random half of ``mel [M, 80]``."""
        start = int(torch.randint(mel.shape[0] // 2 + 1, (), generator=generator))
        return timbre_of(mel[start : start + -(-mel.shape[0] // 2)])


def played(audio: Tensor, factor: float) -> Tensor:
    """``[B, N x factor]``: ``audio [B, N]`` played so much slower, band-limited, by the length of its spectrum."""
    if factor == 1.0:
        return audio
    count = audio.shape[1]
    wanted = max(1, round(count * factor))
    with torch.autocast(audio.device.type, enabled=False):
        made: Tensor = torch.fft.irfft(torch.fft.rfft(audio), n=wanted)
        return made * (wanted / count)


def code_logits(speaker: LanguageModel, batch: LmBatch) -> Tensor:
    """``[B, K, T, V]``: what a model expects of each frame of ``batch``; of EOS and the like nothing."""
    config = speaker.config
    laid = lay(config.pattern, batch.codes, batch.frames, config.codebook_size)
    frames = batch.codes.shape[2]
    if isinstance(speaker, HierarchicalLm):
        hidden = speaker.hidden(batch, laid.tokens)[:, :frames]
        first = speaker.tokens.heads(hidden)
        rest = speaker.frame_logits(hidden.flatten(0, 1), batch.codes.transpose(1, 2).flatten(0, 1)).reshape(
            *first.shape[:2], config.num_codebooks - 1, -1
        )
        made = torch.cat([first, rest], dim=2).transpose(1, 2)
    else:
        assert isinstance(speaker, MultiStreamLm)
        (steps,) = speaker.logits(batch)
        layout = config.pattern.layout(config.num_codebooks, steps.shape[1])
        # Codebook k of frame t is said at the step where the layout names t.
        made = torch.stack([steps[:, (row >= 0).nonzero()[:, 0][:frames], k] for k, row in enumerate(layout)], dim=1)
    return made[..., : config.codebook_size].float()


def _speaker(path: Path, source: QdacCodes, text: str) -> LanguageModel:
    found = load_lm(path)
    if found.model.config.kind == "multi_stream":
        raise ValueError(f"{path} holds no language model of QTTS: it is of kind multi_stream")
    wanted = {"codec": source.digest, "front_end": text}
    if any(found.metadata.get(name) != value for name, value in wanted.items()):
        known = {name: found.metadata.get(name) for name in wanted}
        raise ValueError(f"{path} says the codes of {known}, the decoder is to learn those of {wanted}")
    if found.model.config.num_codebooks != source.num_codebooks:
        raise ValueError(f"{path} says {found.model.config.num_codebooks} codebooks, the decoder is to hear {source.num_codebooks}")
    return found.model
