"""What a kind of source is: a function that reads it, and what the rest of the project has to know about it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from training.data.arrays import Split

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


@dataclass(frozen=True)
class Source:
    """A row of the table of data sets.

    `load` gets the path that the user gave (never None where `needs` says what it must be) and the size to resize to,
    and raises DataError in one line.
    """

    load: Callable[[Path | None, Size | None], Content]
    label: str
    augment: str
    """One of AUGMENTATIONS: the default."""
    reads: str = ""
    """"file" or "folder": what --data names; "" if it names nothing."""
    needs: str = ""
    """Why it cannot do without --data, for example "--data FILE.npz with x_train"; it is then named by its path, too."""
    resizes: bool = False
    """Whether --size means anything."""
