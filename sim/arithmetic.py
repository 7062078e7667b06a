"""The arithmetic that an evaluation asks for, option by option, and the hardware that it makes, of a profile or not."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sim.accumulator import END, UNLIMITED, Accumulator, parse_accumulator
from sim.formats import is_whole
from sim.hardware import HardwareSpec
from sim.orders import DEFAULT
from sim.outputs import EvalError
from sim.profiles import Profile, ProfileError, Rule, profile
from sim.registers import RegistersError, read_registers
from sim.text import printable

ROWS = {"add": "add", "multiply": "multiply", "matmul": "matmul", "linear": "fully_connected", "requantize": "requantize",
        "concat": "concat"}
"""Rows of our networks, by the kind of operation whose rule a profile has; all others are computed as convolutions are."""


@dataclass(frozen=True)
class Arithmetic:
    """Widths and hardware as asked for; None where nothing was said, which means as trained, unlimited, or the default.

    `bits`, `boundary_bits`: of weights and activations of the inner layers, and of the first and last; `activation_bits`:
    of the inner activations alone, where they differ from the weights.  `accumulator`,
    `boundary_accumulator`: bits of their registers, which `overflow` ("wrap", "saturate" or "error"; default wrap) and take
    sums of `tile` products (a number, or "end"; default 1); or stages as a text, "2:16:saturate,end:32:wrap".  `order`: of
    products, by name or as a tile map (sim/orders.py; default rows).  `registers`: a file of layers that have accumulators
    of their own (sim/registers.py).  `requant`: a name of sim.requantizers, default fp32, or code of
    one's own ("file.py:CLASS"), `quantizer`: where that of the checkpoint is, if it is such code.  `hardware`: a profile's
    name, or its file, from which the other options take their defaults.  `pixels_as`: what a pixel stands for in a model of
    another's (sim/importers/pixels.py).  `softmax`, `gelu`, `norm`: definitions in the place of the network's own
    (sim/redefined.py).
    """

    bits: int | None = None
    boundary_bits: int | None = None
    accumulator: int | str | None = None
    boundary_accumulator: int | str | None = None
    overflow: str | None = None
    tile: int | str | None = None
    requant: str | None = None
    quantizer: str | None = None
    activation_bits: int | None = None
    hardware: str | None = None
    pixels_as: str | None = None
    order: str | None = None
    registers: str | None = None
    softmax: str | None = None
    gelu: str | None = None
    norm: str | None = None


def profile_of(wanted: Arithmetic) -> Profile | None:
    """The profile that is asked for, with what single options say instead; None if none is.  Raises EvalError, OSError."""
    given = _given(wanted)
    if given is None:
        return None
    told = (wanted.accumulator, wanted.overflow, wanted.tile, wanted.order)
    register = None
    if told != (None,) * len(told):
        register = _register(wanted, wanted.accumulator, _conv(given).accumulator, "accumulator")
    return given.with_(register, wanted.requant)


def hardware_of(wanted: Arithmetic) -> HardwareSpec:
    """Registers and requantizer; raises EvalError for what is not allowed, or has no effect without a limited register."""
    given = _given(wanted)
    rule = Rule(requant="fp32") if given is None else _conv(given)
    inner = _register(wanted, wanted.accumulator, rule.accumulator, "accumulator")
    outer = _register(wanted, wanted.boundary_accumulator, rule.accumulator, "boundary-accumulator")
    if not (inner.is_limited or outer.is_limited):
        if (wanted.overflow, wanted.tile) != (None, None):
            raise EvalError("overflow, tile: only a limited register has them, add --accumulator or --boundary-accumulator")
        if wanted.order is not None:
            raise EvalError("order: only a limited register can tell, add --accumulator or --boundary-accumulator")
    requant = wanted.requant or rule.requant
    rules = {} if given is None or wanted.requant else dict(given.rules)
    others = {row: rules[kind].requant for row, kind in ROWS.items() if kind in rules}
    try:
        return HardwareSpec(inner, outer, requant, {row: name for row, name in others.items() if name != requant},
                            layers_of(wanted, given))
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


def layers_of(wanted: Arithmetic, given: Profile | None) -> Mapping[str, Accumulator]:
    """Accumulators of single layers: the profile's unless another is asked for, and those of a file.  Raises EvalError,
    OSError.
    """
    is_told = (wanted.accumulator, wanted.boundary_accumulator) != (None, None)
    layers = {} if given is None or is_told else dict(given.layers)
    if wanted.registers is None:
        return layers
    if not isinstance(wanted.registers, str):
        raise EvalError(f"registers: {wanted.registers!r} is not allowed, give the path of a file")
    try:
        return layers | read_registers(wanted.registers)
    except RegistersError as error:
        raise EvalError(f"registers: {error}") from None


def _register(wanted: Arithmetic, width: Any, base: Accumulator, option: str) -> Accumulator:
    """The register of an option's width, or the one that there would be without it, with what the others say."""
    if isinstance(width, str):
        return _stages(wanted, width, option)
    if width is not None and not is_whole(width):
        raise EvalError(f"{option}: {width!r} is not allowed, choose a whole number of bits")
    if width is None and base.before and (wanted.overflow, wanted.tile) != (None, None):
        raise EvalError(f"overflow, tile: the stages {base.text} have their own, add --{option}")
    tile = base.tile if wanted.tile is None else _tile(wanted.tile)
    before = base.before if width is None else ()
    order = (base.order if width is None else DEFAULT) if wanted.order is None else wanted.order
    try:
        return Accumulator(base.bits if width is None else width, wanted.overflow or base.overflow,  # type: ignore[arg-type]
                           tile, before, order)
    except ValueError as error:
        raise EvalError(str(error)) from None


def _stages(wanted: Arithmetic, text: str, option: str) -> Accumulator:
    """Registers that a text names, each with a rule and a tile of its own."""
    if ":" not in text and text != UNLIMITED:
        raise EvalError(f"{option}: {printable(repr(text))} is not allowed, choose a whole number of bits, or stages "
                        f"PRODUCTS:BITS:RULE with commas, such as 2:16:saturate,end:32:wrap, or {UNLIMITED}")
    if (wanted.overflow, wanted.tile) != (None, None):
        raise EvalError(f"overflow, tile: stages have their own, write PRODUCTS:BITS:RULE:TILE in --{option}")
    try:
        return parse_accumulator(text, DEFAULT if wanted.order is None else wanted.order)
    except ValueError as error:
        raise EvalError(f"{option}: {str(error).removeprefix('accumulator: ')}") from None


def _tile(tile: int | str) -> int:
    is_number = is_whole(tile) or (isinstance(tile, str) and tile.isdecimal())
    if tile != "end" and not (is_number and int(tile) >= 1):
        raise EvalError(f"tile: {tile!r} is not allowed, choose 1 or more products, or end")
    return END if tile == "end" else int(tile)
