"""The order in which the products of one output reach its registers (contract C6): by name, or as a nest of loops."""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from sim.text import printable

DEFAULT, SORTED = "rows", "sorted"
AXES = ("rows", "columns", "channels")
"""Of a kernel: what a tile map loops over."""
NESTS: Mapping[str, str] = MappingProxyType({DEFAULT: "rows columns channels", "channels": "channels rows columns"})
"""The named orders that are loops, outermost first."""
ORDERS = (*NESTS, SORTED)
_ALLOWED = (f"choose {', '.join(ORDERS)}, or a tile map: loops over {', '.join(AXES)}, each once, outermost first, and "
            'before them loops over blocks, such as "channels/16 rows columns channels"')


def canonical(order: object) -> str:
    """The name of an order, or its loops with one space between them; one way to say the same, one digest.

    >>> canonical(" channels/16  rows columns channels "), canonical("channels rows columns")
    ('channels/16 rows columns channels', 'channels')

    Raises ValueError with what is allowed.
    """
    if not isinstance(order, str):
        raise ValueError(f"order: {order!r} is not allowed, {_ALLOWED}")
    text = " ".join(order.split())
    if text in ORDERS:
        return text
    whole = [loop for loop in text.split() if "/" not in loop]
    if sorted(whole) != sorted(AXES) or not all(_is_loop(loop, text) for loop in text.split()):
        raise ValueError(f"order: {printable(order)!r} is not allowed, {_ALLOWED}")
    return next((name for name, loops in NESTS.items() if loops == text), text)


def _is_loop(loop: str, text: str) -> bool:
    """Whether it is an axis, or blocks of one before its own loop."""
    axis, slash, size = loop.partition("/")
    loops = text.split()
    is_before = axis in loops and loops.index(loop) < loops.index(axis)
    return axis in AXES and (not slash or (size.isascii() and size.isdecimal() and 0 < int(size) < 2**31 and is_before))


def permutation(order: str, rows: int, columns: int, channels: int) -> np.ndarray:
    """Which product comes when, int64 [rows * columns * channels]: places in the order `rows`.

    That of `sorted` depends on the products: here it is that of `rows`, in which ties, and zeros, stay.

    >>> permutation("channels", 1, 2, 3).tolist()
    [0, 3, 1, 4, 2, 5]
    >>> permutation("channels/2 rows columns channels", 1, 2, 3).tolist()
    [0, 1, 3, 4, 2, 5]
    """
    places = np.arange(rows * columns * channels)
    if order in (DEFAULT, SORTED):
        return places
    index = dict(zip(AXES, np.unravel_index(places, (rows, columns, channels)), strict=True))
    loops = [loop.partition("/") for loop in NESTS.get(order, order).split()]
    keys = [index[axis] // int(size or 1) for axis, _, size in loops]
    found: np.ndarray = np.lexsort(keys[::-1])
    return found
