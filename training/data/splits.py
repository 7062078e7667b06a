"""Which images are held out, once and for all: the seed of a run has no say in it.

The test set is split off first and touched once, at the end; a validation set, for every choice made on the way, is
held out of what remains.
"""

from collections.abc import Sequence

import numpy as np

VALIDATION_FRACTION = 0.1
TEST_FRACTION = 0.2
SPLIT_SEED = 20260101  # one fixed split, so that runs with different seeds see the same data


def held_out(count: int) -> np.ndarray:
    """bool [count]: a random tenth, at least one, whatever the labels."""
    chosen = np.zeros(count, bool)
    order = np.random.default_rng(SPLIT_SEED).permutation(count)
    chosen[order[: max(1, int(count * VALIDATION_FRACTION))]] = True
    return chosen


def stratified(labels: np.ndarray, names: Sequence[str], fractions: Sequence[float]) -> list[np.ndarray]:
    """Indices of len(fractions) + 1 parts: those fractions of every class, and the rest.

    A class gives each part one image at least, as long as one remains for the rest.  What a class gives depends on its
    name and its number of images alone, so that a class more leaves the others as they are.
    """
    parts: list[list[int]] = [[] for _ in range(len(fractions) + 1)]
    for label, name in enumerate(names):
        generator = np.random.default_rng([SPLIT_SEED, *name.encode("utf-8", "surrogateescape")])
        members = np.flatnonzero(labels == label)
        left = generator.permutation(members).tolist()
        for index, fraction in enumerate(fractions):
            take = min(max(1, int(len(members) * fraction)), max(len(left) - 1, 0))
            parts[index] += left[:take]
            left = left[take:]
        parts[-1] += left
    return [shuffled(np.array(part, np.int64)) for part in parts]


def shuffled(indices: np.ndarray) -> np.ndarray:
    """In an order without meaning, always the same: the first N of them are a fair sample."""
    return np.random.default_rng([SPLIT_SEED, len(indices)]).permutation(indices)
