"""The one place that decides how kernels are compiled.

Compiled code is kept in a folder named by a digest of sim's sources, the versions and the processor: numba itself only
looks at the file of a kernel, and would go on using code whose callees have changed.  Kernels of a user's file, and loops
with such kernels in them, are compiled anew in every process: nothing tells which files they depend on.
"""

import hashlib
import os
import platform
import tempfile
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite
import numba
import numpy as np


def source_digest() -> str:
    """A digest of everything that compiled kernels depend on."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).resolve().parent.parent.rglob("*.py")):
        digest.update(path.name.encode() + path.read_bytes())
    cpu = (llvmlite.binding.get_host_cpu_name(), llvmlite.binding.get_host_cpu_features().flatten())
    facts = (platform.python_version(), numba.__version__, llvmlite.__version__, np.__version__, *cpu,
             *(os.environ.get(name, "") for name in ("NUMBA_BOUNDSCHECK", "NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES")))
    digest.update(repr(facts).encode())
    return digest.hexdigest()[:16]


def _prepare_cache() -> Path | None:
    """Point numba to the folder of this digest; None if no folder can be written."""
    base = Path(os.environ.get("BITTRUE_CACHE_DIR") or
                Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bittrue")
    folder = base / source_digest()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, RuntimeError):
        return None
    numba.config.CACHE_DIR = str(folder)  # type: ignore[attr-defined]
    return folder


_SOURCES = str(Path(__file__).resolve().parent.parent)
CACHE_FOLDER = _prepare_cache()
"""Whatever belongs to this digest may lie there."""


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a loop: parallel where it says prange, IEEE arithmetic as written, no silent fast math."""
    compiled: Callable[..., Any] = numba.njit(
        parallel=True, fastmath=False, error_model="numpy", nogil=True, cache=_is_cached(function))(function)
    return compiled


def inline(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a scalar helper that kernels call."""
    compiled: Callable[..., Any] = numba.njit(
        fastmath=False, error_model="numpy", nogil=True, cache=_is_cached(function))(function)
    return compiled


def _is_cached(function: Callable[..., Any]) -> bool:
    """Whether the digest covers everything that a function is made of."""
    return CACHE_FOLDER is not None and _is_ours(function) and all(map(_is_ours, getattr(function, "callees", ())))


def _is_ours(function: Any) -> bool:
    code = getattr(getattr(function, "py_func", function), "__code__", None)  # what llvm writes itself has none
    return code is None or os.path.realpath(code.co_filename).startswith(_SOURCES + os.sep)


def specialize(template: Callable[..., Any], name: str, decorate: Callable[..., Any] = kernel, **callees: Any) -> Any:
    """The loop `template`, compiled with each name in `callees` standing for that compiled function.

    numba's cache never finds a closure over compiled functions again; a function of its own name and globals it does.
    """
    function = types.FunctionType(template.__code__, {**template.__globals__, **callees}, name)
    function.__qualname__ = name
    function.__module__ = template.__module__
    function.callees = tuple(callees.values())  # type: ignore[attr-defined]
    return decorate(function)
