"""Generation, once for every kind of model: batches in lockstep, each item ending by itself, offline or as a stream.

What an item says depends on its request and on nothing else: its random numbers come from its own seed, drawn before the first step, and
padding is masked. No step waits for the device; whether everything is over is looked at now and then.

Shape letters: B rows of the batch (with guidance two an item), K codebooks, T frames, J steps of a generation, V vocabulary, P parts of a
token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from harness.api import UNOBSERVED, Observer
from systems.lm.backbone import LanguageModel, LmBatch, Prefilled
from systems.lm.inference import StepCost
from systems.lm.reading import Reading
from systems.lm.requests import Chunk, Generated, GenerationConfig, Request, batched, penalised, sample
from systems.lm.tokens import SPECIALS

Acceleration = Literal["off", "compile", "graph"]
_WARM_UPS = 3
_CAPACITY_STEP = 256  # columns; buffers of captured graphs are kept for the next batch that fits


class Engine:
    """A model, and the memory and captured graphs of batches that it generated before.

    Args:
        model: in evaluation mode, on its device.
        acceleration: "off", "compile" or "graph", see `accelerated`.
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
        observer.memory("kv_cache", decoding.cache.keys.nbytes + decoding.cache.values.nbytes)
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
        begun = batch.frames.tolist()
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


