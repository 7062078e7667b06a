"""Values that hold arrays: compared and hashed by their content, pickled by their fields, checked when they come back."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

LATER = MappingProxyType({"later": True})
"""Metadata of fields that came after files were written: at their default they are not stored, so that old digests stay."""


class Value:
    """What a frozen dataclass with arrays among its fields inherits; declare it with `eq=False`.

    Two are equal if they are of the same class and every field is: arrays in type, shape and every bit, so that 0.0 is not
    -0.0 and a number that is none equals itself; fields declared with `compare=False` do not count.  Who writes into an
    array changes the hash.
    """

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and content(self) == content(other)

    def __hash__(self) -> int:
        return hash(content(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), {f.name: getattr(self, f.name) for f in dataclasses.fields(self)})  # type: ignore


def _rebuild(kind: type, fields: dict[str, Any]) -> Any:
    return kind(**fields)


def content(value: Any) -> Any:
    """Something hashable that is equal exactly for equal values."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, Value):
        fields = [f.name for f in dataclasses.fields(value) if f.compare]  # type: ignore[arg-type]
        return type(value), tuple(content(getattr(value, name)) for name in fields)
    if isinstance(value, Mapping):
        return tuple((key, content(value[key])) for key in sorted(value))
    if isinstance(value, tuple | list):
        return tuple(map(content, value))
    return value


def sizes(shape: tuple[int, ...]) -> str:
    """A shape as people write it.

    >>> sizes((8, 8, 16))
    '8x8x16'
    """
    return "x".join(map(str, shape))


def is_stored(entry: "dataclasses.Field[Any]", value: Any) -> bool:
    """Whether a field's value goes into files and digests."""
    return not entry.metadata.get("later") or isinstance(value, np.ndarray) or bool(value != entry.default)
