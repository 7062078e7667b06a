"""Runs a program on batches of images, in integers."""

from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

import numpy as np

from sim.accumulator import AccumulatorOverflowError
from sim.buffers import Padded
from sim.convolution import Convolution
from sim.formats import IntFormat
from sim.kernels import isa as instruction_sets
from sim.kernels.codes import pixel_codes, table_codes, threshold_codes, window_sums
from sim.program import ConvOp, InputOp, Op, PoolOp, Program, ShortcutOp, TableOp

MOST_THRESHOLDS = 16
"""Comparisons of whole registers beat looking up code by code up to about so many."""
WORKING_SET = 2 << 20
"""Codes that a chunk of images may have in its largest layer: they are read again while in cache."""
MOST_IMAGES = 128
"""Of a chunk: more would not hide the calls any better."""


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
        self._convolutions = {op.name: Convolution(op, self.isa) for op in program.convolutions}
        self._steps = {op.name: _thresholds(op.table) for op in program.ops if isinstance(op, TableOp)}
        self._pads = _borders(program)
        largest = max(op.shape[0] * op.shape[1] * op.shape[2] for op in program.ops)
        self._chunk = max(1, min(MOST_IMAGES, WORKING_SET // largest))
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
        """One operation [N, H, W, C], given the results of those it reads; ValueError if those have another type."""
        names = [name for name in (op.source, getattr(op, "skip", "")) if name]
        for source in self.program.ops:
            if source.name in names and source.format is not None:
                _check_type(op, values[source.name], source.format)
        padded = {name: Padded.of(values[name], self._pads[name]) for name in names}
        return self._step(op, np.ascontiguousarray(pixels), padded).interior.copy()

    def sums(self, op: ConvOp, x: np.ndarray) -> np.ndarray:
        """What the registers of a convolution hold after all products of the codes `x`; counts overflows.

        Raises ValueError if the codes are not of the type of its operand.
        """
        _check_type(op, x, op.operand)
        return self.accumulate(op, Padded.of(x, op.padding))

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
        x = values[op.source]
        if op.format is None:
            return Padded(op.requant.logits(self.accumulate(op, x)), 0)
        out = self._output(op, len(x.array))
        self.convolve(op, x, values[op.skip] if op.skip else None, out)
        return out

    def convolve(self, op: ConvOp, x: Padded, skip: Padded | None, out: Padded) -> None:
        """Codes with their border, and those of the residual, -> requantized codes inside theirs; counts overflows."""
        overflows = self._convolutions[op.name].codes_into(x, skip, out)
        self._count(op, overflows, len(x.array))

    def accumulate(self, op: ConvOp, x: Padded) -> np.ndarray:
        """`sums` of a tensor that has its border already."""
        sums, overflows = self._convolutions[op.name].registers(x)
        self._count(op, overflows, len(sums))
        return sums

    def _count(self, op: ConvOp, counts: np.ndarray | None, images: int) -> None:
        """Add counts per channel of overflowed outputs; stop the run if none are allowed."""
        if counts is None:
            return
        self.overflows[op.name] += counts
        if op.accumulator.overflow == "error" and counts.any():
            channel = int(np.flatnonzero(counts)[0])
            raise AccumulatorOverflowError(
                f"{op.name}, channel {channel}: a sum does not fit the {op.accumulator.bits}-bit accumulator "
                f"({counts[channel]} of {images * op.shape[0] * op.shape[1]} outputs of a batch); "
                f"{op.safe_bits} bits can never overflow")

    def _table(self, op: TableOp, pixels: np.ndarray, values: Mapping[str, Padded]) -> Padded:
        x = values[op.source]
        out = self._output(op, len(x.array))
        steps = self._steps[op.name]
        if steps is None:
            table_codes(x.array, x.pad, op.table, out.pad, out.array)
        else:
            threshold_codes(x.array, x.pad, op.table[0], steps, out.pad, out.array)
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


def _check_type(op: Op, codes: np.ndarray, wanted: IntFormat) -> None:
    """Kernels take the bytes as they are."""
    if codes.dtype != wanted.dtype:
        raise ValueError(f"{op.name}: its codes are {codes.dtype}, expected {wanted.dtype}")


def _thresholds(table: np.ndarray) -> np.ndarray | None:
    """The codes above which a table of bytes takes its steps, [rows, 8]; None if it descends or has too many."""
    wide = table.astype(np.int64)
    steps = wide[1:] - wide[:-1]
    if table.dtype != np.uint8 or len(table) > 256 or steps.min(initial=0) < 0 or steps.sum() > MOST_THRESHOLDS:
        return None
    above = np.repeat(np.arange(len(steps)), steps)
    return np.pad(above, (0, -len(above) % 8), constant_values=255).astype(np.uint8).reshape(-1, 8)


def _borders(program: Program) -> dict[str, int]:
    """The widest padding that any reader of an operation wants."""
    pads = {op.name: 0 for op in program.ops}
    for op in program.ops:
        if isinstance(op, ConvOp | PoolOp):
            pads[op.source] = max(pads[op.source], op.padding)
    return pads
