"""Generation, once for every kind of model: batches in lockstep, each item ending by itself, offline or as a stream.

What an item says depends on its request and on nothing else: its random numbers come from its own seed, drawn before the first step, and
padding is masked. No step waits for the device; whether everything is over is looked at now and then.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from harness.api import UNOBSERVED, Observer
from systems.layers.graphs import Acceleration
from systems.lm.backbone import LanguageModel
from systems.lm.decoding import Decoding
from systems.lm.inference import StepCost
from systems.lm.requests import Chunk, Generated, GenerationConfig, Request, batched

_CAPACITY_STEP = 256  # columns; buffers of captured graphs are kept for the next batch that fits


class Engine:
    """A model, and the memory and captured graphs of batches that it generated before.

    Args:
        model: in evaluation mode, on its device.
        acceleration: "off", "compile" or "graph", see `systems.layers.graphs`.
        cost: of its steps, for who wants to know what they cost at least.
    """

    def __init__(self, model: LanguageModel, acceleration: Acceleration = "off", cost: StepCost | None = None) -> None:
        self.model, self.acceleration, self.cost = model, acceleration, cost
        self._kept: dict[tuple[int, int, int, GenerationConfig], Decoding] = {}

    def generate(self, requests: Sequence[Request], config: GenerationConfig, observer: Observer = UNOBSERVED) -> tuple[Generated, ...]:
        """All items together, each as if it were alone; ``observer`` is told of the stages "prefill" and "lm".

        Raises:
            ValueError: a request that does not fit the model.
        """
        if not requests:
            return ()
        with observer.stage("prefill"):
            decoding = self._started(requests, config)
        observer.event("token")
        every = config.check_every or (1 if decoding.device.type == "cpu" else 16)
        with observer.stage("lm"):
            while not decoding.exhausted and not (decoding.turns % every == 0 and decoding.over()):
                decoding.advance()
            found = decoding.results()
        observer.memory("kv_cache", decoding.cache_bytes)
        if self.cost is not None:
            batch, columns = len(requests) * (2 if config.guided else 1), decoding.prefix_columns
            observer.work("prefill", self.cost.prefill(columns, batch))
            observer.work("lm", self.cost.steps(columns, decoding.turns - 1, batch))
        return found

    def stream(self, request: Request, config: GenerationConfig, chunk_frames: int = 1, observer: Observer = UNOBSERVED) -> Iterator[Chunk]:
        """One item's frames as soon as ``chunk_frames`` more of them are whole; joined they are what `generate` gives.

        ``observer`` is told of the first "token" and the first whole "frame".

        Raises:
            ValueError: a request that does not fit the model.
        """
        if chunk_frames < 1:
            raise ValueError(f"a chunk has at least one frame, got chunk_frames={chunk_frames}")
        decoding, sent = self._started([request], config), 0
        observer.event("token")
        framed = False
        while True:
            if not framed and decoding.whole(0) >= 1:
                observer.event("frame")
                framed = True
            over = decoding.over() or decoding.exhausted
            # Frames after the end are not sent, and the end may show before the frames before it are whole.
            if over or decoding.whole(0) - sent >= chunk_frames:
                found = decoding.result(0)
                yield Chunk(found.codes[:, sent:], found.stop_reason if over else None)
                sent = found.codes.shape[1]
            if over:
                return
            decoding.advance()

    def _started(self, requests: Sequence[Request], config: GenerationConfig) -> Decoding:
        model = self.model
        if model.training:
            raise ValueError("the model is in training mode; call eval() first")
        rows = [*requests, *(replace(request, text=(), read=0) for request in requests)] if config.guided else requests
        batch, limits = batched(rows, config, model)
        pattern, books = model.config.pattern, model.config.num_codebooks
        begun = [pattern.begun(books, int(frames)) for frames in batch.frames.tolist()]
        turns = max(pattern.steps(books, limit) - b for limit, b in zip(limits, begun, strict=True))
        columns = batch.text.shape[1] + max(begun) + 2 + turns
        for text, limit in zip(batch.text_lengths.tolist(), limits, strict=True):
            model.check(text, pattern.steps(books, limit))
        if self.acceleration == "off":
            decoding = Decoding(model, config, len(rows), columns, turns)
        else:
            columns, turns = (-(-n // _CAPACITY_STEP) * _CAPACITY_STEP for n in (columns, turns))
            key = (len(rows), columns, turns, config)
            if key not in self._kept:
                self._kept[key] = Decoding(model, config, len(rows), columns, turns)
                self._kept[key].accelerate(self.acceleration)
            decoding = self._kept[key]
        decoding.start(batch, [request.seed for request in rows], limits, [request.read for request in rows])
        return decoding
