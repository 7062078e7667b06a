"""A part of an image: rows, columns and channels from a start to a stop, every so many of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from sim.formats import is_whole
from sim.ops.op import Op, ProgramError, check_kept, check_shape, check_sizes, read


@dataclass(frozen=True, eq=False, repr=False)
class SliceOp(Op):
    """x[starts[0]:stops[0]:steps[0], ...] for height, width and channels; stops are no further than the sides."""

    kind: ClassVar[str] = "slice"
    starts: tuple[int, int, int]
    stops: tuple[int, int, int]
    steps: tuple[int, int, int] = (1, 1, 1)

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """As Python takes them."""
        first, second, third = (slice(*bounds) for bounds in zip(self.starts, self.stops, self.steps, strict=True))
        return first, second, third

    def details(self) -> list[str]:
        """As Python writes it."""
        return [", ".join(f"{part.start}:{part.stop}:{part.step}" for part in self.slices)]

    def check(self, before: Mapping[str, Op]) -> None:
        """Starts, stops and steps inside the image."""
        check_sizes(self)
        source = read(before, self.source)
        check_kept(self, source)
        for numbers in (self.starts, self.stops, self.steps):
            if not isinstance(numbers, tuple) or len(numbers) != 3 or not all(map(is_whole, numbers)):
                raise ProgramError(f"its starts, stops and steps are three whole numbers each, not {numbers!r}")
        for start, stop, step, side in zip(self.starts, self.stops, self.steps, source.shape, strict=True):
            if not 0 <= start < stop <= side or step < 1:
                raise ProgramError(f"{start}:{stop}:{step} is no part of a side of {side}; steps are 1 or more")
        check_shape(self, [-(-(stop - start) // step)
                           for start, stop, step in zip(self.starts, self.stops, self.steps, strict=True)])

    def reference(self, *inputs: Any) -> tuple[Any, None]:
        """Copy."""
        rows, columns, channels = self.slices
        return [[pixel[channels] for pixel in row[columns]] for row in inputs[0][rows]], None
