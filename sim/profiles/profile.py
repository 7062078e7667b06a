"""What a profile says, and how its file is read: every key is known, and what cannot be is an error that names the key."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from sim.accumulator import Accumulator
from sim.definitions import SOFTMAXES
from sim.ops.average import DIVISORS
from sim.ops.op import ROUNDINGS
from sim.registers import LAYERS, RegistersError, layers_of, register_of
from sim.registry import RegistryError
from sim.requantizers import ADDITIONS, REQUANTIZERS
from sim.text import printable
from sim.toml import TomlError, read_toml

FOLDER = Path(__file__).parent
_CHOICES: Mapping[str, tuple[str, ...]] = {
    "bias": ("first", "last"),
    "zero_point": ("products", "behind"),
    "divisor": DIVISORS,
    "rounding": ROUNDINGS,
    "product": ("float64", "float32"),
}
_PRODUCTS = ("requant", "requant_4", "requant_64", "zero_point", "accumulator", "accumulator_64")
KEYS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("conv", "depthwise", "fully_connected", "grouped"), (*_PRODUCTS, "bias")),
    "matmul": _PRODUCTS,
    **dict.fromkeys(("add", "requantize", "concat"), ("requant",)),
    "multiply": ("requant", "product"),
    "average": ("requant", "divisor", "rounding", "zero_point"),
    "mean": ("requant", "rounding"),
    "softmax": ("softmax",),
    "table": ("rounding",),
}
"""The kinds of operations, each a table of a profile's file, and what can be said of each.

`grouped` is for convolutions of several groups that have a rule of their own; without it they have that of `conv`.
"""
KINDS = tuple(KEYS)
ACCUMULATING = ("conv", "depthwise", "fully_connected", "grouped", "matmul")
_ABOUT = ("source", "version")


class ProfileError(ValueError):
    """A profile that there is not, or whose file is wrong: which key, and what is allowed."""


@dataclass(frozen=True)
class Rule:
    """How one kind of operation is computed; what a kind does not have keeps its default.

    `requant`: a requantizer's name, `requant_4` the one of weights of 4 bits, `requant_64` the one behind sums with a bias
    of 64 bits ("": the same), `accumulator_64` the register of those.  `bias` "first" is in the register before the
    products, "last" joins behind them.  `zero_point` "products": products are of codes less
    their zero points, "behind": of codes as they are, what zero points are worth is added behind them.  `divisor`: averages
    are over the "valid" positions, or the whole "window", `rounding` how, where no requantizer does it.  `softmax`: a name
    of sim.definitions.  `product`: where the scales of two factors are multiplied, before the rule takes
    their product.
    """

    requant: str = ""
    requant_4: str = ""
    requant_64: str = ""
    bias: str = "first"
    zero_point: str = "products"
    accumulator: Accumulator = field(default_factory=Accumulator)
    accumulator_64: Accumulator = field(default_factory=Accumulator)
    divisor: str = "valid"
    rounding: str = "half_away"
    softmax: str = ""
    product: str = "float64"


@dataclass(frozen=True)
class Profile:
    """A runtime or an accelerator: `source` says what was read or measured, `version` of which release.

    >>> profile("litert_xnnpack").rule("conv").requant
    'xnnpack'
    >>> profile("litert_xnnpack").with_(Accumulator(16, "saturate")).rule("conv").accumulator
    Accumulator(bits=16, overflow='saturate', tile=1)
    """

    name: str
    source: str
    version: str
    rules: tuple[tuple[str, Rule], ...]
    layers: tuple[tuple[str, Accumulator], ...] = ()
    """Accumulators of layers that have one of their own, by name."""

    def rule(self, kind: str) -> Rule:
        """The rule of a kind of operation.  Raises ProfileError if there is none."""
        found = dict(self.rules).get(kind)
        if found is None:
            raise ProfileError(f"profile {printable(self.name)} says nothing of {kind}" + (
                "" if kind in KINDS else f", which is none of {', '.join(KINDS)}"))
        return found

    def with_(self, accumulator: Accumulator | None = None, requant: str | None = None) -> "Profile":
        """The same with another register, another requantizer, or both, for all that accumulates, in every layer."""
        told: dict[str, Any] = {} if accumulator is None else {"accumulator": accumulator, "accumulator_64": accumulator}
        if requant is not None:
            told |= {"requant": _requantizer(requant, "requant", "conv"), "requant_4": "", "requant_64": ""}
        return replace(self, layers=() if accumulator is not None else self.layers, rules=tuple(
            (kind, replace(rule, **told) if kind in ACCUMULATING else rule) for kind, rule in self.rules))


def profiles() -> tuple[str, ...]:
    """Names of those that come with the package."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


