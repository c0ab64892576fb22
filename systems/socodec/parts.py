"""The three networks a SoCodec runs with - features, codec, vocoder - put together for a variant, trained or random."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from systems.checkpoints import Loaded, untrained
from systems.socodec.config import SocodecConfig
from systems.socodec.model import SocodecModel
from systems.socodec.released import load_socodec
from systems.socodec.ssl import SpeechFeatures, random_features, speech_features
from systems.socodec.variant import Files, SocodecVariant
from systems.vocoder.loading import Vocoder, load_vocoder, random_vocoder


@dataclass(frozen=True, eq=False)
class Parts:
    """What a codec runs with.

    Args:
        model: the codec.
        features: what its encoder hears, None where that is mel frames.
        vocoder: mel frames to audio.
        metadata: of the codec's checkpoint.
        digests: content hashes of the parts' weights, in order.
    """

    model: SocodecModel
    features: SpeechFeatures | None
    vocoder: Loaded[Vocoder]
    metadata: Mapping[str, str]
    digests: tuple[str, ...]

    def counts(self) -> dict[str, int]:
        """Numbers learnt, by part."""
        parts: dict[str, nn.Module | None] = {"codec": self.model, "features": self.features, "vocoder": self.vocoder.model}
        return {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items() if part is not None}


def trained_parts(variant: SocodecVariant, files: Files) -> Parts:
    """Every part from its file.

    Raises:
        FileNotFoundError: one is not there.
        ValueError: one does not fit the variant, or the parts do not fit one another.
        RuntimeError: HuBERT is asked for and transformers is not installed.
    """
    asked = variant.config
    assert files.checkpoint is not None and files.vocoder is not None  # `SocodecVariant.missing` has said so
    loaded = load_socodec(files.checkpoint, released=asked if variant.size == "paper" else None)
    _check(loaded.model.config, loaded.metadata, variant, str(files.checkpoint))
    features = speech_features(variant.size, files.ssl) if asked.source == "ssl" else None
    if features is not None:
        _check_features(features, loaded.model.config, loaded.metadata, str(files.ssl))
    vocoder = load_vocoder(files.vocoder)
    return Parts(loaded.model, features, vocoder, loaded.metadata, _digests(loaded.digest, features, vocoder))


def random_parts(variant: SocodecVariant, files: Files, config: SocodecConfig, seed: int) -> Parts:
    """Random numbers for the codec, and for every other part without a file."""
    made = untrained(lambda: SocodecModel(config), seed)
    features = None
    if config.source == "ssl":
        given = files.ssl is not None
        features = speech_features(variant.size, files.ssl) if given else random_features(variant.size, config.ssl_dim, seed)
        _check_features(features, config, {}, str(files.ssl))
    vocoder = load_vocoder(files.vocoder) if files.vocoder is not None else random_vocoder(variant.size, seed)
    return Parts(made.model, features, vocoder, {}, _digests(made.digest, features, vocoder))


def _digests(codec: str, features: SpeechFeatures | None, vocoder: Loaded[Vocoder]) -> tuple[str, ...]:
    return (codec, *([features.digest] if features is not None else []), vocoder.digest)


def _check(found: SocodecConfig, metadata: Mapping[str, str], variant: SocodecVariant, source: str) -> None:
    asked = variant.config
    if metadata.get("size", variant.size) != variant.size:
        raise ValueError(f"{source} is of size {metadata['size']!r}, asked was {variant.size!r}")
    told = {
        "frames": (f"{found.frame_ms:g} ms", f"{asked.frame_ms:g} ms"),
        "streams": (found.num_streams, asked.num_streams),
        "quantizer": (found.quantizer, asked.quantizer),
        "source": (found.source, asked.source),
        "semantic": (found.semantic, asked.semantic),
    }
    apart = [f"{name}: {here} instead of {wanted}" for name, (here, wanted) in told.items() if here != wanted]
    if apart:
        raise ValueError(f"{source} is another SoCodec than asked; {', '.join(apart)}")


def _check_features(features: SpeechFeatures, config: SocodecConfig, metadata: Mapping[str, str], source: str) -> None:
    if features.dim != config.ssl_dim:
        raise ValueError(f"the features of {source} have {features.dim} numbers, this codec was made for {config.ssl_dim}")
    trained_on = metadata.get("ssl", "")
    if trained_on and trained_on != features.digest:
        raise ValueError(
            f"this codec was trained on the features of other weights ({trained_on}) than those of {source} ({features.digest})"
        )
