"""Models that others made, as programs: .tflite, ONNX and its dialects, each on the arithmetic of a runtime.

An importer is a module with `read(path, profile) -> Imported` and a row in `READERS`; several of ONNX are told apart by the
dialect of the file.
"""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sim.importers.dialect import dialect
from sim.importers.imported import Imported, ImporterError
from sim.importers.proto import read_proto
from sim.recognize import ONNX, TFLITE, Kind, recognize

if TYPE_CHECKING:
    from sim.profiles import Profile

__all__ = ["READERS", "Imported", "ImporterError", "Reader", "default_profile", "is_importable", "load_model"]


@dataclass(frozen=True)
class Reader:
    """A kind of file, the module that reads it, and the profiles that are its own, the default first; ONNX's dialect."""

    kind: Kind
    module: str
    profiles: tuple[str, ...]
    dialect: str = ""


READERS = (
    Reader(TFLITE, "sim.importers.tflite", ("litert_xnnpack",)),
    Reader(ONNX, "sim.importers.deeploy", ("deeploy_pulp",), "deeploy"),
    Reader(ONNX, "sim.importers.dory", ("dory_nemo",), "dory"),
    Reader(ONNX, "sim.importers.qonnx", ("qonnx", "finn"), "qonnx"),
    Reader(ONNX, "sim.importers.onnx", ("onnxruntime",), "onnx"),
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
        reader = _choose(path, profile)
        module = importlib.import_module(reader.module)
        imported: Imported = module.read(path, profile or profile_named(reader.profiles[0]))
        return imported


def default_profile(path: Path | str) -> str:
    """The name of the profile that a model file gets where none is asked for.  Raises as `load_model`."""
    path = Path(path)
    with _named(path):
        return _choose(path, None).profiles[0]


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """What is wrong with a file, with its name in front; those whose graphs are read by themselves put it there."""
    try:
        yield
    except ImporterError as error:
        told = str(error)
        raise ImporterError(told if told.startswith((f"{path}: ", f"{path} is ")) else f"{path}: {told}") from None


def _choose(path: Path, profile: "Profile | None") -> Reader:
    """The reader whose profile was asked for, else the one of the file's kind and dialect."""
    kind = recognize(path)
    readers = [reader for reader in READERS if reader.kind is kind]
    if not readers:
        known = ", ".join(dict.fromkeys(reader.kind.what for reader in READERS))
        raise ImporterError(f"{path} is {kind.what}; importers read {known}")
    for reader in readers:
        if profile is not None and profile.name in reader.profiles:
            return reader
    told = dialect(read_proto(path)) if kind is ONNX else ""
    return next(reader for reader in readers if reader.dialect == told)
