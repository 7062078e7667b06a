"""What a profile says, and how its file is read: every key is known, and what cannot be is an error that names the key."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sim.accumulator import Accumulator

KINDS = ("conv", "depthwise", "fully_connected", "matmul", "add", "multiply", "average", "mean", "softmax", "table",
         "requantize", "concat")
"""Kinds of operations, each a table of a profile's file."""


class ProfileError(ValueError):
    """A profile that there is not, or whose file is wrong: which key, and what is allowed."""


@dataclass(frozen=True)
class Rule:
    """How one kind of operation is computed; what a kind does not have keeps its default."""

    requant: str = ""
    bias: str = "first"
    zero_point: str = "products"
    accumulator: Accumulator = field(default_factory=lambda: Accumulator(32))
    divisor: str = "valid"
    rounding: str = "half_away"
    softmax: str = ""


@dataclass(frozen=True)
class Profile:
    """`source` says what was read or measured, `version` of which release."""

    name: str
    source: str
    version: str
    rules: tuple[tuple[str, Rule], ...]

    def rule(self, kind: str) -> Rule:
        """The rule of a kind of operation.  Raises ProfileError if there is none."""
        raise NotImplementedError

    def with_(self, accumulator: Accumulator | None = None, requant: str | None = None) -> "Profile":
        """The same with another register, or another requantizer, for all that accumulates."""
        raise NotImplementedError


def profile(name: str | Path) -> Profile:
    """The profile of that name, or of the file of that path."""
    raise NotImplementedError


def profiles() -> tuple[str, ...]:
    """Names of those that come with the package."""
    raise NotImplementedError
