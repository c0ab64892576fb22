"""Tiny copies of published codecs with random weights, saved as their packages save them."""

import json

import torch

from harness.torchaudio import ensure_torchaudio
from systems.published.neural import MARK, scatter_codebooks

SPEECHTOKENIZER = {
    "n_filters": 4, "strides": [8, 5, 4, 2], "dimension": 16, "semantic_dimension": 8, "bidirectional": True, "dilation_base": 2,
    "residual_kernel_size": 3, "n_residual_layers": 1, "lstm_layers": 1, "activation": "ELU", "sample_rate": 16000, "n_q": 8,
    "codebook_size": 64,
}  # fmt: skip
_HUBERT = {
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "conv_dim": [8] * 7,
    "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2,
}  # fmt: skip
_DAC_OF_XCODEC = {
    "encoder_hidden_size": 4, "decoder_hidden_size": 32, "hidden_size": 16, "downsampling_ratios": [8, 5, 4, 2], "upsampling_ratios": [8, 5, 4, 2],
}  # fmt: skip


def encodec():
    from transformers import EncodecConfig, EncodecModel

    return EncodecModel(EncodecConfig(num_filters=4, hidden_size=16, codebook_dim=16, num_lstm_layers=1))


def dac(sample_rate=16000):
    from transformers import DacConfig, DacModel

    strides = [2, 4, 8, 8] if sample_rate == 44100 else [2, 4, 5, 8]
    books = {16000: 12, 24000: 32, 44100: 9}[sample_rate]
    shape = {"encoder_hidden_size": 4, "decoder_hidden_size": 32, "codebook_size": 64}
    return DacModel(DacConfig(downsampling_ratios=strides, n_codebooks=books, sampling_rate=sample_rate, **shape))


def mimi():
    from transformers import MimiConfig, MimiModel

    return MimiModel(
        MimiConfig(
            num_filters=4, hidden_size=32, codebook_dim=16, vector_quantization_hidden_dimension=16, codebook_size=64, num_quantizers=10,
            upsample_groups=32, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2, head_dim=16, intermediate_size=32,
        )
    )  # fmt: skip


def xcodec():
    from transformers import XcodecConfig, XcodecModel

    return XcodecModel(XcodecConfig(acoustic_model_config=dict(_DAC_OF_XCODEC), semantic_model_config=dict(_HUBERT)))


def xcodec2():
    from transformers import Xcodec2Config, Xcodec2Model

    semantic = {
        "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "feature_projection_input_dim": 160,
        "output_hidden_size": 32,
    }  # fmt: skip
    model = Xcodec2Model(
        Xcodec2Config(
            hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2, head_dim=32,
            encoder_hidden_size=4, quantization_dim=96, semantic_model_config=semantic,
        )
    )  # fmt: skip
    # Latents far from zero, so that they fall into several of the quantizer's levels.
    torch.nn.init.normal_(model.quantizer.project_in.weight, std=100.0)
    return model


def save(folder, kind, *, mark=True, scatter=True, **shape):
    """Writes a checkpoint of ``kind`` by its package's own writer.

    Args:
        folder: to write.
        kind: one of the functions above, or "speechtokenizer".
        mark: say in config.json that the weights are random.
        scatter: fill the codebooks, which start as zeros, with noise, and let the encoder hear its input: with its biases as they are
            drawn it gives the same latents for any.
        shape: arguments of the function.
    """
    ensure_torchaudio()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if kind == "speechtokenizer":
            from systems.published.speechtokenizer import SpeechTokenizer

            model = SpeechTokenizer.network()(SPEECHTOKENIZER)
        else:
            model = {"encodec": encodec, "dac": dac, "mimi": mimi, "xcodec": xcodec, "xcodec2": xcodec2}[kind](**shape)
        if scatter:
            scatter_codebooks(model)
            for name, parameter in getattr(model, "encoder", model).named_parameters():
                if "bias" in name:
                    torch.nn.init.zeros_(parameter)
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "speechtokenizer":
        (folder / "config.json").write_text(json.dumps({**SPEECHTOKENIZER, **({MARK: True} if mark else {})}))
        torch.save(model.state_dict(), folder / "SpeechTokenizer.pt")
    else:
        if mark:
            setattr(model.config, MARK, True)
        model.save_pretrained(folder)
        if kind == "xcodec2":
            from transformers import Xcodec2FeatureExtractor

            Xcodec2FeatureExtractor().save_pretrained(folder)
    return folder
