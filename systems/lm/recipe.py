"""How the language models are trained: codes of a frozen codec, whole utterances with their text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from systems.checkpoints import Loaded, exported
from systems.lm.backbone import LanguageModel, LmBatch, LmLoss
from systems.lm.codes import CodecChoice, code_source, derived_frames, lm_inputs, unpacked
from systems.lm.config import PARALLEL, LmConfig, LmKind, delayed, lm_config
from systems.lm.models import HierarchicalLm, build_lm, load_lm
from systems.lm.reading import RATE_HZ, Aligner, best_reading, reading_cost, sound_frames, spoken_tokens
from systems.lm.tokens import WholeTokens
from systems.text.tokens import TextFrontEnd, front_end
from systems.training.recipe import BadRecordings, Batch, BatchSpec, Derived, Losses, OptimiserSpec


@dataclass(frozen=True)
class LmTraining:
    """Choices of a training run that leave the model's shape alone.

    Args:
        batch_size: utterances a step.
        utterance_s: longest of them.
        transcribed_only: leave recordings without a text out; else they teach what speech is like, without words.
        languages: only these, if any are named; the small size's text front end reads the two.
        text_dropout: share of the utterances whose text is withheld: what is validated is speech without its words, since held-out
            recordings come without a text.
        depth_fraction: of the frames that the hierarchical model's decoder is trained on.
        first_weight: of codebook 0 in the hierarchical model's loss.
        guide_weight: of guided attention in the loss, see `systems.lm.reading`; 0 for none.
        guide_after: steps without guidance, in which the aligner learns what to guide to; for a model that has been trained before.
        learning_rate: at the peak.
        weight_decay: of AdamW.
        delay: d of the pattern; the hierarchical model has none.
        delays: several that the model is to know, step by step in turn, so that each has the same share of one training; ``delay`` is the
            one that it is used with where nothing is said.
        start: a safetensors file of a language model of the same shape, codec and text to go on from, with a new optimiser and a new
            schedule: for more steps, or for other data. A resumed training needs none.
        transfer: a safetensors file of a language model over another codec, of the same kind, text and transformer: those two are begun with
            its, and what depends on the codec (tokens, positions of speech, voice) as always.

    Raises:
        ValueError: ``start`` and ``transfer`` at once, or impossible shares.
    """

    batch_size: int = 8
    utterance_s: float = 12.0
    transcribed_only: bool = True
    languages: tuple[str, ...] = ("en", "zh")
    text_dropout: float = 0.1
    depth_fraction: float = 0.125
    first_weight: float = 0.5
    guide_weight: float = 0.3
    guide_after: int = 0
    learning_rate: float = 1e-3
    weight_decay: float = 0.1
    delay: int = 1
    delays: tuple[int, ...] = ()
    start: str | None = None
    transfer: str | None = None

    def __post_init__(self) -> None:
        if self.start is not None and self.transfer is not None:
            raise ValueError("start and transfer are two ways to begin, and both are given")
        if not 0.0 < self.depth_fraction <= 1.0 or not 0.0 < self.first_weight <= 1.0:
            raise ValueError(f"depth_fraction and first_weight lie in (0, 1], got {self.depth_fraction} and {self.first_weight}")


_CODECS: Mapping[str, str] = {"multi_stream": "socodec120", "multihead": "qdac8_25hz", "hierarchical": "qdac8_25hz"}
"""Kinds of models, and the bundled codec that each is trained over where none is named."""
PAPER_TRAINING = LmTraining(
    batch_size=64, utterance_s=20.0, languages=(), text_dropout=0.0, depth_fraction=1 / 16, guide_weight=0.0, learning_rate=3e-4
)


class LmRecipe:
    """Trains a language model over the codes of a codec.

    Args:
        kind: "multi_stream" (over SoCodec), "multihead" or "hierarchical" (over QDAC).
        size: "small" or "paper".
        codec: whose codes, see `CodecChoice`.
        tokenizer: of the text, for the paper's size, see `systems.text.tokens`.
        training: choices other than the size's.
        config: shape other than the size's.
        seed: of the initial weights.

    Raises:
        FileNotFoundError: no codec, no tokenizer, or no model to start from.
        ValueError: impossible parameters, or a model to start from that is another.
    """

    players = ("model",)
    family = "lm_tts"

    def __init__(
        self,
        kind: LmKind = "multi_stream",
        size: str = "small",
        codec: CodecChoice = CodecChoice(),  # noqa: B008 - it is frozen
        tokenizer: str | None = None,
        training: LmTraining | None = None,
        config: LmConfig | None = None,
        seed: int = 0,
    ) -> None:
        if kind not in _CODECS:
            raise ValueError(f"kind is one of {', '.join(_CODECS)}; got {kind!r}")
        self.kind, self.size = kind, size
        self.training = training or (PAPER_TRAINING if size == "paper" else LmTraining())
        self.front_end = front_end("bpe" if size == "paper" else "symbols", tokenizer)
        if codec.codec is None and size == "paper":
            raise ValueError("no codec of the paper's size is bundled: give codec=FILE.safetensors")
        self.source = code_source(codec if codec.codec else replace(codec, codec=_CODECS[kind]))
        self.sample_rate = self.source.sample_rate
        inputs = lm_inputs(self.source, self.front_end.vocabulary_size)
        pattern = PARALLEL if kind == "hierarchical" else delayed(self.training.delay)
        self.config = config or replace(lm_config(kind, size, inputs, pattern), delays=self.training.delays)
        self.config.check(inputs, "the model")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.model = build_lm(self.config)
            self.aligner = Aligner(self.front_end.vocabulary_size) if self.training.guide_weight else None
        if isinstance(self.model, HierarchicalLm):
            self.model.depth_fraction, self.model.first_weight = self.training.depth_fraction, self.training.first_weight
        self._begin()

    @staticmethod
    def words(system: Mapping[str, Any]) -> dict[str, Any]:
        """What a system's YAML, see `systems.tts.lm_tts.LmTts`, means for its training."""
        shape, codec = system.get("shape") or {}, system.get("codec")
        files, codes = codec if isinstance(codec, Mapping) else {"checkpoint": codec}, shape.get("codec") or {}
        words = {"kind": shape.get("kind"), "size": shape.get("size"), "delay": system.get("delay")}
        words |= {"codec": files.get("checkpoint"), "ssl": files.get("ssl")}
        words |= {"num_codebooks": codes.get("num_codebooks")}
        return {name: value for name, value in words.items() if value is not None}

    def modules(self) -> Mapping[str, nn.Module]:
        """The language model, and what aligns its training data; the codec is frozen and comes from its own file."""
        return {"model": self.model} | ({} if self.aligner is None else {"aligner": self.aligner})

    def parameters(self, player: str) -> list[nn.Parameter]:
        return [parameter for module in self.modules().values() for parameter in module.parameters()]

    def optimiser(self, player: str) -> OptimiserSpec:
        choices = self.training
        return OptimiserSpec(
            choices.learning_rate, betas=(0.9, 0.95), weight_decay=choices.weight_decay, warmup_steps=200, schedule="cosine", clip_norm=1.0
        )

    def averaged(self) -> Sequence[str]:
        """The model."""
        return ("model",)

    def wants(self) -> Mapping[str, BatchSpec]:
        choices = self.training
        identity = f"codes of {self.source.num_codebooks} codebooks of {self.source.digest}"
        codes = Derived("codes", self.source.hop, partial(derived_frames, self.source), padded=False, identity=identity)
        rate = self.source.sample_rate
        sound = Derived("sound", rate // RATE_HZ, partial(sound_frames, sample_rate=rate), padded=False, identity=f"sound at {rate} Hz")
        spec = BatchSpec(
            choices.batch_size,
            choices.utterance_s,
            whole=True,
            with_text=choices.transcribed_only,
            languages=choices.languages,
            derived=(codes,) if self.aligner is None else (codes, sound),
        )
        return {"utterances": spec}

    def losses(self, player: str, batch: Mapping[str, Batch], step: int, generator: torch.Generator) -> Losses:
        """The model's cross-entropy, and that of its first and last codebook."""
        found = batch["utterances"]
        if delays := self.config.delays:
            self.model.take_delay(delays[step % len(delays)])
        withheld = torch.rand(len(found.texts), generator=generator) < self.training.text_dropout
        texts = ["" if hide else text for text, hide in zip(found.texts, withheld.tolist(), strict=True)]
        lm_batch = self._batch(found.derived["codes"], found.lengths, texts, found.languages)
        if self.aligner is None or not lm_batch.text.shape[1]:
            loss = self.model.loss(lm_batch, generator)
            return Losses(loss.total, _parts(loss))
        reading, spoken = self._aligned(self.aligner, found, lm_batch)
        loss = self.model.loss(replace(lm_batch, spoken=spoken), generator)
        assert loss.strayed is not None
        guide = self.training.guide_weight if step >= self.training.guide_after else 0.0
        total = loss.total + reading + guide * loss.strayed
        return Losses(total, {**_parts(loss), "reading": reading.detach(), "strayed": loss.strayed.detach()})

    def validate(self, audios: Sequence[Tensor]) -> Mapping[str, float]:
        """Cross-entropy of whole utterances without their text, in nats per token: of all codebooks, and of the first.

        A model that knows several delays is asked at each of them: the means, and all codebooks of each.
        """
        if not self.config.delays:
            return self._validated(audios)
        every = {}
        for delay in self.config.delays:
            self.model.take_delay(delay)
            every[delay] = self._validated(audios)
        names = next(iter(every.values()))
        means = {name: sum(found[name] for found in every.values()) / len(every) for name in names}
        return means | {f"entropy_d{delay}": found["entropy"] for delay, found in every.items() if found}

    def _validated(self, audios: Sequence[Tensor]) -> dict[str, float]:
        generator = torch.Generator().manual_seed(0)
        found: list[LmLoss] = []
        for audio in audios:
            frames = derived_frames(self.source, audio)
            if frames.shape[0]:
                lengths = torch.tensor([audio.shape[0]], device=audio.device)
                found.append(self.model.loss(self._batch(frames[None], lengths, [""], [""]), generator))
        if not found:
            return {}
        means = torch.stack([loss.codebooks for loss in found]).mean(dim=0)
        return {"entropy": float(means.mean()), "first": float(means[0])}

    def export(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """The language model alone, in float16 for the small size; the metadata name the codec and the text front end."""
        metadata = {
            "family": self.family,
            "size": self.size,
            "kind": self.kind,
            "config": json.dumps(self.config.to_dict()),
            "codec": self.source.digest,
            "front_end": self.front_end.identity,
        }
        return exported(self.model, torch.float16 if self.size == "small" else torch.float32), metadata

    def _begin(self) -> None:
        """Gives the model its first weights: another's, those of another codec's beside its own, or the codec's entries in its tables."""
        if (path := self.training.start) is not None:
            found = self._same_kind(path)
            wanted = {"codec": self.source.digest, "front_end": self.front_end.identity}
            if found.model.config != self.config or any(found.metadata.get(name) != value for name, value in wanted.items()):
                named = {name: found.metadata.get(name) for name in wanted}
                raise ValueError(
                    f"start={path} cannot be gone on from: it is {found.model.config} of {named}, to be trained is {self.config} of {wanted}"
                )
            self.model.load_state_dict(found.model.state_dict())
            return
        if (path := self.training.transfer) is not None:
            found = self._same_kind(path)
            other, text = found.model, found.metadata.get("front_end")
            if other.config.backbone != self.config.backbone or text != self.front_end.identity:
                raise ValueError(
                    f"transfer={path} has another transformer or text: {other.config.backbone} over {text}; to be trained is "
                    f"{self.config.backbone} over {self.front_end.identity}"
                )
            known = {name: tensor for name, tensor in other.state_dict().items() if name.startswith(_BESIDE_THE_CODEC)}
            self.model.load_state_dict(known, strict=False)
        entries = self.source.entries()
        if isinstance(self.model.tokens, WholeTokens) and entries is not None and entries.shape[2] == self.config.table_dim:
            self.model.tokens.tables.start_from(entries)

    def _same_kind(self, path: str) -> Loaded[LanguageModel]:
        found = load_lm(path)
        if (kind := found.model.config.kind) != self.kind:
            raise ValueError(f"{path} holds a language model of kind {kind!r}, to be trained is {self.kind!r}")
        return found

    def _aligned(self, aligner: Aligner, found: Batch, batch: LmBatch) -> tuple[Tensor, Tensor]:
        """The cost of reading these utterances, and which tokens their frames speak."""
        sound, hop = found.derived["sound"], self.source.sample_rate // RATE_HZ
        frames = found.lengths // hop
        with torch.autocast(sound.device.type, enabled=False):
            scores = aligner(sound, frames, batch.text, batch.text_lengths)
            reading = reading_cost(scores, frames, batch.text_lengths)
        path = best_reading(scores.detach(), frames, batch.text_lengths)
        return reading, spoken_tokens(path, self.source.hop / self.source.sample_rate, batch.frames, batch.text.shape[1])

    def _batch(self, frames: Tensor, lengths: Tensor, texts: Sequence[str], languages: Sequence[str]) -> LmBatch:
        """Of derived ``frames [B, T, D]`` and int64 ``lengths [B]`` in samples."""
        device, made = frames.device, unpacked(frames, self.source)
        text, sizes = text_batch(texts, languages, self.front_end)
        return LmBatch(text.to(device), sizes.to(device), made.codes, lengths // self.source.hop, made.voice)


_BESIDE_THE_CODEC = ("text.", "text_positions.", "transformer.")
"""Beginnings of the names of what a model over another codec may have learnt for this one."""


def _parts(loss: LmLoss) -> dict[str, Tensor]:
    return {"entropy": loss.codebooks.mean(), "first": loss.codebooks[0], "last": loss.codebooks[-1]}


def text_batch(texts: Sequence[str], languages: Sequence[str], front_end: TextFrontEnd) -> tuple[Tensor, Tensor]:
    """Tokens int64 ``[B, N]`` of texts, padded, and how many each has, ``[B]``.

    Raises:
        BadRecordings: a text that the front end cannot read.
    """
    tokens = [torch.tensor(_tokens(t, language, front_end), dtype=torch.int64) for t, language in zip(texts, languages, strict=True)]
    return nn.utils.rnn.pad_sequence(tokens, batch_first=True), torch.tensor([row.shape[0] for row in tokens])


def _tokens(text: str, language: str, front_end: TextFrontEnd) -> list[int]:
    if not text:
        return []
    try:
        return list(front_end.encode(text, language).ids)
    except (ValueError, RuntimeError) as error:
        raise BadRecordings(f"a text of the training data cannot be read: {text!r} ({language or 'no language'}): {error}") from error
