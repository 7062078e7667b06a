"""A model of another's as what is evaluated: on the hardware asked for, or on its own default, which is named."""

import dataclasses
from pathlib import Path
from typing import Any

from sim.accumulator import MAX_BITS, Accumulator
from sim.arithmetic import Arithmetic, hardware_of, profile_of
from sim.importers import default_profile, load_model
from sim.importers.pixels import Pixels, image_program
from sim.outputs import EvalError
from sim.profiles import Profile
from sim.program import Program
from sim.text import printable

WIDTHS = ("bits", "boundary_bits", "activation_bits", "quantizer")
"""Options that only networks trained here have."""


@dataclasses.dataclass(frozen=True)
class Foreign:
    """Of a model of another's: the profile that it runs on and how pixels become its codes."""

    profile: Profile
    pixels: Pixels

    def to_json(self) -> dict[str, Any]:
        """What a record holds of it."""
        return {
            "profile": {"name": self.profile.name, "source": self.profile.source, "version": self.profile.version},
            "pixels": self.pixels.told,
        }


def foreign_program(path: Path, wanted: Arithmetic) -> tuple[Program, Foreign, tuple[str, ...]]:
    """The program of a model file for uint8 images, what it is, and notes for the user.

    `accumulator` is that of every inner operation with products, `boundary_accumulator` that of the first and last, as
    everywhere; the profile's where nothing is said.  Raises EvalError, ImporterError, ProfileError, ProgramError, OSError.
    """
    for name in WIDTHS:
        if getattr(wanted, name) is not None:
            raise EvalError(f"{name.replace('_', '-')}: a model of another's has its widths built in, leave the option out")
    is_told = wanted.hardware is not None
    wanted = wanted if is_told else dataclasses.replace(wanted, hardware=default_profile(path))
    profile = profile_of(wanted)
    assert profile is not None
    imported = load_model(path, profile)
    program, pixels = image_program(_with_ends(path, profile, imported.program, wanted), wanted.pixels_as)
    notes = (
        f"hardware {profile.name}{'' if is_told else ', the default of this kind of model: choose with --hardware'}",
        pixels.told,
        *imported.notes,
    )
    return program, Foreign(profile, pixels), notes


def _with_ends(path: Path, profile: Profile, program: Program, wanted: Arithmetic) -> Program:
    """The first and last operation with products have a register of their own, and those that a file or a profile names.

    A register that may overflow sees bias and zero points as the profile says, others need not: the program is made for
    the narrower of both.
    """
    own: dict[str, Accumulator] = {op.name: op.accumulator for op in program.accumulating}
    hardware = hardware_of(wanted)
    names, register = list(own), hardware.boundary_accumulator
    if unknown := [name for name in hardware.layers if name not in own]:
        raise EvalError(f"registers: {printable(unknown[0])} is no layer with registers, there are {', '.join(names)}")
    ends = {} if not names or own[names[0]] == own[names[-1]] == register else {names[0]: register, names[-1]: register}
    if (others := ends | dict(hardware.layers)) == {name: own[name] for name in others}:
        return program
    narrowest = min((*others.values(), *own.values()), key=lambda each: each.narrowest or MAX_BITS + 1)
    program = load_model(path, profile.with_(narrowest)).program
    own |= others
    return dataclasses.replace(program, ops=tuple(_on(op, own[op.name]) if op.name in own else op for op in program.ops))


def _on(op: Any, register: Accumulator) -> Any:
    return dataclasses.replace(op, accumulator=register)
