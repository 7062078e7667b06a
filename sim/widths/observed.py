"""The range of sums that images give, and how many bits hold it."""

from collections.abc import Callable, Mapping

import numpy as np

from sim.machine import MOST_IMAGES
from sim.program import Program
from sim.sweep.track import Track, bytes_of

Ranges = Mapping[str, tuple[np.ndarray, np.ndarray]]
"""The least and the largest sum of every channel, int64 [channels] each, by layer."""


def observe(base: Program, pixels: np.ndarray, isa: str, memory: int,
            progress: Callable[[int], None] | None = None) -> Ranges:
    """Of whole sums, as registers without limits hold them in the end: what is met on the way may be beyond."""
    images = max(1, min(MOST_IMAGES, len(pixels), (memory << 20) // bytes_of(base)))
    track = Track(base, (), images, isa)
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for first in range(0, len(pixels), images):
        track.begin(pixels[first : first + images])
        for op in base.accumulating:
            sums = track.sums(op)
            least, most = (extreme.astype(np.int64) for extreme in (sums.min((0, 1, 2)), sums.max((0, 1, 2))))
            if op.name in found:
                least, most = np.minimum(least, found[op.name][0]), np.maximum(most, found[op.name][1])
            found[op.name] = least, most
        if progress is not None:
            progress(min(first + images, len(pixels)))
    return found
