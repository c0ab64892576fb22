"""Which SoCodec is meant, and where its files are; knows no torch, so that `harness list` may ask."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field, replace
from pathlib import Path

from systems.socodec.config import QuantizerName, SocodecConfig, Source, socodec_config

_BUNDLED = Path(__file__).resolve().parents[1] / "weights"
_RELEASE = "https://huggingface.co/hhguo/SoCodec"
_HUBERT = "TencentGameMate/chinese-hubert-large"


@dataclass(frozen=True)
class Files:
    """Where the weights are.

    Args:
        checkpoint: of the codec, safetensors.
        vocoder: of the vocoder, safetensors.
        ssl: of what makes the features: a HuBERT, transformers' folder or torchaudio's state (paper), or a speech encoder's safetensors (small).
    """

    checkpoint: Path | None = None
    vocoder: Path | None = None
    ssl: Path | None = None

    @classmethod
    def at(cls, checkpoint: str | Path | None, vocoder: str | Path | None, ssl: str | Path | None) -> Files:
        """The same from what a user typed."""
        return cls(*(None if path is None else Path(path) for path in (checkpoint, vocoder, ssl)))


@dataclass(frozen=True)
class SocodecVariant:
    """One of the systems that are trained apart.

    Args:
        size: "small" or "paper".
        frame_ms: 40, 120 or 240.
        quantizer: "opq", "pq", "rq" or "orq".
        source: "ssl" or "mel".
        semantic: the features are decoded, too.
        training_seed: of a repeated training.
        config: their shape, made from them.

    Raises:
        ValueError: impossible parameters.
    """

    size: str = "small"
    frame_ms: int = 120
    quantizer: QuantizerName = "opq"
    source: Source = "ssl"
    semantic: bool = True
    training_seed: int = 0
    config: SocodecConfig = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "config", socodec_config(self.size, self.frame_ms, self.quantizer, self.source, self.semantic))

    @property
    def name(self) -> str:
        """As the variants of systems are called: socodec120_rq, socodec120_codec1, socodec120_pq_seed1."""
        kinds = {("ssl", True): "", ("mel", False): "_codec1", ("ssl", False): "_codec2", ("mel", True): "_mel"}
        quantizer = "" if self.quantizer == "opq" else f"_{self.quantizer}"
        seed = f"_seed{self.training_seed}" if self.training_seed else ""
        return f"socodec{self.frame_ms}{quantizer}{kinds[self.source, self.semantic]}{seed}"

    def completed(self, files: Files) -> Files:
        """The bundled files where none is named; of the paper's size none is bundled."""
        if self.size != "small":
            return files
        return replace(
            files,
            checkpoint=files.checkpoint or _BUNDLED / f"{self.name}_small.safetensors",
            vocoder=files.vocoder or _BUNDLED / "mel_vocoder_small.safetensors",
            ssl=files.ssl or _BUNDLED / "speech_encoder_small.safetensors",
        )

    def missing(self, files: Files, weights: str) -> str | None:
        """Why this variant cannot be built here from ``files``, or None; ``weights`` is "trained" or "random"."""
        folder = files.ssl is None or not files.ssl.is_file()  # a file is torchaudio's
        if self.source == "ssl" and self.size == "paper" and folder and not importlib.util.find_spec("transformers"):
            return "HuBERT needs the package transformers: pip install 'speech-systems-harness[hf]'"
        return self.unnamed(files, weights) or self.absent(files, weights)

    def unnamed(self, files: Files, weights: str) -> str | None:
        """Which files are needed that nobody named, or None."""
        asked = [f"{name}=" for name, path in self._wanted(files, weights).items() if path is None]
        if not asked or weights != "trained":
            return None
        return (
            f"SoCodec of size {self.size!r} has no bundled weights: give {', '.join(asked)} (checkpoint and vocoder: the released "
            f"safetensors files at {_RELEASE}; ssl: a folder of {_HUBERT}), or weights=random to measure speed only"
        )

    def absent(self, files: Files, weights: str) -> str | None:
        """Which named or bundled file is not there, or None."""
        paths = self._wanted(files, weights)
        return next((self._not_there(name, path) for name, path in paths.items() if path is not None and not _is_there(path)), None)

    def _wanted(self, files: Files, weights: str) -> dict[str, Path | None]:
        files = self.completed(files) if weights == "trained" else files
        return {"checkpoint": files.checkpoint, "vocoder": files.vocoder, **({"ssl": files.ssl} if self.source == "ssl" else {})}

    def _not_there(self, name: str, path: Path) -> str:
        if self.size == "paper":
            what = {
                "checkpoint": "SoCodec checkpoint",
                "vocoder": "mel vocoder",
                "ssl": "HuBERT (transformers' folder with a config.json, or torchaudio's state file)",
            }[name]
            return f"no {what} at {path}"
        what, family = {
            "checkpoint": ("SoCodec checkpoint", replace(self, training_seed=0).name),
            "vocoder": ("mel vocoder", "mel_vocoder"),
            "ssl": ("speech encoder", "speech_encoder"),
        }[name]
        seed = f" seed={self.training_seed}" if name == "checkpoint" and self.training_seed else ""
        return f"no {what} at {path}; train one with: harness train system={family} data=MANIFEST{seed}"


def _is_there(path: Path) -> bool:
    return (path / "config.json").is_file() if path.is_dir() else path.is_file()
