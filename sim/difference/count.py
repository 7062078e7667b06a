"""How many integers of two sides differ, layer by layer, the first of them, and whether a layer does so by itself."""

import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sim.difference.causes import Cause, cause_of, parts_of
from sim.difference.errors import DiffError
from sim.difference.numbers import differs
from sim.difference.sides import Side, Stored
from sim.formats import IntFormat
from sim.machine import Machine
from sim.program import Op
from sim.text import printable
from sim.traces import SUMS, chosen

BATCH = 100
MOST_NAMES = 6
"""Of tensors, in an error."""
Progress = Callable[[int], None]
"""Told how many images are done."""


@dataclass
class LayerDifference:
    """One tensor: numbers `compared` and `differing`, the `largest` difference of integers, the first index that differs.

    `index` is (image, row, column, channel), `a` and `b` the numbers there.  `own`: numbers that differ where one side's
    operation reads what the other side's read, None where that cannot be told; `cause` why, as far as it can be.
    """

    name: str
    compared: int = 0
    differing: int = 0
    largest: int = 0
    index: tuple[int, int, int, int] | None = None
    a: int | float | None = None
    b: int | float | None = None
    own: int | None = None
    cause: Cause | None = None

    def add(self, a: np.ndarray, b: np.ndarray, start: int) -> None:
        """Tensors [n, H, W, C] of images from `start` on."""
        wrong = differs(a, b)
        count = int(wrong.sum())
        self.compared += a.size
        self.differing += count
        if not count:
            return
        if a.dtype.kind in "iu" and b.dtype.kind in "iu":
            self.largest = max(self.largest, int(np.abs(a.astype(np.int64) - b.astype(np.int64)).max()))
        if self.index is None:
            place = tuple(int(part) for part in np.unravel_index(int(np.flatnonzero(wrong)[0]), wrong.shape))
            self.a, self.b = a[place].item(), b[place].item()
            self.index = (place[0] + start, place[1], place[2], place[3])


@dataclass(frozen=True)
class Difference:
    """Of `images` images: every tensor that both sides have, in order; `only_a`, `only_b` those that one has alone.

    `notes` say what was done to arrays of others, and what could not be compared.
    """

    a: str
    b: str
    images: int
    layers: tuple[LayerDifference, ...]
    only_a: tuple[str, ...] = ()
    only_b: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    """Of two programs: layers whose constants differ, although no number of theirs did on these images, and which."""

    @property
    def differing(self) -> int:
        """Numbers in all."""
        return sum(layer.differing for layer in self.layers)

    @property
    def first(self) -> LayerDifference | None:
        """The first tensor with a difference, in the order of operations."""
        return next((layer for layer in self.layers if layer.differing), None)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self) | {"differing": self.differing, "first": self.first.name if self.first else None}


def compare(a: Side, b: Side, pixels: np.ndarray | None, layers: Sequence[str] | None = None,
            progress: Progress | None = None) -> Difference:
    """Both sides on `pixels` uint8 [N, H, W, C], None where both are stored.

    `layers`: only these tensors.  Raises DiffError for sides that share none, or whose tensors are of other shapes;
    AccumulatorOverflowError under overflow "error".
    """
    return _Comparison(a, b, layers).run(pixels, progress or (lambda done: None))


