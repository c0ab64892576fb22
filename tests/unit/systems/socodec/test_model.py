"""SoCodec's networks: shapes, what each frame has seen, and the utterance encoder against SpeechBrain's."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from harness.torchaudio import ensure_torchaudio
from systems.socodec.config import SocodecConfig, UtteranceConfig, socodec_config
from systems.socodec.model import SocodecModel
from systems.socodec.utterance import UtteranceEncoder, clip_and_shuffle

TINY_UTTERANCE = UtteranceConfig(channels=8, pooled_channels=12, attention_channels=4, squeeze_channels=4)


def _tiny(frame_ms: int = 120, **changes: object) -> SocodecConfig:
    shape = {"ssl_dim": 6, "num_mels": 10, "width": 12, "groups": 3, "sizes": (4, 4), "codebook_dim": 2, "utterance": TINY_UTTERANCE}
    return replace(socodec_config("small", frame_ms), **{**shape, **changes})


def _model(config: SocodecConfig) -> SocodecModel:
    torch.manual_seed(0)
    model = SocodecModel(config).requires_grad_(False)
    for part in (model.encoder, model.decoder_1, model.decoder_2):
        for weight in part.parameters():
            weight.mul_(2.5)  # fresh weights let hardly anything through
    features, mel = _frames(config, count=8, batch=8)
    model.train()(features, mel, generator=torch.Generator().manual_seed(0))  # codebooks start from what they are to code
    return model.eval()


def _frames(config: SocodecConfig, count: int = 4, batch: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(batch, count * config.stride, config.ssl_dim, generator=generator)
    return features, torch.randn(batch, 2 * count * config.stride, config.num_mels, generator=generator) - 5.0


@pytest.mark.parametrize("changes", [{}, {"quantizer": "rq"}, {"source": "mel"}, {"semantic": False}, {"source": "mel", "semantic": False}])
@pytest.mark.parametrize("frame_ms", [40, 120, 240])
def test_codes_and_frames_have_the_shapes_of_the_configuration(frame_ms, changes):
    config = _tiny(frame_ms, **changes)
    model, (features, mel) = _model(config), _frames(config)
    given = features if config.source == "ssl" else None
    code = model.encode(given, mel)
    assert config.hop == frame_ms * 16
    assert code.indices.shape == (2, {40: 1, 120: 4, 240: 8}[frame_ms], 4)
    assert code.embedding.shape == (2, 12)
    assert int(code.indices.min()) >= 0 and int(code.indices.max()) < 16
    decoded = model.decode(code.indices, code.embedding)
    assert decoded.mel.shape == mel.shape
    assert (None if decoded.ssl is None else decoded.ssl.shape) == (features.shape if config.semantic else None)
    trained = model(given, mel)
    assert torch.equal(trained.quantized.indices, code.indices)
    torch.testing.assert_close(trained.mel, decoded.mel, rtol=1e-4, atol=1e-4)


def test_parameters_of_the_paper_and_of_the_small_size():
    counts = {}
    for size, frame_ms in (("paper", 120), ("small", 40), ("small", 120), ("small", 240)):
        with torch.device("meta"):
            parameters = dict(SocodecModel(socodec_config(size, frame_ms)).named_parameters())
        counts[size, frame_ms] = sum(p.numel() for name, p in parameters.items() if not name.endswith(".entries"))
        assert all(p.numel() == 128 * p.shape[1] for name, p in parameters.items() if name.endswith(".entries"))
    assert counts["paper", 120] == 48_342_736  # the paper's code: 48.34 M
    assert all(1_500_000 < count < 3_000_000 for (size, _), count in counts.items() if size == "small")


def test_embedding_and_prefix_shape_what_is_decoded():
    config = _tiny()
    model, (features, mel) = _model(config), _frames(config)
    code = model.encode(features, mel)
    whole = model.decode(code.indices, code.embedding).mel
    assert not torch.allclose(whole, model.decode(code.indices, code.embedding.flip(0)).mel)
    assert not torch.allclose(whole, model.decode(code.indices[:, :1], code.embedding).mel)
    assert torch.equal(model.encode(features, mel, 2).indices, code.indices[:, :2])
    active = torch.tensor([2, 4])
    trained = model(features, mel, active=active)
    torch.testing.assert_close(trained.mel[0], model.decode(code.indices[:1, :2], code.embedding[:1]).mel[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(trained.mel[1], whole[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("whole_frames", [False, True])
@pytest.mark.parametrize("frame_ms", [40, 120, 240])
def test_encoder_sees_nothing_later_than_its_frame(frame_ms, whole_frames):
    """The code frame t sees feature frames up to the last of its span, or, in the release's way, up to the first."""
    config = _tiny(frame_ms, whole_frames=whole_frames)
    encoder, (features, _) = _model(config).encoder, _frames(config, count=6, batch=1)
    latent = encoder(features)
    assert latent.shape == (1, 6, 12)
    for t in range(6):
        first, last = t * config.stride, (t + 1) * config.stride - 1
        reach = last if whole_frames else first
        for frame, seen in ((reach, True), (reach + 1, False)):
            if frame < features.shape[1]:
                changed = features.clone()
                changed[:, frame] += 10.0
                assert torch.allclose(encoder(changed)[:, t], latent[:, t], atol=1e-6) != seen, (t, frame)


