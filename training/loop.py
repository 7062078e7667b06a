"""One epoch of training, and evaluation: the loop that every scheme shares."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from training.config import COSINE, MULTISTEP, NESTEROV, RunConfig
from training.data import Images, batches
from training.network import PREFIX, QuantNetwork
from training.presets import Recipe
from training.quantizers import QUANTIZERS
from training.schemes.objectives import Lesson, Objective

Report = Callable[[int, float], None]
"""called after each batch with its size and loss"""


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


def train_epoch(lesson: Lesson, objective: Objective, data: Iterable[Images], optimizer: torch.optim.Optimizer,
                rate_at: Callable[[int], float], progress_at: Callable[[int], float], report: Report) -> float:
    """One pass over `data`; returns the mean loss.  Raises DivergedError at the first loss that is not finite.

    A group of parameters learns at its "rate_scale" times the rate.
    """
    learners = [network for network in (lesson.student, lesson.partner) if network is not None]
    for network in learners:
        network.train()
    total, seen = 0.0, 0
    for step, batch in enumerate(data):
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step) * group["rate_scale"]
        lesson.progress = progress_at(step)
        pixels = batch.pixels.float().contiguous(memory_format=torch.channels_last)
        loss = lesson.student.penalized(objective(lesson, pixels, batch.labels))
        value = float(loss.detach())
        if not math.isfinite(value):
            culprit = _culprit(lesson.student, pixels)
            raise DivergedError(f"loss became {value} at step {step + 1} of the epoch, first in {culprit}")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        total, seen = total + value * len(batch), seen + len(batch)
        report(len(batch), value)
    return total / max(seen, 1)


def optimizer_of(networks: Iterable[QuantNetwork], config: RunConfig) -> torch.optim.Optimizer:
    """SGD; what quantizers learn has rates of its own, and weight decay only if its quantizer wants it."""
    groups: list[dict[str, Any]] = []
    for network in networks:
        learned = network.learned_parameters()
        special = {id(parameter) for parameter in learned.values()}
        plain = [parameter for parameter in network.parameters() if id(parameter) not in special]
        groups.append({"params": plain, "rate_scale": 1.0, "weight_decay": config.weight_decay})
        rules = QUANTIZERS[network.quantizer]
        for scale, chosen in ((rules.weight_rate, [p for name, p in learned.items() if ".activate." not in name]),
                              (rules.activation_rate, [p for name, p in learned.items() if ".activate." in name])):
            if chosen:
                decay = config.weight_decay if rules.decays else 0.0
                groups.append({"params": chosen, "rate_scale": scale, "weight_decay": decay})
    return torch.optim.SGD(groups, config.lr, config.momentum, nesterov=config.optimizer == NESTEROV)


@torch.no_grad()
def gather_statistics(model: QuantNetwork, images: Images, batch: int, least: int = 50) -> None:
    """Let batch-norm statistics settle: at least so many batches forward, nothing else changes."""
    model.train()
    seen = 0
    while seen < least:
        for part in batches(images, batch):
            if len(part) > 1 or len(images) == 1:  # one image alone has no variance
                model(part.pixels.float().contiguous(memory_format=torch.channels_last))
            seen += 1
    model.eval()


@torch.no_grad()
def evaluate(model: QuantNetwork, images: Images, batch: int = 500) -> tuple[float, float]:
    """(accuracy in percent, mean cross-entropy) in eval mode, the arithmetic of the hardware."""
    model.eval()
    right, loss = 0, 0.0
    for part in batches(images, batch):
        logits = model(part.pixels.float().contiguous(memory_format=torch.channels_last))
        right += int((logits.argmax(1) == part.labels).sum())
        loss += float(F.cross_entropy(logits, part.labels, reduction="sum"))
    return 100.0 * right / len(images), loss / len(images)


@torch.no_grad()
def _culprit(model: QuantNetwork, pixels: Tensor) -> str:
    """The first thing that is not finite: a parameter, a row's output, or the loss itself."""
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            return f"the weights {name.removeprefix(PREFIX)}"
    trace: dict[str, Tensor] = {}
    model(pixels, trace)
    for name, values in trace.items():
        if not torch.isfinite(values).all():
            return f"layer {name}"
    return "the loss itself"
