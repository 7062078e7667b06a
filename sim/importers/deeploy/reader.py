"""From a file of Deeploy's to a program."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sim.formats import IntFormat
from sim.importers.deeploy import linear, pointwise, rows, shapes
from sim.importers.deeploy.graph import Graph, graph_of, imported
from sim.importers.deeploy.inputs import formats_beside
from sim.importers.deeploy.model import read_model
from sim.importers.deeploy.state import Operator
from sim.importers.imported import Imported

if TYPE_CHECKING:
    from sim.profiles import Profile

OPERATORS: Mapping[str, Operator] = {
    **linear.OPERATORS, **pointwise.OPERATORS, **rows.OPERATORS, **shapes.OPERATORS}
EITHER = IntFormat(9, signed=True)
"""Holds signed and unsigned 8-bit codes: for inputs of which nothing says what they are."""


def read(path: Path, profile: "Profile") -> Imported:
    """The model as a program.  Raises ImporterError, ProgramError, ProfileError, OSError.

    Files say nothing of the width of inputs: Deeploy takes it from inputs.npz in the folder, and so is it here.
    """
    return imported(read_graph(path, profile), profile)


def read_graph(path: Path, profile: "Profile", *, inputs: Mapping[str, IntFormat] | None = None, fuse: bool = True) -> Graph:
    """The same with the views of its tensors.  `inputs`: formats by name; not `fuse`: sums as tensors of their own."""
    path = Path(path)
    model = read_model(path)
    known = formats_beside(path.parent / "inputs.npz", model.inputs) | dict(inputs or {})
    return graph_of(path, model, profile, OPERATORS, "Deeploy's", known, EITHER, fuse=fuse, narrow=True)
