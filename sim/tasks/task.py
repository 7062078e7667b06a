"""What a task is: what counts as one example, and the measures of logits, the first of which is what is chosen by."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from sim.tasks.questions import Questions

RESAMPLES = 2000
CERTAINTY = 0.95
"""Percentiles of an interval."""


class Measured(Protocol):
    """What a task reads of examples: test images of `sim.testset`, or a split of a data set of `training.data`."""

    @property
    def labels(self) -> Any:
        """Whole numbers: [N], or of spans [N, 2]."""

    @property
    def questions(self) -> Questions | None:
        """Where windows of texts belong to questions."""


class Task:
    """A kind of task.  `measures` are names and how tables call them, in percent; the first is the main one.

    `unit` is what is counted and `input` what a network reads at a time, in the plural.
    """

    name: str
    unit: str
    input: str
    measures: Mapping[str, str]
    has_classes: bool = False
    meanwhile: str = "right"
    """What `right` counts, for the percentage that is shown meanwhile."""

    @property
    def main(self) -> str:
        """The measure that an epoch is chosen by."""
        return next(iter(self.measures))

    def measure(self, logits: np.ndarray, examples: Measured) -> dict[str, float]:
        """Every measure in percent, of logits of all examples [N, ...]."""
        return {name: percent(values) for name, values in self.scores(logits, examples).items()}

    def scores(self, logits: np.ndarray, examples: Measured) -> dict[str, np.ndarray]:
        """Every measure of each thing that is counted, float64 of 0 to 1: what intervals are drawn from."""
        raise NotImplementedError

    def count(self, examples: Measured) -> int:
        """How many things are counted."""
        raise NotImplementedError

    def right(self, logits: np.ndarray, labels: np.ndarray) -> int:
        """Of the logits of a few inputs, how many are right: what is shown meanwhile."""
        raise NotImplementedError

    def labels_below(self, shape: tuple[int, ...]) -> int:
        """Labels are less than this where logits have that shape (height, width, channels)."""
        raise NotImplementedError

    def predictions(self, logits: np.ndarray, examples: Measured) -> np.ndarray:
        """What the network says of each thing that is counted."""
        raise NotImplementedError

    def classes(self, predictions: np.ndarray, examples: Any) -> list[dict[str, Any]]:
        """A line for each class with what is right in it; none where there are no classes."""
        return []

    def table(self, logits: np.ndarray, predictions: np.ndarray, examples: Any) -> list[list[Any]]:
        """Predictions as lines of a file, names of the columns first."""
        raise NotImplementedError


def percent(scores: np.ndarray) -> float:
    """Their mean."""
    return 100.0 * float(scores.sum()) / len(scores)


def interval(scores: np.ndarray, certainty: float = CERTAINTY) -> tuple[float, float]:
    """Where the mean lies, in percent, by drawing as many anew 2,000 times (Efron 1979), the same ones always.

    >>> interval(np.array([1.0] * 50))
    (100.0, 100.0)
    """
    rng = np.random.default_rng(len(scores))
    means = [scores[rng.integers(0, len(scores), len(scores))].mean() for _ in range(RESAMPLES)]
    low, high = 100.0 * np.percentile(means, (50.0 - 50.0 * certainty, 50.0 + 50.0 * certainty))
    return float(low), float(high)
