"""A folder of images to try --dataset folder on: scikit-learn's digits as PNG files, one folder for each class.

    python examples/make_folder.py FOLDER
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def main(folder: Path) -> None:
    """Write 1,797 gray images of 16x16 pixels, FOLDER/CLASS/NUMBER.png."""
    digits = load_digits()
    for number, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        pixels = np.rint(image * (255.0 / 16.0)).astype(np.uint8).repeat(2, 0).repeat(2, 1)
        path = folder / NAMES[label] / f"{number:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    print(f"{len(digits.target)} images in {folder}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
