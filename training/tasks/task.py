"""What a task is to those who train: rows of logits, the right choice in each, and how much is looked at together."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from torch import Tensor

from sim.tasks import TASKS as MEASURES
from sim.tasks import Task as Measures


class Task:
    """A kind of task; this base takes logits [N, choices] and labels [N] as they are."""

    name: str
    inputs: str
    """What a network reads, in the plural, for people."""
    batch: int
    """How many are evaluated at once."""
    refused: Mapping[str, tuple[Any, str]] = MappingProxyType({})
    """Options that make no sense for it: the only value that each may have, and why."""

    @property
    def measures(self) -> Measures:
        """What is measured, by numpy alone."""
        return MEASURES[self.name]

    def rows(self, logits: Tensor, inputs: Tensor) -> Tensor:
        """Logits of a network, and what it read -> [rows, choices]."""
        return logits

    def targets(self, labels: Tensor) -> Tensor:
        """Labels of a batch -> the right choice of each row, int64 [rows]."""
        return labels

    def real(self, inputs: Tensor) -> Tensor | None:
        """bool [N, tokens]: which tokens are no padding; None where there is none."""
        return None

    def measured(self, logits: Tensor, examples: Any) -> dict[str, float]:
        """Every measure in percent, the main one first, of logits of all examples of a split."""
        return self.measures.measure(logits.numpy(), examples)
