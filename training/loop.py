"""One epoch of training, and evaluation: the loop that every scheme shares."""

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.nn import functional as F

from training.data import Images, batches
from training.network import PREFIX, QuantNetwork

Loss = Callable[[Tensor, Tensor | None, Tensor], Tensor]
"""(student logits, teacher logits or None, labels) -> scalar"""
WARM_UP = 0.1
"""Part of a cosine schedule over which the rate first rises."""
Report = Callable[[int, float], None]
"""called after each batch with its size and loss"""


class DivergedError(RuntimeError):
    """The loss is no longer a number."""


def learning_rate(base: float, schedule: str, milestones: tuple[int, ...], progress: float, epochs: int) -> float:
    """Learning rate at `progress` epochs of `epochs`: warm-up and a cosine to 0, or a tenth from each milestone on."""
    if schedule == "cosine":
        part = min(progress / epochs, 1.0)
        return base * min(part / WARM_UP, 0.5 * (1.0 + math.cos(math.pi * part)))
    return float(base * 0.1 ** sum(progress >= milestone for milestone in milestones))


def train_epoch(model: QuantNetwork, teacher: QuantNetwork | None, data: Iterable[Images], loss_of: Loss,
                optimizer: torch.optim.Optimizer, rate_at: Callable[[int], float], report: Report) -> float:
    """One pass over `data`; returns the mean loss.  Raises DivergedError at the first loss that is not finite."""
    model.train()
    total, seen = 0.0, 0
    for step, batch in enumerate(data):
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step)
        pixels = batch.pixels.float().contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            soft = teacher(pixels) if teacher is not None else None
        loss = loss_of(model(pixels), soft, batch.labels)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise DivergedError(f"loss became {value} at step {step + 1} of the epoch, first in {_culprit(model, pixels)}")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        total, seen = total + value * len(batch), seen + len(batch)
        report(len(batch), value)
    return total / max(seen, 1)


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