def profile(name: str | Path) -> Profile:
    """The profile of that name, or in the file of that path.  Raises ProfileError, OSError."""
    if str(name) in profiles():
        return _own(str(name))
    path = Path(name)
    if path.suffix != ".toml":
        raise ProfileError(f"profile {printable(name)} is unknown, choose one of {', '.join(profiles())}, or give the "
                           "path of a .toml file")
    return read_profile(path)


@cache
def _own(name: str) -> Profile:
    return read_profile(FOLDER / f"{name}.toml")


def read_profile(path: Path) -> Profile:
    """The profile in a file.  Raises ProfileError, which names file, key and what is allowed, and OSError."""
    try:
        return profile_of(path.stem, read_toml(path, "profile"))
    except (ProfileError, TomlError) as error:
        raise ProfileError(f"{printable(path)}: {error}") from None


def profile_of(name: str, content: Mapping[str, Any]) -> Profile:
    """The profile that a file's keys are.  Raises ProfileError."""
    for key in content:
        if key not in (*_ABOUT, *KINDS, LAYERS):
            raise ProfileError(f"{printable(key)} is no key of a profile, which has {', '.join((*_ABOUT, *KINDS, LAYERS))}")
    for key in _ABOUT:
        if not isinstance(content.get(key), str) or not content[key].strip():
            raise ProfileError(f"{key} is missing: a text is wanted that says " + (
                "what was read or measured" if key == "source" else "of which release"))
    rules = tuple((kind, _rule(kind, content[kind])) for kind in KINDS if kind in content)
    return Profile(name, content["source"], content["version"], rules, tuple(_layers(content.get(LAYERS, {})).items()))


def _rule(kind: str, table: Any) -> Rule:
    if not isinstance(table, dict):
        raise ProfileError(f"{kind} is a table of {', '.join(KEYS[kind])}, not {printable(repr(table))}")
    values: dict[str, Any] = {}
    for key, value in table.items():
        where = f"{kind}.{printable(key)}"
        if key not in KEYS[kind]:
            raise ProfileError(f"{where} is no key, {kind} has {', '.join(KEYS[kind])}")
        if key in ("accumulator", "accumulator_64"):
            values[key] = _accumulator(where, value)
        elif not isinstance(value, str):
            raise ProfileError(f"{where} is a text, not {printable(repr(value))}")
        elif key == "softmax":
            values[key] = _softmax(value, where)
        elif key in _CHOICES:
            if value not in _CHOICES[key]:
                raise ProfileError(f"{where} {printable(repr(value))} is unknown, choose one of {', '.join(_CHOICES[key])}")
            values[key] = value
        else:
            values[key] = _requantizer(value, where, kind)
    _check_together(kind, table)
    return Rule(**values)


def _check_together(kind: str, table: Mapping[str, Any]) -> None:
    """What goes with what."""
    wanted = {"softmax": ("softmax",), "average": ("requant", "rounding"), "mean": ("requant", "rounding"),
              "table": ("rounding",)}.get(kind, ("requant",))
    given = [key for key in wanted if key in table]
    if not given:
        raise ProfileError(f"{kind}.{wanted[0]} is missing" + (f", or {kind}.{wanted[1]}" if wanted[1:] else ""))
    if len(given) > 1:
        raise ProfileError(f"{kind}.requant and {kind}.rounding cannot both be: a requantizer rounds by its own rule")


def _requantizer(value: str, where: str, kind: str) -> str:
    try:
        found = REQUANTIZERS.known(value, where)
    except RegistryError as error:
        raise ProfileError(str(error)) from None
    if found in ADDITIONS and kind != "add":
        raise ProfileError(f"{where} {value} adds two tensors, only add.requant may be one of "
                           f"{', '.join(kind.name for kind in ADDITIONS)}")
    return value


def _softmax(value: str, where: str) -> str:
    try:
        SOFTMAXES.known(value, where)
    except RegistryError as error:
        raise ProfileError(str(error)) from None
    return value


def _accumulator(where: str, value: Any) -> Accumulator:
    try:
        return register_of(value, where)
    except RegistersError as error:
        raise ProfileError(str(error)) from None


def _layers(table: Any) -> dict[str, Accumulator]:
    try:
        return layers_of(table)
    except RegistersError as error:
        raise ProfileError(str(error)) from None
