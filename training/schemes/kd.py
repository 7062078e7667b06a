"""Plain knowledge distillation (Hinton et al. 2015): a trained float teacher, a student from random weights.

Also `sqakd` (Zhao and Zhao 2024): the student begins as its float twin and learns from its soft labels alone.  `qad`
(quantization-aware distillation) is the same with whatever float network one has as a teacher, usually a larger one.
"""

from types import MappingProxyType

from training.schemes.objectives import hinton, labels_only
from training.schemes.scheme import Path, Scheme, SchemeOptions, Step, check_from_float, from_float, has_own_teacher

FLOAT = "32bit"
TEACHER = "teacher"


def teacher_step(options: SchemeOptions) -> Step:
    """The float network that teaches: the student's twin, or one of its own architecture."""
    if has_own_teacher(options):
        return Step(TEACHER, 32, None, labels_only, network="teacher")
    return Step(FLOAT, 32, None, labels_only)


def _plan(path: Path, options: SchemeOptions) -> list[Step]:
    teacher = teacher_step(options)
    return [teacher, Step(f"{path[-1]}bit", path[-1], teacher.name, hinton)]


def _plan_sqakd(path: Path, options: SchemeOptions) -> list[Step]:
    return [Step(FLOAT, 32, None, labels_only), Step(f"{path[-1]}bit", path[-1], FLOAT, hinton, start=FLOAT)]


def _plan_qad(path: Path, options: SchemeOptions) -> list[Step]:
    """Where the user gives the float weights that the student begins with, no twin is trained for them."""
    teacher = teacher_step(options)
    is_own = has_own_teacher(options)
    twin = [Step(FLOAT, 32, None, labels_only)] if is_own and not options.is_given_weights else []
    start = None if is_own and options.is_given_weights else FLOAT
    return [*twin, teacher, Step(f"{path[-1]}bit", path[-1], teacher.name, hinton, start=start)]


KD = Scheme(
    "kd", "taught by a float network, from random weights (Hinton)", from_float, check_from_float("kd"), _plan,
    MappingProxyType({"kd_weight": 0.5, "temperature": 4.0}),
    frozenset({"teacher_model", "teacher_width", "drop_kd_after", "hard_example_weight", "individual"}))
"""l and T are our choice."""

SQAKD = Scheme(
    "sqakd", "taught by its float twin without labels", from_float, check_from_float("sqakd"), _plan_sqakd,
    MappingProxyType({"kd_weight": 1.0, "temperature": 4.0}))
"""T = 4 and no cross-entropy, as published."""

QAD = Scheme(
    "qad", "from float weights, taught by another, larger float network without labels", from_float,
    check_from_float("qad"), _plan_qad, MappingProxyType({"kd_weight": 1.0, "temperature": 4.0}),
    frozenset({"teacher_model", "teacher_width"}))
"""As sqakd, which it is where the teacher is the student's float twin."""
