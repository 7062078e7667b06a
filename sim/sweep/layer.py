"""One layer with registers: which of them do the same to each of its sums."""

from dataclasses import replace
from typing import Any

from sim.accumulator import END, MAX_BITS, Accumulator
from sim.lazy import cached_property
from sim.orders import DEFAULT
from sim.program import ConvOp
from sim.simplify import Extremes, fitting, simplified
from sim.steps.loops import LOOPS


def products_of(op: Any) -> int:
    """How many products each sum of an operation has."""
    return int(op.weights[..., 0].size) if isinstance(op, ConvOp) else int(op.depth)


def is_told_by_end(op: Any, register: Accumulator) -> bool:
    """Whether a single register leaves its range if, and only if, the whole sum is beyond it.

    It is consulted with the whole sum, and before with what it starts with (equation A3): that has to fit.
    """
    form, start = register.range, getattr(op, "start", None)
    if register.before or form is None or not (register.tile == END or register.tile >= products_of(op)):
        return False
    return start is None or form.contains(start)


def is_right_by_end(op: Any, register: Accumulator) -> bool:
    """Whether a single register is right, and counts no overflow, if, and only if, the whole sum is in its range.

    One that wraps comes back from wherever it was on the way (contract C7).
    """
    wraps = not register.before and register.bits is not None and register.overflow == "wrap"
    return wraps or is_told_by_end(op, register)


def kind_of(register: Accumulator) -> tuple[Accumulator, tuple[int, ...]]:
    """Registers less their widths, and these."""
    stages = register.stages
    widest = [replace(stage, bits=None if stage.bits is None else MAX_BITS) for stage in stages]
    return Accumulator.of(widest, register.order), tuple(stage.bits or MAX_BITS for stage in stages)


class Layer:
    """An operation whose products go through registers, looked at once."""

    def __init__(self, op: Any) -> None:
        self.op, self.products = op, products_of(op)
        self._extremes: dict[str, Extremes] = {}

    def asked(self, register: Accumulator) -> Accumulator:
        """The registers as they are, whose counters tell of each; unlimited where all of them always hold their sums."""
        if not register.before:
            return register if self.simplest(register).is_limited else Accumulator()
        return Accumulator() if all(fitting(register, self._extremes_in(register))) else register

    def simplest(self, register: Accumulator) -> Accumulator:
        """Registers that do the same to every sum, the same ones for all that do; unlimited where no sum can be wrong."""
        if not register.before and (register.bits is None or register.bits >= self._safe_bits):
            return Accumulator()
        found = register if not register.before else simplified(register, self._extremes_in(register))
        is_one = not found.before and found.is_limited and found.is_whole(self.products)
        return replace(found, tile=END, order=DEFAULT) if is_one else found

    @cached_property
    def _safe_bits(self) -> int:
        """The width that can never overflow."""
        return int(self.op.safe_bits)

    def _extremes_in(self, register: Accumulator) -> Extremes:
        """The least and the largest value of each product, in the order of the registers."""
        if register.order not in self._extremes:
            self._extremes[register.order] = LOOPS[self.op.kind](self.op, register).extremes
        return self._extremes[register.order]
