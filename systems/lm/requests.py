"""What a language model is asked to say, how its tokens are drawn, and what comes of it.

Drawing (`sample`) stays on the device of the logits, and nothing waits for it. The randomness comes in as numbers in 0..1, drawn by whoever owns
the generator: what an item draws then depends neither on the vocabulary nor on the items beside it nor on the device.

Shape letters: B batch, K codebooks, T frames, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from systems.lm.backbone import LanguageModel, LmBatch, joined
from systems.lm.config import LmConfig

StopReason = Literal["end", "length"]


@dataclass(frozen=True, eq=False)
class Request:
    """What one item is to say.

    Args:
        text: tokens; for a continuation those of the prompt's text and the target's.
        seed: of everything that is drawn for it.
        prompt: int64 ``[K, T]``, codes that the speech continues, or None.
        voice: ``[voice_dim]``, utterance embedding, for models that take one.
        max_frames: the most it may say, if less than the configuration allows.
        read: text tokens that the prompt has spoken, for `GenerationConfig.reading_window`.
    """

    text: Sequence[int]
    seed: int = 0
    prompt: Tensor | None = None
    voice: Tensor | None = None
    max_frames: int | None = None
    read: int = 0


@dataclass(frozen=True)
class SamplingConfig:
    """How a token is drawn; applied in this order, as transformers does.

    Args:
        repetition_penalty: positive logits of tokens that were emitted before are divided by it, negative ones multiplied (Keskar et al.
            2019); 1 is none.
        temperature: 0 takes the likeliest token.
        top_k: likeliest tokens that stay; 0 for all.
        top_p: of those, the fewest that hold this share of the probability together; 1 for all.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        if self.temperature < 0.0 or self.top_k < 0 or not 0.0 < self.top_p <= 1.0:
            raise ValueError(
                f"temperature and top_k are not negative and top_p lies in (0, 1]; got {self.temperature}, {self.top_k}, {self.top_p}"
            )
        if self.repetition_penalty <= 0.0:
            raise ValueError(f"repetition_penalty is positive, got {self.repetition_penalty}")


