"""The arithmetic that an evaluation asks for, option by option, and the hardware that it makes, of a profile or not."""

from dataclasses import dataclass
from typing import Any

from sim.accumulator import END, Accumulator
from sim.formats import is_whole
from sim.hardware import HardwareSpec
from sim.outputs import EvalError
from sim.profiles import Profile, ProfileError, Rule, profile

ROWS = {"add": "add", "multiply": "multiply", "matmul": "matmul", "linear": "fully_connected", "requantize": "requantize",
        "concat": "concat"}
"""Rows of our networks, by the kind of operation whose rule a profile has; all others are computed as convolutions are."""


@dataclass(frozen=True)
class Arithmetic:
    """Widths and hardware as asked for; None where nothing was said, which means as trained, unlimited, or the default.

    `bits`, `boundary_bits`: of weights and activations of the inner layers, and of the first and last; `activation_bits`:
    of the inner activations alone, where they differ from the weights.  `accumulator`,
    `boundary_accumulator`: bits of their registers, which `overflow` ("wrap", "saturate" or "error"; default wrap) and take
    sums of `tile` products (a number, or "end"; default 1).  `requant`: a name of sim.requantizers, default fp32, or code of
    one's own ("file.py:CLASS"), `quantizer`: where that of the checkpoint is, if it is such code.  `hardware`: a profile's
    name, or its file, from which the other options take their defaults.  `pixels_as`: what a pixel stands for in a model of
    another's (sim/importers/pixels.py).  `softmax`, `gelu`, `norm`: definitions in the place of the network's own
    (sim/redefined.py).
    """

    bits: int | None = None
    boundary_bits: int | None = None
    accumulator: int | None = None
    boundary_accumulator: int | None = None
    overflow: str | None = None
    tile: int | str | None = None
    requant: str | None = None
    quantizer: str | None = None
    activation_bits: int | None = None
    hardware: str | None = None
    pixels_as: str | None = None
    softmax: str | None = None
    gelu: str | None = None
    norm: str | None = None


def profile_of(wanted: Arithmetic) -> Profile | None:
    """The profile that is asked for, with what single options say instead; None if none is.  Raises EvalError, OSError."""
    given = _given(wanted)
    if given is None:
        return None
    return given.with_(_register(wanted, wanted.accumulator, _conv(given).accumulator, "accumulator"), wanted.requant)


def hardware_of(wanted: Arithmetic) -> HardwareSpec:
    """Registers and requantizer; raises EvalError for what is not allowed, or has no effect without a limited register."""
    given = _given(wanted)
    rule = Rule(requant="fp32") if given is None else _conv(given)
    inner = _register(wanted, wanted.accumulator, rule.accumulator, "accumulator")
    outer = _register(wanted, wanted.boundary_accumulator, rule.accumulator, "boundary-accumulator")
    if (inner.bits, outer.bits) == (None, None) and (wanted.overflow, wanted.tile) != (None, None):
        raise EvalError("overflow, tile: only a limited register has them, add --accumulator or --boundary-accumulator")
    requant = wanted.requant or rule.requant
    rules = {} if given is None or wanted.requant else dict(given.rules)
    others = {row: rules[kind].requant for row, kind in ROWS.items() if kind in rules}
    try:
        return HardwareSpec(inner, outer, requant, {row: name for row, name in others.items() if name != requant})
    except ValueError as error:
        raise EvalError(str(error)) from None


def _given(wanted: Arithmetic) -> Profile | None:
    try:
        return None if wanted.hardware is None else profile(wanted.hardware)
    except ProfileError as error:
        raise EvalError(f"hardware: {error}") from None


def _conv(given: Profile) -> Rule:
    """What our own networks are lowered for; a profile need not have it."""
    try:
        return given.rule("conv")
    except ProfileError as error:
        raise EvalError(f"hardware: {error}") from None


def _register(wanted: Arithmetic, width: Any, base: Accumulator, option: str) -> Accumulator:
    """The register of an option's width, or the one that there would be without it, with what the others say."""
    tile = base.tile if wanted.tile is None else _tile(wanted.tile)
    if width is not None and not is_whole(width):
        raise EvalError(f"{option}: {width!r} is not allowed, choose a whole number of bits")
    try:
        return Accumulator(base.bits if width is None else width, wanted.overflow or base.overflow,  # type: ignore[arg-type]
                           tile)
    except ValueError as error:
        raise EvalError(str(error)) from None


def _tile(tile: int | str) -> int:
    is_number = is_whole(tile) or (isinstance(tile, str) and tile.isdecimal())
    if tile != "end" and not (is_number and int(tile) >= 1):
        raise EvalError(f"tile: {tile!r} is not allowed, choose 1 or more products, or end")
    return END if tile == "end" else int(tile)
