"""The 1,797 handwritten digits of 8x8 pixels that come with scikit-learn: nothing to download."""

from pathlib import Path

import numpy as np

from training.data.arrays import Split
from training.data.sources.source import Content, Size, Source


def load(path: Path | None, size: Size | None) -> Content:
    """360 test images, the same share of every class."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    pixels = np.rint(digits.images * (255.0 / 16.0)).astype(np.uint8)[..., None]
    x_train, x_test, y_train, y_test = train_test_split(
        pixels, digits.target.astype(np.int64), test_size=360, stratify=digits.target, random_state=0)
    return Content(Split(x_train, y_train), Split(x_test, y_test), class_names=tuple(str(digit) for digit in range(10)))


DIGITS = Source(load, "digits", "crop")
