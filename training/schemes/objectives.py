"""Losses of a training step: functions of what takes part in it.  Distances between logits are in training/losses.py."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from training.losses import distillation_kl, hinton_loss, weighted_cross_entropy

if TYPE_CHECKING:
    from training.config import RunConfig
    from training.network import QuantNetwork


@dataclass
class Lesson:
    """Who takes part in a step.  `progress` is the part of the step that is over, `generator` the step's own randomness."""

    config: "RunConfig"
    student: "QuantNetwork"
    teacher: "QuantNetwork | None"
    partner: "QuantNetwork | None"
    individual: "QuantNetwork | None"
    generator: torch.Generator
    progress: float = 0.0

    @property
    def distills(self) -> bool:
        """Whether soft labels still count (drop_kd_after)."""
        return self.progress < self.config.drop_kd_after or self.config.drop_kd_after == 1.0

    @torch.no_grad()
    def soft_labels(self, pixels: Tensor) -> Tensor | None:
        """The teacher's logits, if it is asked."""
        wanted = self.distills or self.config.hard_example_weight
        return self.teacher(pixels) if self.teacher is not None and wanted else None

    @torch.no_grad()
    def weights(self, pixels: Tensor, labels: Tensor, soft: Tensor | None) -> Tensor | None:
        """Of every example: 1, more by hard_example_weight for each network that gets it wrong."""
        extra = self.config.hard_example_weight
        if not extra:
            return None
        weights = torch.ones(len(labels), device=labels.device)
        if soft is not None:
            weights += extra * (soft.argmax(1) != labels)
        if self.individual is not None:
            weights += extra * (self.individual(pixels).argmax(1) != labels)
        return weights


Objective = Callable[[Lesson, Tensor, Tensor], Tensor]
"""(who takes part, pixels, labels) -> scalar loss of everyone who learns"""


def labels_only(lesson: Lesson, pixels: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy."""
    return weighted_cross_entropy(lesson.student(pixels), labels, lesson.weights(pixels, labels, None))


def hinton(lesson: Lesson, pixels: Tensor, labels: Tensor) -> Tensor:
    """(1 - l) CE + l T^2 KL with l = kd_weight (Hinton et al. 2015, Liao et al. 2020)."""
    config, soft = lesson.config, lesson.soft_labels(pixels)
    return hinton_loss(lesson.student(pixels), soft if lesson.distills else None, labels, weight=config.kd_weight,
                       temperature=config.temperature, reduction=config.kl_reduction,
                       examples=lesson.weights(pixels, labels, soft))


def tutored(lesson: Lesson, pixels: Tensor, labels: Tensor) -> Tensor:
    """CE + l T^2 KL, the sum of QKD (Kim et al. 2019)."""
    config = lesson.config
    soft = lesson.soft_labels(pixels)
    logits = lesson.student(pixels)
    hard = weighted_cross_entropy(logits, labels, lesson.weights(pixels, labels, soft))
    if soft is None or not lesson.distills:
        return hard
    return hard + config.kd_weight * distillation_kl(logits, soft, config.temperature, config.kl_reduction)


def co_studied(lesson: Lesson, pixels: Tensor, labels: Tensor) -> Tensor:
    """Student and partner each learn from the labels and from the other's soft labels, which pass no gradient.

    L_S = CE + l T^2 KL(p_T || p_S), L_T = CE + l T^2 KL(p_S || p_T) (QKD, equations of the co-studying phase).
    """
    config = lesson.config
    assert lesson.partner is not None
    mine, theirs = lesson.student(pixels), lesson.partner(pixels)
    weights = lesson.weights(pixels, labels, theirs.detach())
    loss = weighted_cross_entropy(mine, labels, weights) + F.cross_entropy(theirs, labels)
    if not lesson.distills:
        return loss
    common = (config.temperature, config.kl_reduction)
    return loss + config.kd_weight * (distillation_kl(mine, theirs, *common) + distillation_kl(theirs, mine, *common))


def joint(lesson: Lesson, pixels: Tensor, labels: Tensor) -> Tensor:
    """The partner learns from the labels only, the student from both: (1 - l) CE + l T^2 KL (Apprentice, scheme A)."""
    config = lesson.config
    assert lesson.partner is not None
    mine, theirs = lesson.student(pixels), lesson.partner(pixels)
    return F.cross_entropy(theirs, labels) + hinton_loss(
        mine, theirs if lesson.distills else None, labels, weight=config.kd_weight, temperature=config.temperature,
        reduction=config.kl_reduction, examples=lesson.weights(pixels, labels, theirs.detach()))
