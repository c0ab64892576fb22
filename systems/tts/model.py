"""The language model of a synthesizer with the text front end it reads by, trained or random, checked against the codec it speaks through."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from systems.checkpoints import Loaded, untrained
from systems.lm.backbone import LanguageModel
from systems.lm.build import build_lm, load_lm
from systems.lm.config import LmConfig, LmInputs, LmKind, lm_config
from systems.lm.patterns import PARALLEL, delayed
from systems.text.tokens import BPE_SIZE, TextFrontEnd, front_end
from systems.tts.codec import SpeakingCodec


@dataclass(frozen=True)
class Wanted:
    """Which language model is asked for.

    Args:
        kind: of the model.
        size: "small" or "paper".
        delay: of its pattern; None for the hierarchical model.
        tokenizer: of the paper size's text.
    """

    kind: LmKind
    size: str
    delay: int | None
    tokenizer: str | Path | None = None


@dataclass(frozen=True, eq=False)
class SpokenModel:
    """A language model ready for use.

    Args:
        lm: in evaluation mode.
        front_end: of its text.
        metadata: of its file; empty for random weights.
        digest: content hash of its tensors.
    """

    lm: LanguageModel
    front_end: TextFrontEnd
    metadata: Mapping[str, str]
    digest: str

    @property
    def training_data(self) -> str:
        """What it was trained on, in words."""
        return Loaded(self.lm, self.metadata, self.digest).training_data


def trained_model(path: Path, wanted: Wanted, codec: SpeakingCodec) -> SpokenModel:
    """From its file.

    Raises:
        FileNotFoundError: there is none, or no tokenizer.
        ValueError: no such model, or one for another size, delay, codec or text front end.
        RuntimeError: the tokenizer's package is not installed.
    """
    loaded = load_lm(path, wanted.kind)
    told, config = loaded.metadata, loaded.model.config
    if told.get("size", wanted.size) != wanted.size:
        raise ValueError(f"{path} is of size {told['size']!r}, asked was {wanted.size!r}")
    if wanted.delay is not None:
        try:
            loaded.model.take_delay(wanted.delay)
        except ValueError as error:
            raise ValueError(f"{path} was {error}") from error
    if told.get("codec") != codec.digest:
        raise ValueError(
            f"{path} says the codes of other codec weights ({told.get('codec')}) than those it is to speak through "
            f"({codec.digest}, {codec.description}): train it again, or give codec_checkpoint= (and ssl=) as in its training"
        )
    if "front_end" not in told:
        raise ValueError(f"{path} names no text front end in its metadata: it was not made by harness train")
    text = front_end(told["front_end"], wanted.tokenizer)
    _check(config, _inputs(codec, text.vocabulary_size), str(path))
    return SpokenModel(loaded.model, text, told, loaded.digest)


def random_model(wanted: Wanted, codec: SpeakingCodec, config: LmConfig | None, seed: int) -> SpokenModel:
    """Untrained, for timing. Without a tokenizer the paper's size reads the small size's symbols, which its table of byte-pair units has rows for.

    Args:
        wanted: of which its shape is made.
        codec: that it is to speak through.
        config: a shape of one's own.
        seed: of the weights.

    Raises:
        FileNotFoundError, RuntimeError, ValueError: as `systems.text.tokens.front_end`, or a shape that does not go with the codec.
    """
    paper = wanted.size == "paper"
    text = front_end("bpe" if paper and wanted.tokenizer is not None else "symbols", wanted.tokenizer)
    inputs = _inputs(codec, BPE_SIZE if paper else text.vocabulary_size)
    pattern = PARALLEL if wanted.delay is None else delayed(wanted.delay)
    shape = config or lm_config(wanted.kind, wanted.size, inputs, pattern)
    if (shape.kind, shape.pattern) != (wanted.kind, pattern):
        raise ValueError(f"the shape is of kind {shape.kind!r} with {shape.pattern}, asked was {wanted.kind!r} with {pattern}")
    _check(shape, inputs, "the shape")
    made = untrained(lambda: build_lm(shape), seed)
    return SpokenModel(made.model, text, {}, made.digest)


def _inputs(codec: SpeakingCodec, text_size: int) -> LmInputs:
    return LmInputs(codec.spec.num_codebooks, codec.parts, text_size, codec.voice_dim, codec.spec.frame_rate_hz)


def _check(config: LmConfig, inputs: LmInputs, source: str) -> None:
    found = (config.num_codebooks, config.codebook_size, config.voice_dim, config.text_size)
    wanted = (inputs.num_codebooks, math.prod(inputs.parts), inputs.voice_dim, inputs.text_size)
    if found != wanted:
        raise ValueError(
            f"{source} was made for {found[0]} codebooks of {found[1]}, embeddings of {found[2]} numbers and {found[3]} text tokens; "
            f"codec and text have {wanted[0]} of {wanted[1]}, {wanted[2]} and {wanted[3]}"
        )
