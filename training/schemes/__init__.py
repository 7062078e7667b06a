"""Training schemes by name.  A new one is a file beside this (or a row in one) and nothing else, or a file of yours."""

from typing import Any

from sim.registry import Registry, RegistryError
from training.schemes.apprentice import APPRENTICE_SCHEMES
from training.schemes.kd import KD, QAD, SQAKD
from training.schemes.ptq import PTQ
from training.schemes.qkd import QKD
from training.schemes.scheme import Scheme, SchemeError, SchemeOptions, Step
from training.schemes.speq import SPEQ
from training.schemes.teacher_assistant import TEACHER_ASSISTANT_SCHEMES

__all__ = ["SCHEMES", "Scheme", "SchemeError", "SchemeOptions", "Step", "find_scheme"]


def _check(name: str, value: Any) -> Scheme:
    if not isinstance(value, Scheme):
        raise RegistryError(f"{name!r} is {value!r}, expected a training.schemes.Scheme")
    return value


SCHEMES: Registry[Scheme] = Registry(
    "scheme", {scheme.name: scheme for scheme in (
        *TEACHER_ASSISTANT_SCHEMES, KD, *APPRENTICE_SCHEMES, SQAKD, QAD, QKD, SPEQ, PTQ)}, "bittrue.schemes", _check)


def find_scheme(name: str) -> Scheme:
    """The scheme of that name, if it is built in or was found before; raises SchemeError with the nearest one."""
    try:
        return SCHEMES.known(name)
    except RegistryError as error:
        raise SchemeError(str(error)) from None
