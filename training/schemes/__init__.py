"""Training schemes by name.  A new one is a file beside this (or a row in one) and nothing else."""

import difflib
from collections.abc import Mapping
from types import MappingProxyType

from training.schemes.apprentice import APPRENTICE_SCHEMES
from training.schemes.kd import KD, SQAKD
from training.schemes.ptq import PTQ
from training.schemes.qkd import QKD
from training.schemes.scheme import Scheme, SchemeError, SchemeOptions, Step
from training.schemes.speq import SPEQ
from training.schemes.teacher_assistant import TEACHER_ASSISTANT_SCHEMES

__all__ = ["SCHEMES", "Scheme", "SchemeError", "SchemeOptions", "Step", "find_scheme"]

SCHEMES: Mapping[str, Scheme] = MappingProxyType({
    scheme.name: scheme for scheme in (*TEACHER_ASSISTANT_SCHEMES, KD, *APPRENTICE_SCHEMES, SQAKD, QKD, SPEQ, PTQ)})


def find_scheme(name: str) -> Scheme:
    """The scheme of that name; raises SchemeError with the nearest one."""
    if name in SCHEMES:
        return SCHEMES[name]
    near = difflib.get_close_matches(name, SCHEMES, 1)
    hint = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(SCHEMES)}"
    raise SchemeError(f"unknown scheme {name!r}, {hint}")
