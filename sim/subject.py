"""What is evaluated: an integer program, with the checkpoint that it was lowered from if there is one."""

import dataclasses
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sim.accumulator import Accumulator
from sim.arithmetic import Arithmetic, hardware_of
from sim.formats import is_whole
from sim.hardware import HardwareSpec
from sim.importers import is_importable
from sim.importers.pixels import image_program, is_of_codes
from sim.lowering import lower
from sim.network import FLOAT_BITS, QUANTIZED_BITS, ROLES, NetworkSpec, Precision
from sim.outputs import EvalError
from sim.program import Program
from sim.quantizers import learns
from sim.recognize import CHECKPOINT, PROGRAM, UNKNOWN, recognize
from sim.redefined import redefined
from sim.registry import RegistryError, is_own
from sim.requantizers import REQUANTIZERS
from sim.text import printable
from sim.trained import overflows_in, register_notes

if TYPE_CHECKING:
    from sim.checkpoint import Checkpoint
    from sim.importers.subject import Foreign


@dataclass(frozen=True)
class Subject:
    """A program ready to run; `spec` at the widths of the program, `checkpoint` and `hardware` unless it came as it is.

    `path` and `digest` ("sha256:...") are those of the file, None and "" if there was none.  `notes` are for the user.
    `foreign` is what is known of a model of another's.
    """

    program: Program
    path: Path | None = None
    digest: str = ""
    checkpoint: "Checkpoint | None" = None
    spec: NetworkSpec | None = None
    hardware: HardwareSpec | None = None
    notes: tuple[str, ...] = ()
    foreign: "Foreign | None" = None
    redefined: Mapping[str, str] = field(default_factory=dict)
    """Options softmax, gelu and norm that made another network of the checkpoint's, and the definitions that they named."""

    @property
    def own_register(self) -> Accumulator | None:
        """The register of inner layers if the network was trained with its overflows and runs on just that, exactly."""
        register = None if self.checkpoint is None else overflows_in(self.checkpoint.training)
        if register is None or self.hardware is None or self.hardware.boundary_accumulator.bits is not None:
            return None
        is_own = dataclasses.replace(self.hardware, boundary_accumulator=Accumulator()) == HardwareSpec(register)
        return register if is_own else None


def subject_of(model: Any, wanted: Arithmetic) -> Subject:
    """The subject of a Program, a loaded Checkpoint, or the path of a file of either.

    Raises EvalError for anything else, by what it is, and for options that have no effect; CheckpointError, ProgramError,
    LowerError, OSError, RegistryError for code of one's own.
    """
    wanted = Arithmetic(**{name: plain(value) for name, value in vars(wanted).items()})
    for name in ("overflow", "requant", "quantizer", "hardware", "pixels_as", "softmax", "gelu", "norm"):
        if not isinstance(value := getattr(wanted, name), str | None):
            raise EvalError(f"{name}: {value!r} is not allowed, give a name")
    if wanted.requant is not None:
        try:
            REQUANTIZERS.find(wanted.requant)  # before a program is read, which may name it
        except RegistryError as error:
            if is_own(wanted.requant):
                raise
            raise EvalError(str(error)) from None
    if isinstance(model, Program):
        return _program(model, wanted)
    if isinstance(model, str | os.PathLike):
        return _file(Path(model), wanted)
    from sim.checkpoint import Checkpoint

    if isinstance(model, Checkpoint):
        return _checkpoint(model, wanted)
    raise EvalError(f"model: {type(model).__name__} is not allowed, give a path, a Checkpoint or a Program")


def _file(path: Path, wanted: Arithmetic) -> Subject:
    if path.exists() and not path.is_file() and not path.is_dir():
        raise EvalError(f"model: {path} is no regular file: it is read more than once, so that a copy is needed")
    kind = recognize(path)
    if kind is PROGRAM:
        subject = _program(Program.load(path), wanted)
    elif is_importable(kind):
        subject = _foreign(path, wanted)
    elif kind in (CHECKPOINT, UNKNOWN):  # of what nothing tells, the reader of checkpoints says what is wrong with it
        from sim.checkpoint import load_checkpoint

        subject = _checkpoint(load_checkpoint(path, _own_quantizer(wanted)), wanted)
    else:
        raise EvalError(f"model: {path} is {kind.what}; {kind.advice}")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return dataclasses.replace(subject, path=path, digest=f"sha256:{digest}")


def _foreign(path: Path, wanted: Arithmetic) -> Subject:
    from sim.importers.subject import foreign_program

    program, foreign, notes = foreign_program(path, wanted)
    return Subject(program, foreign=foreign, notes=notes)


def _own_quantizer(wanted: Arithmetic) -> str:
    """The name of the checkpoint's quantizer here, loaded in both halves; empty if it is built in."""
    if wanted.quantizer is None:
        return ""
    from training.quantizers import QUANTIZERS  # noqa: TID251 - only its table, and only of code that was named

    QUANTIZERS.find(wanted.quantizer)
    return wanted.quantizer


