"""What a sweep found: a row for each configuration, and for each of its layers; its record."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sim.accumulator import UNLIMITED, Accumulator
from sim.records import write_record
from sim.sweep.plan import Group
from sim.sweep.state import State
from sim.testset import Examples

if TYPE_CHECKING:
    import pandas as pd

KIND = "registers"
"""Of its records."""
COUNTED = ("clipped", "persistent", "transient")
"""What counters tell of outputs."""


@dataclass(frozen=True, repr=False, eq=False)
class Sweep:
    """Numbers of every configuration of a sweep that is done: those of an evaluation on the same registers, to the image.

    `configurations` and `layers` are tables of plain values: accuracy in percent, images that are answered otherwise than
    without limits, outputs that a register got wrong; of all stages together those that are persistent and transient, if
    that was asked for.  `seconds` is what this process took to run what was not done yet.
    """

    groups: tuple[Group, ...]
    examples: Examples
    state: State
    isa: str
    has_counters: bool
    seconds: float
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        runs = sum(len(group.different) for group in self.groups)
        return (f"Sweep({len(self.rows)} configurations, {runs} of them different, on {self.images:,} images of "
                f"{self.examples.label})")

    @property
    def images(self) -> int:
        """How many."""
        return len(self.examples.labels)

    @cached_property
    def configurations(self) -> "pd.DataFrame":
        """A row for each configuration, and one without limits for each requantizer (bits: missing)."""
        import pandas as pd

        return pd.DataFrame([{key: value for key, value in row.items() if key != "layers"} for row in self.rows]).astype(
            {"bits": "Int64"})

    @cached_property
    def layers(self) -> "pd.DataFrame":
        """A row for each configuration and layer with a register."""
        import pandas as pd

        rows = [{**{key: row[key] for key in ("requant", "stages", "bits", "overflow", "tile", "boundary")},
                 **{key: value for key, value in layer.items() if key != "stages"}}
                for row in self.rows for layer in row["layers"]]
        return pd.DataFrame(rows).astype({"bits": "Int64"})

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """Plain values of every configuration."""
        return [row for group in self.groups for row in self._rows(group)]

    def _rows(self, group: Group) -> Iterator[dict[str, Any]]:
        requant = group.base.requantizer
        free: dict[str, Any] = {"requant": requant, "stages": "", "bits": None, "overflow": "none", "tile": "-",
                                "boundary": None}
        yield {**free, **self._numbers(group, group.free.key, {})}
        for each, run in group.runs.items():
            told = {**free, "stages": each.kind, "bits": each.bits, "overflow": each.overflow, "tile": each.tile,
                    "boundary": each.boundary}
            yield {**told, **self._numbers(group, run.key, group.asked[each])}

    def _numbers(self, group: Group, key: str, registers: Any) -> dict[str, Any]:
        tally = self.state.of(key)
        layers = []
        for op in group.base.accumulating:
            register = registers.get(op.name, Accumulator())
            counts = tally.overflows.get(op.name, np.zeros(op.shape[2], np.int64))
            outputs = tally.done * op.shape[0] * op.shape[1] * op.shape[2]
            layers.append({"layer": op.name, "safe_bits": op.safe_bits, "register": register.text,
                           "overflows": int(counts.sum()), "outputs": outputs,
                           "channels": int((counts > 0).sum()), "overflowed_percent": 100.0 * int(counts.sum()) / outputs,
                           **(self._counted(tally.counters.get(op.name), register) if self.has_counters else {})})
        limited = [layer for layer in layers if layer["register"] != UNLIMITED]
        overflows, outputs = (sum(layer[name] for layer in limited) for name in ("overflows", "outputs"))
        return {"images": tally.done, "right": tally.right, "accuracy": 100.0 * tally.right / tally.done,
                "changed": tally.changed, "overflows": overflows, "outputs": outputs,
                "overflowed_percent": 100.0 * overflows / outputs if outputs else 0.0,
                **{name: sum(layer[name] for layer in layers) for name in COUNTED if self.has_counters},
                "run": key, "layers": layers}

    def _counted(self, counts: np.ndarray | None, register: Accumulator) -> dict[str, Any]:
        """Of one layer: all stages together, and each."""
        stages = register.stages if register.is_limited else ()
        table = np.zeros((len(stages), 2), np.int64) if counts is None else counts
        rows = [{"stage": str(stage), "clipped": int(sum(row)), "persistent": int(row[0]), "transient": int(row[1])}
                for stage, row in zip(stages, table, strict=True)]
        return {**{name: sum(row[name] for row in rows) for name in COUNTED}, "stages": rows}

    def to_json(self) -> dict[str, Any]:
        """What a record holds of it: plain values that json writes."""
        subject = self.groups[0].subject
        checkpoint, spec = subject.checkpoint, subject.spec
        return {
            "model": "" if subject.path is None else str(subject.path), "model_digest": subject.digest or None,
            "dataset": self.examples.label, "data": self.examples.to_json(), "images": self.images,
            **({"precision": spec.precision.to_json()} if spec else {}),
            "training": dict(checkpoint.training) if checkpoint else {},
            **(subject.foreign.to_json() if subject.foreign else {}),
            "programs": {group.base.requantizer: group.base.digest() for group in self.groups},
            "isa": self.isa, "seconds": self.seconds, "configurations": self.rows}

    def save(self, path: Path | str, command: str) -> None:
        """A record of it with its provenance, which training.tables reads; `command` is what makes it again."""
        from training.record import provenance  # noqa: TID251 - which program ran, and where

        write_record(path, {"kind": KIND, **provenance(command), **self.to_json()})
