"""QTTS: a hierarchical or a delayed multihead language model that continues the QDAC codes of a prompt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from systems.qdac.adapter import QdacCodec
from systems.qdac.config import QdacConfig, qdac_config
from systems.tts.adapter import LmSpeaker
from systems.tts.variant import BUNDLED, BUNDLED_CODES, DEFAULT_DELAY, Decoder, LmVariant, VoicedFiles, check_share, check_weights

if TYPE_CHECKING:
    from systems.lm.config import LmConfig
    from systems.tts.codec import SpeakingCodec

Kind = Literal["hierarchical", "multihead"]


class Qtts(LmSpeaker):
    """QTTS ("Quantize More, Lose Less", section on TTS): prompt text and target text, the prompt's codes, and on from there.

    Args:
        kind: "hierarchical" or "multihead".
        size: "small" (bundled) or "paper" (needs ``checkpoint``, ``codec_checkpoint`` and ``tokenizer``, or ``weights="random"``).
        delay: frames from codebook to codebook, 0 to 3; of the multihead model.
        num_codebooks: of QDAC, the first so many.
        frame_rate: of QDAC, 25 or 50 Hz.
        checkpoint: a safetensors file of `harness train`; the bundled one by default.
        codec_checkpoint: of QDAC; the bundled one by default.
        tokenizer: of the paper size's text, see `systems.text.tokens`.
        decoder: "codec", QDAC's own, as in the paper; or "voiced", see `systems.tts.speaker_decoder`, as the YAMLs of the small size say.
        decoder_checkpoint: of the voiced decoder, a safetensors file of `harness train`; the bundled one by default.
        vocoder: of the voiced decoder's mel frames, see `systems.socodec.adapter.SocodecCodec`; the bundled one by default.
        weights: "trained" or "random".
        config: shape of the language model, for random weights.
        codec_config: shape of QDAC, for random weights.
        temperature, top_k, top_p, repetition_penalty: see `systems.layers.sampling.SamplingConfig`.
        guidance_scale: of classifier-free guidance by the text, see `systems.lm.requests.GenerationConfig`; 1 is none, as in the paper;
            the YAMLs of the small size set one.
        reading_window: text tokens that the model may read on by in a step, see `systems.lm.reading`; 0 is no limit, as in the
            paper; the YAMLs of the small size set one.
        prompt_share: of each mel frame that is taken from the prompt's frames nearest to it, 0 to 1, see `systems.tts.nearest_frames`; 0 is
            none, as in the paper; the YAMLs of the small size set one. QDAC's own decoder has no mel frames and uses none.
        max_s: seconds after which an utterance is cut.
        chunk_ms: of a stream.
        device, precision, acceleration: see `systems.tts.synthesizer.Speaking`.
        seed: of random weights.
        training_seed: which of several trainings, for bundled weights.

    Raises:
        ValueError: impossible parameters, or files that do not fit them or one another.
        FileNotFoundError: no such file.
        RuntimeError: the tokenizer's package is not installed.
    """

    def __init__(
        self,
        kind: Kind = "hierarchical",
        size: str = "small",
        delay: int = DEFAULT_DELAY,
        num_codebooks: int = 8,
        frame_rate: int = 25,
        checkpoint: str | Path | None = None,
        codec_checkpoint: str | Path | None = None,
        tokenizer: str | Path | None = None,
        decoder: Decoder = "codec",
        decoder_checkpoint: str | Path | None = None,
        vocoder: str | Path | None = None,
        weights: str = "trained",
        config: LmConfig | None = None,
        codec_config: QdacConfig | None = None,
        temperature: float = 1.0,
        top_k: int = 50,
        top_p: float = 0.95,
        repetition_penalty: float = 1.0,
        guidance_scale: float = 1.0,
        reading_window: int = 0,
        prompt_share: float = 0.0,
        max_s: float = 20.0,
        chunk_ms: int = 200,
        device: str = "cpu",
        precision: Literal["float32", "bfloat16", "int8"] = "float32",
        acceleration: Literal["off", "compile", "graph"] = "off",
        seed: int = 0,
        training_seed: int = 0,
    ) -> None:
        variant = _variant(kind, size, delay, num_codebooks, frame_rate, training_seed)
        voiced = VoicedFiles.of(decoder, size, num_codebooks, frame_rate, decoder_checkpoint, vocoder)
        named = {
            "checkpoint": checkpoint,
            "codec_checkpoint": codec_checkpoint,
            "decoder_checkpoint": decoder_checkpoint,
            "vocoder": vocoder,
        }
        check_share(prompt_share)
        check_weights(weights, named, shaped=config is not None or codec_config is not None)
        trained, codec_path = weights == "trained", _codec_path(size, frame_rate, codec_checkpoint)
        lacking = ([] if codec_path else ["codec_checkpoint"]) + (voiced.lacking if voiced else [])
        if trained and (reason := variant.unnamed(checkpoint, tokenizer, lacking)):
            raise ValueError(reason)
        if trained and (reason := variant.absent(checkpoint, tokenizer) or (voiced.absent if voiced else None)):
            raise FileNotFoundError(reason)

        from systems.layers.sampling import SamplingConfig
        from systems.tts.model import Wanted, random_model, trained_model
        from systems.tts.qdac_speech import random_qdac, trained_qdac
        from systems.tts.synthesizer import Identity, LmSynthesizer, Speaking, continued
        from systems.tts.voiced_speech import random_voiced, trained_voiced

        codec: SpeakingCodec
        sampling = SamplingConfig(temperature, top_k, top_p, repetition_penalty)
        speaking = Speaking(sampling, guidance_scale, reading_window, max_s, chunk_ms, device, precision, acceleration)
        wanted, path = Wanted(kind, size, variant.delay, tokenizer), variant.path(checkpoint)
        if trained:
            assert path is not None and codec_path is not None  # `LmVariant.unnamed` has said so
            qdac = trained_qdac(codec_path, num_codebooks, frame_rate, device)
            codec = qdac if voiced is None else trained_voiced(qdac, *voiced.files, device, prompt_share)
            model = trained_model(path, wanted, codec)
        else:
            shape = codec_config or qdac_config(size, num_codebooks, frame_rate)
            qdac = random_qdac(shape, shape.num_codebooks, seed, device)
            codec = qdac if voiced is None else random_voiced(qdac, seed, device, prompt_share)
            model = random_model(wanted, codec, config, seed)
        told = "QTTS hierarchical" if kind == "hierarchical" else f"QTTS multihead with delay {delay}"
        self._synthesizer = LmSynthesizer(Identity("qtts", told, size, weights), model, codec, continued, speaking)

    @classmethod
    def missing(
        cls,
        kind: Kind = "hierarchical",
        size: str = "small",
        delay: int = DEFAULT_DELAY,
        num_codebooks: int = 8,
        frame_rate: int = 25,
        checkpoint: str | Path | None = None,
        codec_checkpoint: str | Path | None = None,
        tokenizer: str | Path | None = None,
        decoder: Decoder = "codec",
        decoder_checkpoint: str | Path | None = None,
        vocoder: str | Path | None = None,
        weights: str = "trained",
        training_seed: int = 0,
        **rest: object,
    ) -> str | None:
        """Why this variant cannot be built here, or None."""
        if weights == "random":
            return None
        variant = _variant(kind, size, delay, num_codebooks, frame_rate, training_seed)
        voiced = VoicedFiles.of(decoder, size, num_codebooks, frame_rate, decoder_checkpoint, vocoder)
        lacking = [] if _codec_path(size, frame_rate, codec_checkpoint) else ["codec_checkpoint"]
        lacking += voiced.lacking if voiced else []
        if reason := variant.unnamed(checkpoint, tokenizer, lacking) or variant.absent(checkpoint, tokenizer):
            return reason
        if voiced and voiced.absent:
            return voiced.absent
        return QdacCodec.missing(size, num_codebooks, frame_rate, codec_checkpoint)


def _variant(kind: Kind, size: str, delay: int, num_codebooks: int, frame_rate: int, training_seed: int) -> LmVariant:
    if kind not in get_args(Kind):
        raise ValueError(f"QTTS is {' or '.join(get_args(Kind))}, got {kind!r}")
    if kind == "hierarchical" and delay != DEFAULT_DELAY:
        raise ValueError(f'the hierarchical model says whole frames and has no delay, got delay={delay}; kind="multihead" has one')
    kept = (num_codebooks, frame_rate) == BUNDLED_CODES
    return LmVariant(f"qtts_{kind}", size, None if kind == "hierarchical" else delay, training_seed, bundled=kept)


def _codec_path(size: str, frame_rate: int, checkpoint: str | Path | None) -> Path | None:
    """As the recipe chooses it."""
    if checkpoint is not None:
        return Path(checkpoint)
    return BUNDLED / ("qdac8_25hz_small.safetensors" if frame_rate == 25 else "qdac16_small.safetensors") if size == "small" else None
