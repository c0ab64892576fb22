"""Folders of checkpoints copied, their weights damaged; small ONNX files written by hand, as onnx is no dependency; small networks
of the kinds that fairseq trained, under its names.
"""

from __future__ import annotations

import re
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any


def copy(folder: Path, target: Path) -> Path:
    return Path(shutil.copytree(folder, target))


def damage(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Rewrites a weight file with its state changed."""
    import torch
    from safetensors.torch import load_file, save_file

    safe = path.suffix == ".safetensors"
    state = load_file(path) if safe else torch.load(path, weights_only=True)
    change(state)
    save_file(state, path, metadata={"format": "pt"}) if safe else torch.save(state, path)


def without_first(state: dict[str, Any]) -> None:
    del state[min(k for k, v in state.items() if v.ndim > 1)]


def field(number: int, value: int | bytes | str | float) -> bytes:
    """One protobuf field: varint for int, fixed32 for float, length-delimited otherwise."""

    def varint(n: int) -> bytes:
        out = bytearray()
        while n > 127:
            out.append(n & 127 | 128)
            n >>= 7
        return bytes([*out, n])

    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def onnx_of_wave(kind: str) -> bytes:
    """A model of a waveform ``[B, N]``: "mean" gives its mean over time ``[B, 1]``, "same" the waveform itself."""

    def value_info(name: str, *dims: int | str) -> bytes:
        shape = b"".join(field(1, field(1, d) if isinstance(d, int) else field(2, d)) for d in dims)
        return field(1, name) + field(2, field(1, field(1, 1) + field(2, shape)))

    attributes = field(5, field(1, "axes") + field(8, 1) + field(20, 7)) if kind == "mean" else b""
    operator = {"mean": "ReduceMean", "same": "Identity"}[kind]
    node = field(1, field(1, "audio_input") + field(2, "mos_output") + field(4, operator) + attributes)
    ends = field(11, value_info("audio_input", "B", "N")) + field(12, value_info("mos_output", "B", 1 if kind == "mean" else "N"))
    return field(1, 8) + field(7, node + field(2, "scores") + ends) + field(8, field(1, "") + field(2, 13))


CONVOLUTIONS = ((16, 10, 5), (16, 3, 2), (16, 2, 2))
SMALL_TORCHAUDIO: dict[str, Any] = {
    "extractor_conv_layer_config": [list(c) for c in CONVOLUTIONS], "extractor_conv_bias": False, "encoder_embed_dim": 32,
    "encoder_projection_dropout": 0.1, "encoder_pos_conv_kernel": 128, "encoder_pos_conv_groups": 16, "encoder_num_heads": 2,
    "encoder_attention_dropout": 0.1, "encoder_ff_interm_features": 48, "encoder_ff_interm_dropout": 0.1, "encoder_dropout": 0.1,
    "encoder_layer_drop": 0.1, "aux_num_out": None,
}  # fmt: skip
"""A small wav2vec 2.0 or WavLM, as torchaudio is told its size."""
SMALL_TRANSFORMERS: dict[str, Any] = {
    "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 48, "conv_bias": False,
    "conv_dim": [c[0] for c in CONVOLUTIONS], "conv_kernel": [c[1] for c in CONVOLUTIONS], "conv_stride": [c[2] for c in CONVOLUTIONS],
}  # fmt: skip
"""The same, as transformers is told it."""

_LAYER = r"(encoder\.layers\.\d)"
TO_FAIRSEQ = (
    (r"feature_extractor\.conv_layers\.(\d)\.conv\.(.*)", r"feature_extractor.conv_layers.\1.0.\2"),
    (r"feature_projection\.layer_norm\.(.*)", r"layer_norm.\1"),
    (r"feature_projection\.projection\.(.*)", r"post_extract_proj.\1"),
    (r"masked_spec_embed", "mask_emb"),
    (r"encoder\.pos_conv_embed\.conv\.bias", "encoder.pos_conv.0.bias"),
    (r"encoder\.pos_conv_embed\.conv\.parametrizations\.weight\.original0", "encoder.pos_conv.0.weight_g"),
    (r"encoder\.pos_conv_embed\.conv\.parametrizations\.weight\.original1", "encoder.pos_conv.0.weight_v"),
    (rf"{_LAYER}\.attention\.gru_rel_pos_const", r"\1.self_attn.grep_a"),
    (rf"{_LAYER}\.attention\.gru_rel_pos_linear\.(.*)", r"\1.self_attn.grep_linear.\2"),
    (rf"{_LAYER}\.attention\.rel_attn_embed\.(.*)", r"\1.self_attn.relative_attention_bias.\2"),
    (rf"{_LAYER}\.attention\.(.*)", r"\1.self_attn.\2"),
    (rf"{_LAYER}\.layer_norm\.(.*)", r"\1.self_attn_layer_norm.\2"),
    (rf"{_LAYER}\.feed_forward\.intermediate_dense\.(.*)", r"\1.fc1.\2"),
    (rf"{_LAYER}\.feed_forward\.output_dense\.(.*)", r"\1.fc2.\2"),
    (r"(encoder\.(?:layers\.\d\.final_)?layer_norm\..*)", r"\1"),
)
"""What fairseq calls the parameters of transformers' wav2vec 2.0 and WavLM: written apart from what the harness reads by."""


def shaken(model: Any) -> Any:
    """Biases and norms changed too, which start at 0 and 1."""
    import torch

    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def fairseq_state(model: Any, prefix: str, extractor_norm: str) -> dict[str, Any]:
    """A state of transformers under fairseq's names; ``extractor_norm`` is the place of a convolution's norm, "2" or "2.1"."""
    norm = (r"feature_extractor\.conv_layers\.(\d)\.layer_norm\.(.*)", rf"feature_extractor.conv_layers.\1.{extractor_norm}.\2")
    state = {}
    for key, value in model.state_dict().items():
        name = next(re.sub(rule, new, key) for rule, new in (norm, *TO_FAIRSEQ) if re.fullmatch(rule, key))
        state[prefix + name] = value.clone()
    return state
