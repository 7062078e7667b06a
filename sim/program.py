"""The integer-only network: frozen operations with every constant, checked when built, saved with a version and digest."""

import hashlib
import io
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from sim.accumulator import Accumulator, bits_for, prefix_bounds
from sim.files import write_atomically
from sim.formats import IntFormat, is_whole
from sim.network import LATER, MAX_SIZE, Shape, is_stored
from sim.registry import RegistryError
from sim.requantizers import Requantizer, requantizer_named
from sim.values import Value, sizes

VERSION = 1
MAX_CODE_BITS = 16
MAX_SUM_BITS = 53
"""Integers of so many bits are exact in float64, where the torch model keeps its sums."""


class ProgramError(ValueError):
    """A program that cannot be run, and which operation is wrong."""


@dataclass(frozen=True, eq=False, repr=False)
class Op(Value):
    """An operation: its name, the operation it reads, the shape and format of its output (None: logits)."""

    kind: ClassVar[str]
    name: str
    source: str
    shape: Shape
    format: IntFormat | None

    def __repr__(self) -> str:
        details = "".join(f", {detail}" for detail in self._details())
        return f"<{type(self).__name__} {self.name}: {self.source or 'pixels'} -> {sizes(self.shape)} " \
               f"{self.format or 'logits'}{details}>"

    def _details(self) -> list[str]:
        """What else is worth a word, without arrays."""
        return []


@dataclass(frozen=True, eq=False, repr=False)
class InputOp(Op):
    """A table per channel from uint8 pixels to codes: `table` [channels, 256]."""

    kind: ClassVar[str] = "input"
    table: np.ndarray


