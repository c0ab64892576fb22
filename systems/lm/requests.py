"""What a language model is asked to say, and what comes of it.

Shape letters: B batch, K codebooks, T frames.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from systems.layers.sampling import SamplingConfig
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
    """What came of one request.

    Args:
        codes: int64 ``[K, T]`` on the CPU, without the prompt.
        stop_reason: "end", or "length" of an item that ran away.
        steps: of the model, from the prefill to the last frame.
    """

    codes: Tensor
    stop_reason: StopReason
    steps: int


@dataclass(frozen=True, eq=False)
class Chunk:
    """Frames of a stream.

    Args:
        codes: int64 ``[K, n]`` on the CPU, the frames after those of the chunk before.
        stop_reason: of the last chunk (which may be empty), None of the others.
    """

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
