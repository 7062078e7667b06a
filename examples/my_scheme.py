"""An own scheme: a student that is taught by an earlier self of the same width, through its logits.

    python -m training.run --scheme examples/my_scheme.py:BORN_AGAIN --bits 3

Born-again networks (Furlanello et al. 2018, arXiv 1805.04770) with the loss of Ba and Caruana 2014 (arXiv 1312.6184).
"""

from types import MappingProxyType

from torch import Tensor
from torch.nn import functional as F

from training.schemes.objectives import Lesson, labels_only
from training.schemes.scheme import Path, Scheme, SchemeError, SchemeOptions, Step


def logits_too(lesson: Lesson, pixels: Tensor, labels: Tensor) -> Tensor:
    """(1 - l) CE + l mean squared distance of the logits, l = kd_weight; a scalar of everyone who learns."""
    soft, weight = lesson.soft_labels(pixels), lesson.config.kd_weight
    logits = lesson.student(pixels)
    hard = F.cross_entropy(logits, labels)
    return hard if soft is None else (1.0 - weight) * hard + weight * F.mse_loss(logits, soft)


def same_width(bits: int) -> Path:
    """The path for a student of so many bits: there is nothing above it."""
    return (bits,)


def check(path: Path) -> None:
    """Refuse what is not this method."""
    if len(path) != 1:
        raise SchemeError("born-again has no ladder: give --bits, or a path of one width")


def plan(path: Path, options: SchemeOptions) -> list[Step]:
    """Each step leaves a checkpoint; the last is the student."""
    return [Step("parent", path[-1], None, labels_only, share=0.5),
            Step("child", path[-1], "parent", logits_too, share=0.5)]


BORN_AGAIN = Scheme("born-again", "taught by an earlier self, through its logits", same_width, check, plan,
                    MappingProxyType({"kd_weight": 0.5}))