@dataclass
class _Comparison:
    a: Side
    b: Side
    layers: Sequence[str] | None
    found: dict[str, LayerDifference] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    witnesses: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)

    def run(self, pixels: np.ndarray | None, progress: Progress) -> Difference:
        for side, other in ((self.a, self.b), (self.b, self.a)):
            if isinstance(side, Stored):
                side.renamed(other.names())
        names = self._names()
        self.found = {name: LayerDifference(name) for name in names}
        images = self._images(pixels)
        self._fit(np.zeros((min(images, BATCH), 0)) if pixels is None else pixels[: min(images, BATCH)])
        for start in range(0, images, BATCH):
            stop = min(images, start + BATCH)
            part = np.zeros((stop - start, 0)) if pixels is None else pixels[start:stop]
            self._batch(part, start, names)
            progress(stop)
        self._explain()
        only = [tuple(name for name in side.names() if name not in other.names() and not name.endswith(SUMS))
                for side, other in ((self.a, self.b), (self.b, self.a))]
        told = [f"{printable(name)}: {words}" for side in (self.a, self.b) if isinstance(side, Stored)
                for name, words in side.told.items() if words]
        return Difference(self.a.text, self.b.text, images, tuple(self.found.values()), only[0], only[1],
                          (*told, *dict.fromkeys(self.notes)), tuple(self._silent()))

    def _names(self) -> list[str]:
        ours, theirs = self.a.names(), self.b.names()
        ordered = theirs if isinstance(self.a, Stored) and not isinstance(self.b, Stored) else ours
        both = [name for name in ordered if name in ours and name in theirs]
        if not both:
            raise DiffError(f"A and B have no tensor of the same name: A has {_listed(ours)}; B has {_listed(theirs)}")
        if self.layers:
            return chosen(both, self.layers)
        is_stored = isinstance(self.a, Stored) or isinstance(self.b, Stored)
        return both if is_stored else [name for name in both if not name.endswith(SUMS)]  # sums cost a second run

    def _images(self, pixels: np.ndarray | None) -> int:
        shapes = {name: op.shape for name, op in self._ops().items()}
        sizes = {name: int(np.prod(shapes[name.removesuffix(SUMS)])) for name in self.found
                 if name.removesuffix(SUMS) in shapes}
        if isinstance(self.a, Stored) and isinstance(self.b, Stored) and not (self.a.is_settled or self.b.is_settled):
            self.a.settle()
        for side, other in ((self.a, self.b), (self.b, self.a)):
            if isinstance(side, Stored):
                side.count_for(sizes or _sizes_of(other, self.found))
        counts = [count for count in (self.a.images, self.b.images, None if pixels is None else len(pixels))
                  if count is not None]
        if len(set(counts)) > 1:
            found = " and ".join(map(str, dict.fromkeys(counts)))
            self.notes.append(f"of {found} images the first {min(counts)} are compared")
        return min(counts)

    def _ops(self) -> dict[str, Op]:
        machine = self.a.machine or self.b.machine
        return {} if machine is None else {op.name: op for op in machine.program.ops}

    def _batch(self, pixels: np.ndarray, start: int, names: Collection[str]) -> None:
        wanted = {*names, *self._ops()}
        values = [side.tensors(pixels, start, wanted) for side in (self.a, self.b)]
        for name in names:
            a, b = values[0][name], values[1][name]
            if a.shape != b.shape:
                raise DiffError(f"{printable(name)}: A has {list(a.shape)}, B {list(b.shape)}: these are two layers")
            if (a.dtype.kind == "f") != (b.dtype.kind == "f"):
                self.notes.append(f"{printable(name)}: real numbers on one side and integers on the other are not compared")
                continue
            self.found[name].add(a, b, start)
            self._own(name, pixels, values)

    def _fit(self, pixels: np.ndarray) -> None:
        """Arrays of others in the order of axes of the other side; of two such, as the first has them."""
        for side, other in ((self.a, self.b), (self.b, self.a)):
            if isinstance(side, Stored) and not side.is_settled:
                expected = other.tensors(pixels, 0, self.found)
                for name in self.found:
                    side.fit(name, expected[name], None if other.machine is None else other.machine.program)

    def _own(self, name: str, pixels: np.ndarray, values: list[dict[str, np.ndarray]]) -> None:
        """Count what differs where the judge's operation reads what the other side's read."""
        place = 0 if self.b.machine is None else 1
        judge = (self.a, self.b)[place].machine
        op = None if judge is None else next((op for op in judge.program.ops if op.name == name), None)
        if judge is None or op is None:
            return
        mine, other = values[place], values[1 - place]
        given = _codes_for(judge, op, other)
        if given is None:
            return
        is_same = all(source in mine and np.array_equal(mine[source], other[source]) for source in op.sources())
        codes = mine[name] if is_same else judge.apply(op, pixels, given)
        if (codes.dtype.kind == "f") != (other[name].dtype.kind == "f"):
            return
        layer, wrong = self.found[name], differs(codes, other[name])
        layer.own = (layer.own or 0) + int(wrong.sum())
        if wrong.any() and name not in self.witnesses:
            image = int(np.flatnonzero(wrong.reshape(len(wrong), -1).any(1))[0])
            self.witnesses[name] = {source: array[image : image + 1] for source, array in given.items()}

    def _explain(self) -> None:
        machines = self.a.machine, self.b.machine
        for name, layer in self.found.items():
            if not layer.differing or name.endswith(SUMS):
                continue
            sums = self.found.get(name + SUMS)
            layer.cause = cause_of(name, layer.own, machines, self.witnesses.get(name),
                                   None if sums is None or not sums.compared else bool(sums.differing))


    def _silent(self) -> Iterator[str]:
        """Constants that differ where no number does."""
        if self.a.machine is None or self.b.machine is None:
            return
        theirs = {op.name: op for op in self.b.machine.program.ops}
        for op in self.a.machine.program.ops:
            found = self.found.get(op.name)
            if found is not None and not found.differing and op.name in theirs and op.kind == theirs[op.name].kind:
                yield from (f"{printable(op.name)}: {part.cause}" for part in parts_of(op, theirs[op.name])[:1])


def _sizes_of(side: Side, names: Collection[str]) -> Mapping[str, int]:
    """Numbers of an image in each tensor, where no program tells them."""
    found = side.tensors(np.zeros((1, 0)), 0, names)
    return {name: array[:1].size for name, array in found.items()}


def _codes_for(judge: Machine, op: Op, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray] | None:
    """What an operation reads, in the type that it wants; None where something is missing, or is none of its codes."""
    ops = {each.name: each for each in judge.program.ops}
    given: dict[str, np.ndarray] = {}
    for name in op.sources():
        form: IntFormat | None = ops[name].format
        if name not in values or form is None or values[name].dtype.kind not in "iu" or not form.contains(values[name]):
            return None
        given[name] = values[name].astype(form.dtype)
    return given


def _listed(names: Sequence[str]) -> str:
    rest = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(map(printable, names[:MOST_NAMES])) + rest
