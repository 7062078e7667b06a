"""Losses of a training step: functions of what takes part in it.  Distances between logits are in training/losses.py."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from training.losses import distillation_kl, hinton_loss, weighted_cross_entropy
from training.network import QuantNetwork
from training.schemes.options import LossOptions


@dataclass
class Lesson:
    """Who takes part in a step.  `progress` is the part of the step that is over, `generator` the step's own randomness."""

    config: LossOptions
    student: QuantNetwork
    teacher: QuantNetwork | None
    partner: QuantNetwork | None
    individual: QuantNetwork | None
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
LOSS_OPTIONS = frozenset({
    "kd_weight", "temperature", "kl_reduction", "drop_kd_after", "hard_example_weight", "individual", "label_smoothing", "u",
    "high_bits", "candidates", "teacher_statistics", "self_distillation"})
"""Options that only a loss can read."""
LABELS = frozenset({"label_smoothing"})
"""Of them, those that every loss with labels reads."""
Reads = Callable[[LossOptions], frozenset[str]]
Loss = TypeVar("Loss", bound=Callable[..., Any])


def reads(options: Reads, *, mixes_labels: bool = False) -> Callable[[Loss], Loss]:
    """Declare which of LOSS_OPTIONS an objective reads under a configuration; a user who gives others is told so.

    `mixes_labels` says that its loss is (1 - l) CE + l KL, where l = kd_weight above 1 would unlearn the labels.  An
    objective without this declaration is taken to read everything.
    """
    def declare(objective: Loss) -> Loss:
        vars(objective).update(reads=options, mixes_labels=mixes_labels)
        return objective

    return declare


def options_read(objective: Objective, config: LossOptions, is_student: bool) -> frozenset[str]:
    """Which of LOSS_OPTIONS the objective of a step reads; `individual` is shown to the student only."""
    declared: Reads | None = getattr(objective, "reads", None)
    if declared is None:
        return LOSS_OPTIONS
    return LABELS if objective is labels_only and not is_student else declared(config)


def soft_label_options(config: LossOptions) -> frozenset[str]:
    """What T^2 KL with its weight reads: nothing else where it never counts."""
    if config.drop_kd_after == 0.0:
        return frozenset({"drop_kd_after"})
    if config.kd_weight == 0.0:
        return frozenset({"kd_weight"})
    return frozenset({"kd_weight", "drop_kd_after", "temperature", "kl_reduction"})


def example_options(config: LossOptions) -> frozenset[str]:
    """What a loss with labels reads that weighs its examples."""
    return LABELS | {"hard_example_weight", "individual"}


def _with_examples(config: LossOptions) -> frozenset[str]:
    return soft_label_options(config) | example_options(config)


def _mixed(config: LossOptions) -> frozenset[str]:
    labels_count = config.kd_weight < 1.0 or config.drop_kd_after < 1.0
    return _with_examples(config) if labels_count else soft_label_options(config)


@reads(lambda config: example_options(config) if config.individual else LABELS)
def labels_only(lesson: Lesson, pixels: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy."""
    return weighted_cross_entropy(lesson.student(pixels), labels, lesson.weights(pixels, labels, None),
                                  lesson.config.label_smoothing)


@reads(_mixed, mixes_labels=True)
def hinton(lesson: Lesson, pixels: Tensor, labels: Tensor) -> Tensor:
    """(1 - l) CE + l T^2 KL with l = kd_weight (Hinton et al. 2015, Liao et al. 2020)."""
    config, soft = lesson.config, lesson.soft_labels(pixels)
    return hinton_loss(lesson.student(pixels), soft if lesson.distills else None, labels, weight=config.kd_weight,
                       temperature=config.temperature, reduction=config.kl_reduction,
                       examples=lesson.weights(pixels, labels, soft), smoothing=config.label_smoothing)


@reads(_with_examples)
def tutored(lesson: Lesson, pixels: Tensor, labels: Tensor) -> Tensor:
    """CE + l T^2 KL, the sum of QKD (Kim et al. 2019)."""
    config = lesson.config
    soft = lesson.soft_labels(pixels)
    logits = lesson.student(pixels)
    hard = weighted_cross_entropy(logits, labels, lesson.weights(pixels, labels, soft), config.label_smoothing)
    if soft is None or not lesson.distills:
        return hard
    return hard + config.kd_weight * distillation_kl(logits, soft, config.temperature, config.kl_reduction)


@reads(_with_examples)
def co_studied(lesson: Lesson, pixels: Tensor, labels: Tensor) -> Tensor:
    """Student and partner each learn from the labels and from the other's soft labels, which pass no gradient.

    L_S = CE + l T^2 KL(p_T || p_S), L_T = CE + l T^2 KL(p_S || p_T) (QKD, equations of the co-studying phase).
    """
    config = lesson.config
    assert lesson.partner is not None
    mine, theirs = lesson.student(pixels), lesson.partner(pixels)
    weights = lesson.weights(pixels, labels, theirs.detach())
    loss = weighted_cross_entropy(mine, labels, weights, config.label_smoothing) + weighted_cross_entropy(
        theirs, labels, None, config.label_smoothing)
    if not lesson.distills:
        return loss
    common = (config.temperature, config.kl_reduction)
    return loss + config.kd_weight * (distillation_kl(mine, theirs, *common) + distillation_kl(theirs, mine, *common))


@reads(lambda config: _mixed(config) | LABELS, mixes_labels=True)
def joint(lesson: Lesson, pixels: Tensor, labels: Tensor) -> Tensor:
    """The partner learns from the labels only, the student from both: (1 - l) CE + l T^2 KL (Apprentice, scheme A)."""
    config = lesson.config
    assert lesson.partner is not None
    mine, theirs = lesson.student(pixels), lesson.partner(pixels)
    return weighted_cross_entropy(theirs, labels, None, config.label_smoothing) + hinton_loss(
        mine, theirs if lesson.distills else None, labels, weight=config.kd_weight, temperature=config.temperature,
        reduction=config.kl_reduction, examples=lesson.weights(pixels, labels, theirs.detach()),
        smoothing=config.label_smoothing)
