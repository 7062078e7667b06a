"""A convolution as kernels know it: one path of paths.py, weights as that path wants them, and what its register does.

What no path takes (codes wider than a byte, sums beyond int32, interpreted kernels) goes through the plain int64 loops of
kernels/conv.py.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from sim.accumulator import prefix_bounds
from sim.buffers import Padded
from sim.kernels import replay
from sim.kernels.conv import conv_exact, conv_saturating, count_flags, wrap_sums
from sim.kernels.finish import LANES as REGISTER
from sim.kernels.finish import Ending
from sim.kernels.layout import Layout, arrange_channels
from sim.kernels.lines import conv_direct, conv_saturating_sums, corrected, driver, keep_sums
from sim.kernels.overflow import LIMIT_LINE, WRAP
from sim.kernels.staged_lines import conv_staged, replay_to_codes, replay_to_counts, replay_to_sums
from sim.lazy import cached_property
from sim.requantizers.requantizer import repeat_of, residual_arguments
from sim.steps.paths import KernelPath, largest_product, sign_of, whole_sums
from sim.steps.zero import requantize_into, shifted

if TYPE_CHECKING:
    from sim.ops.conv import ConvOp

RESIDUALS = ("", "unsigned", "signed")
"""What is added before codes are made, as finish.Ending names it."""


class Kernels:
    """A convolution as kernels know it, on one instruction set; `correction` [channels] is taken off its sums.

    Its counts are int64 [channels], of outputs that overflow; those of one that is `telling` [kinds, images, channels], of
    such outputs, and where registers clip on the way also of those whose exact sum does not fit.
    """

    _tells = _wraps = False

    def __init__(self, op: "ConvOp", paths: Sequence[KernelPath], correction: np.ndarray | None = None) -> None:
        self.op, self.correction, self.top = op, correction, op.window.paddings[0]
        register = op.accumulator.range
        is_limited = register is not None and register.bits < op.safe_bits
        self.register = register if is_limited else None
        self._path, self._layout = None, None
        if op.operand.bits <= 8 and 2 * max(map(abs, op.bounds)) < 2**31:  # contract C9
            for path in paths:
                if (layout := path.layout(op)) is not None:
                    self._path, self._layout = path, layout
                    break
        if self._path is None or self._layout is None:
            return
        self._operands = self._path.operands(op, op.weights, self._layout)
        self._saturation = None
        if self.register is not None and not self._overflow:
            self._saturation = _Saturation.of(op, self._path, self._layout, self._operands)
            if self._saturation is None:
                self._path = None

    @property
    def name(self) -> str:
        """Of its path."""
        return "plain" if self._path is None else self._path.name

    @property
    def path(self) -> str:
        """What runs it, for profiles."""
        if self._path is None:
            return "plain"
        if self.op.format is None:
            return f"{self._path.name} to logits"
        return f"{self._path.name} to codes" if self._direct is not None else f"{self._path.name} by lines"

    def registers(self, x: Padded) -> tuple[np.ndarray, np.ndarray | None]:
        """What the registers hold after all products [N, H, W, C]; and counts, None where nothing can overflow."""
        if self._path is None or self._layout is None:
            return self._plain(x)
        op, layout = self.op, self._layout
        sums = np.empty((len(x.array), *op.shape), np.int32)
        place = (x.unsigned, x.pad - self.top, op.stride, layout.parts, layout.width)
        nothing = residual_arguments(None)
        totals = self._zeros(len(sums))
        if self._path.counted is not None:
            driver(conv_direct, line=self._path.counted(op, layout))(
                *place, self._operands, True, (), *nothing[:2], False, sums, 0, totals)
        elif self._saturation is None:
            self._path.sums_loop(op, limit=self._limit, codes=keep_sums)(
                *place, self._operands, self._spare, totals, (), 1, *nothing, sums, 0)
        elif self._saturation.staged is not None:
            replayed = (replay_to_counts if self._wraps else replay_to_sums)(self._path.lanes, op.operand.signed)
            driver(conv_staged, line=self._path.watched, replay=replayed)(
                *place, *self._saturation.staged, (), *nothing[:2], False, sums, 0, totals)
            if self._wraps:
                kept = sums << self._spare >> self._spare
                totals[0] = (kept != sums).sum((1, 2))
                sums = kept
        else:
            self._path.run(conv_saturating_sums)(*place, self._operands, *self._saturation.arguments, totals, sums)
        return sums, self._counted(totals)

    def codes_into(self, x: Padded, skip: Padded | None, out: Padded) -> np.ndarray | None:
        """Requantized codes; returns counts, None where nothing can overflow."""
        op, layout = self.op, self._layout
        assert op.format is not None
        is_bytes = out.array.itemsize == 1 and (skip is None or skip.array.itemsize == 1)
        if self._path is None or layout is None or not is_bytes or not self._is_narrow:
            return self._by_registers(x, skip, out)
        place = (x.unsigned, x.pad - self.top, op.stride, layout.parts, layout.width)
        totals = self._zeros(len(x.array))
        if self._direct is not None:
            run, arguments = self._direct["" if skip is None else "signed" if skip.array.dtype == np.int8 else "unsigned"]
            residual, pad, _ = residual_arguments(skip)
            run(*place, *arguments, residual, pad, skip is not None, out.unsigned, out.pad, totals)
        elif self._saturation is not None or self._path.counted is not None:
            return self._by_registers(x, skip, out)
        else:
            run, constants, repeat = self._fused
            run(*place, self._operands, self._spare, totals, constants, repeat, *residual_arguments(skip), out.unsigned,
                out.pad)
        return self._counted(totals)

    def _by_registers(self, x: Padded, skip: Padded | None, out: Padded) -> np.ndarray | None:
        """The same, one step after the other."""
        assert self.op.format is not None
        sums, overflows = self.registers(x)
        requantize_into(self.op, sums if self.correction is None else sums - self.correction, skip, out)
        return overflows

    @cached_property
    def _fused(self) -> tuple[Callable[..., None], tuple[Any, ...], int]:
        """The loop from codes to codes, the requantizer's constants, and how many pixels they are for."""
        op, layout = self.op, self._layout
        assert op.format is not None
        assert layout is not None
        assert self._path is not None
        is_whole = len(layout.parts) == 1 and layout.width == op.shape[2]
        repeat = repeat_of(op.shape[1], layout.width) if is_whole else 1
        constants = op.requant.line_arguments(shifted(op), repeat)
        if not self._is_shifted:
            return self._path.sums_loop(op, limit=self._limit, codes=op.requant.line), constants, repeat
        correction = np.zeros(op.shape[2], np.int64) if self.correction is None else self.correction
        run = self._path.sums_loop(op, limit=self._limit, codes=corrected(op.requant.line))
        return run, (correction.astype(np.int32), np.int32(op.zero_point), *constants), repeat

    @property
    def _is_shifted(self) -> bool:
        """Whether sums are not what is requantized, or codes not what comes out of that."""
        return self.correction is not None or self.op.zero_point != 0

    @cached_property
    def _is_narrow(self) -> bool:
        """Whether int32 holds corrected sums, too."""
        return self.correction is None or max(map(abs, self.op.bounds)) + int(np.abs(self.correction).max()) < 2**31

    @cached_property
    def _direct(self) -> Mapping[str, tuple[Callable[..., None], tuple[Any, ...]]] | None:
        """The loop from codes to codes in registers and its arguments, by the kind of residual; None if it cannot."""
        op, path, layout = self.op, self._path, self._layout
        assert path is not None
        assert layout is not None
        assert op.format is not None
        reach = max(map(abs, op.bounds))
        found = None
        if op.format.dtype.itemsize == 1:
            found = op.requant.in_registers(shifted(op), reach, self.correction, op.zero_point)
        staged = None if self._saturation is None else self._saturation.staged
        if found is None or (self._saturation is not None and staged is None):
            return None
        surplus = -op.shape[2] % REGISTER + 3 * REGISTER  # registers of channels that there are not are read, too
        rows = np.ascontiguousarray(np.pad(found.rows, ((0, 0), (0, surplus)), mode="edge"))
        constants = (rows, found.limits(shifted(op), op.zero_point), int(self._spare))
        is_partial = bool((layout.parts[:, 2] % path.registers(layout)).any())
        loops: dict[str, tuple[Callable[..., None], tuple[Any, ...]]] = {}
        for residual in RESIDUALS if op.skip else RESIDUALS[:1]:
            ending = Ending(self._overflow, residual, op.format.signed, is_partial, found.rule,
                            bool(op.zero_point or op.limits))
            if staged is not None and path.to_codes is not None:
                line = path.to_codes(op, layout, ending, True)
                signed = op.operand.signed
                replayed = replay_to_counts(path.lanes, signed) if self._wraps else replay_to_codes(ending, signed)
                loops[residual] = driver(conv_staged, line=line, replay=replayed), (*staged, constants)
            elif staged is None and (loop := path.codes_loop(op, layout, ending)) is not None:
                loops[residual] = loop, (self._operands, self._is_counting, constants)
            else:
                return None
        return loops

    @cached_property
    def _spare(self) -> np.int32:
        """Bits of an int32 that the register does not have; 0 where nothing can overflow."""
        return np.int32(0 if self.register is None else 32 - self.register.bits)

    @cached_property
    def _overflow(self) -> str:
        """What the register does with a whole sum that does not fit; "" where none comes, and where order matters."""
        return "" if self.register is None else whole_sums(self.op)

    @property
    def _limit(self) -> Callable[..., None]:
        """A line of such registers."""
        return LIMIT_LINE[self._overflow or WRAP]

    def telling(self) -> Self:
        """The same, on the same operands."""
        other = copy.copy(self)
        other._tells = True
        return other

    def wrapping(self) -> Self | None:
        """The same, telling, of registers that wrap and are watched as these are, which clip: counts are of outputs whose
        exact sum does not fit, and of those that these clip; None where these are not watched in stages."""
        if self._path is None or self._saturation is None or self._saturation.staged is None:
            return None
        found = self.telling()
        found._wraps = True
        found.__dict__.pop("_direct", None)
        found.__dict__["_overflow"] = WRAP
        return found

    def _zeros(self, images: int) -> np.ndarray:
        """Counters as loops want them: int64 [1 or 2, 1 or images, channels]."""
        kinds = 2 if self._tells and self._saturation is not None else 1
        return np.zeros((kinds, images if self._tells else 1, self.op.shape[2]), np.int64)

    def _counted(self, totals: np.ndarray) -> np.ndarray | None:
        """Counts, None where nothing can overflow."""
        if not self._is_counting:
            return None
        return totals if self._tells else totals[0, 0]

    @property
    def _is_counting(self) -> bool:
        """Whether an output can overflow."""
        return self.register is not None or (self._path is not None and self._path.counted is not None)

    def _plain(self, x: Padded) -> tuple[np.ndarray, np.ndarray | None]:
        op = self.op
        sums = np.empty((len(x.array), *op.shape), np.int64)
        common = (x.array, x.pad - self.top, op.weights, op.window.steps, op.groups)
        if self.register is None:
            conv_exact(*common, sums)
            return sums, None
        start = np.zeros(op.shape[2], np.int64) if op.start is None else op.start
        misfits = None
        if self._tells and op.accumulator.overflow != "wrap":
            conv_exact(*common, sums)
            misfits = (sums + start < self.register.min) | (sums + start > self.register.max)
        counts = np.empty((len(sums) * op.shape[0], op.shape[2]), np.int32)
        if op.accumulator.overflow == "wrap":
            conv_exact(*common, sums)
            wrap_sums(sums, -self.register.min, 2 * self.register.max + 1, counts)
        else:
            clipped = np.empty(sums.shape, np.uint8)
            conv_saturating(*common, op.accumulator.tile, self.register.min, self.register.max, start, sums, clipped)
            count_flags(clipped, counts)
        if not self._tells:
            return sums, counts.sum(0, dtype=np.int64)
        told = [counts.reshape(len(sums), -1, op.shape[2]).sum(1, dtype=np.int64)]
        return sums, np.stack(told if misfits is None else [*told, misfits.sum((1, 2), dtype=np.int64)])


