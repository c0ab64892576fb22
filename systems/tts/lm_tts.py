"""A language model over a codec's codes as the harness sees a synthesizer; light, so that it can be looked at without torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.api import UNOBSERVED, Audio, Codes, MissingOutput, Observer, Speech, SystemInfo, Utterance, Weights
from harness.api.libraries import versions
from systems.tts.settings import Asked, CodecFiles, Runtime, Shape

if TYPE_CHECKING:
    from systems.lm.requests import Request
    from systems.tts.codecs import Voice
    from systems.tts.loading import Generation

_SIDE = "utterance"
_WEIGHT_BYTES = {"float32": 4, "bfloat16": 2, "int8": 1}


class LmTts:
    """Text and prompt to codes by a language model, codes to speech by a codec.

    What its files hold is not asked again: the checkpoint decides whether a prompt's codes are continued (QTTS, "Quantize More, Lose Less") or
    its utterance embedding is imitated (SoCodec, Guo et al. 2024), and how many codebooks are said.

    ```python
    from systems.tts.lm_tts import LmTts

    tts = LmTts("socodec120_tts", "socodec120", generation={"temperature": 0.8, "top_k": 10, "guidance_scale": 3.0, "reading_window": 4})
    speech = tts.synthesize(Utterance("A red kite.", "en", prompt), seed=0)
    ```

    Args:
        checkpoint: of the language model, a bundled name or the path of a safetensors file of `harness train`.
        codec: the same of the codec it speaks through, which must be the one it was trained on; or `CodecFiles`, where more is to be said.
        delay: frames from codebook to codebook; the file's by default. A delay is learnt: the file must know it.
        generation: see `systems.tts.loading.Generation`; by default tokens are drawn from the whole distribution.
        weights: "trained", or "random" to measure speed: the shapes of the files, or of ``shape``.
        shape: see `Shape`.
        run: see `Runtime`.

    Raises:
        ValueError: impossible settings, or files that do not fit them or one another.
        FileNotFoundError: a file or a package that it needs is not there, see `missing`.
    """

    def __init__(
        self,
        checkpoint: str | Path | None = None,
        codec: str | Path | Mapping[str, Any] | CodecFiles | None = None,
        delay: int | None = None,
        generation: Mapping[str, Any] | Generation | None = None,
        weights: str = "trained",
        shape: Mapping[str, Any] | Shape | None = None,
        run: Mapping[str, Any] | Runtime | None = None,
    ) -> None:
        asked = Asked(checkpoint, codec, weights, shape, run)
        if reason := asked.missing():
            raise FileNotFoundError(reason)

        from systems.checkpoints import digest_of
        from systems.lm.generation import Engine
        from systems.lm.inference import prepared, step_cost, working_dtype
        from systems.tts.loading import Generation, models

        if isinstance(generation, Mapping) and (limits := {"max_frames", "min_frames"} & generation.keys()):
            raise ValueError(f"generation.{min(limits)}= is not to be chosen: run.max_s says how long an utterance may become")
        chosen = generation if isinstance(generation, Generation) else Generation.from_dict(generation or {})
        runtime: Runtime = asked.run
        loaded, self._front_end, self._codec = models(asked, delay, chosen.prompt_share)
        lm, rate = loaded.model, self._codec.spec.frame_rate_hz
        learnt = sum(p.numel() for p in lm.parameters())  # packed layers have no parameters to count
        cost = step_cost(lm, _WEIGHT_BYTES[runtime.precision], working_dtype(runtime.device, runtime.precision).itemsize)
        self._engine = Engine(prepared(lm, runtime.device, runtime.precision), runtime.acceleration, cost)
        frames = max(1, round(runtime.max_s * rate))
        pattern, books, most = lm.config.pattern, lm.config.num_codebooks, lm.config.max_steps
        if lm.positioned and pattern.steps(books, frames) > most:
            longest = (most - pattern.steps(books, 1) + 1) / rate
            raise ValueError(f"max_s={runtime.max_s:g} is longer than this model's positions reach: at most {longest:.1f} s")
        self._generation = replace(chosen, max_frames=frames, min_frames=1)
        self._chunk_frames = max(1, round(runtime.chunk_ms * rate / 1000))
        size = loaded.metadata.get("size", asked.shape.size)
        self.info = SystemInfo(
            family="lm_tts",
            version="1",
            description=f"{_title(lm.config)} {size}, language model {learnt / 1e6:.1f} M over {self._codec.description} "
            f"({self._codec.num_parameters / 1e6:.1f} M), text as {self._front_end.identity}",
            size=size,
            weights=Weights(weights),
            weights_digest=digest_of([loaded.digest, *self._codec.digests]),
            num_parameters=learnt + self._codec.num_parameters,
            training_data=loaded.training_data,
            device=runtime.device,
            precision=runtime.precision,
            tools=(*self._front_end.tools, *versions("torch")),
        )

    @classmethod
    def missing(cls, checkpoint: str | Path | None = None, *, delay: object = None, generation: object = None, **given: Any) -> str | None:
        """Why it cannot be built here, or None; takes what the constructor takes.

        Raises:
            TypeError: a setting that there is not; the message says where it belongs.
        """
        if strange := [name for name in given if name not in signature(cls).parameters]:
            raise TypeError(_misplaced(strange[0]))
        return Asked(checkpoint, **given).missing()

    @property
    def sample_rate(self) -> int:
        """In Hz, of the codec."""
        return self._codec.spec.sample_rate

    def synthesize(self, utterance: Utterance, seed: int) -> Speech:
        """See `harness.api.Synthesizer`.

        Without a prompt or its text there is nothing to continue: a model of QTTS speaks in a voice of its own choice, though a decoder that
        is told the voice still hears that of a prompt.

        Raises:
            MissingOutput: a language it does not read, nothing to speak, or no voice where it needs one.
            ValueError: a text longer than the model's positions.
        """
        request, voice = self._request(utterance, seed)
        (said,) = self._engine.generate([request], self._generation)
        return Speech(self._audio(self._codec.decode(said.codes, voice)), self._codes(said.codes, voice), said.stop_reason)

    def stream(self, utterance: Utterance, seed: int) -> Iterator[Audio]:
        """The same as frames become whole and the codec's decoder has seen what it looks ahead; joined equal up to rounding."""
        return self._stream(utterance, seed, self._generation, UNOBSERVED)

    def num_tokens(self, utterance: Utterance) -> int:
        continues = not self._codec.voice_dim and utterance.prompt is not None
        before = f"{utterance.prompt_text.strip()} " if continues else ""
        return len(self._front_end.encode(before + utterance.text, utterance.language).ids)

    def synthesize_observed(self, utterances: Sequence[Utterance], seconds: float, observer: Observer) -> Sequence[Speech]:
        """See `harness.api.ObservedSynthesizer`; the stages are "prompt", "prefill", "lm", "codec" and, with one, "vocoder"."""
        with observer.stage("prompt"):
            asked = [self._request(utterance, seed) for seed, utterance in enumerate(utterances)]
        spoken = self._engine.generate([request for request, _ in asked], self._lasting(seconds), observer)
        found = []
        for said, (_, voice) in zip(spoken, asked, strict=True):
            audio = self._audio(self._codec.decode(said.codes, voice, observer))
            found.append(Speech(audio, self._codes(said.codes, voice), said.stop_reason))
        return found

    def stream_observed(self, utterance: Utterance, seconds: float, observer: Observer) -> Iterator[Audio]:
        return self._stream(utterance, 0, self._lasting(seconds), observer)

    def resynthesize(self, prompt: Audio) -> Audio:
        """The prompt through the codec alone."""
        return self._audio(self._codec.resynthesize(prompt))

    def _lasting(self, seconds: float) -> Generation:
        """A generation that cannot end before or after."""
        frames = max(1, round(seconds * self._codec.spec.frame_rate_hz))
        return replace(self._generation, max_frames=frames, min_frames=frames)

    def _stream(self, utterance: Utterance, seed: int, config: Generation, observer: Observer) -> Iterator[Audio]:
        request, voice = self._request(utterance, seed)
        decoding = self._codec.chunked(voice)
        for chunk in self._engine.stream(request, config, self._chunk_frames, observer):
            samples = decoding.push(chunk.codes, chunk.stop_reason is not None)
            if samples is not None:
                yield self._audio(samples)

    def _request(self, utterance: Utterance, seed: int) -> tuple[Request, Voice]:
        """What the model is asked for, and the voice that its codes are decoded in."""
        from systems.lm.requests import Request

        voice, text, spoken = self._codec.voice_of(utterance.prompt), utterance.text, utterance.prompt_text.strip()
        if self._codec.voice_dim and voice.embedding is None:
            raise MissingOutput("it takes its voice from a prompt, and this utterance has none")
        if voice.codes is not None and spoken:
            text = f"{spoken} {text}"  # the prompt is continued: its text before the target's, its codes as if already said
        else:
            voice, spoken = replace(voice, codes=None), ""
        try:
            tokens = self._front_end.encode(text, utterance.language)
            # Without the space between them the prompt's text is a token shorter, and with a mark of its own end one longer.
            read = len(self._front_end.encode(spoken, utterance.language).ids) if spoken else 0
        except ValueError as error:  # a language it does not read, or nothing to speak
            raise MissingOutput(str(error)) from error
        return Request(tokens.ids, seed, voice.codes, voice.embedding, read=read), voice

    def _audio(self, samples: Any) -> Audio:
        return Audio.mono(samples.cpu().numpy(), self.sample_rate)

    def _codes(self, codes: Any, voice: Voice) -> Codes:
        side = {} if voice.embedding is None else {_SIDE: np.array(voice.embedding.cpu().numpy())}
        return Codes(codes.numpy(), self._codec.spec, codes.shape[1] * self._codec.spec.hop_length, side)


def _title(config: Any) -> str:
    """In words, what a model is."""
    delay = f" with delay {config.pattern.delay}"
    return {"hierarchical": "QTTS hierarchical", "multihead": f"QTTS multihead{delay}"}.get(config.kind, f"SoCodec TTS{delay}")


def _misplaced(name: str) -> str:
    """What is said to a word that is no parameter but may be a field of one."""
    from systems.tts.loading import Generation

    groups = {"generation": Generation, "run": Runtime, "codec": CodecFiles, "shape": Shape}
    places = [f"{group}.{name}" for group, kind in groups.items() if name in {field.name for field in fields(kind)}]
    return f"there is no {name}=" + (f"; it is {places[0]}=" if places else "")
