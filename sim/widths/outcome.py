"""What is known of the widths of a network's registers: a row for each layer and for each channel, its record."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sim.accumulator import Accumulator, bits_for
from sim.files import write_text_atomically
from sim.records import write_record
from sim.subject import Subject
from sim.sweep.layer import products_of
from sim.testset import Examples
from sim.widths.assignment import Assignment
from sim.widths.bounds import Bounds, bounds_of
from sim.widths.observed import Ranges

if TYPE_CHECKING:
    import pandas as pd

KIND = "widths"
"""Of its records."""
BOUNDS = ("data_type", "l1", "zero_centered", "exact")


Z95 = 1.959964
"""Of a normal distribution: 95 % lie within so many deviations."""


def lower_bound(right: int, count: int) -> float:
    """The lower end of Wilson's interval at 95 % of a share, 0 to 1, of which `right` of `count` were seen.

    >>> round(lower_bound(141, 143), 4), lower_bound(0, 5)
    (0.9504, 0.0)
    """
    share, extra = right / count, Z95**2 / count
    half = Z95 * math.sqrt(share * (1.0 - share) / count + extra / (4.0 * count))
    return min(share, max(0.0, (share + extra / 2.0 - half) / (1.0 + extra)))  # rounding may pass either


@dataclass(frozen=True, repr=False, eq=False)
class Chosen:
    """Widths that keep the accuracy: what they were chosen on, and how many of the test images are right with them.

    `register` has their rule and tile; `right` and `free` are of `tested`, with them and without limits.
    """

    assignment: Assignment
    register: Accumulator
    loss: float
    part: str
    tested: Examples
    right: int
    free: int

    @property
    def uncertainty(self) -> float:
        """Points by which the true accuracy without limits may be below that of the images that widths were chosen on."""
        found = self.assignment
        return 100.0 * (found.free / found.images - lower_bound(found.free, found.images))

    @property
    def registers(self) -> Mapping[str, Accumulator]:
        """By layer."""
        return {name: replace(self.register, bits=bits) for name, bits in self.assignment.widths.items()}

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        found, count = self.assignment, len(self.tested.labels)
        return {"loss": self.loss, "overflow": self.register.overflow, "tile": self.register.tile, "part": self.part,
                "images": found.images, "accuracy": 100.0 * found.right / found.images,
                "accuracy_without_limits": 100.0 * found.free / found.images, "evaluations": found.evaluations,
                "test": {"images": count, "accuracy": 100.0 * self.right / count,
                         "accuracy_without_limits": 100.0 * self.free / count}}


@dataclass(frozen=True, repr=False, eq=False)
class Widths:
    """Of every layer with a register: bounds, the range of sums that `examples` gave, what was chosen."""

    subject: Subject
    examples: Examples | None = None
    ranges: Ranges | None = None
    chosen: Chosen | None = None

    @cached_property
    def bounds(self) -> Mapping[str, Bounds]:
        """By layer."""
        return {op.name: bounds_of(op) for op in self.subject.program.accumulating}

    @cached_property
    def layers(self) -> list[dict[str, Any]]:
        """A row of plain values for each layer, the widest of its channels; None where there is nothing to say."""
        widths = self.chosen.assignment.widths if self.chosen else {}
        rows = []
        for op in self.subject.program.accumulating:
            found = self.bounds[op.name]
            columns = {name: None if (bits := getattr(found, name)) is None else int(bits.max()) for name in BOUNDS}
            observed = self._observed(op.name)
            rows.append({
                "layer": op.name, **op.factors, "products": products_of(op), "channels": op.shape[2], **columns,
                "centered_channels": None if found.is_centered is None else int(found.is_centered.sum()),
                "low": int(found.low.min()), "high": int(found.high.max()),
                "observed": None if observed is None else int(observed.max()), "chosen": widths.get(op.name)})
        return rows

    @cached_property
    def channels(self) -> "pd.DataFrame":
        """A row for each layer and channel."""
        import pandas as pd

        rows = []
        for op in self.subject.program.accumulating:
            found, observed = self.bounds[op.name], self._observed(op.name)
            columns = {**{name: getattr(found, name) for name in BOUNDS}, "is_centered": found.is_centered,
                       "low": found.low, "high": found.high, "observed": observed}
            if self.ranges is not None:
                columns |= dict(zip(("observed_low", "observed_high"), self.ranges[op.name], strict=True))
            rows += [{"layer": op.name, "channel": channel,
                      **{name: None if values is None else values[channel].item() for name, values in columns.items()}}
                     for channel in range(op.shape[2])]
        table = pd.DataFrame(rows).dropna(axis="columns", how="all")
        return table.astype({name: "Int64" for name in table if name not in ("layer", "is_centered")})

    def _observed(self, name: str) -> np.ndarray | None:
        """Bits that hold the range of each channel."""
        if self.ranges is None:
            return None
        return np.array([max(2, bits_for(int(low), int(high))) for low, high in zip(*self.ranges[name], strict=True)])

    def save_channels(self, path: Path | str) -> None:
        """A CSV file of `channels`."""
        write_text_atomically(path, self.channels.to_csv(index=False, lineterminator="\n"))

    def save(self, path: Path | str, command: str) -> None:
        """A record of it with its provenance; `command` is what makes it again."""
        from training.record import provenance  # noqa: TID251 - which program ran, and where

        by_layer = dict(iter(self.channels.drop(columns="channel").groupby("layer", sort=False)))
        layers = [{**row, "by_channel": {name: _plain(column) for name, column in by_layer[row["layer"]].items()
                                         if name != "layer"}} for row in self.layers]
        write_record(path, {
            "kind": KIND, "model": "" if self.subject.path is None else str(self.subject.path),
            "model_digest": self.subject.digest or None, "program": self.subject.program.digest(),
            **({"dataset": self.examples.label, "data": self.examples.to_json(), "images": len(self.examples.labels)}
               if self.examples else {}),
            **({"chosen": self.chosen.to_json()} if self.chosen else {}), "layers": layers, **provenance(command)})


def _plain(column: Any) -> list[Any]:
    """Values of a column that json writes."""
    return [None if is_missing else value for value, is_missing in zip(column.astype(object).tolist(), column.isna(),
                                                                       strict=True)]
