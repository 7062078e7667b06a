"""Why a layer differs: by its weights, a constant of its requantizer, the rule of it, its register, or its input alone.

Of two programs the constants of both operations are compared.  Where several differ, operation A is run with one of B's at a
time, on an image on which the two differ: what alone makes A's result B's is the cause.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sim.accumulator import Accumulator, AccumulatorOverflowError
from sim.difference.numbers import differs, is_equal
from sim.machine import Machine
from sim.ops.codes_input import CodesInputOp
from sim.program import Op, Program
from sim.requantizers import Requantizer
from sim.text import printable
from sim.values import content

INPUT = "input"
_IGNORED = ("name", "source")
_WORDS: Mapping[str, str] = {"weights": "weight", "table": "table", "accumulator": "overflow", "start": "bias"}
"""Fields of operations, and what their difference is called; all others are called as the field is."""
_BIASES = ("bias", "offset")
_AXES: Mapping[str, tuple[str, ...]] = {"weights": ("row", "column", "input", "channel")}


@dataclass(frozen=True)
class Cause:
    """`kind`: weight, multiplier, bias, rounding, overflow, table, input ...; `text` says more, in one line."""

    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}" if self.text else self.kind


@dataclass(frozen=True)
class _Part:
    """A field in which two operations differ."""

    field: str
    cause: Cause


def cause_of(name: str, own: int | None, machines: tuple[Machine | None, Machine | None],
             given: Mapping[str, np.ndarray] | None, sums_differ: bool | None) -> Cause | None:
    """The cause of a layer's difference; None where nothing tells.

    `own`: numbers that differ on equal inputs, `given` codes of one image on which they do, by the name of the operation
    that they are of; `sums_differ`: whether stored sums of the layer do.
    """
    if own == 0:
        return Cause(INPUT, "the layer itself computes the same")
    a, b = (None if machine is None else next((op for op in machine.program.ops if op.name == name), None)
            for machine in machines)
    if a is not None and b is not None and own:
        return _of_operations(a, b, machines, given)
    if sums_differ is not None:
        return Cause("sums", "differ before the requantizer: a weight, an input or the register") if sums_differ else \
            Cause("requantizer", "sums are equal, codes are not: its rule or its constants")
    return None if own is None else Cause("layer", "on equal inputs its results differ")


def _of_operations(a: Any, b: Any, machines: tuple[Machine | None, Machine | None],
                   given: Mapping[str, np.ndarray] | None) -> Cause:
    if a.kind != b.kind:
        return Cause("operation", f"{a.kind} in A, {b.kind} in B")
    parts = parts_of(a, b)
    if not parts:
        return Cause("layer", "all constants are equal, its results are not")
    if len(parts) > 1 and given and machines[0] is not None:
        parts = _decisive(a, b, parts, {op.name: op for op in machines[0].program.ops}, given)
    first, *others = parts
    more = f" (with {', '.join(part.cause.kind for part in others)})" if others else ""
    return Cause(first.cause.kind, first.cause.text + more)


def parts_of(a: Any, b: Any) -> list[_Part]:
    """Every field in which two operations of one kind differ."""
    found = []
    for entry in dataclasses.fields(a):
        mine, theirs = getattr(a, entry.name), getattr(b, entry.name)
        is_same = str(mine) == str(theirs) if isinstance(mine, Accumulator) else content(mine) == content(theirs)
        if entry.name not in _IGNORED and not is_same:  # of unlimited registers no rule matters
            found.append(_Part(entry.name, _told(entry.name, mine, theirs)))
    return found


def _told(field: str, a: Any, b: Any) -> Cause:
    word = _WORDS.get(field, field.replace("_", " "))
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return Cause(word, _numbers(a, b, _AXES.get(field)))
    if isinstance(a, Requantizer) and isinstance(b, Requantizer):
        return _requantizers(a, b)
    if isinstance(a, Accumulator):
        return Cause(word, f"register: {a} in A, {b} in B")
    return Cause(word, f"{printable(a)} in A, {printable(b)} in B")


def _requantizers(a: Requantizer, b: Requantizer) -> Cause:
    """Another rule, or other constants of the same."""
    if type(a) is not type(b) or a.name != b.name:
        return Cause("rounding", f"{a.name} in A, {b.name} in B")
    theirs = b.arrays()
    for name, array in a.arrays().items():
        if content(array) != content(theirs[name]):
            kind = "bias" if name in _BIASES else "multiplier"
            return Cause(kind, f"{a.name}, {name} {_numbers(array, theirs[name], ('channel',))}")
    return Cause("requantizer", f"{a.name} in both")


def _numbers(a: np.ndarray, b: np.ndarray, axes: tuple[str, ...] | None) -> str:
    """The first that differs, and how many."""
    if a.shape != b.shape:
        return f"{list(a.shape)} in A, {list(b.shape)} in B"
    wrong = differs(a, b)
    if not wrong.any():
        return f"{a.dtype} in A, {b.dtype} in B"
    place = np.unravel_index(int(np.flatnonzero(wrong)[0]), wrong.shape)
    names = axes if axes is not None and len(axes) == len(place) else tuple(f"[{axis}]" for axis in range(len(place)))
    where = ", ".join(f"{name} {int(index)}" for name, index in zip(names, place, strict=True))
    return f"at {where} is {a[place].item()!r} in A, {b[place].item()!r} in B ({int(wrong.sum()):,} of {a.size:,} differ)"


def _decisive(a: Op, b: Op, parts: list[_Part], ops: Mapping[str, Op], given: Mapping[str, np.ndarray]) -> list[_Part]:
    """Those of several that make A's result B's alone; else those that change it; else all."""
    before, after = _attempt(a, ops, given), _attempt(b, ops, given)
    changing = []
    for part in parts:
        mixed = _attempt(dataclasses.replace(a, **{part.field: getattr(b, part.field)}), ops, given)
        if is_equal(mixed, after):
            return [part]
        if before is not None and mixed is not None and not is_equal(mixed, before):
            changing.append(part)
    return changing or parts


def _attempt(op: Op, ops: Mapping[str, Op], given: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """The result, None of constants that make no operation together."""
    try:
        return run_alone(op, ops, given)
    except (ValueError, AccumulatorOverflowError):
        return None


def run_alone(op: Op, ops: Mapping[str, Op], given: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """The result [N, H, W, C] of one operation, given codes of those that it reads; None for an input, which reads none.

    Raises ProgramError for constants that do not fit.
    """
    if not op.sources():
        return None
    sources = [ops[name] for name in dict.fromkeys(op.sources())]
    inputs = [CodesInputOp(source.name, "", source.shape, source.format, zero_point=source.zero_point) for source in sources]
    machine = Machine(Program((*inputs, op)))
    return machine.results({source.name: given[source.name] for source in sources})[op.name]
