"""Which trained language model is meant, and where its file and its decoder's are; knows no torch, so that `harness list` may ask."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from systems.text.tokens import BpeFrontEnd

BUNDLED = Path(__file__).resolve().parents[1] / "weights"
DEFAULT_DELAY = 1
BUNDLED_CODES = (8, 25)
"""QDAC's codebooks and frames a second that QTTS's bundled weights know."""
Decoder = Literal["codec", "voiced"]
"""What turns QTTS's codes into sound: the codec's own decoder, or one that is told the voice."""


@dataclass(frozen=True)
class LmVariant:
    """One of the language models that are trained apart.

    Args:
        system: name of the system with the default delay: qtts_multihead, socodec120_tts.
        size: "small" or "paper".
        delay: of the codebook pattern; None for a model without one.
        training_seed: of a repeated training.
        bundled: the small size of this system has a place among the bundled weights.

    Raises:
        ValueError: impossible parameters.
    """

    system: str
    size: str = "small"
    delay: int | None = DEFAULT_DELAY
    training_seed: int = 0
    bundled: bool = True

    def __post_init__(self) -> None:
        if self.size not in ("small", "paper"):
            raise ValueError(f'language models have the sizes "small" and "paper", got {self.size!r}')
        if self.delay is not None and not 0 <= self.delay <= 3:
            raise ValueError(f"the delay is 0, 1, 2 or 3 frames from codebook to codebook, got {self.delay}")

    @property
    def name(self) -> str:
        """As the variants of systems are called: qtts_hierarchical, socodec120_tts_d0, socodec120_tts_d2_seed1."""
        return self._named("" if self.delay in (None, DEFAULT_DELAY) else f"_d{self.delay}")

    def path(self, checkpoint: str | Path | None) -> Path | None:
        """The file: the one that is named, else the bundled one, else None.

        A delay without a file of its own is in that of the system, where its weights know several.
        """
        if checkpoint is not None:
            return Path(checkpoint)
        if self.size != "small" or not self.bundled:
            return None
        own, shared = (BUNDLED / f"{name}_small.safetensors" for name in (self.name, self._named("")))
        return shared if not own.is_file() and self.delay in _delays(shared) else own

    def _named(self, delay: str) -> str:
        return f"{self.system}{delay}{f'_seed{self.training_seed}' if self.training_seed else ''}"

    def unnamed(self, checkpoint: str | Path | None, tokenizer: str | Path | None, codec: Sequence[str] = ()) -> str | None:
        """What is needed that nobody named, or None; of trained weights.

        Args:
            checkpoint: of the language model.
            tokenizer: of its text.
            codec: parameters that the codec lacks.
        """
        asked = ["checkpoint="] if self.path(checkpoint) is None else []
        asked += [f"{name}=" for name in codec]
        if self.size == "paper" and tokenizer is None:
            asked.append("tokenizer=")
        if not asked:
            return None
        return (
            f"{self.system} of size {self.size!r} has no bundled weights: give {', '.join(asked)} (checkpoint: from harness train; tokenizer: "
            "the JSON file of its byte-pair units; the rest as in its training), or weights=random to measure speed only"
        )

    def absent(self, checkpoint: str | Path | None, tokenizer: str | Path | None) -> str | None:
        """Which named or bundled file is not there, or None; of trained weights."""
        path = self.path(checkpoint)
        if path is not None and not path.is_file():
            delay = "" if self.delay in (None, DEFAULT_DELAY) else f" delay={self.delay}"
            seed = f" seed={self.training_seed}" if self.training_seed else ""
            return f"no language model at {path}; train one with: harness train system={self.system} data=MANIFEST{delay}{seed}"
        return BpeFrontEnd.missing(tokenizer) if self.size == "paper" else None


@dataclass(frozen=True)
class VoicedFiles:
    """The files of a voiced decoder, see `systems.tts.speaker_decoder`.

    Args:
        decoder: None where none is named or bundled.
        vocoder: None likewise.
    """

    decoder: Path | None
    vocoder: Path | None

    @classmethod
    def of(
        cls, decoder: str, size: str, num_codebooks: int, frame_rate: int, checkpoint: str | Path | None, vocoder: str | Path | None
    ) -> VoicedFiles | None:
        """None where the codec decodes its codes itself.

        Raises:
            ValueError: another decoder, or files that it would not use.
        """
        if decoder not in get_args(Decoder):
            raise ValueError(f"the decoder is {' or '.join(get_args(Decoder))}, got {decoder!r}")
        if decoder == "codec":
            if given := [name for name, path in (("decoder_checkpoint", checkpoint), ("vocoder", vocoder)) if path is not None]:
                raise ValueError(f"{' and '.join(given)} belong to decoder=voiced, and the decoder is the codec's own")
            return None
        kept = size == "small" and (num_codebooks, frame_rate) == BUNDLED_CODES
        own = BUNDLED / "qtts_decoder_small.safetensors" if kept else None
        mels = BUNDLED / "mel_vocoder_small.safetensors" if size == "small" else None
        return cls(own if checkpoint is None else Path(checkpoint), mels if vocoder is None else Path(vocoder))

    @property
    def lacking(self) -> list[str]:
        """Parameters that nobody named and that no bundled file stands for."""
        return [name for name, path in (("decoder_checkpoint", self.decoder), ("vocoder", self.vocoder)) if path is None]

    @property
    def absent(self) -> str | None:
        """Which named or bundled file is not there, or None."""
        for path, system in ((self.decoder, "qtts_decoder"), (self.vocoder, "mel_vocoder")):
            if path is not None and not path.is_file():
                return f"no {system} at {path}; train one with: harness train system={system} data=MANIFEST"
        return None

    @property
    def files(self) -> tuple[Path, Path]:
        """Both."""
        assert self.decoder is not None and self.vocoder is not None  # `lacking` has said so
        return self.decoder, self.vocoder


def _delays(path: Path) -> Sequence[int]:
    """`LmConfig.delays` of a model's file; none where there is no such file, or none that says so (whoever loads it will say more)."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        return ()
    try:
        with safe_open(path, framework="numpy") as file:
            told = json.loads((file.metadata() or {}).get("config", "{}"))
    except (SafetensorError, ValueError):
        return ()
    return told.get("delays", ()) if isinstance(told, dict) else ()


def check_share(prompt_share: float) -> None:
    """That it is a share.

    Raises:
        ValueError: it is not.
    """
    if not 0 <= prompt_share <= 1:
        raise ValueError(f"prompt_share is the part of a mel frame that the prompt's nearest frames give, 0 to 1; got {prompt_share}")


def check_weights(weights: str, named: Mapping[str, object], shaped: bool) -> None:
    """That ``weights`` is a word we know, and that nothing is given beside it which it would not use.

    Args:
        weights: as typed.
        named: files by parameter, of which random weights have none.
        shaped: shapes of one's own are given, which trained weights bring themselves.

    Raises:
        ValueError: it is not.
    """
    if weights not in ("trained", "random"):
        raise ValueError(f'weights is "trained" or "random", got {weights!r}')
    if weights == "random" and (given := [name for name, path in named.items() if path is not None]):
        raise ValueError(f'weights="random" and {", ".join(given)} exclude each other')
    if weights == "trained" and shaped:
        raise ValueError('shapes of one\'s own go with weights="random"; trained weights bring theirs')
