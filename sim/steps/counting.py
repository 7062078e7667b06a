"""How registers are told from each other, stage by stage, by those who compute codes or sums anyway; else by plain loops."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from sim.accumulator import Accumulator
from sim.buffers import Padded
from sim.counters import total
from sim.kernels.stage_loops import COUNT
from sim.ops.conv import ConvOp
from sim.orders import DEFAULT
from sim.simplify import fitting
from sim.steps import pairs, patched, tiled
from sim.steps.groups import Groups
from sim.steps.loops import LOOPS, ConvLoops, Told
from sim.steps.single import ByImage, SingleRegister
from sim.steps.step import Step


class Teller(Protocol):
    """Of the registers of one operation as they are."""

    has_codes: bool

    def counters(self, inputs: Sequence[Padded]) -> Told:
        """Of the codes that it reads."""

    def totals(self, inputs: Sequence[Padded]) -> np.ndarray:
        """The same of all images and channels, int64 [stages, persistent and transient]."""

    def codes(self, inputs: Sequence[Padded], out: Padded) -> tuple[np.ndarray | None, Told]:
        """Codes in the same pass, if it `has_codes`: overflows of each channel as steps count them, and what is told."""


def teller(op: Any, isa: str, step: Step | None = None) -> Teller:
    """The fastest one; `step` runs the operation, if there is one already."""
    loops = LOOPS[op.kind](op, op.accumulator)
    stages = len(op.accumulator.stages)
    if all(fitting(op.accumulator, loops.extremes)):
        return Apart(lambda inputs: _nothing(stages, len(inputs[0].array), op.shape[2]))
    if not op.accumulator.before and op.accumulator.order == DEFAULT:
        single = SingleRegister.of(op, isa, step) if op.kind == ConvOp.kind else None
        if single is not None:
            return single
        by_image = ByImage(op, isa)
        return Apart(by_image.counters, by_image.totals)
    found = of_stages(op, isa) if op.kind == ConvOp.kind else None
    return Apart(lambda inputs: _told_by_loops(loops, inputs)) if found is None else found


class Apart:
    """What only counts: codes need another pass."""

    has_codes = False

    def __init__(self, counters: Any, totals: Any = None) -> None:
        self.counters = counters
        self.totals = (lambda inputs: total(counters(inputs))) if totals is None else totals

    def codes(self, inputs: Sequence[Padded], out: Padded) -> tuple[np.ndarray | None, Told]:
        """There are none."""
        raise NotImplementedError


class Stages:
    """Told by a step that knows of fewer stages, as the others never overflow, or of one more that is not there."""

    has_codes = True

    def __init__(self, found: Any, stages: int) -> None:
        self._found, self._stages = found, stages

    def counters(self, inputs: Sequence[Padded]) -> Told:
        """As a Teller."""
        return self._all(self._found.counters(inputs))

    def totals(self, inputs: Sequence[Padded]) -> np.ndarray:
        """As a Teller."""
        return total(self.counters(inputs))

    def codes(self, inputs: Sequence[Padded], out: Padded) -> tuple[np.ndarray | None, Told]:
        """As a Teller."""
        overflows, told = self._found.codes(inputs, out)
        return overflows, self._all(told)

    def _all(self, told: Told) -> Told:
        persistent, transient = (np.concatenate([each, np.zeros((self._stages, *each.shape[1:]), np.int64)])[: self._stages]
                                 for each in told)
        return persistent, transient


def of_stages(op: ConvOp, isa: str) -> Stages | None:
    """Of several registers, or an order that kernels do not take; None where only plain loops can tell."""
    loops = ConvLoops(op, op.accumulator)
    stages = len(op.accumulator.stages)
    found = None
    begins = stages == 1 and op.start is not None  # the first register with a number, which belongs to the last one
    if not begins and fitting(op.accumulator, loops.extremes) == [False] + [True] * (stages - 1):
        found = _of_the_first(op, isa)
    if found is None and tiled.is_possible(loops, isa):
        found = tiled.TiledConvolution(op, loops)
    return None if found is None else Stages(found, stages)


def _of_the_first(op: ConvOp, isa: str) -> Any:
    """Of the first register alone, where no other one can overflow."""
    accumulator = Accumulator(before=op.accumulator.stages[:1], order=op.accumulator.order)
    loops = ConvLoops(op, accumulator)
    groups = Groups.of(loops)
    if groups is not None and patched.is_better(op, isa, groups):
        return patched.PatchedConvolution(op, isa, loops, groups)
    if not pairs.is_possible(loops, isa):
        return None
    # a pair that is clipped stays beyond 16 bits, as its first product alone fits: it is persistent
    telling = pairs.PairConvolution(op, isa).telling()
    return None if telling is None else SingleRegister(telling)


def _nothing(stages: int, images: int, channels: int) -> Told:
    zeros = np.zeros((stages, images, channels), np.int64)
    return zeros, zeros


def _told_by_loops(loops: Any, inputs: Sequence[Padded]) -> Told:
    _, _, details = loops.run(inputs, COUNT)
    return details.persistent, details.transient
