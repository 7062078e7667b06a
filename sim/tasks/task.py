"""What a task is: what counts as one example, and the measures of logits, the first of which is what is chosen by."""

from typing import Any, Protocol

import numpy as np

from sim.tasks.questions import Questions


class Measured(Protocol):
    """What a task reads of examples: test images of `sim.testset`, or a split of a data set of `training.data`."""

    @property
    def labels(self) -> Any:
        """Whole numbers: [N], or of spans [N, 2]."""

    @property
    def questions(self) -> Questions | None:
        """Where windows of texts belong to questions."""


class Task:
    """A kind of task.  `measures` are names and how tables call them, in percent; the first is the main one."""

    name: str
    unit: str
    """What is counted, in the plural."""
    measures: dict[str, str]

    @property
    def main(self) -> str:
        """The measure that an epoch is chosen by."""
        return next(iter(self.measures))

    def measure(self, logits: np.ndarray, examples: Measured) -> dict[str, float]:
        """Every measure in percent, of logits of all examples [N, ...]."""
        found = self.scores(logits, examples)
        return {name: 100.0 * float(values.sum()) / len(values) for name, values in found.items()}

    def scores(self, logits: np.ndarray, examples: Measured) -> dict[str, np.ndarray]:
        """Every measure of each thing that is counted, float64 of 0 to 1: what intervals are drawn from."""
        raise NotImplementedError

    def count(self, examples: Measured) -> int:
        """How many things are counted."""
        raise NotImplementedError
