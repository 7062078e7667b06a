"""The integer-only network: frozen operations with every constant, checked when built, saved with a version and digest."""

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from sim.accumulator import Accumulator
from sim.definitions import Definition, definition_named
from sim.files import write_atomically
from sim.formats import IntFormat, Shape
from sim.ops import OPS
from sim.ops.avgpool import PoolOp
from sim.ops.conv import ConvOp
from sim.ops.input import InputOp
from sim.ops.op import MAX_CODE_BITS, MAX_SUM_BITS, Op, ProgramError, check_common, output_side
from sim.ops.requantize import TableOp
from sim.ops.shortcut import ShortcutOp
from sim.registry import RegistryError
from sim.requantizers import Requantizer, requantizer_named
from sim.values import Value, is_stored

__all__ = [  # what makes up a program, from one place
    "MAX_CODE_BITS", "MAX_SUM_BITS", "ConvOp", "InputOp", "Op", "PoolOp", "Program", "ProgramError", "ShortcutOp", "TableOp",
    "output_side"]

VERSION = 1


@dataclass(frozen=True, eq=False, repr=False)
class Program(Value):
    """Operations in order; the first reads pixels uint8 [N, *input_shape], the last gives logits [N, classes].

    Any operation may be an input (`inputs`) of pixels, ids or codes as they come.  `outputs` names the operations whose
    results are wanted, if they are not the last alone.  `scales` are notes, for people and for export: what one code of an
    operation stands for, a real number; no code depends on them.

    Programs are equal if every operation, constant and format is; they hash, and pickle.  `lower` makes one of a trained
    network (an example stands there), `load` reads one from a file.  Raises ProgramError for operations that do not fit.
    """

    ops: tuple[Op, ...]
    outputs: tuple[str, ...] = ()
    scales: Mapping[str, float] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        before: dict[str, Op] = {}
        if len(self.ops) < 2 or not self.ops[0].is_input:
            raise ProgramError("a program begins with its input, and does something with it")
        if not isinstance(self.outputs, tuple | list) or not all(isinstance(name, str) for name in self.outputs):
            raise ProgramError(f"outputs must be names of operations, not {self.outputs!r}")
        object.__setattr__(self, "outputs", tuple(self.outputs))
        if self.outputs == (self.ops[-1].name,):
            object.__setattr__(self, "outputs", ())  # one way to say the same, one digest
        for op in self.ops:
            try:
                check_common(op)
                op.check(before)
            except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
                raise ProgramError(f"{op.name}: {error}") from None
            if op.name in before:
                raise ProgramError(f"two operations are called {op.name}")
            if op.format is None and op.name not in self.output_names:
                raise ProgramError(f"{op.name}: only outputs give logits")
            before[op.name] = op
        if len(set(self.outputs)) < len(self.outputs) or not before.keys() >= set(self.outputs):
            raise ProgramError("an output is named twice, or is no operation")

    def __repr__(self) -> str:
        weights = sorted({op.weight_bits for op in self.convolutions})
        codes = sorted({op.format.bits for op in self.ops if op.format is not None})
        requants = sorted({op.requant.name for op in self.accumulating})
        registers = sorted({str(op.accumulator) for op in self.accumulating if op.accumulator.is_limited})
        given = " and ".join(op.given for op in self.ops if op.is_input)
        widths = [f"weights {_listed(weights)} bits"] if weights else []
        return (f"<Program: {given} -> {self.classes} logits, {len(self.ops)} operations, {self.macs:,} MACs, "
                f"{', '.join([*widths, f'codes {_listed(codes)} bits', *requants, *registers])}>")

    @property
    def inputs(self) -> tuple[str, ...]:
        """Operations that read what the user hands over."""
        return tuple(op.name for op in self.ops if op.is_input)

    @property
    def input_shape(self) -> Shape:
        """(height, width, channels) of an image: the first input."""
        return self.ops[0].shape

    @property
    def output_names(self) -> tuple[str, ...]:
        """Operations whose results are wanted."""
        return self.outputs or (self.ops[-1].name,)

    @property
    def classes(self) -> int:
        """Channels of the first output: logits for an image."""
        return next(op.shape[2] for op in self.ops if op.name == self.output_names[0])

    @property
    def accumulating(self) -> list[Any]:
        """The operations whose products go through registers."""
        return [op for op in self.ops if op.accumulates]

    @property
    def convolutions(self) -> list[ConvOp]:
        """Those of them that multiply by weights."""
        return [op for op in self.ops if isinstance(op, ConvOp)]

    @property
    def requantizer(self) -> str:
        """The name of the requantizer behind its registers; "" if nothing goes through one."""
        return next((str(op.requant.name) for op in self.accumulating), "")

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image."""
        return sum(op.macs for op in self.ops)

    def digest(self) -> str:
        """SHA-256 over every operation, constant and format; equal exactly for equal programs."""
        header, arrays = _pack(self)
        told: Any = {"ops": header, "outputs": list(self.outputs)} if self.outputs else header
        digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
        for name in sorted(arrays):
            digest.update(name.encode() + arrays[name].tobytes())
        return digest.hexdigest()

    def save(self, path: Path | str) -> None:
        """An .npz of plain arrays, written completely or not at all.  Raises OSError with the path."""
        header, arrays = _pack(self)
        about = {"version": VERSION, "digest": self.digest(), "ops": header} | (
            {"outputs": list(self.outputs)} if self.outputs else {}) | (
            {"scales": _notes(self.scales)} if self.scales else {})
        text = json.dumps(about)
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
            program = cls(tuple(_unpack(op, arrays) for op in header["ops"]), tuple(header.get("outputs", ())),
                          _noted(header.get("scales")))
            if program.digest() != header["digest"]:
                raise ProgramError("the digest does not match, the file was changed")
        except (ProgramError, RegistryError) as error:
            raise ProgramError(f"{path}: {error}") from None
        except Exception as error:  # parsers of damaged bytes fail in every way there is
            raise ProgramError(f"{path}: not a program ({type(error).__name__})") from None
        return program


def _listed(numbers: list[int]) -> str:
    return "/".join(map(str, numbers))


def _notes(scales: Mapping[str, float]) -> dict[str, Any]:
    """Scales as a file holds them, with a digest of their own: they are no part of the program's."""
    values = {name: float(scale) for name, scale in scales.items()}
    return {"values": values, "digest": hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()}


