"""Commands that are interrupted before they have begun, while Python imports: one line, no traceback.

Importing numba and torch takes seconds, in which nothing of a command runs that could catch anything.  Only the commands
of this project end so: who imports it into a program of theirs keeps Python's own way.
"""

import contextlib
import os
import sys
from collections.abc import Sequence
from types import TracebackType

INTERRUPTED = 130
"""The exit status, that of a shell's commands."""
_PACKAGES = ("sim", "training", "bittrue", "bench")


def is_own(argv: Sequence[str], arguments: Sequence[str]) -> bool:
    """Whether Python is about to run a command of ours: `argv` is sys.argv meanwhile, `arguments` are Python's own.

    >>> is_own(["-m"], ["python", "-m", "sim.sweep", "--help"]), is_own(["theirs.py"], ["python", "theirs.py"])
    (True, False)
    """
    if list(argv[:1]) != ["-m"] or "-m" not in arguments[:-1]:
        return False
    return arguments[list(arguments).index("-m") + 1].partition(".")[0] in _PACKAGES


def end_in_one_line() -> None:
    """From now on a KeyboardInterrupt that nobody catches ends the process with one line."""
    sys.excepthook = _told


def _told(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    with contextlib.suppress(OSError):  # nobody reads it
        print("error: interrupted", file=sys.stderr, flush=True)
    os._exit(INTERRUPTED)  # Python's own end would be that of a signal
