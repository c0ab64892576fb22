"""Networks that no library has, written from what their papers say and the names and shapes in their files."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class UtmosHead(nn.Module):
    """From the features of wav2vec 2.0, ``[B, T, D]``, to scores ``[B]``.

    Args:
        features: D.
        embedding: width of the domain's and the listener's vector.
        hidden: of the LSTM, each direction.
        projection: width of the layer before the score.
    """

    def __init__(self, features: int, embedding: int = 128, hidden: int = 512, projection: int = 2048) -> None:
        super().__init__()
        self.domain_emb = nn.Parameter(torch.zeros(1, embedding))
        self.judge_emb = nn.Parameter(torch.zeros(1, embedding))
        self.blstm = nn.LSTM(features + 2 * embedding, hidden, batch_first=True, bidirectional=True)
        self.projection = nn.Sequential(nn.Linear(2 * hidden, projection), nn.ReLU(), nn.Linear(projection, 1))

    def forward(self, features: Tensor) -> Tensor:
        batch, frames, _ = features.shape
        constant = torch.cat([self.domain_emb, self.judge_emb], dim=1).expand(batch, frames, -1)
        hidden, _ = self.blstm(torch.cat([features, constant], dim=2))
        scores: Tensor = self.projection(hidden)[:, :, 0]
        return scores.mean(dim=1) * 2 + 3