@pytest.mark.parametrize("frame_ms", [40, 120, 240])
def test_frames_coded_and_decoded_in_chunks_are_those_of_the_whole(frame_ms):
    config = _tiny(frame_ms)
    model, (features, mel) = _model(config), _frames(config, count=6)
    code = model.encode(features, mel)
    whole = model.decode(code.indices, code.embedding)
    for count in range(1, 7):
        latent = model.encoder(features[:, : count * config.stride])
        assert torch.equal(model.quantizer.encode(latent), code.indices[..., :count])
        part = model.decode(code.indices[..., :count], code.embedding)
        torch.testing.assert_close(part.mel, whole.mel[:, : part.mel.shape[1]], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(part.ssl, whole.ssl[:, : part.ssl.shape[1]], rtol=1e-4, atol=1e-4)


def test_without_features_to_tell_the_trunk_has_no_head():
    names = set(_model(_tiny(semantic=False)).state_dict())
    assert set(_model(_tiny()).state_dict()) - names == {"decoder_1.layers.8.weight", "decoder_1.layers.8.bias"}


def test_every_weight_takes_part_in_training():
    for changes in ({}, {"quantizer": "orq"}, {"source": "mel", "semantic": False}):
        config = _tiny(**changes)
        torch.manual_seed(0)
        model, (features, mel) = SocodecModel(config).train(), _frames(config)
        generator = torch.Generator().manual_seed(0)
        active = model.quantizer.draw_active(2, generator)
        made = model(features, mel, clip_and_shuffle(mel, generator), active, generator)
        loss = (made.mel - mel).square().mean() + made.quantized.commitment
        (loss if made.ssl is None else loss + (made.ssl - features).square().mean()).backward()
        assert [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


def test_frames_that_do_not_fit_are_refused():
    config = _tiny()
    model, (features, mel) = _model(config), _frames(config)
    with pytest.raises(ValueError, match="47 mel frames are no whole number of code frames of 12"):
        model.encode(features, mel[:, :-1])
    with pytest.raises(ValueError, match=r"features \[B, 24, 6\], got \(2, 23, 6\)"):
        model.encode(features[:, :-1], mel)
    with pytest.raises(ValueError, match="got None"):
        model.encode(None, mel)
    with pytest.raises(ValueError, match="40, 120, 240 ms, got 60"):
        socodec_config("small", 60)
    with pytest.raises(ValueError, match="sizes"):
        socodec_config("large")
    with pytest.raises(ValueError, match="opq, pq, rq, orq; got 'vq'"):
        socodec_config(quantizer="vq")
    with pytest.raises(ValueError, match="5 groups do not divide"):
        replace(config, groups=5)


def test_configuration_survives_its_metadata():
    config = socodec_config("small", 240, "rq", "mel", False)
    assert SocodecConfig.from_dict(config.to_dict()) == config
    with pytest.raises(ValueError, match="has no colour"):
        SocodecConfig.from_dict({**config.to_dict(), "colour": 1})
    with pytest.raises(ValueError, match="UtteranceConfig has no size"):
        SocodecConfig.from_dict({**config.to_dict(), "utterance": {"size": 1}})


def test_utterance_encoder_equals_speechbrains_without_its_normalisation():
    ensure_torchaudio()
    from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN

    config = UtteranceConfig(channels=16, pooled_channels=24, attention_channels=8, squeeze_channels=4, res2net_scale=4)
    torch.manual_seed(0)
    ours = UtteranceEncoder(20, 12, config).eval()
    theirs = ECAPA_TDNN(
        20,
        lin_neurons=12,
        channels=[16, 16, 16, 16, 48],
        attention_channels=8,
        res2net_scale=4,
        se_channels=4,
        kernel_sizes=[5, 3, 3, 3, 1],
    )
    # Its last layer is as wide as the three blocks together; here it may be of any width.
    theirs.mfa.conv.conv = nn.Conv1d(48, 24, 1)
    theirs.asp = type(theirs.asp)(24, attention_channels=8)
    theirs.fc.conv = nn.Conv1d(48, 12, 1)
    for module in list(theirs.modules()):
        for name in ("norm", "asp_bn"):
            if hasattr(module, name):
                setattr(module, name, nn.Identity())
    assert set(theirs.state_dict()) == set(ours.state_dict())
    theirs.load_state_dict(ours.state_dict())
    mel = torch.randn(3, 37, 20)
    with torch.no_grad():
        torch.testing.assert_close(ours(mel), theirs.eval()(mel)[:, 0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("count", [1, 2, 4, 5])
def test_utterance_encoder_takes_few_frames(count):
    encoder = UtteranceEncoder(10, 6, TINY_UTTERANCE).eval()
    mel = torch.randn(1, count, 10)
    embedding = encoder(mel)
    assert embedding.shape == (1, 6) and bool(torch.isfinite(embedding).all())
    if count < 5:
        torch.testing.assert_close(embedding, encoder(mel.repeat(1, -(-5 // count), 1)))


def test_clips_are_shuffled_slices_of_one_segment():
    mel = torch.arange(2000.0)[None, :, None].expand(4, -1, 3).contiguous()
    heard = clip_and_shuffle(mel, torch.Generator().manual_seed(0))
    assert torch.equal(heard, clip_and_shuffle(mel, torch.Generator().manual_seed(0)))
    assert 500 <= heard.shape[1] <= 1500 and heard.shape[0] == 4
    starts = set()
    for row in heard[..., 0].long().tolist():
        distinct = sorted(set(row))
        assert distinct == list(range(distinct[0], distinct[-1] + 1))  # one segment, with nothing left out
        assert 500 <= len(distinct) <= 1500
        assert row[: len(distinct)] != distinct  # in another order
        jumps = [i for i in range(1, len(distinct)) if row[i] != row[i - 1] + 1]
        assert 1 <= len(jumps) <= len(distinct) // 100
        assert all((row[i] - distinct[0]) % 100 == 0 for i in jumps)  # whole seconds of the segment
        assert row == (row[: len(distinct)] * 4)[: len(row)]  # repeated to the longest
        starts.add(distinct[0])
    assert len(starts) == 4


def test_short_clips_are_cut_in_three():
    mel = torch.arange(120.0)[None, :, None]
    orders = set()
    for seed in range(20):
        row = clip_and_shuffle(mel, torch.Generator().manual_seed(seed), (0.5, 0.5))[0, :, 0].long()
        assert row.sort().values.tolist() == list(range(int(row.min()), int(row.min()) + 60))
        orders.add(tuple((row - row.min()).tolist()[::20]))
    assert len(orders) == 6  # every order of three slices
    assert clip_and_shuffle(torch.zeros(2, 1, 3)).shape == (2, 1, 3)
