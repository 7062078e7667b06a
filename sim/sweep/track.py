"""A network without limits on some images, and the same on registers: only what differs from it is run.

What a register changes of an image spreads from layer to layer, and often ends: a clipped sum whose code would have been the
largest anyway changes nothing.  So a run on registers keeps, for every layer, the images whose codes are not those of the
network without limits.  A layer is run on these, and on those of which one of its registers may leave its range; where that
cannot be, sums and codes are known, and no output has overflowed.  Which images those are is known exactly where only whole
sums matter, because their range was observed, and what a register starts with fits it.  Where sums on the way matter, a
register that never overflowed tells it of all wider ones.

Every code and every count is that of the machine: the same steps run, on fewer images.
"""

import copy
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from sim.accumulator import Accumulator
from sim.buffers import Padded
from sim.machine import borders_of, flattened
from sim.ops.op import Op
from sim.program import Program
from sim.steps import Step, step_for
from sim.steps.watch import Watch
from sim.sweep.layer import is_right_by_end, is_told_by_end, kind_of

Registers = Mapping[str, Accumulator]
"""Those of layers by name; layers that are not named have no limit."""
SETS = 3
"""Tensors of every operation that a track holds: without limits, on registers, and as the next layer reads them."""
SAMPLE_ROWS = 2
"""Of an image, that are compared before all of it."""


@dataclass(frozen=True)
class Differing:
    """Results of some images, numbered in order; of all others they are those of the network without limits."""

    index: np.ndarray
    tensor: Padded


@dataclass(frozen=True)
class Found:
    """What registers made of some images: logits or codes [N, ...], and overflowed outputs by layer, int64 [channels].

    `counters` int64 [stages, 2] are by layer the outputs that are persistent and transient (sim/counters.py), if asked for.
    Layers without an entry had none.
    """

    logits: np.ndarray
    overflows: Mapping[str, np.ndarray]
    counters: Mapping[str, np.ndarray] = field(default_factory=dict)


def without_limits(program: Program) -> Program:
    """The same program on registers that are wide enough for everything."""
    return replace(program, ops=tuple(replace(op, accumulator=Accumulator()) if op.accumulates else op  # type: ignore[call-arg]
                                      for op in program.ops))


def bytes_of(program: Program) -> int:
    """Memory of an image in a track."""
    borders = borders_of(program)
    return SETS * sum((op.shape[0] + 2 * borders[op.name]) * (op.shape[1] + 2 * borders[op.name]) * op.shape[2]
                      * (op.format.dtype.itemsize if op.format else 8) for op in program.ops)