@dataclass(frozen=True)
class _Saturation:
    """What registers that clip on the way need to know: `arguments` of conv_saturating_sums, or `staged`, those of
    conv_staged, where they are watched in stages."""

    arguments: tuple[Any, ...]
    staged: tuple[Any, ...] | None

    @classmethod
    def of(cls, op: "ConvOp", path: KernelPath, layout: Layout, operands: tuple[Any, ...]) -> "_Saturation | None":
        """None where registers and products do not fit 32-bit lanes, or groups stand between the products."""
        register, tile = op.accumulator.range, op.accumulator.tile
        assert register is not None
        low, high = prefix_bounds(op.weights, op.operand)
        start = np.zeros(op.shape[2], np.int64) if op.start is None else op.start
        low, high = low + start, high + start
        leaves = (low < register.min) | (high > register.max)
        risky = np.array([leaves[first : first + count].any() for _, first, count in layout.parts], np.uint8)
        largest = largest_product(op)
        if op.groups > 1 or largest * tile - register.min >= 2**31:
            return None
        replays = replay.operands(op.weights, layout, register.bits, largest, tile, sign_of(op), op.start)
        starts = arrange_channels(start, layout).astype(np.int32)
        last = tuple(replays), np.int32(register.min), np.int32(register.max)
        # watching knows of registers that begin with 0 only
        stages = path.stages(op, layout, operands) if path.stages is not None and op.start is None else None
        if stages is not None:
            return cls((), (*stages, *last))
        a_few = 4 * (high - low).mean() / op.weights[..., 0].size
        flags_everything = op.operand.signed or a_few > register.max - register.min
        if flags_everything or (replays.is_fast and not path.screens):
            return cls((operands, operands, risky, False, starts, *last), None)
        screens = tuple(path.operands(op, part(op.weights, 0), layout) for part in (np.maximum, np.minimum))
        return cls((*screens, risky, True, starts, *last), None)
