"""One epoch of training, and evaluation: the loop that every scheme shares."""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from training.config import COSINE, MULTISTEP
from training.data import batches
from training.network import PREFIX, QuantNetwork
from training.optimizers import clip_gradients
from training.presets import Recipe
from training.schemes.objectives import Lesson, Objective
from training.tasks import CLASSIFICATION, Task


class DivergedError(RuntimeError):
    """The loss is no longer a number."""


def learning_rate(config: Recipe, milestones: tuple[float, ...], progress: float, epochs: int) -> float:
    """Learning rate at `progress` epochs of `epochs`.

    A line up over the warm-up and a cosine or a line down to 0, or a tenth from each milestone on.
    """
    base, schedule, warmup = config.lr, config.schedule, config.warmup
    if schedule != MULTISTEP:
        part = min(progress / epochs, 1.0)
        falling = 0.5 * (1.0 + math.cos(math.pi * part)) if schedule == COSINE else (1.0 - part) / (1.0 - warmup)
        return base * (min(part / warmup, falling) if warmup else falling)
    return float(base * 0.1 ** sum(progress >= milestone for milestone in milestones))


@dataclass
class Passed:
    """How far an epoch is: batches and examples, and the sum of the examples' losses."""

    batches: int = 0
    examples: int = 0
    loss: float = 0.0

    @property
    def mean_loss(self) -> float:
        """Of an example."""
        return self.loss / max(self.examples, 1)


@dataclass(frozen=True)
class Pace:
    """What the loop asks before a batch and tells after a step of the optimizer.

    `rate` and `progress` of the batch of a number; `report` gets the size and loss of every batch; `kept` hears that a step
    is done, after which all that is left of the epoch follows from networks, optimizer and `Passed`.
    """

    rate: Callable[[int], float]
    progress: Callable[[int], float]
    report: Callable[[int, float], None] = lambda size, loss: None
    kept: Callable[[Passed], None] = lambda passed: None


def train_epoch(lesson: Lesson, objective: Objective, data: Iterable[Any], optimizer: torch.optim.Optimizer, pace: Pace,
                passed: Passed) -> float:
    """The rest of a pass over the batches `data`, of which some are `passed`; returns the mean loss.

    The gradients of `accumulate` batches, each weighed by its size, make one step.  A group of parameters learns at its
    "rate_scale" times the rate.  Raises DivergedError at the first loss that is not finite.
    """
    config = lesson.config
    learners = [network for network in (lesson.student, lesson.partner) if network is not None]
    for network in learners:
        network.train()
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for together in _grouped(itertools.islice(data, passed.batches, None), config.accumulate):
        for group in optimizer.param_groups:
            group["lr"] = pace.rate(passed.batches) * group["rate_scale"]
        optimizer.zero_grad(set_to_none=True)
        sizes = [len(batch) for batch in together]
        losses = [_learn(lesson, objective, batch, passed.batches + number, pace, len(batch) / sum(sizes))
                  for number, batch in enumerate(together)]
        clip_gradients(parameters, config.clip)
        optimizer.step()
        passed.batches += len(together)
        for size, loss in zip(sizes, losses, strict=True):
            passed.examples, passed.loss = passed.examples + size, passed.loss + loss * size
            pace.report(size, loss)
        pace.kept(passed)
    return passed.mean_loss


def _grouped(data: Iterable[Any], count: int) -> Iterator[list[Any]]:
    """Lists of `count` batches, the last perhaps of fewer."""
    left = iter(data)
    while group := list(itertools.islice(left, count)):
        yield group


def _learn(lesson: Lesson, objective: Objective, batch: Any, number: int, pace: Pace, part: float) -> float:
    """Add the gradients of a batch that is that part of its step; returns its loss."""
    lesson.progress = pace.progress(number)
    inputs = batch.ready()
    loss = lesson.student.penalized(objective(lesson, inputs, lesson.task.targets(batch.labels)))
    value = float(loss.detach())
    if not math.isfinite(value):
        culprit = _culprit(lesson.student, inputs)
        raise DivergedError(f"loss became {value} at step {number + 1} of the epoch, first in {culprit}")
    (loss if part == 1.0 else loss * part).backward()
    return value


@torch.no_grad()
def gather_statistics(model: QuantNetwork, images: Any, batch: int, least: int = 50) -> None:
    """Let batch-norm statistics settle: at least so many batches forward, nothing else changes."""
    if not model.statistics():
        return
    model.train()
    seen = 0
    while seen < least:
        for part in batches(images, batch):
            if len(part) > 1 or len(images) == 1:  # one image alone has no variance
                model(part.ready())
            seen += 1
    model.eval()


def evaluate(model: QuantNetwork, examples: Any, task: Task = CLASSIFICATION) -> tuple[float, float]:
    """(main measure in percent, mean cross-entropy of a row) in eval mode, the arithmetic of the hardware."""
    measures, loss = measure(model, examples, task)
    return measures[task.measures.main], loss


@torch.no_grad()
def measure(model: QuantNetwork, examples: Any, task: Task) -> tuple[dict[str, float], float]:
    """Every measure of the task in percent, and the mean cross-entropy of a row, in eval mode."""
    model.eval()
    found, loss, rows = [], 0.0, 0
    for part in batches(examples, task.batch):
        inputs = part.ready()
        logits = model(inputs)
        targets = task.targets(part.labels)
        loss += float(F.cross_entropy(task.rows(logits, inputs), targets, reduction="sum"))
        rows += len(targets)
        found.append(logits.cpu())
    return task.measured(torch.cat(found), examples), loss / rows


@torch.no_grad()
def _culprit(model: QuantNetwork, inputs: Tensor) -> str:
    """The first thing that is not finite: a parameter, a row's output, or the loss itself."""
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            return f"the weights {name.removeprefix(PREFIX)}"
    trace: dict[str, Tensor] = {}
    model(inputs, trace)
    for name, values in trace.items():
        if not torch.isfinite(values).all():
            return f"layer {name}"
    return "the loss itself"