@dataclass(frozen=True, eq=False, repr=False)
class ConvOp(Op):
    """Products of codes and weights, summed in an accumulator, then requantized; `skip` names a residual or is empty.

    `weights` int32 [kernel rows, kernel columns, in channels / groups, channels].  `operand` is the format of the input.
    """

    kind: ClassVar[str] = "conv"
    skip: str
    weights: np.ndarray
    stride: int
    padding: int
    groups: int
    operand: IntFormat
    weight_format: IntFormat
    weight_bits: int
    accumulator: Accumulator
    requant: Requantizer
    unit: float = 1.0

    def _details(self) -> list[str]:
        rows, columns, depth, _ = self.weights.shape
        return [f"{self.operand} x {self.weight_format}", f"kernel {sizes((rows, columns, depth))}", f"stride {self.stride}",
                f"padding {self.padding}", *([f"{self.groups} groups"] if self.groups > 1 else []),
                *([f"plus {self.skip}"] if self.skip else []), str(self.accumulator), self.requant.name]

    @property
    def bounds(self) -> tuple[int, int]:
        """Smallest and largest partial sum of any channel, whatever the input."""
        low, high = prefix_bounds(self.weights, self.operand)
        return int(low.min()), int(high.max())

    @property
    def safe_bits(self) -> int:
        """The accumulator width that can never overflow."""
        return bits_for(*self.bounds)

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image."""
        return self.shape[0] * self.shape[1] * self.weights.size


@dataclass(frozen=True, eq=False, repr=False)
class TableOp(Op):
    """One code for another: `table` [codes of the input]."""

    kind: ClassVar[str] = "table"
    table: np.ndarray


@dataclass(frozen=True, eq=False, repr=False)
class ShortcutOp(Op):
    """Every `stride`-th pixel, zero codes in the added channels, half of them before the old ones."""

    kind: ClassVar[str] = "shortcut"
    stride: int


@dataclass(frozen=True, eq=False, repr=False)
class PoolOp(Op):
    """Exact sums over windows of `size` rows and `width` columns (0: as many as rows), requantized."""

    kind: ClassVar[str] = "pool"
    size: int
    stride: int
    padding: int
    requant: Requantizer
    width: int = field(default=0, metadata=LATER)

    def __post_init__(self) -> None:
        if self.width == self.size and is_whole(self.width):
            object.__setattr__(self, "width", 0)  # one way to say the same, one digest

    @property
    def window(self) -> tuple[int, int]:
        """Rows and columns of a window."""
        return self.size, self.width or self.size

    def _details(self) -> list[str]:
        return [f"window {sizes(self.window)}", f"stride {self.stride}", f"padding {self.padding}", self.requant.name]


@dataclass(frozen=True, eq=False, repr=False)
class Program(Value):
    """Operations in order; the first reads pixels uint8 [N, *input_shape], the last gives logits [N, classes].

    Programs are equal if every operation, constant and format is; they hash, and pickle.  `lower` makes one of a trained
    network (an example stands there), `load` reads one from a file.  Raises ProgramError for operations that do not fit.
    """

    ops: tuple[Op, ...]

    def __post_init__(self) -> None:
        shapes: dict[str, Op] = {}
        if len(self.ops) < 2 or not isinstance(self.ops[0], InputOp) or not isinstance(self.ops[-1], ConvOp):
            raise ProgramError("a program begins with its input and ends with a convolution")
        for op in self.ops:
            try:
                _check_common(op)
                _CHECKS[type(op)](op, shapes)
            except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
                raise ProgramError(f"{op.name}: {error}") from None
            if op.name in shapes:
                raise ProgramError(f"two operations are called {op.name}")
            if (op.format is None) != (op is self.ops[-1]):
                raise ProgramError(f"{op.name}: only the last operation gives logits")
            shapes[op.name] = op

    def __repr__(self) -> str:
        weights = sorted({op.weight_bits for op in self.convolutions})
        codes = sorted({op.format.bits for op in self.ops if op.format is not None})
        requants = sorted({op.requant.name for op in self.convolutions})
        registers = sorted({str(op.accumulator) for op in self.convolutions if op.accumulator.bits is not None})
        return (f"<Program: {sizes(self.input_shape)} u8 pixels -> {self.classes} logits, {len(self.ops)} operations, "
                f"{self.macs:,} MACs, weights {_listed(weights)} bits, codes {_listed(codes)} bits, "
                f"{', '.join([*requants, *registers])}>")

    @property
    def input_shape(self) -> Shape:
        """(height, width, channels) of an image."""
        return self.ops[0].shape

    @property
    def classes(self) -> int:
        """Logits for an image."""
        return self.ops[-1].shape[2]

    @property
    def convolutions(self) -> list[ConvOp]:
        """The operations that accumulate products."""
        return [op for op in self.ops if isinstance(op, ConvOp)]

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image."""
        return sum(op.macs for op in self.convolutions)

    def digest(self) -> str:
        """SHA-256 over every operation, constant and format; equal exactly for equal programs."""
        header, arrays = _pack(self)
        digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
        for name in sorted(arrays):
            digest.update(name.encode() + arrays[name].tobytes())
        return digest.hexdigest()

    def save(self, path: Path | str) -> None:
        """An .npz of plain arrays, written completely or not at all.  Raises OSError with the path."""
        header, arrays = _pack(self)
        text = json.dumps({"version": VERSION, "digest": self.digest(), "ops": header})
        buffer = io.BytesIO()
        np.savez_compressed(buffer, header=np.frombuffer(text.encode(), np.uint8), **arrays)  # type: ignore[arg-type]
        write_atomically(Path(path), lambda file: file.write(buffer.getvalue()))

    @classmethod
    def load(cls, path: Path | str) -> "Program":
        """The inverse of `save`; nothing in the file is executed.  OSError if it cannot be read, else ProgramError."""
        content = io.BytesIO(Path(path).read_bytes())
        try:
            with np.load(content, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            header = json.loads(arrays.pop("header").tobytes())
            if header["version"] != VERSION:
                raise ProgramError(f"version {header['version']!r}, this program reads version {VERSION}")
            program = cls(tuple(_unpack(op, arrays) for op in header["ops"]))
            if program.digest() != header["digest"]:
                raise ProgramError("the digest does not match, the file was changed")
        except (ProgramError, RegistryError) as error:
            raise ProgramError(f"{path}: {error}") from None
        except Exception as error:  # parsers of damaged bytes fail in every way there is
            raise ProgramError(f"{path}: not a program ({type(error).__name__})") from None
        return program


def _listed(numbers: list[int]) -> str:
    return "/".join(map(str, numbers))


def output_side(side: int, kernel: int, stride: int, padding: int) -> int:
    """Positions of a window along one side."""
    return (side + 2 * padding - kernel) // stride + 1


def _source(op: Op, before: Mapping[str, Op], name: str | None = None) -> Op:
    name = op.source if name is None else name
    if name not in before:
        raise ProgramError(f"reads {name!r}, which is no operation before it")
    return before[name]


def _check_common(op: Op) -> None:
    if not isinstance(op.name, str) or not op.name:
        raise ProgramError("an operation without a name")
    if op.format is not None and not 1 <= op.format.bits <= MAX_CODE_BITS:
        raise ProgramError(f"codes have 1 to {MAX_CODE_BITS} bits, not {op.format.bits}")


def _check_sizes(op: Op, **sizes: int) -> None:
    for key, value in {**sizes, "height": op.shape[0], "width": op.shape[1], "channels": op.shape[2]}.items():
        if not is_whole(value) or not (0 if key == "padding" else 1) <= value <= MAX_SIZE:
            raise ProgramError(f"{key} must be a whole number up to {MAX_SIZE}, not {value!r}")


def _check_shape(op: Op, expected: Shape) -> None:
    if op.shape != expected:
        raise ProgramError(f"its shape is {op.shape}, it follows from its input as {expected}")


def _check_table(op: Op, table: np.ndarray, shape: tuple[int, ...]) -> None:
    if op.format is None or table.shape != shape or table.dtype != op.format.dtype or not op.format.contains(table):
        raise ProgramError(f"its table must be {shape} codes of {op.format}")


def _check_input(op: InputOp, before: Mapping[str, Op]) -> None:
    _check_sizes(op)
    if before:
        raise ProgramError("only the first operation is an input")
    _check_table(op, op.table, (op.shape[2], 256))


def _check_conv(op: ConvOp, before: Mapping[str, Op]) -> None:
    _check_sizes(op, stride=op.stride, padding=op.padding, groups=op.groups)
    source = _source(op, before)
    if op.weights.dtype != np.int32 or op.weights.ndim != 4 or op.weights.shape[3] % op.groups:
        raise ProgramError("its weights must be int32 [rows, columns, in channels / groups, channels]")
    if op.weights.shape[2] * op.groups != source.shape[2] or source.format != op.operand:
        raise ProgramError("its weights or operand do not fit its input")
    width = op.weight_format.bits + op.operand.bits + int(op.weights[..., 0].size).bit_length()
    if width > MAX_SUM_BITS + 2 or op.safe_bits > MAX_SUM_BITS:
        raise ProgramError(f"its sums can pass {MAX_SUM_BITS} bits, beyond which float64 is not exact")
    if not is_whole(op.weight_bits) or not 1 <= op.weight_bits <= 32 or not isinstance(op.unit, float) \
            or not 0.0 < op.unit < math.inf:
        raise ProgramError("its weight bits or the unit of its logits make no sense")
    if not op.weight_format.contains(op.weights):
        raise ProgramError(f"its weights do not fit {op.weight_format}")
    sides = (output_side(source.shape[axis], op.weights.shape[axis], op.stride, op.padding) for axis in (0, 1))
    _check_shape(op, (*sides, op.weights.shape[3]))
    if op.skip and (_source(op, before, op.skip).shape != op.shape or op.format is None):
        raise ProgramError(f"its residual {op.skip} has another shape")
    op.requant.check(op.shape[2], max(map(abs, op.bounds)))


def _check_requantized_table(op: TableOp, before: Mapping[str, Op]) -> None:
    source = _source(op, before)
    if source.format is None or source.format.signed:
        raise ProgramError("a table reads unsigned codes")
    _check_shape(op, source.shape)
    _check_table(op, op.table, (source.format.max + 1,))


def _check_shortcut(op: ShortcutOp, before: Mapping[str, Op]) -> None:
    _check_sizes(op, stride=op.stride)
    source = _source(op, before)
    if source.format != op.format:
        raise ProgramError("a shortcut keeps the format of its input")
    _check_shape(op, (-(-source.shape[0] // op.stride), -(-source.shape[1] // op.stride),
                      max(op.shape[2], source.shape[2])))


def _check_pool(op: PoolOp, before: Mapping[str, Op]) -> None:
    _check_sizes(op, size=op.size, stride=op.stride, padding=op.padding, window_width=op.window[1])
    source = _source(op, before)
    sides = (output_side(source.shape[axis], op.window[axis], op.stride, op.padding) for axis in (0, 1))
    _check_shape(op, (*sides, source.shape[2]))  # type: ignore[arg-type]
    if op.format is None or source.format is None:
        raise ProgramError("a pool reads and gives codes")
    op.requant.check(op.shape[2], math.prod(op.window) * (source.format.max + 1))


_CHECKS: dict[type[Op], Callable[[Any, Mapping[str, Op]], None]] = {
    InputOp: _check_input, ConvOp: _check_conv, TableOp: _check_requantized_table,
    ShortcutOp: _check_shortcut, PoolOp: _check_pool}
_KINDS: dict[str, type[Op]] = {kind.kind: kind for kind in _CHECKS}


def _pack(program: Program) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """A JSON-able header and the arrays it names."""
    header: list[dict[str, Any]] = []
    arrays: dict[str, np.ndarray] = {}
    for index, op in enumerate(program.ops):
        entry: dict[str, Any] = {"kind": op.kind}
        for name, value in ((f.name, getattr(op, f.name)) for f in fields(op) if is_stored(f, getattr(op, f.name))):
            key = f"{index}.{name}"
            match value:
                case np.ndarray():
                    arrays[key] = value
                    entry[name] = {"array": key, "type": str(value.dtype), "shape": list(value.shape)}
                case IntFormat():
                    entry[name] = {"bits": value.bits, "signed": value.signed}
                case Accumulator():
                    entry[name] = {"bits": value.bits, "overflow": value.overflow, "tile": value.tile}
                case Requantizer():
                    parts = {part: f"{key}.{part}" for part in value.arrays()}
                    arrays |= {parts[part]: array for part, array in value.arrays().items()}
                    entry[name] = {"name": value.name, "arrays": parts}
                case tuple():
                    entry[name] = list(value)
                case _:
                    entry[name] = value
        header.append(entry)
    return header, arrays


def _unpack(entry: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> Op:
    kind = _KINDS[entry["kind"]]
    values: dict[str, Any] = {}
    for name, value in entry.items():
        match name:
            case "kind":
                continue
            case "shape":
                values[name] = tuple(value)
            case "format" | "operand" | "weight_format":
                values[name] = None if value is None else IntFormat(int(value["bits"]), bool(value["signed"]))
            case "accumulator":
                values[name] = Accumulator(**value)
            case "table" | "weights":
                values[name] = arrays[value["array"]]
            case "requant":
                parts = {part: arrays[key] for part, key in value["arrays"].items()}
                values[name] = requantizer_named(str(value["name"]))(**parts)
            case _:
                values[name] = value
    return kind(**values)
