"""Weights under the names of fairseq, the library that wav2vec 2.0 and WavLM were published with, for torchaudio's networks.

torchaudio has these networks with other names, and keeps the three projections of a WavLM attention as one matrix. What a file must hold
follows from the network: a key more or less, or one of another shape, is refused by its name in the file.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.api import JudgeInfo
from harness.judges.checkpoint_files import FileJudge, read_state
from harness.judges.checkpoints import Loading, check_weights, package

if TYPE_CHECKING:
    import torch

Names = Mapping[str, tuple[str, ...]]
"""By a network's own key, the file's keys whose tensors, one above the other, make it."""

_EXTRACTOR, _LAYER = r"feature_extractor\.conv_layers\.(\d+)", r"encoder\.transformer\.layers\.(\d+)"
_RULES = (
    (rf"{_EXTRACTOR}\.conv\.(.+)", r"feature_extractor.conv_layers.\1.0.\2"),
    (r"encoder\.feature_projection\.layer_norm\.(.+)", r"layer_norm.\1"),
    (r"encoder\.feature_projection\.projection\.(.+)", r"post_extract_proj.\1"),
    (r"encoder\.transformer\.pos_conv_embed\.conv\.bias", r"encoder.pos_conv.0.bias"),
    (r"encoder\.transformer\.pos_conv_embed\.conv\.parametrizations\.weight\.original0", r"encoder.pos_conv.0.weight_g"),
    (r"encoder\.transformer\.pos_conv_embed\.conv\.parametrizations\.weight\.original1", r"encoder.pos_conv.0.weight_v"),
    (r"encoder\.transformer\.layer_norm\.(.+)", r"encoder.layer_norm.\1"),
    (rf"{_LAYER}\.attention\.gru_rel_pos_linear\.(.+)", r"encoder.layers.\1.self_attn.grep_linear.\2"),
    (rf"{_LAYER}\.attention\.gru_rel_pos_const", r"encoder.layers.\1.self_attn.grep_a"),
    (rf"{_LAYER}\.attention\.rel_attn_embed\.(.+)", r"encoder.layers.\1.self_attn.relative_attention_bias.\2"),
    (rf"{_LAYER}\.attention\.(?:attention\.)?((?:out|q|k|v)_proj\..+)", r"encoder.layers.\1.self_attn.\2"),
    (rf"{_LAYER}\.layer_norm\.(.+)", r"encoder.layers.\1.self_attn_layer_norm.\2"),
    (rf"{_LAYER}\.feed_forward\.intermediate_dense\.(.+)", r"encoder.layers.\1.fc1.\2"),
    (rf"{_LAYER}\.feed_forward\.output_dense\.(.+)", r"encoder.layers.\1.fc2.\2"),
    (rf"{_LAYER}\.final_layer_norm\.(.+)", r"encoder.layers.\1.final_layer_norm.\2"),
)


def fairseq_names(keys: Iterable[str], prefix: str, extractor_norm: str) -> dict[str, tuple[str, ...]]:
    """What a file of fairseq calls the parameters of torchaudio's ``Wav2Vec2Model``.

    Args:
        keys: of the network.
        prefix: before every name in the file, with its dot.
        extractor_norm: where the norm of a convolution lies in its block: "2" (group norm of the first) or "2.1" (layer norm of each).
    """
    rules = (*_RULES, (rf"{_EXTRACTOR}\.layer_norm\.(.+)", rf"feature_extractor.conv_layers.\1.{extractor_norm}.\2"))
    merged = re.compile(rf"{_LAYER}\.attention\.attention\.in_proj_(weight|bias)")
    names: dict[str, tuple[str, ...]] = {}
    for key in keys:
        if found := merged.fullmatch(key):
            layer, kind = found.groups()
            names[key] = tuple(f"{prefix}encoder.layers.{layer}.self_attn.{which}_proj.{kind}" for which in "qkv")
            continue
        (name,) = [re.sub(rule, new, key) for rule, new in rules if re.fullmatch(rule, key)]
        names[key] = (prefix + name,)
    return names


@dataclass(frozen=True)
class Layout:
    """How a published file holds a network of fairseq and a head on it."""

    prefix: str  # before every name of the network of fairseq, with its dot
    extractor_norm: str  # as in `fairseq_names`
    entry: str = ""  # of the file, that holds the tensors; "": the file itself
    unused: tuple[str, ...] = ()  # what only training needs
    head_name: Callable[[str], str] = str  # what the file calls a parameter of the head


def load_published(network: Any, names: Names, state: Mapping[str, torch.Tensor], path: Path, unused: Collection[str] = ()) -> None:
    """Gives a network a file's tensors, all of them.

    Args:
        network: whose parameters may be on the device "meta".
        names: of every key of the network.
        state: what the file holds.
        path: of the file, for messages.
        unused: what the file may hold beside: what only training needs.

    Raises:
        CheckpointError: a key missing, unexpected, of another shape, or holding NaN or Inf.
    """
    import torch

    own = network.state_dict()
    expected = {
        name: part
        for key, parts in names.items()
        for name, part in zip(parts, own[key].chunk(len(parts)) if len(parts) > 1 else (own[key],), strict=True)
    }
    found = {name: value for name, value in state.items() if name not in unused}
    check_weights(expected, found, path)
    network.load_state_dict(
        {key: torch.cat([found[n] for n in parts]) if len(parts) > 1 else found[parts[0]] for key, parts in names.items()}, assign=True
    )


class HeadedJudge(FileJudge):
    """A network of fairseq with a head on it, in one file (``checkpoint=``, as of every `FileJudge`). A subclass says further its ``name``,
    ``layout``, and what the two are.

    Raises:
        MissingDependency: torchaudio or the file is not here.
        CheckpointError: the file is another model's.
    """

    needs = ("torchaudio",)
    name: str
    layout: Layout

    def __init__(self, checkpoint: str = "", device: str = "cpu") -> None:
        import torch

        path = self.located(checkpoint)
        loading = Loading([path])
        with torch.device("meta"):
            speech = self.speech_network()
            network = torch.nn.ModuleDict({"speech": speech, "head": self.head(speech)})
        published = fairseq_names(speech.state_dict(), self.layout.prefix, self.layout.extractor_norm)
        names = {f"speech.{key}": value for key, value in published.items()}
        names.update({f"head.{key}": (self.layout.head_name(key),) for key in network["head"].state_dict()})
        load_published(network, names, read_state(path, self.layout.entry), path, self.layout.unused)
        self._speech, self._head = (part.to(device).eval() for part in (network["speech"], network["head"]))
        self._device = device
        self.info = JudgeInfo(self.name, path.name, loading.digest(), package("torchaudio", "torch"))

    @staticmethod
    @abstractmethod
    def speech_network() -> Any:
        """Torchaudio's ``Wav2Vec2Model``, untrained."""

    @staticmethod
    @abstractmethod
    def head(speech: Any) -> Any:
        """The network on ``speech``, untrained."""
