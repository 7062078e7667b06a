"""Models that others made, as programs: .tflite, ONNX and its dialects, each on the arithmetic of a runtime.

An importer is a module with `read(path, profile) -> Imported` and a row in `READERS`; of several for one kind of file each
but the last has `is_mine(path) -> bool`, too.
"""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from sim.importers.imported import Imported, ImporterError
from sim.recognize import ONNX, TFLITE, Kind, recognize

if TYPE_CHECKING:
    from sim.profiles import Profile

__all__ = ["READERS", "Imported", "ImporterError", "Reader", "default_profile", "is_importable", "load_model"]


@dataclass(frozen=True)
class Reader:
    """A kind of file, the module that reads it, and the profiles that are its own, the default first."""

    kind: Kind
    module: str
    profiles: tuple[str, ...]


READERS = (
    Reader(TFLITE, "sim.importers.tflite", ("litert_xnnpack",)),
    Reader(ONNX, "sim.importers.deeploy", ("deeploy_pulp",)),
    Reader(ONNX, "sim.importers.dory", ("dory_nemo",)),
    Reader(ONNX, "sim.importers.qonnx", ("qonnx", "finn")),
    Reader(ONNX, "sim.importers.onnx", ("onnxruntime",)),
)


def is_importable(kind: Kind) -> bool:
    """Whether there is an importer for files of a kind."""
    return any(reader.kind is kind for reader in READERS)


def load_model(path: Path | str, profile: "Profile | None" = None) -> Imported:
    """A model file as a program on the arithmetic of `profile`, or on its own default.

    Nothing in the file is executed.  Raises ImporterError, ProgramError for operations that do not fit each other,
    OSError; ProfileError of sim.profiles where the profile has no rule for an operation.
    """
    from sim.profiles import profile as profile_named

    path = Path(path)
    with _named(path):
        reader, module = _choose(path, profile)
        imported: Imported = module.read(path, profile or profile_named(reader.profiles[0]))
        return imported


def default_profile(path: Path | str) -> str:
    """The name of the profile that a model file gets where none is asked for.  Raises as `load_model`."""
    path = Path(path)
    with _named(path):
        return _choose(path, None)[0].profiles[0]


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """What is wrong with a file, with its name in front; those whose graphs are read by themselves put it there."""
    try:
        yield
    except ImporterError as error:
        told = str(error)
        raise ImporterError(told if told.startswith((f"{path}: ", f"{path} is ")) else f"{path}: {told}") from None


def _choose(path: Path, profile: "Profile | None") -> tuple[Reader, ModuleType]:
    """The reader whose profile was asked for, else the first that says the file is its own, else the last."""
    kind = recognize(path)
    readers = [reader for reader in READERS if reader.kind is kind]
    if not readers:
        known = ", ".join(dict.fromkeys(reader.kind.what for reader in READERS))
        raise ImporterError(f"{path} is {kind.what}; importers read {known}")
    for reader in readers:
        if profile is not None and profile.name in reader.profiles:
            return reader, importlib.import_module(reader.module)
    for reader in readers[:-1]:
        module = importlib.import_module(reader.module)
        if module.is_mine(path):
            return reader, module
    return readers[-1], importlib.import_module(readers[-1].module)
