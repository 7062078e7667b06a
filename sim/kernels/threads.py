"""Whether a kernel may use threads just now: what two Python threads, or a forked child, must not do to the pool below them.

numba runs parallel loops on a pool, its threading layer.  OpenMP and TBB serve several Python threads at once; `workqueue`,
which numba takes where it has neither, ends the process when two ask it together, so that they take turns here.  A forked
child has none of its parent's threads: GNU's OpenMP would wait for them for ever, and numba ends the child.  There kernels
run serially, compiled without threads; so they do where numba has one thread (NUMBA_NUM_THREADS=1), as that takes half the
time to compile.
"""

import contextlib
import enum
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from llvmlite.binding import ffi
from numba.core.compiler_lock import global_compiler_lock

from sim.lazy import IMPORTING

WORKQUEUE = "workqueue"


class Mode(enum.Enum):
    """What is known about the pool."""

    UNKNOWN = enum.auto()
    PARALLEL = enum.auto()
    TURNS = enum.auto()
    FORKED = enum.auto()
    SERIAL = enum.auto()


_TURN = threading.RLock()
_LLVM: Any = getattr(ffi.lib, "_lock", None) or contextlib.nullcontext()
_FIRST = Mode.SERIAL if numba.config.NUMBA_NUM_THREADS == 1 else Mode.UNKNOWN  # type: ignore[attr-defined]
"""Of a process that has run no parallel loop."""
_mode = _FIRST
is_free = False
"""Whether any thread may start parallel loops at any time, which is so nearly always: the quick question."""


def launch(parallel: Callable[..., None], serial: Callable[[], Callable[..., None]], arguments: tuple[Any, ...]) -> None:
    """Run a kernel in the way that is possible where not all is free; `serial()` gives the version without threads."""
    if _mode is Mode.SERIAL or (_mode is Mode.FORKED and _after_fork() is Mode.SERIAL):
        serial()(*arguments)
    else:
        with _TURN:
            parallel(*arguments)
            _look()


def _layer() -> str | None:
    """The pool in use; None before the first parallel loop."""
    try:
        return str(numba.threading_layer())
    except ValueError:
        return None


def _look() -> None:
    """Which pool a parallel loop has found."""
    global _mode, is_free  # noqa: PLW0603 - there is one pool in a process
    layer = _layer()
    if layer is not None:
        _mode = Mode.TURNS if layer == WORKQUEUE else Mode.PARALLEL
        is_free = _mode is Mode.PARALLEL


def _after_fork() -> Mode:
    """What a child may do, found out when it first wants to: others may have used OpenMP in the parent, such as torch."""
    global _mode  # noqa: PLW0603
    layer = _layer()
    is_lost = layer is not None or _has_openmp()  # of a work queue, too: one of a child was seen to hang
    _mode = Mode.SERIAL if is_lost else _FIRST
    return _mode


def _has_openmp() -> bool:
    """Whether some OpenMP library is in this process, its threads perhaps lost; true where nobody can tell."""
    try:
        return re.search(r"/lib[gi]?omp[^/]*$", Path("/proc/self/maps").read_text(), re.MULTILINE) is not None
    except OSError:
        return True


def _before() -> None:
    """Nobody else imports, compiles, calls LLVM or takes a turn while a process forks: its child would wait for them."""
    IMPORTING.acquire()  # first, as who imports may compile
    _TURN.acquire()
    global_compiler_lock.acquire()
    _LLVM.__enter__()  # held for each call of LLVM, also by finalizers, which no other lock keeps apart


def _release() -> None:
    _LLVM.__exit__(None, None, None)
    global_compiler_lock.release()
    _TURN.release()
    IMPORTING.release()


def _in_child() -> None:
    global _mode, is_free
    _mode, is_free = Mode.FORKED, False
    _release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_release, after_in_child=_in_child)
