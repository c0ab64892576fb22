"""The shape of the multi-stream quantizers; knows no torch, so that a system can say its own shape without it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

IndexOrder = Literal["first_fastest", "first_slowest"]


@dataclass(frozen=True)
class StreamsConfig:
    """Shape and learning of a multi-stream quantizer.

    Args:
        num_streams: K.
        latent_dim: D.
        sizes: entries of the codebooks of one stream; their product is the stream's vocabulary.
        codebook_dim: of an entry, in product quantization. It sets the width W = K x len(sizes) x codebook_dim for every method, so that an
            ablation changes the quantizer and not the bottleneck; a residual quantizer's entries are K times as wide.
        order: "ordered" for nested dropout over streams, "none" to keep every stream in training.
        index_order: see `PairedCodebook`.
        decay: of the codebooks' moving average.
        kmeans_iterations: of the start on the first batch.
        revival_share: see `CodebookConfig`; 0 leaves dead entries dead, as the released SoCodec does.
    """

    num_streams: int = 4
    latent_dim: int = 1024
    sizes: tuple[int, ...] = (128, 128)
    codebook_dim: int = 128
    order: Literal["ordered", "none"] = "ordered"
    index_order: IndexOrder = "first_fastest"
    decay: float = 0.99
    kmeans_iterations: int = 50
    revival_share: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "sizes", tuple(self.sizes))
        if self.num_streams < 1:
            raise ValueError(f"a quantizer needs at least one stream, got {self.num_streams}")
        if self.order not in ("ordered", "none"):
            raise ValueError(f'order is "ordered" or "none", got {self.order!r}')

    @property
    def inner_dim(self) -> int:
        """W, between the projections."""
        return self.num_streams * len(self.sizes) * self.codebook_dim