class Track:
    """A program without limits, ready to run on up to `images` images at once, and then on registers.

    `watched` are the layers that get registers.  `begin` runs some images, then `run` any number of registers on the same.
    The program has one input and one output, as those have that classify images.
    """

    def __init__(self, program: Program, watched: Collection[str], images: int, isa: str) -> None:
        self.program, self._isa = program, isa
        self._ops: dict[str, Any] = {op.name: op for op in program.ops}
        self._watched = [op for op in program.accumulating if op.name in watched]
        self._steps: dict[tuple[str, Accumulator], Step] = {}
        self._watches: dict[tuple[str, Accumulator], Watch] = {}
        self._images, self._borders = images, borders_of(program)
        self._sets = [_tensors(program, images, self._borders) for _ in range(SETS)]
        (self._output,) = program.output_names
        self._count = 0

    def begin(self, pixels: np.ndarray) -> Found:
        """Run uint8 pixels [N, height, width, channels] without limits; `run` is about these images from now on."""
        self._count = len(pixels)
        self._ranges: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self._safe: dict[tuple[str, Accumulator], list[tuple[tuple[int, ...], np.ndarray]]] = {}
        given = np.ascontiguousarray(self.program.ops[0].accept(pixels))
        given = given if given.flags.writeable else given.copy()
        for op in self.program.ops:
            inputs = [Padded(given, 0)] if op.is_input else [self._whole(name) for name in op.sources()]
            if op.format is None:
                self._logits, _ = self._step(op, Accumulator()).logits(inputs)
            else:
                self._step(op, Accumulator())(inputs, self._whole(op.name))
        for op in self._watched:
            flat = self.sums(op).reshape(self._count, -1)
            self._ranges[op.name] = flat.min(1), flat.max(1)
        return Found(flattened(self._last().copy()), {})

    def sums(self, op: Any) -> np.ndarray:
        """What an operation's registers hold of these images without limits, integers [N, H, W, C]."""
        sums, _ = self._step(op, Accumulator()).registers([self._whole(name) for name in _factors(op)])
        return sums

    def another(self) -> "Track":
        """A track for other images, which shares what is not these images': one of both may run at a time."""
        other = copy.copy(self)
        other._sets = [_tensors(self.program, self._images, self._borders), *self._sets[1:]]
        return other

    def run(self, registers: Registers, counters: bool = False) -> Found:
        """The same images on these registers; with `counters` as they are, not simplified."""
        differing: dict[str, Differing] = {}
        overflows: dict[str, np.ndarray] = {}
        counted: dict[str, np.ndarray] = {}
        logits = self._last().copy()
        for op in self.program.ops:
            sources = [differing[name] for name in op.sources() if name in differing]
            register = registers.get(op.name, Accumulator())
            spread = _union(sources)
            index = np.union1d(spread, self._leaving(op, register)) if register.is_limited else spread
            watch = self._watch(op, register) if counters and register.is_limited else None
            if watch is not None:
                told_of = index if _is_told_by_result(op, register) else np.arange(self._count)
                counted[op.name] = np.zeros((len(register.stages), 2), np.int64)
                if op.format is not None and watch.has_codes:
                    index = told_of
                elif len(told_of):
                    counted[op.name] = watch.totals([self._gathered(name, differing.get(name), told_of)
                                                     for name in _factors(op)])
            if not len(index):
                continue
            inputs = [self._gathered(name, differing.get(name), index) for name in op.sources()]
            if op.format is None:
                logits[index], counts = self._step(op, register).logits(inputs)
            else:
                out = self._sets[1][op.name].first(len(index))
                if watch is not None and watch.has_codes:
                    counts, found = watch.run(self._step(op, register), inputs, out)
                    counted[op.name] = found.totals()
                else:
                    counts = self._step(op, register)(inputs, out)
                kept = self._differing(op.name, index, out)
                if len(kept.index):
                    differing[op.name] = kept
                if op.name == self._output:
                    logits[kept.index] = kept.tensor.interior
            if counts is not None:
                overflows[op.name] = counts
                self._learn(op, register, index, spread, counts)
        return Found(flattened(logits), overflows, counted)

    def _watch(self, op: Any, register: Accumulator) -> Watch:
        """What tells of these registers, made ready once."""
        key = op.name, register
        if key not in self._watches:
            self._watches[key] = Watch(replace(op, accumulator=register), self._isa, self._step(op, register))
        return self._watches[key]

    def _step(self, op: Op, register: Accumulator) -> Step:
        """How an operation runs on a register, made ready once."""
        key = op.name, register
        if key not in self._steps:
            changed = op if register == Accumulator() else replace(op, accumulator=register)  # type: ignore[call-arg]
            self._steps[key] = step_for(changed, [self._ops[name] for name in op.sources()], self._isa)
        return self._steps[key]

    def _whole(self, name: str) -> Padded:
        """An operation's result without limits, of all images."""
        return self._sets[0][name].first(self._count)

    def _last(self) -> np.ndarray:
        """The output without limits."""
        return self._logits if self._ops[self._output].format is None else self._whole(self._output).interior

    def _leaving(self, op: Any, register: Accumulator) -> np.ndarray:
        """Of the images that come as without limits those of which a register may leave its range, numbered."""
        if is_right_by_end(op, register) and register.range is not None:
            low, high = self._ranges[op.name]
            return np.flatnonzero((low < register.range.min) | (high > register.range.max))
        safe, (kind, bits) = np.zeros(self._count, bool), kind_of(register)
        for narrower, images in self._safe.get((op.name, kind), ()):
            if all(few <= many for few, many in zip(narrower, bits, strict=True)):
                safe |= images
        return np.flatnonzero(~safe)

    def _learn(self, op: Any, register: Accumulator, index: np.ndarray, spread: np.ndarray, counts: np.ndarray) -> None:
        """Registers that overflowed nowhere do so nowhere if they are wider.

        Not if one that wraps hands its value on: two errors of it may make up for each other, and one of them remain.
        """
        hands_on = any(stage.bits is not None and stage.overflow == "wrap" for stage in register.before)
        if counts.any() or hands_on or is_right_by_end(op, register):
            return
        images = np.zeros(self._count, bool)
        images[index] = True
        images[spread] = False  # what came was something else
        kind, bits = kind_of(register)
        self._safe.setdefault((op.name, kind), []).append((bits, images))

    def _gathered(self, name: str, part: Differing | None, index: np.ndarray) -> Padded:
        """A result of these images, numbered in order, each as it is on these registers."""
        whole = self._whole(name)
        if part is not None and len(part.index) == len(index):
            return part.tensor
        if part is None and len(index) == self._count:
            return whole
        found = self._sets[2][name].first(len(index))
        np.take(whole.array, index, 0, out=found.array)
        if part is not None:
            found.array[np.searchsorted(index, part.index)] = part.tensor.array
        return found

    def _differing(self, name: str, index: np.ndarray, out: Padded) -> Differing:
        """Those of the results that are not as without limits; their memory is that of all of them."""
        whole = self._whole(name).interior
        mine, middle = out.interior, out.interior.shape[1] // 2
        rows = slice(middle, middle + SAMPLE_ROWS)
        differs = (mine[:, rows] != whole[index, rows]).any((1, 2, 3))
        if len(unsure := np.flatnonzero(~differs)):
            differs[unsure] = (mine[unsure] != whole[index[unsure]]).any((1, 2, 3))
        if differs.all():
            return Differing(index, out)
        kept = np.flatnonzero(differs)
        out.array[: len(kept)] = out.array[kept]
        return Differing(index[kept], out.first(len(kept)))


def _is_told_by_result(op: Any, register: Accumulator) -> bool:
    """Whether registers that are right in the end have told nothing on the way, either."""
    return is_told_by_end(op, register) or (not register.before and register.overflow == "saturate")


def _tensors(program: Program, images: int, borders: Mapping[str, int]) -> dict[str, Padded]:
    """Room for every result that is codes."""
    return {op.name: Padded.filled(images, op.shape, op.format.dtype, borders[op.name], op.zero_point)
            for op in program.ops if op.format is not None}


def _factors(op: Op) -> tuple[str, ...]:
    """What an operation multiplies: no residual, which comes behind the register."""
    return tuple(name for name in op.sources() if name != op.residual) or op.sources()


def _union(parts: Collection[Differing]) -> np.ndarray:
    """Images of any of them, numbered in order."""
    found = np.zeros(0, np.int64)
    for part in parts:
        found = np.union1d(found, part.index) if len(found) else part.index
    return found