def _noted(entry: Any) -> dict[str, float]:
    """The inverse."""
    if entry is None:
        return {}
    if _notes(entry["values"]) != entry:
        raise ProgramError("the digest of its scales does not match, the file was changed")
    return dict(entry["values"])


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
                    entry[name] = value.to_json()
                case Accumulator():
                    entry[name] = value.to_json()
                case Requantizer():
                    parts = {part: f"{key}.{part}" for part in value.arrays()}
                    arrays |= {parts[part]: array for part, array in value.arrays().items()}
                    entry[name] = {"name": value.name, "arrays": parts}
                case Definition():
                    parts = {part: f"{key}.{part}" for part in value.arrays()}
                    arrays |= {parts[part]: array for part, array in value.arrays().items()}
                    entry[name] = {"definition": value.name, "of": value.kind, "source": value.source.to_json(),
                                   "target": value.target.to_json(), "parts": parts}
                case tuple():
                    entry[name] = list(value)
                case _:
                    entry[name] = value
        header.append(entry)
    return header, arrays


def _unpack(entry: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> Op:
    if entry["kind"] not in OPS:
        raise ProgramError(f"an operation of the unknown kind {entry['kind']!r}, this program knows {', '.join(OPS)}")
    kind = OPS[entry["kind"]]
    return kind(**{name: _value(value, arrays) for name, value in entry.items() if name != "kind"})


def _value(value: Any, arrays: Mapping[str, np.ndarray]) -> Any:  # noqa: PLR0911 - a shape of values each
    """A field, told by the shape of what `_pack` makes of it."""
    match value:
        case list():
            return tuple(value)
        case {"array": name, **_other}:
            return arrays[name]
        case {"overflow": _, **_other}:
            return Accumulator.from_json(value)
        case {"bits": bits, "signed": signed, **other}:
            return IntFormat(int(bits), bool(signed), bool(other.get("narrow", False)))
        case {"name": name, "arrays": parts}:
            return requantizer_named(str(name))(**{part: arrays[key] for part, key in parts.items()})
        case {"definition": name, "of": kind, "source": source, "target": target, "parts": parts}:
            constants = {part: arrays[key] for part, key in parts.items()}
            return definition_named(kind, name)(_value(source, arrays), _value(target, arrays), **constants)
        case _:
            return value
