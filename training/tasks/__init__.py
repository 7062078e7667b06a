"""How networks learn what they are asked to do: the other half of sim/tasks, a file each of the same names, and a row.

Every loss in training/losses.py is one of choices: rows of logits, of which one is right.  A task says what the rows of a
network's logits are; whoever writes a loss or a scheme need not know of tasks.
"""

from collections.abc import Mapping
from types import MappingProxyType

from training.tasks.classification import Classification
from training.tasks.spans import Spans
from training.tasks.task import Task

__all__ = ["CLASSIFICATION", "TASKS", "Task"]

CLASSIFICATION = Classification()
TASKS: Mapping[str, Task] = MappingProxyType({task.name: task for task in (CLASSIFICATION, Spans())})
"""By the name that a data set gives (`Dataset.task`)."""
