"""Configurations that travel in a model's file: frozen dataclasses of plain values, read back strictly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from typing import TYPE_CHECKING, Any, cast, get_args, get_type_hints

if TYPE_CHECKING:
    from typing import Self


class Configuration:
    """Base of the frozen dataclasses that fix a model's tensors; a field may be a dataclass itself.

    ```python
    @dataclass(frozen=True)
    class VocoderConfig(Configuration):
        width: int = 256

    VocoderConfig.from_dict(VocoderConfig(width=8).to_dict()) == VocoderConfig(width=8)
    ```
    """

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a file's metadata."""
        found: dict[str, Any] = asdict(cast(Any, self))  # subclasses are dataclasses
        return found

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`.

        Raises:
            ValueError: a name that is none of the fields, here or in a field that is a dataclass.
        """
        found: Self = _read(cls, values)
        return found


def _read(kind: Any, values: Mapping[str, Any]) -> Any:
    known = [field.name for field in fields(kind)]
    if unknown := set(values).difference(known):
        raise ValueError(f"{kind.__name__} has no {', '.join(sorted(unknown))}; it has {', '.join(known)}")
    hints = get_type_hints(kind)
    return kind(**{name: _value(hints[name], value) for name, value in values.items()})


def _value(hint: Any, value: Any) -> Any:
    inner = next((kind for kind in (hint, *get_args(hint)) if is_dataclass(kind)), None)  # of "X | None", too
    return value if inner is None or not isinstance(value, Mapping) else _read(inner, value)