def penalised(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """``logits [..., V]`` with those of ``seen`` (bool, the same shape) made less likely."""
    smaller = torch.minimum if penalty >= 1.0 else torch.maximum  # positive: divided, negative: multiplied
    return torch.where(seen, smaller(logits / penalty, logits * penalty), logits)


def sample(logits: Tensor, uniform: Tensor, config: SamplingConfig) -> Tensor:
    """Tokens int64 ``[...]``, by inversion of the cumulative distribution; the repetition penalty is the caller's (`penalised`).

    Of ``logits [..., V]`` some may be minus infinity; ``uniform`` is float32 ``[...]`` in 0..1 (1 excluded).
    """
    if config.temperature == 0.0:
        return logits.argmax(dim=-1)
    scores = logits.float() / config.temperature
    size = scores.shape[-1]
    # The k likeliest first: sorting a few numbers is nothing, sorting the whole vocabulary costs more than the network's own step.
    places: Tensor | None = None
    if 0 < config.top_k < size:
        scores, places = scores.topk(config.top_k, dim=-1)
    elif config.top_p < 1.0:
        scores, places = scores.sort(dim=-1, descending=True)
    shares = scores.softmax(dim=-1)
    if config.top_p < 1.0:
        before = shares.cumsum(dim=-1) - shares
        before[..., 0] = 0.0  # a difference of roundings must not drop the likeliest
        shares = torch.where(before < config.top_p, shares, 0.0)
    cumulative = shares.cumsum(dim=-1)
    total = cumulative[..., -1]
    # Below the total even after rounding, else nothing would lie above it.
    mark = torch.minimum(uniform * total, total.nextafter(torch.zeros_like(total)))
    chosen = (cumulative <= mark[..., None]).sum(dim=-1)
    return chosen if places is None else places.gather(-1, chosen[..., None])[..., 0]


@dataclass(frozen=True)
class GenerationConfig(SamplingConfig):
    """How a batch is generated: how tokens are drawn (`SamplingConfig`), and how a model is kept to its text.

    The repetition penalty counts what the model said, each codebook by itself; prompts do not count. Of a token of two halves (`LmConfig.parts`)
    the second is penalised, where the two together were said before.

    Args:
        guidance_scale: of classifier-free guidance (Ho and Salimans 2022; of language models Sanchez et al. 2023): each distribution is
            moved away from the one without the text, by so much; 1 leaves it as it is. It doubles the batch, and makes sense for models
            that were trained with texts withheld (`LmTraining.text_dropout`).
        reading_window: text tokens that the guided heads may move on by in a step, see `systems.lm.reading`; 0 leaves them free. For models
            that were trained with guided attention.
        max_frames: an item that says more has run away: it is cut, and its stop reason is "length".
        min_frames: codebook 0 may not end before.
        check_every: steps between two looks at whether all items are over; each look waits for the device. None: 1 on a CPU, else 16.

    Raises:
        ValueError: impossible values.
    """

    guidance_scale: float = 1.0
    reading_window: int = 0
    max_frames: int = 500
    min_frames: int = 0
    check_every: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_frames < 1 or not 0 <= self.min_frames <= self.max_frames:
            raise ValueError(f"1 <= max_frames and 0 <= min_frames <= max_frames; got {self.max_frames} and {self.min_frames}")
        if not 0.0 <= self.guidance_scale < math.inf:
            raise ValueError(f"guidance_scale is 1 (none) or another number from 0 up, got {self.guidance_scale}")
        if self.reading_window < 0:
            raise ValueError(f"reading_window is 0 (none) or a number of text tokens, got {self.reading_window}")
        if self.check_every is not None and self.check_every < 1:
            raise ValueError(f"check_every is at least 1, got {self.check_every}")

    @property
    def guided(self) -> bool:
        """Every item is said twice, with its text and without."""
        return self.guidance_scale != 1.0


@dataclass(frozen=True, eq=False)
class Generated:
    """What came of one request: codes int64 ``[K, T]`` on the CPU, without the prompt; "end", or "length" of an item that ran away; and the
    model's steps from the prefill to the last frame.
    """

    codes: Tensor
    stop_reason: StopReason
    steps: int


@dataclass(frozen=True, eq=False)
class Chunk:
    """Frames int64 ``[K, n]`` of a stream, on the CPU, those after the chunk before; the last, perhaps empty, has a stop reason."""

    codes: Tensor
    stop_reason: StopReason | None = None


def batched(requests: Sequence[Request], config: GenerationConfig, model: LanguageModel) -> tuple[LmBatch, list[int]]:
    """The requests as one batch on the model's device, and the frames that each may reach, its prompt's included.

    Raises:
        ValueError: a request that does not fit the model.
    """
    shape, device = model.config, model.text.weight.device
    items, limits = [], []
    for number, request in enumerate(requests):
        tokens = torch.tensor([list(request.text)], dtype=torch.int64)
        prompt = torch.zeros(shape.num_codebooks, 0, dtype=torch.int64) if request.prompt is None else request.prompt.cpu()
        _check_request(number, tokens, prompt, request, shape)
        limits.append(prompt.shape[1] + min(config.max_frames, request.max_frames or config.max_frames))
        voice = None if request.voice is None else request.voice[None].to(device)
        items.append(LmBatch(tokens, torch.tensor([tokens.shape[1]]), prompt[None], torch.tensor([prompt.shape[1]]), voice))
    batch = joined(items)
    text, lengths, codes, frames = (tensor.to(device) for tensor in (batch.text, batch.text_lengths, batch.codes, batch.frames))
    return LmBatch(text, lengths, codes, frames, batch.voice), limits


def _check_request(number: int, text: Tensor, prompt: Tensor, request: Request, shape: LmConfig) -> None:
    if text.numel() and not (int(text.min()) >= 0 and int(text.max()) < shape.text_size):
        raise ValueError(
            f"request {number} has text tokens in {int(text.min())}..{int(text.max())}, the model knows 0..{shape.text_size - 1}"
        )
    if prompt.ndim != 2 or prompt.shape[0] != shape.num_codebooks:
        raise ValueError(f"request {number} has a prompt of shape {tuple(prompt.shape)}, the model wants [{shape.num_codebooks}, T]")
    if prompt.numel() and not (int(prompt.min()) >= 0 and int(prompt.max()) < shape.codebook_size):
        raise ValueError(
            f"request {number} has prompt codes in {int(prompt.min())}..{int(prompt.max())}, a codebook has {shape.codebook_size} entries"
        )
    if (request.voice is not None) != bool(shape.voice_dim) or (request.voice is not None and request.voice.shape != (shape.voice_dim,)):
        found = None if request.voice is None else tuple(request.voice.shape)
        wanted = f"an utterance embedding of shape ({shape.voice_dim},)" if shape.voice_dim else "none"
        raise ValueError(f"request {number} has the utterance embedding {found}, the model wants {wanted}")
    if not 0 <= request.read <= text.shape[1]:
        raise ValueError(f"request {number} says that {request.read} of its {text.shape[1]} text tokens are read")
    if request.max_frames is not None and request.max_frames < 1:
        raise ValueError(f"request {number} may say {request.max_frames} frames; at least 1")
