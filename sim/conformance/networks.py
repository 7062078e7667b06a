"""What families of whole networks share: a model through its importer, inputs and tensors by the names of its file."""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np

from sim.conformance.case import Golden, UnsupportedError
from sim.importers import Imported, ImporterError, load_model
from sim.ops.op import Op
from sim.profiles import ProfileError, profile
from sim.program import ProgramError

Given = ParamSpec("Given")
Made = TypeVar("Made")
_PATH = re.compile(r"^\S*[/\\]\S*: ")
"""The file with which an importer's line begins: cases have names of their own."""


def refusing(make: Callable[Given, Made]) -> Callable[Given, Made]:
    """The same, with an importer's errors as reasons."""
    @wraps(make)
    def made(*args: Given.args, **options: Given.kwargs) -> Made:
        try:
            return make(*args, **options)
        except (ImporterError, ProgramError, ProfileError) as error:
            raise UnsupportedError(_PATH.sub("", str(error))) from None
    return made


@refusing
def read_model(path: Path, name: str) -> Imported:
    """A model on the arithmetic of a profile.  Raises UnsupportedError with the importer's reason."""
    return load_model(path, profile(name))


def input_ops(imported: Imported) -> list[Op]:
    """What the program reads, in the order of the file."""
    return [op for op in imported.program.ops if op.is_input]


def inputs_of(imported: Imported, arrays: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays in the order of the file's inputs, by the names of the program's, each [N, *shape]."""
    inputs = input_ops(imported)
    if len(inputs) != len(arrays):
        raise UnsupportedError(f"{len(arrays)} inputs are stored, the program has {len(inputs)}")
    return {op.name: array.reshape(-1, *op.shape) for op, array in zip(inputs, arrays, strict=True)}


def golden_of(rule: str, imported: Imported, given: Mapping[str, np.ndarray], expected: Mapping[str, Any]) -> Golden:
    """A case of every tensor that the program has; raises UnsupportedError if it has not all of them."""
    lost = [name for name in expected if name not in imported.tensors]
    if lost:
        raise UnsupportedError(f"its program does not have the tensors {', '.join(lost[:3])}")
    return Golden(rule, imported.program, given, expected, {name: imported.tensors[name] for name in expected})
