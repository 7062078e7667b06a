"""Runs a program on batches of images, in integers."""

from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sim.accumulator import AccumulatorOverflowError
from sim.buffers import Padded
from sim.kernels import isa as instruction_sets
from sim.kernels import vnni
from sim.kernels.codes import pixel_codes, table_codes, window_sums
from sim.kernels.conv import conv_exact, conv_saturating, count_flags, resolve_screened, wrap_sums
from sim.program import ConvOp, InputOp, Op, PoolOp, Program, ShortcutOp, TableOp

WORKING_SET = 1 << 20
"""Bytes of sums that a chunk of images may have in its largest layer: they are read again while in cache."""


class Machine:
    """A program ready to run, and its overflow counters.

    `overflows` counts, per convolution and channel, the outputs that a limited register got wrong: under "saturate"
    those of which at least one addition was clipped, under "wrap" those whose exact sum does not fit.  `isa` names the
    instruction set of its kernels; every one gives the same codes.
    """

    def __init__(self, program: Program, isa: str | None = None) -> None:
        self.program = program
        self.isa = isa or instruction_sets.choose()
        self.reset()
        self._plans = {op.name: _plan(op, self.isa) for op in program.convolutions}
        self._pads = _borders(program)
        largest = max(op.shape[0] * op.shape[1] * op.shape[2] * 4 for op in program.ops)
        self._chunk = max(1, min(64, WORKING_SET // largest))
        self._buffers: dict[str, Padded] = {}

    def reset(self) -> None:
        """Forget all counts."""
        self.overflows = {op.name: np.zeros(op.shape[2], np.int64) for op in self.program.convolutions}
        self.images = 0

    def run(self, pixels: np.ndarray, trace: MutableMapping[str, np.ndarray] | None = None) -> np.ndarray:
        """uint8 pixels [N, H, W, C] -> logits [N, classes]; `trace` receives every operation's result [N, H, W, C].

        Raises ValueError for pixels of another type or shape, AccumulatorOverflowError under overflow "error".
        """
        first = self.program.ops[0]
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != first.shape or not len(pixels):
            raise ValueError(f"expected uint8 pixels [N, {', '.join(map(str, first.shape))}] with N at least 1, "
                             f"not {pixels.dtype} {pixels.shape}")
        logits = []
        traces: list[dict[str, np.ndarray]] = []
        for start in range(0, len(pixels), self._chunk):
            part = np.ascontiguousarray(pixels[start : start + self._chunk])
            values: dict[str, Padded] = {}
            for op in self.program.ops:
                values[op.name] = self._step(op, part, values)
            logits.append(values[self.program.ops[-1].name].array.reshape(len(part), -1))
            if trace is not None:
                traces.append({name: value.interior.copy() for name, value in values.items()})
            self.images += len(part)
        if trace is not None:
            trace.update({name: np.concatenate([t[name] for t in traces]) for name in traces[0]})
        return np.concatenate(logits)

    def apply(self, op: Op, pixels: np.ndarray, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """One operation [N, H, W, C], given the results of those it reads."""
        padded = {name: Padded.of(values[name], self._pads[name])
                  for name in (op.source, getattr(op, "skip", "")) if name}
        return self._step(op, np.ascontiguousarray(pixels), padded).interior.copy()

    def sums(self, op: ConvOp, x: np.ndarray) -> np.ndarray:
        """What the registers of a convolution hold after all products of the codes `x`; counts overflows."""
        return self.accumulate(op, Padded.of(x, op.padding))[..., : op.shape[2]]

    def _step(self, op: Op, pixels: np.ndarray, values: Mapping[str, Padded]) -> Padded:
        result: Padded = _STEPS[type(op)](self, op, pixels, values)
        return result

    def _output(self, op: Op, images: int) -> Padded:
        """The tensor that receives a result: made once, its border stays zero."""
        buffer = self._buffers.get(op.name)
        if buffer is None or len(buffer.array) < images:
            assert op.format is not None
            buffer = Padded.zeros(images, op.shape, op.format.dtype, self._pads[op.name])
            self._buffers[op.name] = buffer
        return buffer.first(images)

    def _input(self, op: InputOp, pixels: np.ndarray, values: Mapping[str, Padded]) -> Padded:
        out = self._output(op, len(pixels))
        pixel_codes(pixels, op.table, out.pad, out.array)
        return out

    def _conv(self, op: ConvOp, pixels: np.ndarray, values: Mapping[str, Padded]) -> Padded:
        sums = self.accumulate(op, values[op.source])
        if op.format is None:
            return Padded(op.requant.logits(sums[..., : op.shape[2]]), 0)
        out = self._output(op, len(sums))
        op.requant.codes_into(sums, values[op.skip] if op.skip else None, op.format, out)
        return out

    def accumulate(self, op: ConvOp, x: Padded) -> np.ndarray:
        """`sums` of a tensor that has its border already; perhaps with surplus channels at the end."""
        plan, accumulator = self._plans[op.name], op.accumulator
        register = accumulator.range
        if not plan.is_limited or register is None:
            return self._exact(op, plan, plan.weights, x)
        if accumulator.overflow == "wrap":
            # Wrapping is a ring homomorphism: one reduction of the exact sum equals wrapping after every addition (C7).
            sums = self._exact(op, plan, plan.weights, x)
            counts = np.empty((len(sums) * op.shape[0], sums.shape[3]), np.int32)
            half = 1 << (register.bits - 1)
            wrap_sums(sums, plan.integer(half), plan.integer(2 * half - 1), counts, plan.integer)
            self._count(op, counts)
            return sums
        sums = np.empty((len(x.array), *op.shape), plan.integer)
        clipped = np.empty(sums.shape, np.uint8)
        common = (accumulator.tile, register.min, register.max)
        if plan.screens is None:
            conv_saturating(x.array, x.pad - op.padding, op.weights, op.stride, op.groups, *common, sums, clipped,
                            plan.integer)
        else:
            positive, negative = (self._exact(op, plan, weights, x) for weights in plan.screens)
            resolve_screened(x.array, x.pad - op.padding, op.weights, plan.by_channel, op.stride, *common,
                             positive, negative, sums, clipped, plan.integer)
        counts = np.empty((len(sums) * op.shape[0], op.shape[2]), np.int32)
        count_flags(clipped, counts)
        self._count(op, counts)
        return sums

    def _exact(self, op: ConvOp, plan: "_Plan", weights: "_Weights", x: Padded) -> np.ndarray:
        """Sums of all products, whatever the register."""
        offset = x.pad - op.padding
        if weights.packed is None:
            sums: np.ndarray = np.empty((len(x.array), *op.shape), plan.integer)
            conv_exact(x.array, offset, weights.plain, op.stride, op.groups, sums, plan.integer)
            return sums
        from sim.kernels.conv_vnni import conv_vnni  # exists only where the processor has it

        sums = np.empty((len(x.array), *op.shape[:2], len(weights.surplus)), np.int32)
        conv_vnni(x.array, offset, weights.packed, weights.surplus, op.stride, op.operand.signed, op.shape[1], sums)
        return sums

    def _count(self, op: ConvOp, lines: np.ndarray) -> None:
        """Add counts [lines, channels, perhaps more] of overflowed outputs; stop the run if none are allowed."""
        counts = lines[:, : op.shape[2]].sum(0, dtype=np.int64)
        self.overflows[op.name] += counts
        if op.accumulator.overflow == "error" and counts.any():
            channel = int(np.flatnonzero(counts)[0])
            raise AccumulatorOverflowError(
                f"{op.name}, channel {channel}: a sum does not fit the {op.accumulator.bits}-bit accumulator "
                f"({counts[channel]} of {len(lines) * op.shape[1]} outputs of a batch); "
                f"{op.safe_bits} bits can never overflow")

    def _table(self, op: TableOp, pixels: np.ndarray, values: Mapping[str, Padded]) -> Padded:
        x = values[op.source]
        out = self._output(op, len(x.array))
        table_codes(x.array, x.pad, op.table, out.pad, out.array)
        return out

    def _shortcut(self, op: ShortcutOp, pixels: np.ndarray, values: Mapping[str, Padded]) -> Padded:
        x = values[op.source].interior
        out = self._output(op, len(x))
        before = (op.shape[2] - x.shape[3]) // 2
        out.interior[..., before : before + x.shape[3]] = x[:, :: op.stride, :: op.stride]
        return out

    def _pool(self, op: PoolOp, pixels: np.ndarray, values: Mapping[str, Padded]) -> Padded:
        x = values[op.source]
        sums = np.empty((len(x.array), *op.shape), np.int64)
        window_sums(x.array, x.pad - op.padding, op.size, op.stride, sums)
        out = self._output(op, len(sums))
        assert op.format is not None
        op.requant.codes_into(sums, None, op.format, out)
        return out


_STEPS: Mapping[type[Op], Callable[[Machine, Any, np.ndarray, Mapping[str, Padded]], Padded]] = {
    InputOp: Machine._input, ConvOp: Machine._conv, TableOp: Machine._table,
    ShortcutOp: Machine._shortcut, PoolOp: Machine._pool}


@dataclass(frozen=True)
class _Weights:
    """Weights of a convolution, and as the vector kernel wants them if it can run them."""

    plain: np.ndarray
    packed: np.ndarray | None
    surplus: np.ndarray


@dataclass(frozen=True)
class _Plan:
    """How one convolution runs: the type of its sums, its weights, and for saturation those of either sign."""

    integer: type
    is_limited: bool
    weights: _Weights
    screens: tuple[_Weights, _Weights] | None
    by_channel: np.ndarray


def _plan(op: ConvOp, isa: str) -> _Plan:
    low, high = op.bounds
    register = op.accumulator.range
    is_limited = register is not None and register.bits < op.safe_bits
    # a full register plus a whole tile must fit, too; register.max is below the reach of the sums if it is limited
    integer = np.int32 if 2 * max(-low, high) < 2**31 else np.int64  # contract C9
    vector = isa == instruction_sets.VNNI and op.groups == 1 and integer is np.int32 and op.operand.bits <= 8
    weights = _weights(op, op.weights, vector)
    screens, by_channel = None, np.zeros((0, 0, 0, 0), np.int32)
    if is_limited and op.accumulator.overflow != "wrap" and not op.operand.signed and op.groups == 1:
        screens = (_weights(op, np.maximum(op.weights, 0), vector), _weights(op, np.minimum(op.weights, 0), vector))
        by_channel = np.ascontiguousarray(op.weights.transpose(3, 0, 1, 2))
    return _Plan(integer, is_limited, weights, screens, by_channel)


def _weights(op: ConvOp, weights: np.ndarray, vector: bool) -> _Weights:
    if not vector or not vnni.fits(weights):
        return _Weights(weights, None, np.zeros(0, np.int32))
    packed, blocks = vnni.pack(weights)
    surplus = np.zeros(packed.shape[0] * blocks * vnni.LANES, np.int64)
    if op.operand.signed:
        surplus[: op.shape[2]] = 128 * weights.astype(np.int64).sum((0, 1, 2))
    return _Weights(weights, packed, ((surplus + 2**31) % 2**32 - 2**31).astype(np.int32))


def _borders(program: Program) -> dict[str, int]:
    """The widest padding that any reader of an operation wants."""
    pads = {op.name: 0 for op in program.ops}
    for op in program.ops:
        if isinstance(op, ConvOp | PoolOp):
            pads[op.source] = max(pads[op.source], op.padding)
    return pads
