"""What a kind of source is: a function that reads it, and what the rest of the project has to know about it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sim.text import printable
from training.data.arrays import Split
from training.data.dataset import DataError, Dataset, images_of, statistics
from training.data.splits import held_out
from training.data.texts import Texts

Size = tuple[int, int]
"""Height and width."""


@dataclass(frozen=True)
class Content:
    """What was found.  Without validation images a tenth of the training images is held out at random."""

    train: Split
    test: Split
    validation: Split | None = None
    class_names: tuple[str, ...] = ()
    """Empty if unknown; more than there are labels is fine."""
    notes: tuple[str, ...] = ()
    test_files: tuple[str, ...] = ()

    def dataset(self, name: str, path: str, label: str, augment: str, size: Size | None) -> Dataset:
        """Hold out what is not given, count classes, take statistics."""
        train, validation, notes = self.train, self.validation, list(self.notes)
        x, y = train.pixels, train.labels
        if validation is None:
            chosen = held_out(len(y))
            splits = [images_of(x[~chosen], y[~chosen]), images_of(x[chosen], y[chosen])]
        else:
            splits = [images_of(x, y), images_of(validation.pixels, validation.labels)]
        test = images_of(self.test.pixels, self.test.labels)
        labeled = 1 + max(int(part.max()) for part in (y, self.test.labels))
        names = self.class_names or tuple(str(label) for label in range(labeled))
        if len(names) < labeled:
            raise DataError(f"{printable(path) or label}: {len(names)} class names, and labels up to {labeled - 1}")
        missing = np.setdiff1d(np.arange(len(names)), splits[0].labels.numpy())
        if missing.size:
            shown = ", ".join(printable(names[index]) for index in missing[:5]) + (", ..." if missing.size > 5 else "")
            notes.append(f"{missing.size} of {len(names)} classes have no training image: {shown}")
        mean, std = statistics(splits[0].pixels)
        return Dataset(name, path, label, splits[0], splits[1], test, len(names), mean, std, augment, names, tuple(notes),
                       "{}x{}".format(*size) if size else "", self.test_files)


@dataclass(frozen=True)
class TextContent:
    """Texts that were found, in which each token may begin or end an answer."""

    train: Texts
    validation: Texts
    test: Texts
    vocabulary: int
    separator: int
    label: str
    """How tables name them; "" for the name of what was read."""
    notes: tuple[str, ...] = ()

    def dataset(self, name: str, path: str, label: str, augment: str, size: Size | None) -> Dataset:
        """As it is."""
        return Dataset(name, path, self.label or label, self.train, self.validation, self.test, 2, (), (), augment,
                       ("begin", "end"), self.notes, str(self.train.ids.shape[1]), task="spans", vocabulary=self.vocabulary,
                       separator=self.separator)


@dataclass(frozen=True)
class Source:
    """A row of the table of data sets.

    `load` gets the path that the user gave (never None where `needs` says what it must be) and the size to resize to,
    and raises DataError in one line.
    """

    load: Callable[[Path | None, Size | None], Content | TextContent]
    label: str
    augment: str
    """One of AUGMENTATIONS: the default."""
    reads: str = ""
    """"file" or "folder": what --data names; "" if it names nothing."""
    needs: str = ""
    """Why it cannot do without --data, for example "--data FILE.npz with x_train"; it is then named by its path, too."""
    resizes: bool = False
    """Whether --size means anything."""
    is_text: bool = False
    """Whether it gives texts: --size is then the tokens of a window, and nothing is augmented."""