class Decoding:
    """A batch in flight. Its tensors stay where they are, so that a captured step finds them again for the next batch.

    Args:
        model: in evaluation mode.
        config: of the generation.
        size: B. With guidance the second half of the rows are the requests of the first without their text, see `GenerationConfig`.
        columns: of the cache.
        turns: J, the most steps.
    """

    def __init__(self, model: LanguageModel, config: GenerationConfig, size: int, columns: int, turns: int) -> None:
        self._model, self._config, self._shape = model, config, model.config
        shape = model.config
        self.device = model.text.weight.device
        books = shape.num_codebooks
        self.turns = 0  # steps said
        self._limit_turns = turns
        self._exact = True  # the host knows how many columns to look at
        self.prefix_columns = 0  # of the cache, that text and prompts take

        def numbers(*dims: int) -> Tensor:
            return torch.zeros(dims, dtype=torch.int64, device=self.device)

        self._tokens, self._said = numbers(size, books), numbers(turns, size, books)
        self._layout, self._given = numbers(turns, size, books), numbers(turns, size, books)
        self._uniform = torch.zeros(turns, size, books, len(shape.parts), device=self.device)
        self._turn, self._column = numbers(1), numbers(1)
        self._length, self._earliest = numbers(size), numbers(size)
        self._ended = torch.zeros(size, dtype=torch.bool, device=self.device)
        # The sizes of the parts' logits; only the first has BOS and EOS among them.
        widths = [shape.parts[0] + SPECIALS, *shape.parts[1:]]
        self._forbidden = torch.zeros(books, widths[0], device=self.device)
        self._forbidden[:, shape.parts[0]] = -torch.inf
        self._forbidden[1:, shape.parts[0] + 1] = -torch.inf
        self._is_eos = torch.zeros(widths[0], dtype=torch.bool, device=self.device)
        self._is_eos[-1] = True
        self._eos = shape.eos
        self._counts: Tensor | None = None
        if config.repetition_penalty != 1.0:
            self._counts = torch.zeros(size, books, shape.codebook_size, device=self.device)
        self._first_halves: Tensor | None = None
        self._reading = Reading(shape, size, config.reading_window, self.device) if config.reading_window else None
        self.cache = model.transformer.new_cache(size, columns)
        self._state = Prefilled(
            self.cache,
            numbers(size),
            numbers(size),
            torch.zeros(size, shape.backbone.width, device=self.device, dtype=model.text.weight.dtype),
            0,
            False,
        )
        self._run: Callable[[], None] = self._step
        self._completed: list[list[int]] = []
        self._prompts: list[int] = []

    def accelerate(self, how: Acceleration) -> None:
        """Captures or compiles the step; `start` puts the buffers, which warming up has written to, right again."""
        self._exact = False
        with torch.inference_mode():
            self._run = accelerated(self._step, how, self.device)

    @torch.inference_mode()
    def start(self, batch: LmBatch, seeds: Sequence[int], limits: Sequence[int], read: Sequence[int]) -> None:
        """Takes a `batched` batch in and says the first step; ``limits`` are the frames that each row may reach, its prompt's included, and
        ``read`` the text tokens of each that its prompt has spoken.
        """
        model, shape = self._model, self._shape
        begun = self._prompts = batch.frames.tolist()
        pattern, books, turns = shape.pattern, shape.num_codebooks, self._limit_turns
        layout = pattern.layout(books, max(begun) + turns)
        layouts = torch.stack([layout[:, b : b + turns].T for b in begun], dim=1)  # [J, B, K]
        # What is known of a step: BOS where a codebook has not begun, the prompt's frames that a delay has left over.
        ends = batch.frames.cpu()[None, :, None]
        places = layouts.permute(1, 2, 0).clamp(0, max(batch.codes.shape[2] - 1, 0))  # [B, K, J]
        codes = batch.codes.cpu() if batch.codes.shape[2] else batch.codes.new_zeros(len(begun), books, 1, device="cpu")
        left_over = codes.gather(2, places).permute(2, 0, 1)
        given = torch.where(layouts < 0, shape.bos, torch.where(layouts < ends, left_over, -1))
        self._layout.copy_(layouts)
        self._given.copy_(given)
        # Every number of an item is drawn beforehand and from its own seed, so that neither its neighbours nor the device change what it says.
        draws = [torch.rand(turns, books, len(shape.parts), generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        self._uniform.copy_(torch.stack(draws, dim=1))
        self._length.copy_(torch.tensor(limits))
        self._earliest.copy_(batch.frames + self._config.min_frames)
        for tensor in (self._turn, self._said, self._ended, self._counts):
            if tensor is not None:
                tensor.zero_()
        self._completed = [[pattern.completed(books, b + turn) for b in begun] for turn in range(turns + 1)]
        self.turns = 0
        state = model.prefill(batch, self.cache)
        self._state.padding.copy_(state.padding)
        self._state.speech_from.copy_(state.speech_from)
        self._state = replace(self._state, length=state.length, padded=state.padded)
        if self._reading is not None:
            self._reading.start(state.padding + model.lead, batch.text_lengths, torch.tensor(read, device=self.device))
        self._column.fill_(state.length)
        self.prefix_columns = state.length
        self._say(state.hidden)
        self.turns = 1

    @torch.inference_mode()
    def advance(self) -> None:
        """One step of the model, and what it says."""
        self._run()
        self.turns += 1

    @property
    def exhausted(self) -> bool:
        """No step is left, for no item."""
        return self.turns >= self._limit_turns

    def over(self) -> bool:
        """Every frame of every item is whole; waits for the device."""
        lengths = self._length.tolist()
        completed, prompts = self._completed[self.turns], self._prompts
        return all(length <= max(done, prompt) for done, length, prompt in zip(completed, lengths, prompts, strict=True))

    def whole(self, item: int) -> int:
        """Frames of an item that are whole so far, past its end perhaps."""
        return self._completed[self.turns][item] - self._prompts[item]

    def results(self) -> tuple[Generated, ...]:
        """Of every item."""
        items = self._length.shape[0] // (2 if self._config.guided else 1)
        return tuple(self.result(item) for item in range(items))

    def result(self, item: int) -> Generated:
        """What an item has said so far: its whole frames, up to its end."""
        pattern, books = self._shape.pattern, self._shape.num_codebooks
        length, prompt = int(self._length[item]), self._prompts[item]
        said = self._said[: self.turns, item].cpu()  # [J, K]
        layout = self._layout[: self.turns, item].cpu()
        frames = max(0, min(self._completed[self.turns][item], length) - prompt)
        codes = torch.zeros(books, frames + 1, dtype=torch.int64)  # the last one takes everything that is not wanted
        where = torch.where((layout >= prompt) & (layout < prompt + frames), layout - prompt, frames)
        codes.scatter_(1, where.T, said.T)
        steps = pattern.steps(books, length) - prompt
        return Generated(codes[:, :frames].contiguous(), "end" if bool(self._ended[item]) else "length", min(steps, self.turns))

    def _step(self) -> None:
        """On the device from end to end; in place, so that it may be captured."""
        seen = self.prefix_columns + self.turns if self._exact else None
        hidden = self._model.step(self._state, self._tokens, self._column, seen, self._reading)
        self._column.add_(1)
        self._say(hidden)

    def _say(self, hidden: Tensor) -> None:
        frames = self._layout.index_select(0, self._turn)[0]
        given = self._given.index_select(0, self._turn)[0]
        chosen = self._model.emit(hidden, self._choose)
        # Codebook 0 alone ends an item, where it draws itself; the others follow to that length, each as late as its delay.
        ends = (chosen[:, 0] == self._eos) & (given[:, 0] < 0) & ~self._ended & (frames[:, 0] < self._length)
        self._length.copy_(torch.where(ends, frames[:, 0], self._length))
        self._ended.logical_or_(ends)
        tokens = torch.where(given < 0, chosen, given)
        tokens = torch.where(frames >= self._length[:, None], self._eos, tokens)
        self._said.index_copy_(0, self._turn, tokens[None])
        self._tokens.copy_(tokens)
        if self._counts is not None:
            counted = (given < 0) & (tokens < self._shape.codebook_size)  # what the model drew, ends aside
            self._counts.scatter_add_(2, tokens.clamp(max=self._shape.codebook_size - 1)[..., None], counted.float()[..., None])
        self._turn.add_(1)

    def _choose(self, logits: Tensor, first: int, part: int) -> Tensor:
        books = slice(first, first + logits.shape[1])
        logits = logits.float()
        if self._config.guided:
            logits = guided(logits, self._config.guidance_scale)
        # Of a token of two halves the pair counts, so the penalty waits for the second half and looks behind the first.
        if self._counts is not None and part + 1 == len(self._shape.parts):
            logits = penalised(logits, self._seen(self._counts[:, books], logits.shape[2]), self._config.repetition_penalty)
        if part == 0:
            logits = logits + self._forbidden[books]
            if (early := self._too_early()) is not None:
                logits = torch.where(early[:, None, None] & self._is_eos, -torch.inf, logits)
        uniform = self._uniform.index_select(0, self._turn)[0, :, books, part]
        chosen = sample(logits, uniform, self._config)
        if part + 1 < len(self._shape.parts):
            self._first_halves = chosen
        return chosen

    def _too_early(self) -> Tensor | None:
        """Bool ``[B]``: rows that may not end at this step; None for none."""
        early = None
        if self._config.min_frames:
            early = self._layout.index_select(0, self._turn)[0, :, 0] < self._earliest
        if self._reading is not None:
            unread = self._reading.unread()
            if self._config.guided:  # rows without text end with those that have it
                unread = unread.chunk(2)[0].repeat(2)
            early = unread if early is None else early | unread
        return early

    def _seen(self, counts: Tensor, width: int) -> Tensor:
        """Bool ``[B, n, width]``: which of these logits' tokens were said before; of second halves, behind the first halves just chosen."""
        seen = counts > 0
        if self._first_halves is not None:
            first = self._shape.parts[0]
            pairs = seen.reshape(*seen.shape[:2], -1, first)  # [B, n, V2, V1]
            place = self._first_halves.clamp(max=first - 1)[:, :, None, None].expand(-1, -1, pairs.shape[2], -1)
            behind: Tensor = pairs.gather(3, place)[..., 0]
            return behind
        return functional.pad(seen, (0, width - seen.shape[2]))  # BOS and EOS do not count


def guided(logits: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance of ``logits [B, ..., V]``, the second half of whose rows do not know the text.

    With log-probabilities l (text) and u (none), both halves become ``u + scale (l - u)``, as in transformers' processor of this name.
    """
    conditional, unconditional = logits.log_softmax(dim=-1).chunk(2)
    return (unconditional + scale * (conditional - unconditional)).repeat(2, *[1] * (logits.ndim - 1))


def accelerated(step: Callable[[], None], how: Acceleration, device: torch.device) -> Callable[[], None]:
    """The same step, faster: fewer launches by torch.compile or CUDA graphs. Small decoding steps are bound by launching kernels.

    A step qualifies if it takes no arguments, works on tensors that stay where they are, and never waits for the device. "graph" runs it a few
    times (lazily initialised libraries must not be captured) and then captures it: whoever calls has to put the tensors it works on into their
    first state afterwards. "compile" does its work at the first call; "off" gives ``step`` itself.

    Raises:
        ValueError: another word, or a graph without a CUDA device.
    """
    if how not in get_args(Acceleration):
        raise ValueError(f"acceleration is one of {', '.join(get_args(Acceleration))}; got {how!r}")
    if how == "off":
        return step
    if how == "compile":
        compiled: Callable[[], None] = torch.compile(step, dynamic=False)
        return compiled
    if device.type != "cuda":
        raise ValueError(f'acceleration="graph" needs a CUDA device, this is {device}; use "off" or "compile"')
    return _captured(step, device)


def _captured(step: Callable[[], None], device: torch.device) -> Callable[[], None]:
    with torch.cuda.device(device):
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(_WARM_UPS):
                step()
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step()
    replay: Callable[[], None] = graph.replay
    return replay