def _changes(checkpoint: "Checkpoint") -> list[str]:
    """Says so if the checkpoint's own quantizer is no longer the one that it was trained with."""
    name, own = checkpoint.spec.quantizer, checkpoint.training.get("own_code")
    trained = own.get("quantizer") if isinstance(own, dict) else None
    if trained is None:
        return []
    from training.quantizers import QUANTIZERS  # noqa: TID251 - only its table

    now = QUANTIZERS.origin(name)
    if isinstance(trained, dict) and now and trained.get("sha256") != now["sha256"]:
        return [f"warning: the file of quantizer {printable(name)} has changed since this network was trained"]
    return []


def _program(program: Program, wanted: Arithmetic) -> Subject:
    if is_of_codes(program):
        program, pixels = image_program(program, wanted.pixels_as)
        return dataclasses.replace(_program(program, dataclasses.replace(wanted, pixels_as=None)), notes=(pixels.told,))
    own = {op.requant.name for op in program.accumulating}
    for name, value in dataclasses.asdict(wanted).items():
        if name == "requant" and value is not None and REQUANTIZERS[value].name in own and is_own(value):
            continue  # named so that the program could be read
        if value is not None:
            raise EvalError(f"{name.replace('_', '-')}: a program has its widths, registers and requantizer built in; "
                            "give the checkpoint that it was made of, or leave the option out")
    return Subject(program)


def _checkpoint(checkpoint: "Checkpoint", wanted: Arithmetic) -> Subject:
    if wanted.pixels_as is not None:
        raise EvalError("pixels-as: a checkpoint of training.run knows what its pixels stand for, leave the option out")
    trained = checkpoint.spec
    hardware = hardware_of(wanted)
    precision = _precision(trained.precision, wanted.bits, wanted.boundary_bits, wanted.activation_bits)
    _check_learned(trained, precision)
    spec = trained.at(precision)
    names = {"softmax": wanted.softmax, "gelu": wanted.gelu, "norm": wanted.norm}
    if changed := {option: name for option, name in names.items() if name is not None}:
        spec = dataclasses.replace(spec, graph=redefined(spec.graph, **changed))
    roles = {row.register_role for row in spec.graph.rows} - {None}
    if wanted.accumulator is not None and roles == {"boundary"}:
        raise EvalError("accumulator: this network has no inner layers, use --boundary-accumulator")
    notes = _changes(checkpoint)
    if changed and spec.graph != trained.graph:
        notes.append("computed by other definitions than it was trained with: " + ", ".join(
            f"{option} {name}" for option, name in changed.items()))
    if precision != trained.precision:
        notes.append(f"trained as {trained.precision}; its float weights are requantized to {precision}, "
                     "without further training")
    notes += register_notes(checkpoint.training, hardware.accumulator)
    if wanted.tile not in (None, "1", 1) and hardware.accumulator.overflow == "wrap" and not hardware.accumulator.before:
        notes.append("tile: has no effect on a register that wraps, which ends with the same bits however its sums come")
    return Subject(lower(spec, hardware), None, "", checkpoint, spec, hardware, tuple(notes),
                   redefined=changed if spec.graph != trained.graph else {})


def plain(value: Any) -> Any:
    """A whole number of numpy as Python's own; anything else as it is."""
    return int(value) if isinstance(value, np.integer) else value


def _precision(trained: Precision, bits: int | None, boundary: int | None,
               activations: int | None) -> Precision:
    """The widths to run at: as trained, except where told otherwise."""
    inner = trained.inner if bits is None else bits
    if not is_whole(inner) or inner not in QUANTIZED_BITS:
        given = "this network is float" if bits is None else f"{bits!r} is not allowed"
        raise EvalError(f"bits: {given}, choose --bits 1 to 8 or 16")
    if boundary is None:
        boundary = trained.boundary if trained.boundary != FLOAT_BITS or not trained.is_float else 8
    if not is_whole(boundary):
        raise EvalError(f"boundary-bits: {boundary!r} is not allowed, choose a whole number of bits")
    if boundary == FLOAT_BITS:
        raise EvalError("boundary-bits: the first and last layer are float, add --boundary-bits 8 to quantize them")
    layers = trained.layers if inner == trained.inner else ()  # exceptions belong to the width they were chosen for
    if activations is None:
        activations = trained.activations if inner == trained.inner else 0
    elif not is_whole(activations) or activations not in QUANTIZED_BITS:
        raise EvalError(f"activation-bits: {activations!r} is not allowed, choose 1 to 8 or 16")
    return Precision(inner, boundary, 8 if trained.skip == FLOAT_BITS else trained.skip, layers, activations)


def _check_learned(spec: NetworkSpec, wanted: Precision) -> None:
    """What was float has learned no scales: its placeholders would be silently wrong."""
    roles = [role for role in ROLES if spec.precision.weight_bits(role, "") == FLOAT_BITS != wanted.weight_bits(role, "")]
    if roles and learns(spec.quantizer):
        raise EvalError(f"bits: this network is float in its {' and '.join(roles)} layers, of which quantizer "
                        f"{spec.quantizer} has learned nothing; python -m training.run --scheme ptq --teacher quantizes "
                        "a float network")
