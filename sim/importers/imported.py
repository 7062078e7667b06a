"""What every importer gives, and what it says when it cannot."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sim.program import Program

if TYPE_CHECKING:
    from sim.importers.pixels import Pixels
    from sim.profiles import Profile


class ImporterError(ValueError):
    """A model that cannot be read, in one line: the node and its operator, what was wrong, what is supported."""


@dataclass(frozen=True)
class Imported:
    """A model of another's as a program.

    `profile` is the arithmetic that it was given; `pixels` say how uint8 images become its input codes (None where the
    input is no image of which that can be told).  `tensors` name the operation of the program that gives each tensor of
    the file which it has (of a .tflite "t" and its number), `notes` are for the user.
    """

    program: Program
    profile: "Profile"
    pixels: "Pixels | None" = None
    notes: tuple[str, ...] = ()
    tensors: Mapping[str, str] = field(default_factory=dict)
