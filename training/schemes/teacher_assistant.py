"""The four methods of Liao, Parikh and Navarro 2020, low-precision teacher assistants: one network, a gap of bits.

A student starts from its teacher's weights (not its batch-norm statistics) and minimizes
(1 - l) CE + l T^2 KL.  The four methods differ in nothing but the path of precisions.
"""

from training.schemes.objectives import hinton, labels_only
from training.schemes.scheme import Path, Scheme, SchemeError, SchemeOptions, Step

LADDER = (32, 8, 4, 2)
"""Where `takd` stands by default on its way down.  The report's has 16 too; 16-bit sums need float64 and change little."""


def _ladder(bits: int) -> Path:
    return (*(rung for rung in LADDER if rung > bits), bits)


def _twice(bits: int) -> int:
    """The teacher of a single level: twice the bits, and above 8 the next width that exists."""
    return 2 * bits if bits <= 4 else 16 if bits <= 8 else 32


def _check_individual(path: Path) -> None:
    if len(path) != 1:
        raise SchemeError(f"individual trains one network and has no ladder: give --bits, not a path of {len(path)}")


def _check_single_level(path: Path) -> None:
    if len(path) != 2 or path[0] != _twice(path[1]):
        raise SchemeError(f"single-level goes from twice the bits to the student: {_twice(path[-1])},{path[-1]}")


def _check_skip_level(path: Path) -> None:
    if len(path) != 2 or path[0] <= _twice(path[1]):
        raise SchemeError(f"skip-level goes in one step from more than {_twice(path[-1])} bits to {path[-1]}")


def _check_takd(path: Path) -> None:
    if len(path) < 2:
        raise SchemeError("takd needs a teacher and a student, for example --path 32,8,4,2")


def _plan(path: Path, options: SchemeOptions) -> list[Step]:
    """Each network begins with the weights of the one before and learns from it."""
    if len(path) == 1 and options.hard_example_weight and not options.individual:
        raise SchemeError("hard-example-weight: without a teacher it needs a network of --individual")
    names = [f"{bits}bit" for bits in path]
    return [Step(name, bits, before, hinton if before else labels_only, start=before)
            for name, bits, before in zip(names, path, [None, *names], strict=False)]


_USES = frozenset({"drop_kd_after", "hard_example_weight", "individual"})

TEACHER_ASSISTANT_SCHEMES = (
    Scheme("individual", "from random weights, cross-entropy only", lambda bits: (bits,), _check_individual, _plan,
           uses=_USES - {"drop_kd_after"}),
    Scheme("single-level", "taught by the same network at twice the bits", lambda bits: (_twice(bits), bits),
           _check_single_level, _plan, uses=_USES),
    Scheme("skip-level", "taught by a network of more than twice the bits", lambda bits: (32, bits), _check_skip_level,
           _plan, uses=_USES),
    Scheme("takd", "down a ladder of teacher assistants, each taught by the one above", _ladder, _check_takd, _plan,
           uses=_USES),
)
