"""A graph of ONNX as a program, operator by operator, and how the program's codes are the arrays of the model."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from sim.definitions import DefinitionError
from sim.formats import FormatError
from sim.importers import Imported, ImporterError
from sim.importers.builder import Builder
from sim.importers.onnx.boundary import Inlet, Outlet
from sim.importers.onnx.graph import BatchError, Dialect, Graph
from sim.importers.onnx.model import Info, Model, Node
from sim.importers.onnx.outputs import outlet
from sim.importers.onnx.values import IMAGE, PLAIN, Codes, Outside, form_of, stored_shape
from sim.profiles import Profile, ProfileError
from sim.program import Program, ProgramError
from sim.requantizers.requantizer import RequantizeError
from sim.text import printable


@dataclass(frozen=True, eq=False)
class Converted:
    """A program; `inlets` and `outlets` between its codes and the model's arrays; `shown`: which operation a tensor is."""

    program: Program
    inlets: tuple[Inlet, ...]
    outlets: tuple[Outlet, ...]
    shown: Mapping[str, Codes]
    batched: bool
    notes: tuple[str, ...]

    def accept(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The model's inputs by name -> codes for each input of the program."""
        return {inlet.codes.op: inlet.accept(arrays[inlet.name]) for inlet in self.inlets}


def imported(done: Converted, profile: Profile) -> Imported:
    """The same as all importers give it."""
    return Imported(done.program, profile, None, done.notes, {name: codes.op for name, codes in done.shown.items()})


def converted(model: Model, profile: Profile, dialect: Dialect) -> Converted:
    """A graph as a program: with the first axis that of images, else as one of whole tensors.  Raises ImporterError."""
    try:
        try:
            return _converted(model, profile, dialect, batched=True)
        except BatchError as error:
            if any(info.dims and info.dims[0] is None for info in model.inputs):
                raise ImporterError(f"{error}: the first axis is not that of images there, so that no input may leave it "
                                    "open: give it a size") from None
            return _converted(model, profile, dialect, batched=False)
    except BatchError:
        raise ImporterError("its first axis is that of images in one operator and another one in the next") from None


def _converted(model: Model, profile: Profile, dialect: Dialect, batched: bool) -> Converted:
    graph = Graph(model, Builder(profile), dialect, batched)
    units = _units_of_inputs(model)
    for info in model.inputs:
        with _said(_surface("input", info)):
            _input(graph, info, *units.get(info.name, (1.0, 0)))
    for node in model.nodes:
        _take(graph, dialect, node)
    outlets = []
    for info in model.outputs:
        with _said(_surface("output", info)):
            outlets.append(outlet(graph, info))
    if not outlets:
        raise ImporterError("a graph without outputs")
    try:
        program = graph.build.program(tuple(dict.fromkeys(each.op for each in outlets)))
    except ProgramError as error:
        raise ImporterError(str(error)) from None
    kept = {op.name for op in program.ops}
    return Converted(program, tuple(inlet for name, inlet in graph.inlets.items() if name in kept), tuple(outlets),
                     {name: codes for name, codes in graph.shown.items() if codes.op in kept}, batched, tuple(graph.notes))


def _surface(what: str, info: Info) -> Callable[[str], ImporterError]:
    return lambda message: ImporterError(f"{what} {printable(info.name)[:80]}: {message}")


def _take(graph: Graph, dialect: Dialect, node: Node) -> None:
    """One operator.  Raises ImporterError with its name."""
    if node.domain not in dialect.domains or node.kind not in dialect.operators:
        where = f" of {printable(node.domain)[:40]}" if node.domain not in dialect.domains else ""
        raise node.fail(f"the operator{where} is not supported; supported are {', '.join(sorted(dialect.operators))}")
    if not node.outputs or not node.outputs[0]:
        raise node.fail("it has no output")
    with _said(node.fail):
        try:
            dialect.operators[node.kind](graph, node)
        except BatchError:
            raise BatchError(f"{node.kind} {node.title}") from None


@contextmanager
def _said(fail: Callable[[str], ImporterError]) -> Iterator[None]:
    """Whatever a model's numbers break becomes one line; what is not finite is refused where it is used."""
    try:
        with np.errstate(all="ignore"):
            yield
    except (ImporterError, BatchError):
        raise
    except (ProgramError, RequantizeError, FormatError, ProfileError, DefinitionError) as error:
        raise fail(printable(str(error))) from None
    except (ValueError, TypeError, IndexError, OverflowError, KeyError, AttributeError, ZeroDivisionError) as error:
        raise fail(f"its attributes or inputs make no sense ({printable(str(error))[:100]})") from None


def _input(graph: Graph, info: Info, unit: float, zero: int) -> None:
    dims = info.dims[int(graph.batched):]
    if graph.batched and not info.dims:
        raise BatchError
    if any(side is None for side in dims):
        raise ImporterError(f"input {printable(info.name)[:80]}: its sides {list(info.dims)[:8]} are open, only the first "
                            "may be")
    sides = tuple(int(side) for side in dims if side is not None)
    if graph.batched and len(info.dims) not in (1, 2, 3, 4):
        raise ImporterError(f"input {printable(info.name)[:80]}: {len(info.dims)} axes, up to 4 are supported")
    graph.types[info.name] = info.type
    form = form_of(info.type)
    if info.type == "float":
        graph.values[info.name] = Outside(info.name, sides)
        return
    if form is None:
        raise ImporterError(f"input {printable(info.name)[:80]}: numbers of type {info.type} are not supported")
    layout = IMAGE if len(sides) == 3 and graph.batched else PLAIN
    zero = zero if form.min <= zero <= form.max else 0
    op = graph.build.codes_input(info.name, stored_shape(sides, layout), form, unit, zero)
    codes = Codes(op, sides, layout, form, zero)
    graph.values[info.name] = graph.shown[info.name] = codes
    graph.inlets[op] = Inlet(info.name, codes, graph.batched)


ZERO_SLOTS = {"QLinearConv": {0: 2}, "ConvInteger": {0: 2}, "QLinearMatMul": {0: 2, 3: 5}, "MatMulInteger": {0: 2, 1: 3},
              "DequantizeLinear": {0: 2}, "QLinearAdd": {0: 2, 3: 5}, "QLinearMul": {0: 2, 3: 5},
              "MatMulIntegerToFloat": {0: 4, 1: 5}, "QGemm": {0: 2}, "QLinearGlobalAveragePool": {0: 2},
              "QLinearAveragePool": {0: 2},
              "QLinearSigmoid": {0: 2}, "QLinearLeakyRelu": {0: 2}, "QLinearSoftmax": {0: 2}}
"""Where operators have the zero points of what they read; scales stand before them."""
SUMMING = ("ConvInteger", "MatMulInteger", "MatMulIntegerToFloat")
"""Operators without scales, or with scales elsewhere."""


def _units_of_inputs(model: Model) -> dict[str, tuple[float, int]]:
    """Scales and zero points of integer inputs of the graph, as the first operator that reads them says."""
    found: dict[str, tuple[float, int]] = {}
    names = {info.name for info in model.inputs}
    for node in model.nodes:
        for slot, zero in ZERO_SLOTS.get(node.kind, {}).items():
            name = node.inputs[slot] if slot < len(node.inputs) else ""
            if name in names and name not in found:
                point = _one(model, node, zero, "iu")
                scale = None if node.kind in SUMMING else _one(model, node, zero - 1, "f")
                unit = 1.0 if scale is None or not 0.0 < scale < float("inf") else scale
                found[name] = unit, 0 if point is None else int(point)
    return found


def _one(model: Model, node: Node, slot: int, kinds: str) -> float | None:
    """The one number of a constant input; None where there is none."""
    told = model.constants.get(node.inputs[slot]) if slot < len(node.inputs) else None
    is_one = told is not None and told.array.size == 1 and told.array.dtype.kind in kinds
    return float(told.array.reshape(())) if told is not None and is_one else None
