"""Integer formats: what a code may be and where it is stored."""

from dataclasses import dataclass

import numpy as np

Shape = tuple[int, int, int]
"""(height, width, channels) of one tensor of a batch; tokens are (tokens, 1, features), heads (heads, tokens, depth)."""
EXACT_FLOAT32 = 2**24
"""Up to it every integer is a float32, so that sums of integers are exact in any order (contract C2)."""
STORAGE_DTYPES = tuple(np.dtype(name) for name in ("uint8", "int8", "uint16", "int16", "int32", "uint32"))


def is_whole(value: object) -> bool:
    """Whether it is an int and no bool."""
    return isinstance(value, int) and not isinstance(value, bool)


class FormatError(ValueError):
    """An integer format that there is not, or that no storage type holds."""


@dataclass(frozen=True)
class IntFormat:
    """The integers of `bits` bits: two's complement if `signed`, else from 0; `narrow` is without the most negative.

    >>> IntFormat(3, signed=True).min, IntFormat(3, signed=True).max
    (-4, 3)
    >>> IntFormat(8, signed=False), IntFormat(8, signed=False).dtype
    (IntFormat(u8), dtype('uint8'))
    >>> IntFormat(4, signed=True, narrow=True), IntFormat(4, signed=True, narrow=True).min
    (IntFormat(s4 narrow), -7)

    Raises FormatError unless it has 1 to 63 bits, and if it is narrow more than the code 0.
    """

    bits: int
    signed: bool
    narrow: bool = False

    def __post_init__(self) -> None:
        if not is_whole(self.bits) or not 1 <= self.bits <= 63:
            raise FormatError(f"an integer format has 1 to 63 bits, not {self.bits!r}")
        if self.narrow and (not self.signed or self.bits < 2):
            raise FormatError("a narrow format is signed and has 2 bits or more, else it has no code but 0")

    @classmethod
    def holding(cls, low: int, high: int) -> "IntFormat":
        """The one of fewest bits that has `low` and `high`; signed if one of them is negative.

        >>> IntFormat.holding(-5, 9), IntFormat.holding(0, 9), IntFormat.holding(0, 0)
        (IntFormat(s5), IntFormat(u4), IntFormat(u1))
        """
        bits = max(high.bit_length(), (-low - 1).bit_length() if low < 0 else 0, 1)
        return cls(bits + (low < 0), low < 0)

    @property
    def min(self) -> int:
        """Smallest code."""
        return int(self.narrow) - (1 << (self.bits - 1)) if self.signed else 0

    @property
    def max(self) -> int:
        """Largest code."""
        return (1 << (self.bits - 1)) - 1 if self.signed else (1 << self.bits) - 1

    @property
    def reach(self) -> int:
        """Magnitude that no code passes."""
        return max(-self.min, self.max)

    @property
    def dtype(self) -> np.dtype:
        """The narrowest numpy type that holds every code."""
        for dtype in STORAGE_DTYPES:
            info = np.iinfo(dtype)
            if info.min <= self.min and self.max <= info.max:
                return dtype
        raise FormatError(f"no storage type for {self}")

    def contains(self, codes: np.ndarray) -> bool:
        """Whether every element is a code of this format."""
        return codes.size == 0 or (self.min <= int(codes.min()) and int(codes.max()) <= self.max)

    def __repr__(self) -> str:
        return f"IntFormat({self})"

    def __str__(self) -> str:
        return f"{'s' if self.signed else 'u'}{self.bits}{' narrow' if self.narrow else ''}"

    def to_json(self) -> dict[str, int | bool]:
        """As files hold it; `narrow` only where it is."""
        return {"bits": self.bits, "signed": self.signed} | ({"narrow": True} if self.narrow else {})


def unpacked(packed: np.ndarray, count: int) -> np.ndarray:
    """Bytes with two signed codes of 4 bits each, the low half first -> `count` int8 of -8 .. 7.

    >>> unpacked(np.array([0x21, -0x80], np.int8), 4).tolist()
    [1, 2, 0, -8]
    """
    both = packed.view(np.int8)
    return np.stack([((both & 15) ^ 8) - 8, both >> 4], axis=-1).ravel()[:count]
