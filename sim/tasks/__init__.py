"""What networks are asked to do, and how well they do it: a row each.  A new kind of task is a file here and its row."""

from collections.abc import Mapping
from types import MappingProxyType

from sim.tasks.classification import Classification
from sim.tasks.questions import Questions
from sim.tasks.spans import Spans
from sim.tasks.task import Measured, Task, interval

__all__ = ["CLASSIFICATION", "TASKS", "Measured", "Questions", "Task", "interval"]

CLASSIFICATION = Classification.name

TASKS: Mapping[str, Task] = MappingProxyType({task.name: task for task in (Classification(), Spans())})
"""By the name that a data set gives (`Dataset.task`)."""
