"""From a file of DORY's to a program."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sim.formats import IntFormat
from sim.importers.deeploy.graph import BYTE, Graph, graph_of, imported
from sim.importers.deeploy.model import read_model
from sim.importers.dory.operators import OPERATORS
from sim.importers.imported import Imported

if TYPE_CHECKING:
    from sim.profiles import Profile

__all__ = ["OPERATORS", "read", "read_graph"]


def read(path: Path, profile: "Profile") -> Imported:
    """The model as a program; its inputs are bytes.  Raises ImporterError, ProgramError, ProfileError, OSError."""
    return imported(read_graph(path, profile), profile)


def read_graph(path: Path, profile: "Profile", *, inputs: Mapping[str, IntFormat] | None = None, fuse: bool = True) -> Graph:
    """The same with the views of its tensors.  `inputs`: formats by name; not `fuse`: sums as tensors of their own."""
    path = Path(path)
    model = read_model(path)
    known = {given.name: BYTE for given in model.inputs} | dict(inputs or {})
    return graph_of(path, model, profile, OPERATORS, "DORY's", known, BYTE, fuse=fuse)
