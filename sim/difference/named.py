"""Sides by what a user calls them: a file, a folder, a profile, a requantizer, settings of a model."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sim.arithmetic import Arithmetic
from sim.difference.errors import DiffError
from sim.difference.sides import Side, Simulated, Stored, Torch
from sim.importers import is_importable
from sim.profiles import profiles
from sim.recognize import ARRAY, ARRAYS, CHECKPOINT, PROGRAM, TRACE, Kind, recognize
from sim.requantizers import REQUANTIZERS
from sim.subject import subject_of
from sim.text import printable
from sim.traces import load_trace

TORCH = "torch"
SETTINGS = tuple(entry.name.replace("_", "-") for entry in dataclasses.fields(Arithmetic))


@dataclass(frozen=True)
class Names:
    """What the command says beside A and B: the model of sides without a file, its pixels, its quantizer, one layer."""

    model: Path | None = None
    pixels_as: str | None = None
    quantizer: str | None = None
    layers: tuple[str, ...] = ()

    def side(self, letter: str, text: str) -> Side:
        """The side that a text names.  Raises DiffError, and what reading a model raises."""
        path = Path(text)
        if path.suffix != ".toml" and path.exists():
            return self._file(letter, path)
        if text == TORCH:
            return Torch(f"the torch model of {self._model(letter, text)}", self._subject(letter, text, {}))
        return Simulated(f"{text} on {self._model(letter, text)}", self._subject(letter, text, settings(letter, text)))

    def _file(self, letter: str, path: Path) -> Side:
        kind = recognize(path)
        if kind is CHECKPOINT:
            return Torch(f"the torch model of {path}", subject_of(path, Arithmetic(quantizer=self.quantizer)))
        if kind is PROGRAM or is_importable(kind):
            return Simulated(str(path), subject_of(path, Arithmetic(pixels_as=self.pixels_as)))
        if not is_stored(path, kind):
            raise DiffError(f"{letter}: {printable(path)} is {kind.what}, which holds no tensors to compare; give a "
                            "checkpoint, a program, a model (.tflite, .onnx), a trace, arrays (.npy, .npz, folder)")
        side = Stored(str(path), load_trace(path))
        if len(self.layers) == 1 and not side.is_settled:
            side.only(self.layers[0])
        return side

    def _model(self, letter: str, text: str) -> Path:
        if self.model is None:
            raise DiffError(f"{letter}: there is no file {printable(text)}; a profile, a requantizer or settings need the "
                            "model that they are for: --model")
        return self.model

    def _subject(self, letter: str, text: str, told: dict[str, Any]) -> Any:
        wanted = {"pixels_as": self.pixels_as, "quantizer": self.quantizer} | told
        return subject_of(self._model(letter, text), Arithmetic(**wanted))


def is_stored(path: Path, kind: Kind) -> bool:
    """Whether a file or folder holds arrays to compare."""
    return kind in (TRACE, ARRAY) or kind.what.endswith(ARRAYS) or (path.is_dir() and any(path.glob("*.npy")))


def settings(letter: str, text: str) -> dict[str, Any]:
    """What a profile's name, a requantizer's, or KEY=VALUE,... (keys as options of sim.eval) ask for.

    >>> settings("A", "accumulator=12,overflow=saturate")
    {'accumulator': 12, 'overflow': 'saturate'}
    >>> settings("A", "accumulator=2:16:saturate,end:32:wrap")
    {'accumulator': '2:16:saturate,end:32:wrap'}
    >>> settings("A", "litert_ruy"), settings("B", "double")
    ({'hardware': 'litert_ruy'}, {'requant': 'double'})

    Raises DiffError.
    """
    if text in profiles() or (text.endswith(".toml") and "=" not in text):
        return {"hardware": text}
    if text in REQUANTIZERS:
        return {"requant": text}
    if "=" not in text:
        raise DiffError(f"{letter}: {printable(repr(text))} is no file, none of the profiles {', '.join(profiles())}, no "
                        f"requantizer, not {TORCH}, and no settings such as accumulator=12,overflow=saturate")
    parts: list[str] = []
    for part in text.split(","):
        if "=" in part or not parts:
            parts.append(part)
        else:
            parts[-1] += "," + part  # registers of several stages have commas themselves
    told: dict[str, Any] = {}
    for part in parts:
        key, _, value = part.partition("=")
        if key.replace("_", "-") not in SETTINGS or not value:
            raise DiffError(f"{letter}: {printable(repr(part))} is no setting, there are {', '.join(SETTINGS)}")
        told[key.replace("-", "_")] = int(value) if value.isascii() and value.isdecimal() else value
    return told
