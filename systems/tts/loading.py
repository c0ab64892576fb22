"""The models of a synthesizer from their files, or untrained: language model, text front end and codec, checked against one another."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from systems.bundled import located, metadata_of
from systems.checkpoints import Loaded, load, untrained
from systems.configuration import Configuration
from systems.lm.backbone import LanguageModel
from systems.lm.codes import CodecChoice, QdacCodes, SocodecCodes, code_source, lm_inputs
from systems.lm.config import PARALLEL, delayed, lm_config
from systems.lm.models import build_lm, load_lm
from systems.lm.requests import GenerationConfig
from systems.qdac.config import QdacConfig, qdac_config
from systems.qdac.model import QdacModel
from systems.socodec.config import SocodecConfig, socodec_config
from systems.socodec.model import SocodecModel
from systems.socodec.ssl import random_features
from systems.text.tokens import BPE_SIZE, TextFrontEnd, front_end
from systems.tts.codecs import QdacSpeech, SocodecSpeech, SpeakerDecodedQdac, SpeakingCodec
from systems.tts.settings import Asked, CodecFiles
from systems.tts.speaker_decoder import FAMILY, SpeakerDecoder, SpeakerDecoderConfig
from systems.vocoder.bigvgan import load_vocoder, random_vocoder

Models = tuple[Loaded[LanguageModel], TextFrontEnd, SpeakingCodec]


@dataclass(frozen=True)
class Generation(GenerationConfig, Configuration):
    """What may be chosen where a trained model speaks; see `GenerationConfig`.

    Args:
        prompt_share: of each mel frame that is taken from the prompt's frames nearest to it, 0 to 1, see `systems.tts.chunked.NearestFrames`;
            0 is none, as in the papers. QDAC's own decoder has no mel frames and uses none.

    Raises:
        ValueError: impossible values.
    """

    prompt_share: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.prompt_share <= 1:
            raise ValueError(
                f"prompt_share is the part of a mel frame that the prompt's nearest frames give, 0 to 1; got {self.prompt_share}"
            )


def models(asked: Asked, delay: int | None, prompt_share: float) -> Models:
    """What a synthesizer speaks with, of files that are all there; codebooks lie as far apart as the file says, or ``delay`` frames.

    Raises:
        ValueError: files that hold something else, or do not fit one another.
        FileNotFoundError, RuntimeError: as `systems.text.tokens.front_end`.
    """
    return (_untrained if asked.weights == "random" else _trained)(asked, delay, prompt_share)


def _trained(asked: Asked, delay: int | None, prompt_share: float) -> Models:
    path = located(asked.checkpoint or "")
    loaded = load_lm(path)
    if delay is not None:
        try:
            loaded.model.take_delay(delay)
        except ValueError as error:
            raise ValueError(f"{path} was {error}") from error
    config, names = loaded.model.config, asked.codec
    source = code_source(CodecChoice(str(names.checkpoint), config.num_codebooks, _name(names.ssl)))
    codec = _speaking(source, asked, prompt_share)
    if loaded.metadata.get("codec") != source.digest:
        raise ValueError(
            f"{path} says the codes of other codec weights ({loaded.metadata.get('codec')}) than those it is to speak through "
            f"({source.digest}, {codec.description}): train it again, or give codec= (and codec.ssl=) as in its training"
        )
    if "front_end" not in loaded.metadata:
        raise ValueError(f"{path} names no text front end in its metadata: it was not made by harness train")
    text = front_end(loaded.metadata["front_end"], asked.run.tokenizer)
    config.check(lm_inputs(source, text.vocabulary_size), str(path))
    return loaded, text, codec


def _untrained(asked: Asked, delay: int | None, prompt_share: float) -> Models:
    """Without a tokenizer the paper's size reads the small size's symbols, which its table of byte-pair units has rows for."""
    shape, tokenizer = asked.shape, asked.run.tokenizer
    codec_config, seed = _codec_config(asked), shape.seed
    source: QdacCodes | SocodecCodes
    if isinstance(codec_config, SocodecConfig):
        features = random_features(shape.size, codec_config.ssl_dim, seed) if codec_config.source == "ssl" else None
        source = SocodecCodes(untrained(lambda: SocodecModel(codec_config), seed), features)
    else:
        source = QdacCodes(untrained(lambda: QdacModel(codec_config), seed))
    codec = _speaking(source, asked, prompt_share)
    paper = shape.size == "paper"
    text = front_end("bpe" if paper and tokenizer is not None else "symbols", tokenizer)
    inputs = lm_inputs(source, BPE_SIZE if paper else text.vocabulary_size)
    pattern = PARALLEL if shape.kind == "hierarchical" else delayed(1 if delay is None else delay)
    config = shape.lm or lm_config(shape.kind, shape.size, inputs, pattern)
    config = config if delay is None else config.at_delay(delay)
    config.check(inputs, "the shape")
    return untrained(lambda: build_lm(config), seed), text, codec


def _speaking(source: QdacCodes | SocodecCodes, asked: Asked, prompt_share: float) -> SpeakingCodec:
    """The codec on its device, with what turns its codes into sound."""
    names, shape, device, random = asked.codec, asked.shape, asked.run.device, asked.weights == "random"
    if isinstance(source, SocodecCodes):
        if names.decoder is not None:
            raise ValueError("codec.decoder is for the codes of QDAC; SoCodec has one of its own")
        vocoder = random_vocoder(shape.size, shape.seed) if random else load_vocoder(located(names.vocoder or ""))
        return SocodecSpeech(source, vocoder, device, prompt_share)
    codec = QdacSpeech(source, device)
    if names.decoder is None:
        if names.vocoder != CodecFiles.vocoder:
            raise ValueError("codec.vocoder belongs to mel frames, and QDAC without codec.decoder makes none")
        return codec
    if random:
        fitting = SpeakerDecoderConfig.fitting(source)
        decoder, vocoder = untrained(lambda: SpeakerDecoder(fitting), shape.seed), random_vocoder("small", shape.seed)
    else:
        decoder = load(path := located(names.decoder), FAMILY, SpeakerDecoder, SpeakerDecoderConfig)
        vocoder = load_vocoder(located(names.vocoder or ""))
        if decoder.metadata.get("codec", "") != source.digest:
            raise ValueError(
                f"{path} decodes the codes of other codec weights ({decoder.metadata.get('codec')}) than those it is to hear ({source.digest}, "
                f"{codec.description}): train it with harness train system=qtts_decoder codec=, or leave codec.decoder away"
            )
    return SpeakerDecodedQdac(codec, decoder, vocoder, prompt_share)


def _codec_config(asked: Asked) -> QdacConfig | SocodecConfig:
    """As it is given, as its words say, or that of the codec's file."""
    given, size = asked.shape.codec, asked.shape.size
    if isinstance(given, QdacConfig | SocodecConfig):
        return given
    if given or asked.codec.checkpoint is None:
        return socodec_config(size, **given) if asked.shape.kind == "multi_stream" else qdac_config(size, **given)
    metadata = metadata_of(located(asked.codec.checkpoint))
    config = json.loads(metadata.get("config", "{}"))
    return QdacConfig.from_dict(config) if metadata.get("family") == "qdac" else SocodecConfig.from_dict(config)


def _name(file: Any) -> str | None:
    return None if file is None else str(file)
