"""Apprentice (Mishra and Marr 2018, arXiv 1711.05852): three ways of bringing teacher and low-precision student together.

A: both learn at once, from random weights.  B: a trained teacher, a student from random weights.  C: as B, but the student
begins with the weights of a trained float network.  The paper weighs teacher's labels, student's labels and soft labels 1,
0.5 and 0.5, at T = 1.
"""

from types import MappingProxyType

from training.schemes.kd import FLOAT, teacher_step
from training.schemes.objectives import hinton, joint, labels_only
from training.schemes.scheme import Path, Scheme, SchemeOptions, Step, check_from_float, from_float, has_own_teacher

_DEFAULTS = MappingProxyType({"kd_weight": 0.5, "temperature": 1.0})
_USES = frozenset({"teacher_model", "teacher_width", "drop_kd_after", "hard_example_weight", "individual"})


def _plan_a(path: Path, options: SchemeOptions) -> list[Step]:
    return [Step(f"{path[-1]}bit", path[-1], None, joint, partner="")]


def _plan_b(path: Path, options: SchemeOptions) -> list[Step]:
    teacher = teacher_step(options)
    return [teacher, Step(f"{path[-1]}bit", path[-1], teacher.name, hinton)]


def _plan_c(path: Path, options: SchemeOptions) -> list[Step]:
    teacher = teacher_step(options)
    twin = [Step(FLOAT, 32, None, labels_only)] if has_own_teacher(options) else []
    return [*twin, teacher, Step(f"{path[-1]}bit", path[-1], teacher.name, hinton, start=FLOAT)]


APPRENTICE_SCHEMES = tuple(
    Scheme(f"apprentice-{letter}", summary, from_float, check_from_float(f"apprentice-{letter}"), plan, _DEFAULTS, _USES)
    for letter, summary, plan in (
        ("a", "student and float teacher learn together", _plan_a),
        ("b", "taught by a trained float network, from random weights", _plan_b),
        ("c", "taught by a trained float network, from float weights", _plan_c)))
