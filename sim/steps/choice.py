"""Which of two ways a convolution takes, products of bytes or another, bit planes or tables: the faster one runs.

Both give the same codes.  Nobody can tell from the name of a processor.  So both are timed on the layer itself, for some
milliseconds, when it first runs; what won is kept beside the compiled kernels, for every layer of this shape on this
processor.  Where nothing can be kept, widths decide, so that two runs take the same way.  `BITTRUE_METHOD` forces one of
bytes, planes and tables, where it can run.
"""

import hashlib
import os
import time
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sim.buffers import Padded
from sim.files import write_text_atomically
from sim.kernels import cache as kernel_cache

if TYPE_CHECKING:
    from sim.ops.conv import ConvOp

BYTES, PLANES, TABLES = "bytes", "planes", "tables"
METHOD = "BITTRUE_METHOD"
UNMEASURED = {PLANES: 2, TABLES: 4}
"""Products of bits, of a code and a weight, up to which another way than bytes is taken where nothing is measured."""
ROUNDS, MOST_IMAGES, PRODUCTS, ROOM = 7, 64, 1e8, 4 << 20
"""Turns of each way; images of a turn: so many at most, so many products, so many codes."""


def wanted() -> str:
    """The way that the user forces, "" for the faster one.  Raises ValueError for one that there is not."""
    method = os.environ.get(METHOD, "")
    if method not in ("", BYTES, PLANES, TABLES):
        raise ValueError(f"{METHOD}: {method!r} is unknown, choose {BYTES}, {PLANES} or {TABLES}")
    return method


def faster(ways: Mapping[str, Any]) -> str:
    """The name of the faster of two ways of the same operation: steps.conv.Kernels."""
    kernels = next(iter(ways.values()))
    op = kernels.op
    folder = kernel_cache.CACHE_FOLDER
    if folder is None:
        return by_widths(op, ways)
    kept = folder / f"{_key(ways)}.method"
    found = _read(kept, ways)
    if found is None:
        seconds = measure(op, ways)
        found = min(ways, key=lambda way: seconds[way])
        try:
            write_text_atomically(kept, f"{found} {' '.join(f'{way} {spent:.3e}' for way, spent in seconds.items())}\n")
        except OSError as error:
            kernel_cache.warn_once("going on without measuring which kernels are faster", kept, error)
            return by_widths(op, ways)
    return found


def by_widths(op: "ConvOp", ways: Iterable[str]) -> str:
    """Where nothing is measured: another than bytes for few products of bits, and pixels that fill what is read at once."""
    digits = 1 if (np.abs(op.weights) == 1).all() else 2
    few = [way for way in ways if digits * op.operand.bits <= UNMEASURED.get(way, 0) and op.weights.shape[2] >= 16]
    return few[0] if few else BYTES


def measure(op: "ConvOp", ways: Mapping[str, Any]) -> dict[str, float]:
    """Seconds of each way for some images of zeros, which take as long as any others: the shortest of a few turns."""
    rows, columns, depth, _ = op.weights.shape
    top, bottom, left, right = paddings = op.window.paddings
    sides = [max(1, (length - 1) * op.stride + taps - around)
             for length, taps, around in ((op.shape[0], rows, top + bottom), (op.shape[1], columns, left + right))]
    images = int(np.clip(min(PRODUCTS / op.macs, ROOM / max(1, sides[0] * sides[1] * depth)), 1, MOST_IMAGES))
    x = Padded.zeros(images, (sides[0], sides[1], depth), op.operand.dtype, max(paddings))
    out = None if op.format is None else Padded.zeros(images, op.shape, op.format.dtype, 0)
    skip = Padded.zeros(images, op.shape, np.dtype(np.uint8), 0) if op.skip else None
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(1 + ROUNDS):
        for name, kernels in ways.items():
            started = time.perf_counter()
            if out is None:
                kernels.registers(x)
            else:
                kernels.codes_into(x, skip, out)
            seconds[name].append(time.perf_counter() - started)
    return {name: min(spent[1:]) for name, spent in seconds.items()}  # the first one compiles


def _key(ways: Mapping[str, Any]) -> str:
    """All that a layer's speed depends on, the processor included."""
    kernels = next(iter(ways.values()))
    op = kernels.op
    digits = np.unique(op.weights) if op.weights.size else op.weights
    facts = (_processor(), [(way, each.name) for way, each in ways.items()], op.shape, op.weights.shape, digits.tolist(),
             op.stride, op.window.paddings, repr(op.operand), repr(op.format), bool(op.skip), op.requant.name,
             op.accumulator.overflow, op.accumulator.bits, bool(op.zero_point or op.limits), kernels.correction is not None)
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:24]


@cache
def _processor() -> tuple[str, ...]:
    """Family and model as Linux tells them; the folder of kernels goes by instruction sets."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return ()
    wanted = ("vendor_id", "cpu family", "model", "model name")
    fields = (line.partition(":") for line in lines)
    return tuple(sorted({f"{name.strip()} {value.strip()}" for name, _, value in fields if name.strip() in wanted}))


def _read(kept: Path, ways: Collection[str]) -> str | None:
    """Which of the ways was kept; None if that is nothing, or nothing whole."""
    try:
        found = kept.read_text(errors="replace")
    except OSError:
        return None
    return found.split()[0] if found.endswith("\n") and found.partition(" ")[0] in ways else None
