"""Losses of a training step: functions of what takes part in it.  Distances between logits are in training/losses.py.

They are of rows of logits [rows, choices], as a task makes them (training/tasks): of images a row each, of questions one for
the begin of an answer and one for its end.
"""

from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from training.losses import distillation_kl, hinton_loss, weighted_cross_entropy
from training.network import QuantNetwork
from training.schemes.options import LossOptions
from training.schemes.states import states_distance, watched_rows
from training.tasks import CLASSIFICATION, Task

Kept = MutableMapping[str, Tensor | None]
"""Real numbers of the rows of a network that it names."""


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
    task: Task = CLASSIFICATION

    def logits(self, network: QuantNetwork, inputs: Tensor, kept: Kept | None = None) -> Tensor:
        """What a network says of each row, [rows, choices]; `kept` as its forward pass takes it."""
        return self.task.rows(network(inputs, kept=kept) if kept else network(inputs), inputs)

    @property
    def distills(self) -> bool:
        """Whether soft labels still count (drop_kd_after)."""
        return self.progress < self.config.drop_kd_after or self.config.drop_kd_after == 1.0

    @torch.no_grad()
    def soft_labels(self, inputs: Tensor, kept: Kept | None = None) -> Tensor | None:
        """The teacher's logits, if it is asked."""
        wanted = self.distills or self.config.hard_example_weight
        return self.logits(self.teacher, inputs, kept) if self.teacher is not None and wanted else None

    def taught(self, inputs: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """The student's logits, the teacher's, and the weighted distance of their states; None of what is not asked."""
        watched = self.teacher is not None and self.distills and (self.config.hidden_weight or self.config.attention_weight)
        if not watched:
            soft = self.soft_labels(inputs)
            return self.logits(self.student, inputs), soft, None
        names = watched_rows(self.config, self.student.graph)
        theirs: Kept = dict.fromkeys(names)
        mine: Kept = dict.fromkeys(names)
        soft = self.soft_labels(inputs, theirs)
        logits = self.logits(self.student, inputs, mine)
        return logits, soft, states_distance(self.config, mine, theirs, self.task.real(inputs))

    @torch.no_grad()
    def weights(self, pixels: Tensor, labels: Tensor, soft: Tensor | None) -> Tensor | None:
        """Of every row: 1, more by hard_example_weight for each network that gets it wrong."""
        extra = self.config.hard_example_weight
        if not extra:
            return None
        weights = torch.ones(len(labels), device=labels.device)
        if soft is not None:
            weights += extra * (soft.argmax(1) != labels)
        if self.individual is not None:
            weights += extra * (self.logits(self.individual, pixels).argmax(1) != labels)
        return weights


Objective = Callable[[Lesson, Tensor, Tensor], Tensor]
"""(who takes part, what networks read, the right choice of each row) -> scalar loss of everyone who learns"""
LOSS_OPTIONS = frozenset({
    "kd_weight", "temperature", "kl_reduction", "drop_kd_after", "hard_example_weight", "individual", "label_smoothing", "u",
    "high_bits", "candidates", "teacher_statistics", "self_distillation", "hidden_weight", "attention_weight"})
"""Options that only a loss can read."""
STATES = frozenset({"hidden_weight", "attention_weight"})
"""Of them, those that ask a teacher for more than soft labels."""
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


def state_options(config: LossOptions) -> frozenset[str]:
    """What the distance of states reads: nothing where soft labels never count."""
    return STATES if config.drop_kd_after else frozenset()


def example_options(config: LossOptions) -> frozenset[str]:
    """What a loss with labels reads that weighs its examples."""
    return LABELS | {"hard_example_weight", "individual"}


def _with_examples(config: LossOptions) -> frozenset[str]:
    return soft_label_options(config) | example_options(config)


def _mixed(config: LossOptions) -> frozenset[str]:
    labels_count = config.kd_weight < 1.0 or config.drop_kd_after < 1.0
    return _with_examples(config) if labels_count else soft_label_options(config)


def _plus(loss: Tensor, distance: Tensor | None) -> Tensor:
    return loss if distance is None else loss + distance


@reads(lambda config: example_options(config) if config.individual else LABELS)
def labels_only(lesson: Lesson, pixels: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy."""
    return weighted_cross_entropy(lesson.logits(lesson.student, pixels), labels, lesson.weights(pixels, labels, None),
                                  lesson.config.label_smoothing)


@reads(lambda config: _mixed(config) | state_options(config), mixes_labels=True)
def hinton(lesson: Lesson, pixels: Tensor, labels: Tensor) -> Tensor:
    """(1 - l) CE + l T^2 KL with l = kd_weight (Hinton et al. 2015, Liao et al. 2020), and the distance of states."""
    config, (logits, soft, distance) = lesson.config, lesson.taught(pixels)
    loss = hinton_loss(logits, soft if lesson.distills else None, labels, weight=config.kd_weight,
                       temperature=config.temperature, reduction=config.kl_reduction,
                       examples=lesson.weights(pixels, labels, soft), smoothing=config.label_smoothing)
    return _plus(loss, distance)


@reads(lambda config: _with_examples(config) | state_options(config))
def tutored(lesson: Lesson, pixels: Tensor, labels: Tensor) -> Tensor:
    """CE + l T^2 KL, the sum of QKD (Kim et al. 2019), and the distance of states."""
    config, (logits, soft, distance) = lesson.config, lesson.taught(pixels)
    hard = weighted_cross_entropy(logits, labels, lesson.weights(pixels, labels, soft), config.label_smoothing)
    if soft is None or not lesson.distills:
        return hard
    kl = distillation_kl(logits, soft, config.temperature, config.kl_reduction)
    return _plus(hard + config.kd_weight * kl, distance)


@reads(_with_examples)
def co_studied(lesson: Lesson, pixels: Tensor, labels: Tensor) -> Tensor:
    """Student and partner each learn from the labels and from the other's soft labels, which pass no gradient.

    L_S = CE + l T^2 KL(p_T || p_S), L_T = CE + l T^2 KL(p_S || p_T) (QKD, equations of the co-studying phase).
    """
    config = lesson.config
    assert lesson.partner is not None
    mine, theirs = lesson.logits(lesson.student, pixels), lesson.logits(lesson.partner, pixels)
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
    mine, theirs = lesson.logits(lesson.student, pixels), lesson.logits(lesson.partner, pixels)
    return weighted_cross_entropy(theirs, labels, None, config.label_smoothing) + hinton_loss(
        mine, theirs if lesson.distills else None, labels, weight=config.kd_weight, temperature=config.temperature,
        reduction=config.kl_reduction, examples=lesson.weights(pixels, labels, theirs.detach()),
        smoothing=config.label_smoothing)
