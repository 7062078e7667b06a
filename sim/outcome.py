"""What an evaluation found: numbers, predictions, tables, and what its record holds."""

import csv
import dataclasses
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sim.counters import Counters
from sim.files import write_text_atomically
from sim.program import Op, Program
from sim.records import write_record
from sim.redefined import definitions_of
from sim.subject import Subject
from sim.tasks import Task, interval
from sim.testset import Examples

if TYPE_CHECKING:
    import pandas as pd

    from sim.cost import Cost


@dataclass(frozen=True)
class Verification:
    """The machine beside the torch model: codes compared and differing (by operation, too), the largest difference.

    `fq_accuracy` is the model's, in percent: its F1 where answers are looked for, beside which `fq_measures` are what else
    is measured.  `beyond`: codes that an integer requantizer has more than one off.  `agrees`:
    whether contract C4 (fp32: all codes equal) or C5 (integers: none beyond) holds.
    """

    fq_accuracy: float
    compared: int
    differing: int
    largest_difference: int
    beyond: int
    differing_by_layer: Mapping[str, int]
    agrees: bool
    fq_measures: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        values = dataclasses.asdict(self)
        return {**values, **values.pop("fq_measures")}


@dataclass(frozen=True, repr=False, eq=False)
class Evaluation:
    """What a program got right.

    `logits` [N, classes], `predictions` int64 [N]; `overflows` by convolution, int64 [channels]: outputs that a limited
    register got wrong; `images_per_second` of the machine alone, `seconds` of everything; `cost` if it was asked for.  Of
    texts `logits` are [windows, tokens, 1, 2], `predictions` an answer to each question, `images` questions, and `accuracy`
    is their F1.
    """

    subject: Subject
    examples: Examples
    logits: np.ndarray
    predictions: np.ndarray
    overflows: Mapping[str, np.ndarray]
    isa: str
    images_per_second: float
    seconds: float
    notes: tuple[str, ...] = ()
    verification: Verification | None = field(default=None)
    counters: Mapping[str, Counters] = field(default_factory=dict)
    """Of each layer with limited registers, if they were asked for."""
    cost: "Cost | None" = None

    def __repr__(self) -> str:
        return (f"Evaluation({self.accuracy:.2f} % of {self.images:,} {self.task.unit} of {self.examples.label}, "
                f"{self.overflowed:,} overflows)")

    @property
    def program(self) -> Program:
        """What ran."""
        return self.subject.program

    @property
    def task(self) -> Task:
        """What is measured."""
        return self.examples.task

    @property
    def images(self) -> int:
        """How many, N; of texts questions."""
        return len(self.predictions)

    @property
    def labels(self) -> np.ndarray:
        """What the images show, int64 [N]; of windows of text [windows, 2]."""
        return self.examples.labels

    @property
    def class_names(self) -> tuple[str, ...]:
        """A text for each class; its number where nothing better is known."""
        return self.examples.class_names

    @property
    def right(self) -> int:
        """Images whose largest logit is that of their label; questions with an answer that matches exactly."""
        return int(list(self.scores.values())[-1].sum())

    @property
    def accuracy(self) -> float:
        """The task's main measure, in percent."""
        return self.measures[self.task.main]

    @cached_property
    def scores(self) -> Mapping[str, np.ndarray]:
        """Every measure of each image or question, float64 [N] of 0 to 1."""
        return self.task.scores(self.logits, self.examples)

    @cached_property
    def measures(self) -> Mapping[str, float]:
        """Every measure of the task, in percent."""
        return self.task.measure(self.logits, self.examples)

    @cached_property
    def intervals(self) -> Mapping[str, tuple[float, float]]:
        """Where every measure lies at 95 %, over images or questions, in percent."""
        return {name: interval(values) for name, values in self.scores.items()}

    @property
    def overflowed(self) -> int:
        """Outputs of all layers that a register got wrong."""
        return sum(int(counts.sum()) for counts in self.overflows.values())

    def outputs(self, op: Op) -> int:
        """Outputs of an operation on all images, or windows."""
        return len(self.logits) * op.shape[0] * op.shape[1] * op.shape[2]

    @cached_property
    def per_class(self) -> "pd.DataFrame":
        """A row per class: name, images, right, accuracy in percent (not a number where there is no image)."""
        import pandas as pd

        columns = ["class", "name", "images", "right", "accuracy"]
        return pd.DataFrame(self._classes(), columns=columns).set_index("class").astype({"accuracy": float})

    @cached_property
    def layers(self) -> "pd.DataFrame":
        """A row per convolution, with what its record holds; the accumulator in three columns, counts in whole numbers."""
        import pandas as pd

        rows = []
        for layer in self._layers():
            register = {f"accumulator_{key}": value for key, value in layer.pop("accumulator").items()}
            for key in ("overflows_by_channel", "stages"):
                layer.pop(key, None)
            rows.append(layer | register | ({"differing": self.verification.differing_by_layer[layer["name"]]}
                                            if self.verification else {}))
        return pd.DataFrame(rows).astype({"accumulator_bits": "Int64"})

    def save_predictions(self, path: Path | str) -> None:
        """A CSV file with a row per image: index, label, prediction, names and file if there are any, every logit.

        A row per question has its id, the answer and every measure of it.  Written completely or not at all.
        pandas.read_csv(path) reads it; so does, without names, and of images,
        numpy.loadtxt(path, delimiter=",", skiprows=1, usecols=(0, 1, 2)).
        """
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows(self.task.table(self.logits, self.predictions, self.examples))
        write_text_atomically(Path(path), text.getvalue())

    def save(self, path: Path | str, command: str) -> None:
        """A record of it with its provenance, which training.tables reads; `command` is what makes it again."""
        from training.record import provenance  # noqa: TID251 - which program ran, and where

        model = "" if self.subject.path is None else str(self.subject.path)
        write_record(path, {"kind": "evaluation", "model": model, **provenance(command), **self.to_json()})

    def to_json(self) -> dict[str, Any]:
        """What a record holds of it: plain values that json writes."""
        return {
            "model_digest": self.subject.digest or None, "dataset": self.examples.label, "data": self.examples.to_json(),
            **self._origin(), "program": self.program.digest(), "isa": self.isa,
            "result": {"images": self.images, "accuracy": self.accuracy, **self._other_measures(),
                       "images_per_second": self.images_per_second,
                       **(self.verification.to_json() if self.verification else {}),
                       "seconds": self.seconds, "per_class": self._classes()},
            "layers": self._layers(), **({"cost": self.cost.to_json()} if self.cost else {})}

    def _origin(self) -> dict[str, Any]:
        """What the program was lowered from, if it was not read as it is."""
        checkpoint, spec, hardware = self.subject.checkpoint, self.subject.spec, self.subject.hardware
        if checkpoint is None or spec is None or hardware is None:
            return {"training": {}, **(self.subject.foreign.to_json() if self.subject.foreign else {})}
        named = {"definitions": definitions_of(spec.graph), "redefined": dict(self.subject.redefined)}
        return {**({key: value for key, value in named.items() if value}),
                "precision": spec.precision.to_json(), "trained_precision": checkpoint.spec.precision.to_json(),
                "hardware_spec": hardware.to_json(), "training": dict(checkpoint.training)}

    def _other_measures(self) -> dict[str, Any]:
        """Of tasks with more than an accuracy: which one it is, all of them, and where they lie at 95 %."""
        if len(self.task.measures) == 1:
            return {}
        return {"task": self.task.name, "measure": self.task.main, **self.measures, self.task.input: len(self.logits),
                "intervals": {name: list(bounds) for name, bounds in self.intervals.items()},
                "scores": {name: values.round(4).tolist() for name, values in self.scores.items()}}

    def _classes(self) -> list[dict[str, Any]]:
        return self.task.classes(self.predictions, self.examples)

    def _layers(self) -> list[dict[str, Any]]:
        rows = self.subject.spec.graph.rows if self.subject.spec else ()
        roles = {row.name: row.register_role for row in rows if row.register_role is not None}
        return [{"name": op.name, **({"role": roles[op.name]} if op.name in roles else {}), "shape": list(op.shape),
                 **op.factors, "macs": op.macs, "safe_bits": op.safe_bits, "accumulator": op.accumulator.to_json(),
                 "overflows": int(self.overflows[op.name].sum()),
                 **({"overflows_by_channel": self.overflows[op.name].tolist()} if self.overflows[op.name].any() else {}),
                 **({"stages": self.counters[op.name].total()} if op.name in self.counters else {}),
                 "outputs": self.outputs(op)} for op in self.program.accumulating]
