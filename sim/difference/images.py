"""The images that two sides are compared on: those that a trace holds, a data set's, or made ones."""

from pathlib import Path

import numpy as np

from sim.difference.errors import DiffError
from sim.difference.sides import Side, Stored
from sim.formats import Shape
from sim.testset import stored_examples
from sim.text import printable

SEED = 17
MADE = 16


def images_for(sides: tuple[Side, Side], dataset: str | None, data: Path | None, limit: int
               ) -> tuple[np.ndarray | None, str]:
    """uint8 [N, H, W, C] and what they are, in words; None where both sides are stored.

    Raises DiffError where nothing says on which images arrays were made; DataError, EvalError of data sets.
    """
    running = [side for side in sides if side.subject is not None]
    if not running:
        if dataset is not None or data is not None:
            raise DiffError("dataset, data: both sides are stored, no images are run")
        return None, "stored tensors"
    stored = [side for side in sides if isinstance(side, Stored)]
    if dataset is None and data is None:
        for side in stored:
            if side.pixels is not None:
                return side.pixels[:limit], f"the images in {side.text}"
    subject = next((side.subject for side in running if side.subject and side.subject.checkpoint), running[0].subject)
    assert subject is not None
    if dataset is not None or data is not None or (subject.checkpoint is not None and subject.checkpoint.dataset):
        examples = stored_examples(subject, dataset, data)
        return examples.pixels[:limit], examples.label
    if stored:
        raise DiffError(f"{printable(stored[0].text)} does not hold the images that it is of: name them with --dataset and "
                        "--data")
    return made_images(subject.program.ops[0].shape, min(limit, MADE)), "made images (all 0, all 255, a ramp, noise); " \
        "--dataset and --data name yours"


def made_images(shape: Shape, count: int) -> np.ndarray:
    """uint8 [count, *shape]: dark, bright, a ramp, then noise of a seed that is always the same."""
    pixels = np.random.default_rng(SEED).integers(0, 256, (max(count, 4), *shape)).astype(np.uint8)
    pixels[0], pixels[1] = 0, 255
    pixels[2] = np.linspace(0, 255, pixels[2].size).astype(np.uint8).reshape(shape)
    return pixels[:count] if count >= 4 else pixels[::-1][:count]
