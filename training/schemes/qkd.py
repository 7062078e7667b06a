"""QKD (Kim, Bhalgat, Lee, Patel and Kwak 2019, arXiv 1911.12491): self-studying, co-studying, tutoring.

SS: the quantized student alone.  CS: student and float teacher learn together, each from the other's soft labels too.
TU: the best teacher of CS stays as it is and the student goes on.  The student begins with trained float weights; the phases
take 30, 100 and 70 of 200 epochs; what is left out gives its epochs to nobody.
"""

from types import MappingProxyType

from training.schemes.kd import FLOAT, teacher_step
from training.schemes.objectives import co_studied, labels_only, tutored
from training.schemes.scheme import (
    Path,
    Scheme,
    SchemeError,
    SchemeOptions,
    Step,
    check_from_float,
    from_float,
    has_own_teacher,
)

SHARES = MappingProxyType({"ss": 30 / 200, "cs": 100 / 200, "tu": 70 / 200})


def _plan(path: Path, options: SchemeOptions) -> list[Step]:
    bits, teacher = path[-1], teacher_step(options)
    if options.fixed_teacher and "cs" not in options.phases:
        raise SchemeError("fixed-teacher: only the phase cs has a teacher that could learn")
    steps = [Step(FLOAT, 32, None, labels_only)]
    if has_own_teacher(options) and set(options.phases) & {"cs", "tu"}:
        steps.append(teacher)
    before, teacher_now = FLOAT, teacher.name
    for phase in options.phases:
        name, share = f"{bits}bit-{phase}", SHARES[phase]
        if phase == "ss":
            steps.append(Step(name, bits, None, labels_only, before, share))
        elif phase == "cs" and not options.fixed_teacher:
            step = Step(name, bits, None, co_studied, before, share, partner=teacher_now)
            steps.append(step)
            teacher_now = step.partner_name
        else:
            steps.append(Step(name, bits, teacher_now, tutored, before, share))
        before = name
    return steps


QKD = Scheme(
    "qkd", "self-studying, co-studying with a float teacher, tutoring, on learned intervals", from_float,
    check_from_float("qkd"), _plan,
    MappingProxyType({"kd_weight": 1.0, "temperature": 2.0, "quantizer": "interval"}),
    frozenset({"teacher_model", "teacher_width", "phases", "fixed_teacher", "drop_kd_after", "hard_example_weight",
               "individual"}))
