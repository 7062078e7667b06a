"""Registers one after another in plain Python integers: what kernels are checked against; it imports nothing.

Contract C6, equations A1 to A6 of ARITHMETIC.md.  A stage is (products, bits, overflow, tile), 0 for all, bits None for
unlimited; `sides` are the rows, columns and channels of a kernel.
"""

Stage = tuple[int, int | None, str, int]
NESTS = {"rows": "rows columns channels", "channels": "channels rows columns"}


def in_order(products: list[int], order: str, sides: tuple[int, int, int]) -> list[int]:
    """Products in the order kernel row, column, channel -> in that of an accumulator."""
    if order == "sorted":
        return _paired(products)
    ranges = {"rows": (0, sides[0]), "columns": (0, sides[1]), "channels": (0, sides[2])}
    places: list[int] = []
    _walk(NESTS.get(order, order).split(), ranges, sides, places)
    return [products[place] for place in places]


def _walk(loops: list[str], ranges: dict[str, tuple[int, int]], sides: tuple[int, int, int], places: list[int]) -> None:
    """Nested loops, the outermost first: single steps of an axis, or blocks of it."""
    if not loops:
        row, column, channel = (ranges[axis][0] for axis in ("rows", "columns", "channels"))
        places.append((row * sides[1] + column) * sides[2] + channel)
        return
    axis, _, size = loops[0].partition("/")
    low, high = ranges[axis]
    step = int(size or 1)
    for begin in range(low // step * step, high, step):
        _walk(loops[1:], {**ranges, axis: (max(low, begin), min(high, begin + step))}, sides, places)


def _paired(products: list[int]) -> list[int]:
    """The largest, the most negative, the next largest, and so on; then the rest of one sign; then zeros."""
    above = sorted((product for product in products if product > 0), reverse=True)
    below = sorted(product for product in products if product < 0)
    found: list[int] = []
    for pair in range(max(len(above), len(below))):
        found += above[pair : pair + 1] + below[pair : pair + 1]
    return found + [0] * (len(products) - len(found))


def fitted(value: int, bits: int | None, overflow: str) -> int:
    """What a register makes of a sum."""
    if bits is None:
        return value
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    return (value - low) % 2**bits + low if overflow == "wrap" else max(low, min(high, value))


def accumulate(products: list[int], stages: list[Stage], start: int = 0) -> tuple[int, bool, list[tuple[bool, bool, int]]]:
    """(what the last register holds, whether the output counts as overflowed, of each stage what its registers did).

    That is: whether one is persistent, whether one is transient and none persistent, and the first product with which one
    left its range, -1 if none did.  `start` is loaded into the last register, as an addition to 0 would be.
    """
    received = [(product, number) for number, product in enumerate(products)]  # a value, and the product that came last
    held, clipped, told = 0, False, []
    for place, (size, bits, overflow, tile) in enumerate(stages):
        is_last = place == len(stages) - 1
        handed: list[tuple[int, int]] = []
        persistent, transient, first = False, False, -1
        for group in _groups(received, size):
            held, exact, has_left = 0, 0, False
            tiles = [[(start, 0)]] if is_last and start else []
            tiles += [group[begin : begin + (tile or len(group))] for begin in range(0, len(group), tile or len(group))]
            for values in tiles:
                more = sum(value for value, _ in values)
                total, exact = held + more, exact + more
                held = fitted(total, bits, overflow)
                clipped = clipped or (overflow != "wrap" and held != total)
                if fitted(exact, bits, overflow) != exact:
                    has_left = True
                    first = values[-1][1] if first < 0 else min(first, values[-1][1])
            persists = fitted(exact, bits, overflow) != exact
            persistent, transient = persistent or persists, transient or (has_left and not persists)
            handed.append((held, group[-1][1]))
        told.append((persistent, transient and not persistent, first))
        received = handed
    return held, clipped or held != start + sum(products), told


def _groups(received: list[tuple[int, int]], size: int) -> list[list[tuple[int, int]]]:
    """What each register of a stage receives: whatever came of the next so many products."""
    groups: dict[int, list[tuple[int, int]]] = {}
    for value, product in received:
        groups.setdefault(product // size if size else 0, []).append((value, product))
    return list(groups.values())
