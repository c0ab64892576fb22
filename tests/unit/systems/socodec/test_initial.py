"""Initial weights of SoCodec: the code is felt by what is decoded, at every frame length and quantizer."""

from __future__ import annotations

import pytest
import torch

from systems.socodec.config import socodec_config
from systems.socodec.model import SocodecModel, spread


def _felt(model: SocodecModel) -> tuple[float, float, float]:
    """Deviation over time of the encoder's latent, deviation of the mel frames, and how much of that is the code's doing."""
    generator = torch.Generator().manual_seed(1)
    config = model.config
    mel = config.mel_mean + config.mel_scale * torch.randn(4, 240, config.num_mels, generator=generator)
    features = torch.randn(4, 120, config.ssl_dim, generator=generator) if config.source == "ssl" else None
    with torch.no_grad():
        latent = model.encoder(features if features is not None else model._centred(mel).reshape(4, 120, -1))
        back = model.quantizer.project_out(model.quantizer.project_in(latent)[..., : model.quantizer.project_out.in_features])
        embedding = model.embed(mel)
        coded, silent = (model._decode(code, embedding).mel for code in (back, torch.zeros_like(back)))
    return float(latent.std(dim=1).mean()), float(coded.std()) / config.mel_scale, float((coded - silent).std() / coded.std())


@pytest.mark.parametrize(
    ("frame_ms", "quantizer", "source", "semantic"),
    [(40, "opq", "ssl", True), (120, "opq", "ssl", True), (240, "rq", "ssl", True), (120, "pq", "mel", False), (240, "opq", "ssl", False)],
)
def test_the_code_is_felt_from_the_first_step_on(frame_ms, quantizer, source, semantic) -> None:
    torch.manual_seed(0)
    model = SocodecModel(socodec_config("small", frame_ms, quantizer, source, semantic))
    assert _felt(model)[2] < 1e-3  # as torch begins
    spread(model)
    latent, mel, share = _felt(model)
    assert 0.5 < latent < 4.0
    assert 0.1 < mel < 2.0
    assert share > 0.3


def test_the_start_is_that_of_the_seed() -> None:
    made = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        model = SocodecModel(socodec_config("small", 40))
        spread(model)
        made.append(torch.cat([p.flatten() for p in model.parameters()]))
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])
