"""SoCodec's text-to-speech: a multi-stream language model that speaks in the voice of an utterance embedding."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from systems.socodec.config import QuantizerName, SocodecConfig, Source
from systems.socodec.variant import Files, SocodecVariant
from systems.tts.adapter import LmSpeaker
from systems.tts.variant import DEFAULT_DELAY, LmVariant, check_share, check_weights

if TYPE_CHECKING:
    from systems.lm.config import LmConfig


class SocodecTts(LmSpeaker):
    """SoCodec-40, -120 or -240 with its language model (Guo et al. 2024, section 3): embedding and text, then the streams.

    Args:
        size: "small" (bundled) or "paper" (needs ``checkpoint``, ``codec_checkpoint``, ``vocoder``, ``ssl`` and ``tokenizer``, or
            ``weights="random"`` for timing).
        frame_ms: 40 (1 stream), 120 (4 streams) or 240 (8 streams).
        quantizer, source, semantic: of the codec, see `systems.socodec.config`.
        delay: frames from stream to stream, 0 to 3.
        checkpoint: of the language model: a safetensors file of `harness train`; the bundled one by default.
        codec_checkpoint, vocoder, ssl: see `systems.socodec.adapter.SocodecCodec`; the bundled ones by default.
        tokenizer: of the paper size's text, see `systems.text.tokens`.
        weights: "trained" or "random".
        config: shape of the language model, for random weights.
        codec_config: shape of the codec, for random weights.
        temperature, top_k, top_p, repetition_penalty: see `systems.layers.sampling.SamplingConfig`; the paper's by default.
        guidance_scale: of classifier-free guidance by the text, see `systems.lm.requests.GenerationConfig`; 1 is none, as in the paper;
            the YAMLs of the small size set one.
        reading_window: text tokens that the model may read on by in a step, see `systems.lm.reading`; 0 is no limit, as in the
            paper; the YAMLs of the small size set one.
        prompt_share: of each mel frame that is taken from the prompt's frames nearest to it, 0 to 1, see `systems.tts.nearest_frames`; 0 is
            none, as in the paper; the YAMLs of the small size set one.
        max_s: seconds after which an utterance is cut.
        chunk_ms: of a stream.
        device, precision, acceleration: see `systems.tts.synthesizer.Speaking`.
        seed: of random weights.
        training_seed: which of several trainings, for bundled weights.

    Raises:
        ValueError: impossible parameters, or files that do not fit them or one another.
        FileNotFoundError: no such file.
        RuntimeError: HuBERT or the tokenizer is asked for and its package is not installed.
    """

    def __init__(
        self,
        size: str = "small",
        frame_ms: int = 120,
        quantizer: QuantizerName = "opq",
        source: Source = "ssl",
        semantic: bool = True,
        delay: int = DEFAULT_DELAY,
        checkpoint: str | Path | None = None,
        codec_checkpoint: str | Path | None = None,
        vocoder: str | Path | None = None,
        ssl: str | Path | None = None,
        tokenizer: str | Path | None = None,
        weights: str = "trained",
        config: LmConfig | None = None,
        codec_config: SocodecConfig | None = None,
        temperature: float = 0.8,
        top_k: int = 10,
        top_p: float = 0.8,
        repetition_penalty: float = 2.0,
        guidance_scale: float = 1.0,
        reading_window: int = 0,
        prompt_share: float = 0.0,
        max_s: float = 20.0,
        chunk_ms: int = 240,
        device: str = "cpu",
        precision: Literal["float32", "bfloat16", "int8"] = "float32",
        acceleration: Literal["off", "compile", "graph"] = "off",
        seed: int = 0,
        training_seed: int = 0,
    ) -> None:
        codec_variant = SocodecVariant(size, frame_ms, quantizer, source, semantic)
        variant = _variant(codec_variant, delay, training_seed)
        files = Files.at(codec_checkpoint, vocoder, ssl)
        named = {"checkpoint": checkpoint, "codec_checkpoint": codec_checkpoint}
        check_share(prompt_share)
        check_weights(weights, named, shaped=config is not None or codec_config is not None)
        trained = weights == "trained"
        if trained and (reason := variant.unnamed(checkpoint, tokenizer, _lacking(size, files))):
            raise ValueError(reason)
        if trained and (reason := variant.absent(checkpoint, tokenizer)):
            raise FileNotFoundError(reason)
        if reason := codec_variant.absent(files, weights):
            raise FileNotFoundError(reason)

        from systems.layers.sampling import SamplingConfig
        from systems.socodec.parts import random_parts, trained_parts
        from systems.tts.model import Wanted, random_model, trained_model
        from systems.tts.socodec_speech import SocodecSpeech
        from systems.tts.synthesizer import Identity, LmSynthesizer, Speaking, imitated

        sampling = SamplingConfig(temperature, top_k, top_p, repetition_penalty)
        speaking = Speaking(sampling, guidance_scale, reading_window, max_s, chunk_ms, device, precision, acceleration)
        wanted = Wanted("multi_stream", size, delay, tokenizer)
        path = variant.path(checkpoint)
        if trained:
            assert path is not None  # `LmVariant.unnamed` has said so
            codec = SocodecSpeech(trained_parts(codec_variant, codec_variant.completed(files)), device, prompt_share)
            model = trained_model(path, wanted, codec)
        else:
            codec = SocodecSpeech(random_parts(codec_variant, files, codec_config or codec_variant.config, seed), device, prompt_share)
            model = random_model(wanted, codec, config, seed)
        told = f"TTS of {codec_variant.name} with delay {delay}"
        self._synthesizer = LmSynthesizer(Identity("socodec_tts", told, size, weights), model, codec, imitated, speaking)

    @classmethod
    def missing(
        cls,
        size: str = "small",
        frame_ms: int = 120,
        quantizer: QuantizerName = "opq",
        source: Source = "ssl",
        semantic: bool = True,
        delay: int = DEFAULT_DELAY,
        checkpoint: str | Path | None = None,
        codec_checkpoint: str | Path | None = None,
        vocoder: str | Path | None = None,
        ssl: str | Path | None = None,
        tokenizer: str | Path | None = None,
        weights: str = "trained",
        training_seed: int = 0,
        **rest: object,
    ) -> str | None:
        """Why this variant cannot be built here, or None."""
        codec_variant, files = SocodecVariant(size, frame_ms, quantizer, source, semantic), Files.at(codec_checkpoint, vocoder, ssl)
        variant = _variant(codec_variant, delay, training_seed)
        own = None
        if weights != "random":
            own = variant.unnamed(checkpoint, tokenizer, _lacking(size, files)) or variant.absent(checkpoint, tokenizer)
        return own or codec_variant.missing(files, weights)


def _lacking(size: str, files: Files) -> list[str]:
    """The codec's parameters that nobody named; the small size has its bundled files."""
    named = {"codec_checkpoint": files.checkpoint, "vocoder": files.vocoder, "ssl": files.ssl}
    return [name for name, path in named.items() if path is None] if size == "paper" else []


def _variant(codec: SocodecVariant, delay: int, training_seed: int) -> LmVariant:
    return LmVariant(f"{codec.name}_tts", codec.size, delay, training_seed)
