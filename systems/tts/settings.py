"""What may be said of a synthesizer, and which files that means; knows no torch, so that `harness list` may ask."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from systems.bundled import lacking, located, metadata_of
from systems.configuration import Configuration
from systems.text.tokens import BpeFrontEnd

Kind = Literal["multi_stream", "multihead", "hierarchical"]
Precision = Literal["float32", "bfloat16", "int8"]
_ORIGIN = "harness train; run.tokenizer: the JSON file of its byte-pair units; the rest as in its training"


@dataclass(frozen=True)
class CodecFiles(Configuration):
    """The codec that a model speaks through; each a bundled name or a path, None where it has to be given.

    Args:
        checkpoint: of the codec itself.
        decoder: a speaker-conditioned decoder of QDAC's codes, see `systems.tts.speaker_decoder`; None for QDAC's own.
        vocoder: of mel frames: those of SoCodec, or of that decoder.
        ssl: what computes SoCodec's features, see `systems.socodec.ssl`.
    """

    checkpoint: str | Path | None = None
    decoder: str | Path | None = None
    vocoder: str | Path | None = "mel_vocoder"
    ssl: str | Path | None = "speech_encoder"


@dataclass(frozen=True)
class Shape(Configuration):
    """What `harness train` makes and ``weights="random"`` has; a trained model's files say it themselves.

    Args:
        kind: of language model, "multi_stream" (over SoCodec), "multihead" or "hierarchical" (over QDAC).
        size: "small" or "paper".
        codec: words of `qdac_config` or `socodec_config`, or a configuration; {} for that of the codec's file.
        lm: an `LmConfig` other than that of the size.
        seed: of random weights.

    Raises:
        ValueError: another kind or size.
    """

    kind: Kind = "multi_stream"
    size: str = "small"
    codec: Any = field(default_factory=dict)
    lm: Any = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.size not in ("small", "paper"):
            raise ValueError(f'language models have the sizes "small" and "paper", got {self.size!r}')
        if self.kind not in get_args(Kind):
            raise ValueError(f"a language model is of kind {', '.join(get_args(Kind))}; got {self.kind!r}")


@dataclass(frozen=True)
class Runtime(Configuration):
    """How a synthesizer is run here.

    Args:
        device: "cpu", "cuda", ...
        precision: of the language model, "float32", "bfloat16" or, on a CPU, "int8" (see `systems.lm.inference`); the codec runs in
            float32.
        acceleration: of its steps, "off", "compile" or "graph"; see `systems.lm.generation`.
        max_s: seconds of speech after which an utterance has run away: it is cut, and its stop reason is "length".
        chunk_ms: of speech that a stream gathers before it decodes.
        tokenizer: file of the byte-pair units that models of the paper's size read, see `systems.text.tokens`.

    Raises:
        ValueError: impossible limits, or another precision.
    """

    device: str = "cpu"
    precision: Precision = "float32"
    acceleration: Literal["off", "compile", "graph"] = "off"
    max_s: float = 20.0
    chunk_ms: int = 200
    tokenizer: str | Path | None = None

    def __post_init__(self) -> None:
        if not self.max_s > 0 or self.chunk_ms < 1:
            raise ValueError(f"max_s is positive and chunk_ms at least 1, got {self.max_s} and {self.chunk_ms}")
        if self.precision not in get_args(Precision):
            raise ValueError(f"precision is one of {', '.join(get_args(Precision))}; got {self.precision!r}")


class Asked:
    """A synthesizer as it is asked for, from what was typed; both `LmTts` and its ``missing`` stand on it.

    Raises:
        ValueError: a setting that there is not, or one that cannot be so; a shape of one's own beside trained weights.
    """

    def __init__(
        self,
        checkpoint: str | Path | None = None,
        codec: str | Path | Mapping[str, Any] | CodecFiles | None = None,
        weights: str = "trained",
        shape: Mapping[str, Any] | Shape | None = None,
        run: Mapping[str, Any] | Runtime | None = None,
    ) -> None:
        files = {"checkpoint": codec} if codec is None or isinstance(codec, str | Path) else codec
        self.checkpoint, self.weights, self.codec = checkpoint, weights, configured(CodecFiles, files)
        self.shape, self.run = configured(Shape, shape), configured(Runtime, run)
        if weights == "trained" and (self.shape.lm is not None or not isinstance(self.shape.codec, Mapping)):
            raise ValueError('shapes of one\'s own go with weights="random"; trained weights bring theirs')

    def missing(self) -> str | None:
        """Why it cannot be built here, or None.

        Raises:
            ValueError: weights that are neither trained nor random.
        """
        codec, tokenizer, paper = self.codec, self.run.tokenizer, self.shape.size == "paper"
        files = {"codec.checkpoint": codec.checkpoint}
        if self.weights == "trained":
            files = {"checkpoint": self.checkpoint, **files, "codec.vocoder": codec.vocoder, "codec.ssl": codec.ssl}
            files |= {} if codec.decoder is None else {"codec.decoder": codec.decoder}
            files |= {"run.tokenizer": tokenizer} if paper else {}
        if reason := lacking(files, self.weights, self.shape.codec or None, _ORIGIN):
            return reason
        trained_on = metadata_of(located(self.checkpoint or "")) if self.weights == "trained" else {}
        if trained_on.get("front_end", "").startswith("bpe") and (reason := BpeFrontEnd.missing(tokenizer)):
            return reason
        # A state file of torchaudio's needs no package; random weights have the shape that transformers knows.
        hubert = self.weights == "random" or Path(codec.ssl or "").is_dir()
        if paper and self.shape.kind == "multi_stream" and hubert and not importlib.util.find_spec("transformers"):
            return "HuBERT needs the package transformers: pip install 'speech-systems-harness[hf]'"
        return None


def configured(kind: type[Any], values: Any) -> Any:
    """``values``, a mapping, None for nothing but defaults, or made already, as a ``kind``."""
    return values if isinstance(values, kind) else kind.from_dict(values or {})
