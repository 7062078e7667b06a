"""The accumulator: registers one after another, their widths, what happens when a sum does not fit, when they are consulted.

Contract C6, equations A1 to A6 of ARITHMETIC.md.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from sim.formats import IntFormat, is_whole
from sim.orders import DEFAULT, canonical

Overflow = Literal["wrap", "saturate", "error"]
RULES: tuple[str, ...] = get_args(Overflow)
MIN_BITS, MAX_BITS = 2, 63
MOST_STAGES = 8
END = 0
"""The products of a register that receives all, and the tile of one that receives all it gets at once."""
UNLIMITED = "unlimited"


class AccumulatorError(ValueError):
    """An accumulator that there is not: which part, what was given, what is allowed."""


class AccumulatorOverflowError(ArithmeticError):
    """A sum did not fit a register that must not overflow: which layer and channel."""


@dataclass(frozen=True)
class Stage:
    """A register of `bits` bits (None: wide enough) that hands its value on after so many `products` (END: all), and begins
    anew.

    It receives what the stage before hands on, the first one products.  `tile` of these are summed exactly, then added to
    it (END: all that it ever receives); it wraps, saturates or makes the run fail after each such addition.

    >>> str(Stage(2, 16, "saturate"))
    '2:16:saturate'

    Raises AccumulatorError.
    """

    products: int
    bits: int | None = None
    overflow: Overflow = "wrap"
    tile: int = 1

    def __post_init__(self) -> None:
        if not (is_whole(self.products) and END <= self.products <= 2**31 - 1):
            raise AccumulatorError(f"products: {self.products!r} is not allowed, choose 1 or more products, or 0 for all of "
                                   "them (on the command line: end)")
        _check_register(self.bits, self.overflow, self.tile)

    def __str__(self) -> str:
        products = "end" if self.products == END else str(self.products)
        tile = {1: "", END: ":end"}.get(self.tile, f":{self.tile}")
        return f"{products}:{UNLIMITED}" if self.bits is None else f"{products}:{self.bits}:{self.overflow}{tile}"

    @property
    def range(self) -> IntFormat | None:
        """The values of the register; None if unlimited."""
        return None if self.bits is None else IntFormat(self.bits, signed=True)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"products": self.products, "bits": self.bits, "overflow": self.overflow, "tile": self.tile}


@dataclass(frozen=True, repr=False)
class Accumulator:
    """A register of `bits` bits (None: wide enough for everything) fed with sums of `tile` consecutive products.

    Products come in the order (kernel row, kernel column, input channel), padding included.  Each tile is summed
    exactly, then added to the register, which wraps, saturates or makes the run fail; `tile` 0 is the whole sum.

    `before` are the stages that products go through first: then the register receives what the last of these hands on, and
    `tile` counts that.  `order` is another order of products, by name or as a tile map (sim/orders.py).

    >>> Accumulator(10, "saturate", 4).range
    IntFormat(s10)
    >>> Accumulator(32, before=(Stage(2, 16, "saturate"),)).text  # vpmaddubsw
    '2:16:saturate,end:32:wrap'
    >>> Accumulator(1)
    Traceback (most recent call last):
    sim.accumulator.AccumulatorError: accumulator: 1 bits are not allowed, choose 2 to 63

    Raises AccumulatorError.
    """

    bits: int | None = None
    overflow: Overflow = "wrap"
    tile: int = 1
    before: tuple[Stage, ...] = ()
    order: str = DEFAULT

    def __post_init__(self) -> None:
        _check_register(self.bits, self.overflow, self.tile)
        try:
            object.__setattr__(self, "order", canonical(self.order))
        except ValueError as error:
            raise AccumulatorError(str(error)) from None
        if not isinstance(self.before, tuple) or not all(isinstance(stage, Stage) for stage in self.before):
            raise AccumulatorError(f"before: a tuple of Stage is wanted, not {self.before!r}")
        if self.before:
            _check_stages(self.stages)

    def __repr__(self) -> str:
        more = f", before={self.before!r}" if self.before else ""
        order = f", order={self.order!r}" if self.order != DEFAULT else ""
        return f"Accumulator(bits={self.bits!r}, overflow={self.overflow!r}, tile={self.tile!r}{more}{order})"

    def __str__(self) -> str:
        order = f", products in the order {self.order}" if self.order != DEFAULT else ""
        if self.before:
            return f"registers {self.text}{order}"
        tile = {END: "at the end", 1: "each product"}.get(self.tile, f"every {self.tile} products")
        return "unlimited" if self.bits is None else f"{self.bits}-bit register, {self.overflow}, {tile}{order}"

    @classmethod
    def of(cls, stages: Sequence[Stage], order: str = DEFAULT) -> "Accumulator":
        """That of a list of stages, of which the last receives all products (END)."""
        _check_stages(stages)
        *before, last = stages
        return cls(last.bits, last.overflow, last.tile, tuple(before), order)

    @property
    def stages(self) -> tuple[Stage, ...]:
        """All registers, in the order of what goes through them."""
        return (*self.before, Stage(END, self.bits, self.overflow, self.tile))

    @property
    def text(self) -> str:
        """The stages as the command line takes them."""
        return ",".join(map(str, self.stages)) if self.is_limited else UNLIMITED

    @property
    def range(self) -> IntFormat | None:
        """The values of the last register; None if unlimited."""
        return None if self.bits is None else IntFormat(self.bits, signed=True)

    @property
    def narrowest(self) -> int | None:
        """Bits of the narrowest register; None if all are unlimited."""
        return min((stage.bits for stage in self.stages if stage.bits is not None), default=None)

    @property
    def is_limited(self) -> bool:
        """Whether any register is."""
        return self.narrowest is not None

    @property
    def must_fit(self) -> bool:
        """Whether a sum that does not fit makes the run fail."""
        return any(stage.overflow == "error" for stage in self.stages if stage.bits is not None)

    @property
    def plain(self) -> tuple[list[tuple[int, int | None, str, int]], str]:
        """Stages and order as sim/plain_registers.py takes them."""
        return [(stage.products, stage.bits, stage.overflow, stage.tile) for stage in self.stages], self.order

    def is_whole(self, products: int) -> bool:
        """Whether the last of so many products tells all: no order of additions, and no sum on the way, matters."""
        if self.before:
            return not self.is_limited
        return self.bits is None or self.overflow == "wrap" or self.tile == END or self.tile >= products

    def to_json(self) -> dict[str, Any]:
        """Plain values; stages before the last, and an order, only where there are any."""
        plain: dict[str, Any] = {"bits": self.bits, "overflow": self.overflow, "tile": self.tile}
        if self.before:
            plain["before"] = [stage.to_json() for stage in self.before]
        return plain | ({"order": self.order} if self.order != DEFAULT else {})

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> "Accumulator":
        """The inverse.  Raises AccumulatorError, TypeError for keys that there are not."""
        return cls(**{**plain, "before": tuple(Stage(**stage) for stage in plain.get("before", ()))})


def parse_accumulator(text: str, order: str = DEFAULT) -> Accumulator:
    """The accumulator of stages as the command line takes them: PRODUCTS:BITS:RULE or PRODUCTS:BITS:RULE:TILE, with commas.

    >>> parse_accumulator("2:16:saturate,end:32:wrap")
    Accumulator(bits=32, overflow='wrap', tile=1, before=(Stage(products=2, bits=16, overflow='saturate', tile=1),))
    >>> parse_accumulator("end:10:saturate:4") == Accumulator(10, "saturate", 4)
    True

    Raises AccumulatorError, which names stage, key and what is allowed.
    """
    if text.strip() == UNLIMITED:
        return Accumulator(order=order)
    return Accumulator.of([_parse_stage(part.strip()) for part in text.split(",")], order)


def _parse_stage(text: str) -> Stage:
    products, *rest = text.split(":")
    try:
        if not 1 <= len(rest) <= 3 or (len(rest) == 1) != (rest[0] == UNLIMITED):
            raise AccumulatorError("PRODUCTS:BITS:RULE or PRODUCTS:BITS:RULE:TILE is wanted, such as 2:16:saturate, or "
                                   f"PRODUCTS:{UNLIMITED}")
        count = _number("products", products)
        if rest[0] == UNLIMITED:
            return Stage(count)
        if not (rest[0].isascii() and rest[0].isdecimal() and len(rest[0]) <= 3):
            raise AccumulatorError(f"bits: {rest[0]!r} is not allowed, choose {MIN_BITS} to {MAX_BITS}, or {UNLIMITED}")
        tile = _number("tile", rest[2]) if rest[2:] else 1
        return Stage(count, int(rest[0]), rest[1], tile)  # type: ignore[arg-type]
    except AccumulatorError as error:
        problem = str(error).removeprefix("accumulator: ")
        raise AccumulatorError(f"accumulator: stage {text!r}: {problem}") from None


def _number(key: str, text: str) -> int:
    if text == "end":
        return END
    if not (text.isascii() and text.isdecimal() and 1 <= len(text) <= 10 and int(text) >= 1):
        raise AccumulatorError(f"{key}: {text!r} is not allowed, choose 1 or more, or end")
    return int(text)


def _check_register(bits: Any, overflow: Any, tile: Any) -> None:
    if bits is not None and not (is_whole(bits) and MIN_BITS <= bits <= MAX_BITS):
        raise AccumulatorError(f"accumulator: {bits!r} bits are not allowed, choose {MIN_BITS} to {MAX_BITS}")
    if overflow not in RULES:
        raise AccumulatorError(f"overflow: {overflow!r} is unknown, choose one of {', '.join(RULES)}")
    if not (is_whole(tile) and END <= tile <= 2**31 - 1):
        raise AccumulatorError(f"tile: {tile!r} is not allowed, choose 1 or more products, or 0 for the whole sum "
                               "(on the command line: end)")


def _check_stages(stages: Sequence[Stage]) -> None:
    """What goes after what."""
    if not 1 <= len(stages) <= MOST_STAGES:
        raise AccumulatorError(f"accumulator: {len(stages)} stages, choose 1 to {MOST_STAGES}")
    if stages[-1].products != END:
        raise AccumulatorError(f"accumulator: stage {str(stages[-1])!r}: products: the last register receives all of them: "
                               f"end, or add a stage, such as end:32:wrap or end:{UNLIMITED}")
    for before, stage in itertools.pairwise(stages):
        if stage.products != END and (before.products == END or stage.products % before.products):
            raise AccumulatorError(f"accumulator: stage {str(stage)!r}: products: {stage.products} is no multiple of what "
                                   f"the stage before, {str(before)!r}, takes: choose such a multiple, or end")
    if len({stage.overflow == "error" for stage in stages if stage.bits is not None}) > 1:
        raise AccumulatorError("accumulator: rule error is for all limited stages of a layer or for none")


def prefix_bounds(weights: np.ndarray, operand: IntFormat) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest partial sum that any input, in any order of products, can reach (contract C7).

    weights int [kernel rows, kernel columns, in channels / groups, channels] -> two int64 arrays [channels].
    """
    wide = weights.astype(np.int64)
    low = np.minimum(wide * operand.min, wide * operand.max)
    high = np.maximum(wide * operand.min, wide * operand.max)
    return np.minimum(low, 0).sum((0, 1, 2)), np.maximum(high, 0).sum((0, 1, 2))


def bits_for(low: int, high: int) -> int:
    """Width of the narrowest two's complement register that holds `low` and `high`.

    >>> bits_for(-128, 127), bits_for(0, 128)
    (8, 9)
    """
    return max(int(high).bit_length(), int(-low - 1).bit_length() if low < 0 else 0) + 1
