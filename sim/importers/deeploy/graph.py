"""A graph of integers as a program: inputs, operators from a table, outputs; and where its tensors are."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sim.formats import IntFormat
from sim.importers.builder import Builder, image_of
from sim.importers.deeploy.linear import CHANNELS_LAST
from sim.importers.deeploy.model import Given, Model, Node, printable, whole
from sim.importers.deeploy.state import Operator, State
from sim.importers.deeploy.views import View
from sim.importers.imported import Imported, ImporterError
from sim.importers.pixels import Pixels, asked_for
from sim.ops.op import format_of
from sim.program import Program, ProgramError

if TYPE_CHECKING:
    from sim.profiles import Profile

WINDOWED = ("Conv", "MaxPool", "AveragePool", "GlobalAveragePool", "Pad")
"""Operators by which a tensor of 3 or 4 axes is told to be a signal or an image."""
BYTE = IntFormat(8, signed=False)


@dataclass(frozen=True)
class Graph:
    """A program, and views of the tensors of the file that are in it, by their names there.

    `inputs` and `outputs` are names of the file, in its order: inputs that nothing reads are not among them.
    """

    program: Program
    views: Mapping[str, View]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    notes: tuple[str, ...]

    def given(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Tensors as the file has them, by its names -> what the program takes, by the names of its inputs.

        Whole numbers of any type, floats included.  Raises ImporterError for others.
        """
        given = {name: whole(np.asarray(arrays[name]), f"the input {printable(name)}") for name in self.inputs}
        return {self.views[name].op: self.views[name].codes_of(array) for name, array in given.items()}

    def tensors(self, trace: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What a machine's trace holds, as the file has it: [N, *shape without the batch axis] by its names.

        Where the file has no batch axis, [N, *shape].
        """
        return {name: view.file_of(trace[view.op]) for name, view in self.views.items() if view.op in trace}


def graph_of(path: Path, model: Model, profile: "Profile", operators: Mapping[str, Operator], family: str,
             formats: Mapping[str, IntFormat], default: IntFormat, *, fuse: bool = True, narrow: bool = False) -> Graph:
    """The program of a model.  Raises ImporterError with the path and the node, ProgramError, ProfileError."""
    to = State(model, Builder(profile), profile, fuse, narrow, _images(model))
    to.uses = model.uses()
    to.values.update(model.constants)
    to.values[""] = np.zeros(0, np.int64)
    try:
        inputs = tuple(given.name for given in model.inputs if _read_input(to, given, formats, default))
        to.run(operators, family)
        outputs = [_output(to, name) for name in model.outputs]
        program = to.build.program(tuple(dict.fromkeys(outputs)))
    except (ImporterError, ProgramError) as error:
        raise type(error)(f"{path}: {error}") from None
    names = {op.name for op in program.ops}
    views = {name: view for name, view in to.views.items() if view.op in names}
    return Graph(program, views, inputs, model.outputs, tuple(to.notes))


def imported(graph: Graph, profile: "Profile") -> Imported:
    """What every importer gives."""
    program = graph.program
    return Imported(program, profile, _pixels(program), graph.notes, {name: view.op for name, view in graph.views.items()})


def _pixels(program: Program) -> Pixels | None:
    """Bytes are codes as they are, where there are so many, else as far from the smallest if that makes 256."""
    form = format_of(program.ops[0])
    if form.min <= BYTE.min and BYTE.max <= form.max:
        return asked_for("raw")
    return asked_for("codes") if form.max - form.min == BYTE.max else None


def _images(model: Model) -> frozenset[int]:
    """Ranks of tensors that some operator reads as images or signals."""
    return frozenset(_rank(model, node) for node in model.nodes if node.kind in WINDOWED)


def _rank(model: Model, node: Node) -> int:
    if "kernel_shape" in node.attributes:
        return len(node.numbers("kernel_shape", ())) + 2
    if node.kind == "Conv" and len(node.inputs) > 1 and node.inputs[1] in model.constants:
        return model.constants[node.inputs[1]].ndim
    return len(node.numbers("pads", ())) // 2 if node.kind == "Pad" else 4


def _read_input(to: State, given: Given, formats: Mapping[str, IntFormat], default: IntFormat) -> bool:
    """An input as codes; False where nothing reads it, or there is nothing to read."""
    if 0 in given.shape:
        to.values[given.name] = np.zeros(given.shape, np.int64)
        return False
    if not to.uses[given.name]:
        to.notes.append(f"input {printable(given.name)}: nothing reads it")
        return False
    if given.element is not None:
        to.wholes.add(given.name)
    form = formats.get(given.name)
    if form is None:
        form = default if given.element is None else IntFormat(*given.element)
        to.notes.append(f"input {printable(given.name)}: {form}, as the file says no more of it")
    rank = len(given.shape)
    axes = CHANNELS_LAST[rank] if rank in to.channels_last and given.shape[0] == 1 else tuple(range(rank))
    view = View("", given.shape, axes, (form.min, form.max))
    to.keep(given.name, replace(view, op=to.build.codes_input(given.name, image_of(view.sides), form)))
    return True


def _output(to: State, name: str) -> str:
    """The operation that gives an output, with the sides that its tensor has."""
    view = to.view(name)
    to.views[name] = replace(view, op=to.image(view))
    return to.views[name].op
