"""One test case of CMSIS-NN: its numbers and arrays, from the library's own headers or from an archive of them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sim.conformance.case import UnsupportedError
from sim.conformance.folder import read_archive, read_text

NUMBER, ARRAY = "def/", "arr/"
"""What keys of an archive begin with."""
_DEFINE = re.compile(r"^[ \t]*#define[ \t]+(\w+)[ \t]+(.+?)[ \t]*$", re.MULTILINE)
_ARRAY = re.compile(r"\b(u?int(?:8|16|32|64)|float\d*)_t\s+(\w+)\s*\[[^\]]*\]\s*=\s*\{([^{}]*)\}\s*;")
_NULL = re.compile(r"\b(u?int(?:8|16|32|64))_t\s*\*\s*(?:const\s+)?(\w+)\s*=\s*NULL\s*;")
_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)


@dataclass(frozen=True)
class Entry:
    """`numbers` are what the library calls configuration: integers, lists of them, words."""

    name: str
    numbers: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]

    def number(self, *names: str, default: int | None = None) -> int:
        """The integer of the first of these names that there is."""
        for name in names:
            if name in self.numbers:
                value = self.numbers[name]
                if not isinstance(value, int):
                    raise UnsupportedError(f"{name} is {value!r}, no integer")
                return value
        if default is None:
            raise UnsupportedError(f"it has no {' or '.join(names)}")
        return default

    def array(self, *names: str) -> np.ndarray:
        """The array of the first of these names that there is."""
        for name in names:
            if name in self.arrays:
                return self.arrays[name]
        raise UnsupportedError(f"it has no array {' or '.join(names)}")

    def maybe(self, *names: str) -> np.ndarray | None:
        """The same, None where there is none or an empty one: the library's null pointer."""
        found = next((self.arrays[name] for name in names if name in self.arrays), None)
        return None if found is None or not found.size else found

    def part(self, numbers: str, arrays: str) -> "Entry":
        """Those of one layer of a network, by what their names begin with."""
        return Entry(f"{self.name} {arrays}", _behind(self.numbers, numbers + "_"), _behind(self.arrays, arrays + "_"))


def from_archive(path: Path) -> Entry:
    """An archive with the keys def/NAME and arr/NAME."""
    found = read_archive(path)
    return Entry(path.stem, {key.removeprefix(NUMBER): value.item() for key, value in found.items()
                             if key.startswith(NUMBER) and value.size == 1}, _behind(found, ARRAY))


def from_headers(folder: Path, files: Sequence[Path]) -> Entry:
    """A folder of headers; names lose the folder's, with which they begin.  Raises UnsupportedError for real numbers."""
    numbers: dict[str, Any] = {}
    arrays: dict[str, np.ndarray] = {}
    for file in files:
        text = _COMMENT.sub("", read_text(file))
        numbers |= {key: _number(value) for key, value in _DEFINE.findall(text.replace("\\\n", " "))}
        for kind, name, body in _ARRAY.findall(text):
            if kind.startswith("float"):
                raise UnsupportedError("real numbers, no codes")
            arrays[name] = _array(kind, name, body)
        arrays |= {name: np.zeros(0, kind) for kind, name in _NULL.findall(text)}
    return Entry(folder.name, _stripped(numbers, folder.name.upper()), _stripped(arrays, folder.name))


def names_in_headers(folder: Path, files: Sequence[Path]) -> frozenset[str]:
    """What `from_headers` would find, as far as configuration and names of files tell."""
    names = {file.stem.removesuffix("_data") for file in files}
    for file in files:
        if file.stem.endswith("config_data"):
            text = read_text(file)
            names |= _stripped(dict(_DEFINE.findall(text)), folder.name.upper()).keys()
    return frozenset(names)


def _number(text: str) -> Any:
    """An integer, a tuple of some, or the word that stands there."""
    if text.startswith("{"):
        return tuple(int(word) for word in re.findall(r"-?\d+", text))
    return int(text) if re.fullmatch(r"-?\d+", text) else text


def _array(kind: str, name: str, body: str) -> np.ndarray:
    """Bytes of packed weights stand there as 0 .. 255 and are negative from 128 on, as C has it."""
    info = np.iinfo(kind)
    try:
        values = np.array([int(word, 0) for word in body.replace("\n", " ").split(",") if word.strip()], np.int64)
    except (ValueError, OverflowError):
        raise UnsupportedError(f"{name} is no list of {kind}") from None
    if values.size and (values.min() < info.min or values.max() > 2 * info.max + 1):
        raise UnsupportedError(f"{name} holds numbers that are no {kind}")
    return values.astype(kind)


def _stripped(values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {key.removeprefix(prefix + "_"): value for key, value in values.items()}


def _behind(values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {key.removeprefix(prefix): value for key, value in values.items() if key.startswith(prefix)}
