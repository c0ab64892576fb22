"""What the training loop asks of a model family: its modules, its players, its losses, the data it wants; and what can stop a training run.

Shape letters: B batch, N samples. One step of training visits every player once, in the order of `Recipe.players`; the batches are drawn
once a step and shared by the players. (The word is that of adversarial training: discriminator and generator play against each other.) The
loop does everything else: optimisers, schedules, averaging, checkpoints, devices, stopping.

Each fault has its own class, so that a command can tell them apart::

    TrainingFault
    |-- BadRecordings       training data that cannot be read, or too little of it
    |-- StateMismatch       a checkpoint of another run, or a damaged one
    `-- Diverged            losses or weights stopped being finite
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class Batch:
    """One batch of one stream of data, on the device.

    Args:
        audio: float32 [B, N] at the recipe's sample rate; random crops, or whole utterances, padded at the end with zeros.
        lengths: int64 [B], valid samples.
        texts: transcription where the row holds the WHOLE utterance, else "".
        languages: "" where the manifest does not say.
        derived: by name, float32 [B, T, D] of the rows of ``audio``, as `BatchSpec.derived` asks.
    """

    audio: Tensor
    lengths: Tensor
    texts: tuple[str, ...]
    languages: tuple[str, ...]
    derived: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Derived:
    """Frames computed from a recording once, kept as float16, and cut like its audio: what would cost too much at every step.

    Args:
        name: key in `Batch.derived`.
        hop: samples per frame.
        compute: a deterministic function of float32 [N] (a whole recording at the recipe's rate, on the device) to [N // hop, D], all of
            them numbers that float16 holds.
        padded: recordings shorter than a crop are zero-padded to one before; false for whole utterances, which are taken as they are.
        identity: of ``compute``, with every weight in it, where its frames are worth keeping on disk from one training to the next.
    """

    name: str
    hop: int
    compute: Callable[[Tensor], Tensor]
    padded: bool = True
    identity: str = ""


@dataclass(frozen=True)
class BatchSpec:
    """A stream of data a recipe wants.

    Args:
        batch_size: rows per process.
        crop_s: length of a random crop in seconds; of whole utterances, the longest that is taken (longer ones are left out).
        whole: utterances from start to end, of similar length within a batch, padded to the longest; else crops, N = crop_s exactly.
        with_text: only utterances whose manifest line has a text.
        languages: only utterances in these languages, if any are named.
        derived: frames that travel with the audio; crops then start where a frame of each of them does.
    """

    batch_size: int
    crop_s: float
    whole: bool = False
    with_text: bool = False
    languages: tuple[str, ...] = ()
    derived: tuple[Derived, ...] = ()


@dataclass(frozen=True)
class OptimiserSpec:
    """How one player's parameters move; AdamW throughout.

    Args:
        learning_rate: at the peak, after the warm-up.
        betas: of AdamW.
        weight_decay: of AdamW.
        warmup_steps: linear from zero.
        schedule: "cosine" (to `final_ratio` at the last step), "exponential" (times `decay` a step) or "constant".
        final_ratio: last learning rate over the peak, for "cosine".
        decay: for "exponential".
        clip_norm: largest gradient norm; 0 for no clipping.
    """

    learning_rate: float = 5e-4
    betas: tuple[float, float] = (0.8, 0.99)
    weight_decay: float = 0.01
    warmup_steps: int = 200
    schedule: str = "cosine"
    final_ratio: float = 0.02
    decay: float = 0.999996
    clip_norm: float = 10.0


@dataclass(frozen=True, eq=False)
class Losses:
    """Result of one player's forward pass: the scalar that it minimises, and detached scalars for the log, kept on the device so that no step
    waits for them.
    """

    total: Tensor
    parts: Mapping[str, Tensor]


@runtime_checkable
class Recipe(Protocol):
    """A trainable model: built on the CPU from plain parameters, moved by the loop, trained by `losses`.

    Its constructor takes keyword parameters that can be typed: plain values, or frozen dataclasses (or None) of such; the fields of the
    latter are reached by ``harness train`` under their own names, starting from what an attribute of that type holds by itself. A
    parameter called ``seed`` is given the run's; first weights drawn from torch's global generator are seeded in any case.

    A recipe that keeps state outside its modules' parameters and buffers cannot be resumed: keep it in buffers, and draw random
    numbers from the generator that is passed in (or from torch's own, which is saved too).

    While one player moves, the parameters of the players before it in the same step are frozen (no gradient is computed for them);
    those of later players are not, so a recipe may keep the graph of a forward pass made for an early player and use it again for a
    later one. A step whose loss or gradient is not finite moves no parameter; buffers that a forward pass writes (codebook averages)
    are the recipe's own care. Over several processes gradients are averaged and buffers follow process 0.
    """

    family: str
    """Registry family of the system the exported weights are for."""
    sample_rate: int
    players: tuple[str, ...]
    """Order of the updates within a step, ("discriminator", "generator") say."""

    def modules(self) -> Mapping[str, nn.Module]:
        """Every trained module by name; the loop moves, saves, averages and (over several processes) keeps them equal."""
        ...

    def parameters(self, player: str) -> list[nn.Parameter]:
        """What this player's optimiser moves."""
        ...

    def optimiser(self, player: str) -> OptimiserSpec: ...

    def averaged(self) -> Sequence[str]:
        """Names of the modules whose moving average is validated and exported; () for none."""
        ...

    def losses(self, player: str, batch: Mapping[str, Batch], step: int, generator: torch.Generator) -> Losses:
        """One player's forward pass.

        Args:
            player: one of `players`.
            batch: stream name to batch, as `wants` names them.
            step: steps finished so far, from 0.
            generator: on the CPU, seeded per process; its state is part of a checkpoint.
        """
        ...

    def wants(self) -> Mapping[str, BatchSpec]: ...

    def validate(self, audios: Sequence[Tensor]) -> Mapping[str, float]:
        """A few cheap numbers on held-out utterances, float32 [N] each, on the device; averaged weights are in place."""
        ...

    def export(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Tensors (for safetensors) and metadata of the usable model; averaged weights are in place."""
        ...


class TrainingFault(Exception):
    """Base of all; the message says what was found and what to do."""


class BadRecordings(TrainingFault):
    pass


class StateMismatch(TrainingFault):
    pass


class Diverged(TrainingFault):
    pass
