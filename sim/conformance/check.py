"""Runs a case: through the machine and, where it is small, through plain Python integers; counts codes that differ."""

from collections.abc import Mapping

import numpy as np

from sim import reference
from sim.conformance.case import Case, Golden, Outcome, UnsupportedError
from sim.definitions import DefinitionError
from sim.formats import FormatError
from sim.machine import Machine
from sim.program import Program, ProgramError
from sim.requantizers.requantizer import RequantizeError
from sim.text import printable

MOST_PLAIN = 30_000
"""Products and codes of an image up to which its plain integers are worth waiting for: some tens of milliseconds."""
REFUSALS = (UnsupportedError, ProgramError, RequantizeError, DefinitionError, FormatError)
"""What a case that cannot be made or run says so by."""


def check(family: str, case: Case) -> Outcome:
    """What comes of a case; the reason where it cannot be run."""
    about = (family, case.name, case.operation)
    try:
        golden = _made(case)
        trace: dict[str, np.ndarray] = {}
        Machine(golden.program).results(golden.given, trace)
    except REFUSALS as error:
        return Outcome(*about, reason=printable(error))
    differing, first = _compare(golden.expected, golden.tensors(trace))
    plain, plain_differing, plain_first = 0, 0, ""
    images = len(next(iter(golden.given.values())))
    if is_small(golden.program) and all(array.size % images == 0 for array in golden.expected.values()):
        values = plain_codes(golden)
        plain = sum(array.size for array in values.values())
        expected = {name: array.reshape(images, -1)[:1] for name, array in golden.expected.items()}
        plain_differing, plain_first = _compare(expected, values)
    codes = sum(array.size for array in golden.expected.values())
    return Outcome(*about, golden.rule, len(golden.expected), codes, differing, plain, plain_differing, first or plain_first)


def _made(case: Case) -> Golden:
    """The golden case; numbers and arrays that do not fit each other are its file's fault."""
    try:
        return case.make()
    except REFUSALS:
        raise
    except (ValueError, TypeError, LookupError, ArithmeticError, MemoryError) as error:
        raise UnsupportedError(f"its numbers and arrays do not fit each other ({error or type(error).__name__})") from None


def is_small(program: Program) -> bool:
    """Whether plain integers take one image in no time."""
    return program.macs + sum(op.shape[0] * op.shape[1] * op.shape[2] for op in program.ops) <= MOST_PLAIN


def plain_codes(golden: Golden) -> dict[str, np.ndarray]:
    """The first image in plain Python integers: [1, H, W, C] of each expected tensor."""
    values, _ = reference.run(golden.program, {name: array[0].tolist() for name, array in golden.given.items()})
    return golden.tensors({name: np.array(value)[None] for name, value in values.items()})


def _compare(expected: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray]) -> tuple[int, str]:
    """Codes that differ, and where the first of them is; of tensors of another size all do."""
    differing, first = 0, ""
    for name, codes in expected.items():
        if found[name].size != codes.size:
            differing += codes.size
            first = first or f"{name}: {found[name].size} codes, not {codes.size}"
            continue
        ours, theirs = found[name].ravel(), codes.ravel()
        places = np.flatnonzero(ours != theirs)
        differing += len(places)
        if len(places):
            at = int(places[0])
            first = first or f"{name}[{at}] is {ours[at]}, not {theirs[at]}"
    return differing, first
