"""Distillation losses as pure functions of logits [N, classes], or of rows of any choices (training/tasks).

Soft labels are compared in float64: at a high temperature they are so alike that float32 knows their distance, times T^2,
to a few percent only.
"""

from torch import Tensor
from torch.nn import functional as F

KL_REDUCTIONS = ("batch", "classes")


def distillation_kl(student: Tensor, teacher: Tensor, temperature: float, reduction: str = "batch") -> Tensor:
    """T^2 KL(p_T(teacher) || p_T(student)), mean over the batch; no gradient reaches the teacher.

    Source: Hinton et al. 2015.  `reduction="classes"` also divides by the number of classes, as the published code of
    Liao et al. 2020 did, which made its distillation weight that much smaller than the report's.
    """
    log_student = F.log_softmax(student.double() / temperature, 1)
    log_teacher = F.log_softmax(teacher.detach().double() / temperature, 1)
    loss = F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True) * temperature**2
    return (loss / student.shape[1] if reduction == "classes" else loss).to(student.dtype)


def distillation_cosine(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 mean(1 - cos(p_T(student), p_T(teacher))); no gradient reaches the teacher (SPEQ, Boo et al. 2020)."""
    soft_student = F.softmax(student.double() / temperature, 1)
    soft_teacher = F.softmax(teacher.detach().double() / temperature, 1)
    return ((1.0 - F.cosine_similarity(soft_student, soft_teacher, 1)).mean() * temperature**2).to(student.dtype)


def weighted_cross_entropy(student: Tensor, labels: Tensor, weights: Tensor | None, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy whose examples count by `weights` [N], which are scaled to mean 1 (None: all alike).

    `smoothing` is the part of each label that all classes share (Szegedy et al. 2016).
    """
    if weights is None:
        return F.cross_entropy(student, labels, label_smoothing=smoothing)
    each = F.cross_entropy(student, labels, reduction="none", label_smoothing=smoothing)
    return (each * (weights / weights.mean())).mean()


def hinton_loss(student: Tensor, teacher: Tensor | None, labels: Tensor, *, weight: float, temperature: float,
                reduction: str = "batch", examples: Tensor | None = None, smoothing: float = 0.0) -> Tensor:
    """(1 - weight) CE + weight T^2 KL (Liao et al. 2020); plain cross-entropy if there is no teacher."""
    hard = weighted_cross_entropy(student, labels, examples, smoothing)
    if teacher is None:
        return hard
    return (1.0 - weight) * hard + weight * distillation_kl(student, teacher, temperature, reduction)
