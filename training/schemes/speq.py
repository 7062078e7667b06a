"""SPEQ (Boo, Shin, Choi and Sung 2020, arXiv 2009.14502): the student teaches itself, at a precision drawn anew each step.

The teacher is the student's own quantized weights with wider activations: each layer's are `high_bits` wide with probability
u, else as the student's.  Loss: CE + l T^2 mean(1 - cos(p_T(student), p_T(teacher))).  No second copy of the weights exists.

Not found in the paper's public material and our choice: T = 2, l = 1, and that the teacher pass normalizes by its own batch
without touching running statistics: those must describe the student that is deployed, and at other widths they would not.
"""

from types import MappingProxyType

import torch
from torch import Tensor

from training.losses import distillation_cosine, distillation_kl, weighted_cross_entropy
from training.network import QuantNetwork
from training.schemes.kd import FLOAT
from training.schemes.objectives import Lesson, example_options, labels_only, reads, soft_label_options
from training.schemes.options import LossOptions
from training.schemes.scheme import Path, Scheme, SchemeOptions, Step, check_from_float, from_float

NARROWEST, WIDEST = 2, 8
"""The widths of `candidates` uniform."""


def draw_precisions(student: QuantNetwork, options: SchemeOptions, generator: torch.Generator) -> dict[str, int]:
    """A width for the activation of every inner row of the teacher."""
    own = {name: activate.bits for name, activate in student.activations().items() if activate.role == "inner"}
    rows = list(own)
    if options.candidates == "uniform":
        drawn = torch.randint(NARROWEST, WIDEST + 1, (len(rows),), generator=generator).tolist()
        return dict(zip(rows, drawn, strict=True))
    is_high = torch.rand(len(rows), generator=generator) < options.u
    return {name: options.high_bits if high else own[name] for name, high in zip(rows, is_high.tolist(), strict=True)}


@torch.no_grad()
def stochastic_teacher(lesson: Lesson, pixels: Tensor) -> Tensor:
    """Logits of the student's weights at drawn precisions; weights and optimizer stay as they are."""
    student, how = lesson.student, lesson.config.teacher_statistics
    with student.as_teacher(draw_precisions(student, lesson.config, lesson.generator), tracks=how == "shared"):
        student.train(how != "running")
        try:
            return lesson.logits(student, pixels)
        finally:
            student.train()


def _options_read(config: LossOptions) -> frozenset[str]:
    """The teacher is asked for soft labels or for hard examples; u chooses between two widths where there are two."""
    distills = {"temperature"} <= soft_label_options(config)
    read = soft_label_options(config) | example_options(config)
    if distills or config.hard_example_weight:
        read |= {"teacher_statistics", "candidates", "high_bits"}
        read |= {"u"} if config.high_bits != config.bits and config.candidates == "pair" else set()
    if distills:
        read |= {"self_distillation"}
    if config.self_distillation != "kl":
        read -= {"kl_reduction"}
    is_never_high = config.u == 0.0 or config.candidates == "uniform"
    return read - {"high_bits"} if is_never_high else read


@reads(_options_read)
def self_taught(lesson: Lesson, pixels: Tensor, labels: Tensor) -> Tensor:
    """CE + l T^2 (1 - cos), or KL in place of the cosine."""
    config = lesson.config
    soft = stochastic_teacher(lesson, pixels) if lesson.distills or config.hard_example_weight else None
    logits = lesson.logits(lesson.student, pixels)
    hard = weighted_cross_entropy(logits, labels, lesson.weights(pixels, labels, soft), config.label_smoothing)
    if soft is None or not lesson.distills:
        return hard
    if config.self_distillation == "kl":
        return hard + config.kd_weight * distillation_kl(logits, soft, config.temperature, config.kl_reduction)
    return hard + config.kd_weight * distillation_cosine(logits, soft, config.temperature)


def _plan(path: Path, options: SchemeOptions) -> list[Step]:
    return [Step(FLOAT, 32, None, labels_only), Step(f"{path[-1]}bit", path[-1], None, self_taught, start=FLOAT)]


SPEQ = Scheme(
    "speq", "teaches itself with activations of stochastic precision, cosine loss", from_float, check_from_float("speq"),
    _plan,
    MappingProxyType({"kd_weight": 1.0, "temperature": 2.0, "quantizer": "pact"}),
    frozenset({"u", "high_bits", "candidates", "teacher_statistics", "self_distillation", "drop_kd_after",
               "hard_example_weight", "individual"}))
