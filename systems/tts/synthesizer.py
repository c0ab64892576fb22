"""A language model and a codec as the harness sees a synthesizer; whole utterances and streams."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, get_args

import numpy as np
import torch
from torch import Tensor

from harness.api import UNOBSERVED, Audio, Codes, MissingOutput, Observer, Speech, SystemInfo, Utterance, Weights
from harness.api.libraries import versions
from systems.checkpoints import digest_of
from systems.layers.graphs import Acceleration
from systems.layers.packed import Precision
from systems.layers.sampling import SamplingConfig
from systems.lm.generation import Engine
from systems.lm.inference import prepared, step_cost, working_dtype
from systems.lm.requests import GenerationConfig, Request
from systems.tts.codec import SpeakingCodec, Voice, mono_at
from systems.tts.model import SpokenModel

_SIDE = "utterance"
_WEIGHT_BYTES = {"float32": 4, "bfloat16": 2, "int8": 1}


@dataclass(frozen=True)
class Speaking:
    """How a synthesizer is run.

    Args:
        sampling: of the tokens.
        guidance_scale: of classifier-free guidance by the text, see `GenerationConfig`.
        reading_window: text tokens that the model may read on by in a step, see `systems.lm.reading`; 0 for no limit.
        max_s: seconds of speech after which an utterance has run away: it is cut, and its stop reason is "length".
        chunk_ms: of speech that a stream gathers before it decodes.
        device: "cpu", "cuda", ...
        precision: of the language model, "float32", "bfloat16" or, on a CPU, "int8" (see `systems.layers.packed`); the codec runs in
            float32.
        acceleration: of its steps, see `systems.layers.graphs`.
    """

    sampling: SamplingConfig
    guidance_scale: float = 1.0
    reading_window: int = 0
    max_s: float = 20.0
    chunk_ms: int = 200
    device: str = "cpu"
    precision: Precision = "float32"
    acceleration: Acceleration = "off"

    def __post_init__(self) -> None:
        if not self.max_s > 0 or self.chunk_ms < 1:
            raise ValueError(f"max_s is positive and chunk_ms at least 1, got {self.max_s} and {self.chunk_ms}")
        if self.precision not in get_args(Precision):
            raise ValueError(f"precision is one of {', '.join(get_args(Precision))}; got {self.precision!r}")


@dataclass(frozen=True)
class Identity:
    """What a system calls itself.

    Args:
        family: in the registry.
        title: of the model, for descriptions.
        size: "small" or "paper".
        weights: "trained" or "random".
    """

    family: str
    title: str
    size: str
    weights: str


class Prompting(Protocol):
    """How a family of models follows a prompt."""

    def __call__(self, utterance: Utterance, codec: SpeakingCodec) -> Prompted:
        """What the model is given of an utterance.

        Raises:
            MissingOutput: it cannot be spoken without what the utterance lacks.
        """
        ...


@dataclass(frozen=True, eq=False)
class Prompted:
    """An utterance as a model is asked for it.

    Args:
        text: of prompt and target, where the prompt is continued.
        voice: taken from the prompt.
        told: the part of the text that the prompt has spoken.
    """

    text: str
    voice: Voice
    told: str = ""


class LmSynthesizer:
    """Text and prompt to codes by a language model, codes to speech by a codec.

    Args:
        identity: of the system.
        model: language model and text front end.
        codec: frozen, on its device.
        prompting: what is taken from a prompt.
        speaking: sampling, limits, device.

    Raises:
        ValueError: the longest speech has more steps than the model has positions.
    """

    def __init__(self, identity: Identity, model: SpokenModel, codec: SpeakingCodec, prompting: Prompting, speaking: Speaking) -> None:
        self._codec, self._front_end, self._prompting = codec, model.front_end, prompting
        shape, learnt = model.lm.config, sum(p.numel() for p in model.lm.parameters())  # packed layers have no parameters to count
        cost = step_cost(model.lm, _WEIGHT_BYTES[speaking.precision], working_dtype(speaking.device, speaking.precision).itemsize)
        lm = prepared(model.lm, speaking.device, speaking.precision)
        self._engine = Engine(lm, speaking.acceleration, cost)
        frames = max(1, round(speaking.max_s * codec.spec.frame_rate_hz))
        if lm.positioned and shape.pattern.steps(shape.num_codebooks, frames) > shape.max_steps:
            most = (shape.max_steps - shape.pattern.steps(shape.num_codebooks, 1) + 1) / codec.spec.frame_rate_hz
            raise ValueError(f"max_s={speaking.max_s:g} is longer than this model's positions reach: at most {most:.1f} s")
        self._generation = GenerationConfig(
            **vars(speaking.sampling),
            guidance_scale=speaking.guidance_scale,
            reading_window=speaking.reading_window,
            max_frames=frames,
            min_frames=1,
        )
        self._chunk_frames = max(1, round(speaking.chunk_ms * codec.spec.frame_rate_hz / 1000))
        self.info = SystemInfo(
            family=identity.family,
            version="1",
            description=f"{identity.title} {identity.size}, language model {learnt / 1e6:.1f} M over {codec.description} "
            f"({codec.num_parameters / 1e6:.1f} M), text as {model.front_end.identity}",
            size=identity.size,
            weights=Weights(identity.weights),
            weights_digest=digest_of([model.digest, *codec.digests]),
            num_parameters=learnt + codec.num_parameters,
            training_data=model.training_data,
            device=speaking.device,
            precision=speaking.precision,
            tools=(*model.front_end.tools, *versions("torch")),
        )

    @property
    def sample_rate(self) -> int:
        """In Hz, of the codec."""
        return self._codec.spec.sample_rate

    def synthesize(self, utterance: Utterance, seed: int) -> Speech:
        """See `harness.api.Synthesizer`.

        Raises:
            MissingOutput: a language it does not read, nothing to speak, or no voice where it needs one.
            ValueError: a text longer than the model's positions.
        """
        request, voice = self._request(utterance, seed)
        (said,) = self._engine.generate([request], self._generation)
        with torch.inference_mode():
            samples = self._codec.decode(said.codes, voice)
        return Speech(self._audio(samples), self._codes(said.codes, voice), said.stop_reason)

    def stream(self, utterance: Utterance, seed: int) -> Iterator[Audio]:
        """The same as frames become whole and the codec's decoder has seen what it looks ahead; joined equal up to rounding."""
        return self._stream(utterance, seed, self._generation, UNOBSERVED)

    def num_tokens(self, utterance: Utterance) -> int:
        """See `harness.api.ObservedSynthesizer`."""
        continues = self._prompting is continued and utterance.prompt is not None
        told = f"{utterance.prompt_text.strip()} " if continues else ""
        return len(self._front_end.encode(told + utterance.text, utterance.language).ids)

    def synthesize_observed(self, utterances: Sequence[Utterance], seconds: float, observer: Observer) -> Sequence[Speech]:
        """See `harness.api.ObservedSynthesizer`; the stages are "prompt", "prefill", "lm", "codec" and, with one, "vocoder"."""
        with observer.stage("prompt"):
            asked = [self._request(utterance, seed) for seed, utterance in enumerate(utterances)]
        spoken = self._engine.generate([request for request, _ in asked], self._lasting(seconds), observer)
        found = []
        for said, (_, voice) in zip(spoken, asked, strict=True):
            with torch.inference_mode():
                samples = self._codec.decode(said.codes, voice, observer)
            found.append(Speech(self._audio(samples), self._codes(said.codes, voice), said.stop_reason))
        return found

    def stream_observed(self, utterance: Utterance, seconds: float, observer: Observer) -> Iterator[Audio]:
        """See `harness.api.ObservedSynthesizer`."""
        return self._stream(utterance, 0, self._lasting(seconds), observer)

    def _lasting(self, seconds: float) -> GenerationConfig:
        """A generation that cannot end before or after."""
        frames = max(1, round(seconds * self._codec.spec.frame_rate_hz))
        return replace(self._generation, max_frames=frames, min_frames=frames)

    def _stream(self, utterance: Utterance, seed: int, config: GenerationConfig, observer: Observer) -> Iterator[Audio]:
        request, voice = self._request(utterance, seed)
        pieces = self._codec.pieces(voice)
        for chunk in self._engine.stream(request, config, self._chunk_frames, observer):
            with torch.inference_mode():
                samples = pieces.push(chunk.codes, chunk.stop_reason is not None)
            if samples is not None:
                yield self._audio(samples)

    def resynthesize(self, prompt: Audio) -> Audio:
        """The prompt through the codec alone."""
        samples = mono_at(prompt, self.sample_rate)
        with torch.inference_mode():
            return self._audio(self._codec.resynthesize(samples) if samples.shape[0] else samples)

    def _request(self, utterance: Utterance, seed: int) -> tuple[Request, Voice]:
        with torch.inference_mode():
            prompted = self._prompting(utterance, self._codec)
        try:
            tokens = self._front_end.encode(prompted.text, utterance.language)
            # Without the space between them the prompt's text is a token shorter, and with a mark of its own end one longer.
            read = len(self._front_end.encode(prompted.told, utterance.language).ids) if prompted.told else 0
        except ValueError as error:  # a language it does not read, or nothing to speak
            raise MissingOutput(str(error)) from error
        voice = prompted.voice
        return Request(tokens.ids, seed, voice.codes, voice.embedding, read=read), voice

    def _audio(self, samples: Tensor) -> Audio:
        return Audio.mono(samples.cpu().numpy(), self.sample_rate)

    def _codes(self, codes: Tensor, voice: Voice) -> Codes:
        side = {} if voice.embedding is None else {_SIDE: np.array(voice.embedding.cpu().numpy())}
        return Codes(codes.numpy(), self._codec.spec, codes.shape[1] * self._codec.spec.hop_length, side)


def continued(utterance: Utterance, codec: SpeakingCodec) -> Prompted:
    """The prompt is continued: its text before the target's, its codes as if already said.

    Without a prompt or its text there is nothing to continue: the model speaks in a voice of its own choice, though a decoder that is told the
    voice still hears that of a prompt.
    """
    if utterance.prompt is None:
        return Prompted(utterance.text, Voice())
    told, voice = utterance.prompt_text.strip(), codec.heard(mono_at(utterance.prompt, codec.spec.sample_rate))
    if voice.codes is None or not told:
        return Prompted(utterance.text, replace(voice, codes=None))
    return Prompted(f"{told} {utterance.text}", voice, told)


def imitated(utterance: Utterance, codec: SpeakingCodec) -> Prompted:
    """The voice is the utterance embedding of the prompt; what the prompt says is not needed.

    Raises:
        MissingOutput: no prompt.
    """
    if utterance.prompt is None:
        raise MissingOutput("it takes its voice from a prompt, and this utterance has none")
    return Prompted(utterance.text, codec.heard(mono_at(utterance.prompt, codec.spec.sample_rate)))
