"""What a command is told to write must not destroy what it reads, or other people's work: told before any work is done."""

import os
import stat
import sys
from collections.abc import Mapping
from pathlib import Path

from sim.recognize import EVALUATION, PROGRAM, VALUABLE, Kind, recognize
from sim.registry import is_own

STDOUT = ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")
_NOWHERE = Path("/dev/null")
_KINDS: Mapping[str, Kind] = {"save-program": PROGRAM, "json": EVALUATION}
"""The kind that each option of sim.eval writes, and so may replace."""


class EvalError(ValueError):
    """An option with a value that is not allowed, and what is."""


def is_stdout(path: Path | None) -> bool:
    """Whether a file's name means the standard output."""
    return str(path) in STDOUT


def code_file(name: object) -> Path | None:
    """The file of own code that "file.py:NAME" or "package.module:NAME" names, as far as can be told without running it."""
    if not isinstance(name, str) or not is_own(name):
        return None
    place = name.rpartition(":")[0]
    if place.endswith(".py") or "/" in place or os.sep in place:
        return Path(place)
    inside = Path(*place.split("."))
    found = (Path(folder, file) for folder in (os.curdir, *sys.path)
             for file in (inside.with_name(f"{inside.name}.py"), inside / "__init__.py"))
    return next((path for path in found if path.is_file()), None)


def profile_file(hardware: object) -> Path | None:
    """The file that --hardware names, if it names one."""
    return Path(hardware) if isinstance(hardware, str | os.PathLike) and os.path.isfile(hardware) else None


def check_outputs(outputs: Mapping[str, Path | None], inputs: Mapping[str, Path | None],
                  kinds: Mapping[str, Kind] = _KINDS) -> None:
    """Refuse outputs (by option) that are an input, by whatever link, each other, a folder, or another kind of work.

    So are those that cannot be written as far as that can be told now.  `kinds`: what an option writes itself, and so may
    replace.  Raises EvalError.
    """
    named = {option: path for option, path in outputs.items() if path is not None}
    for option, path in named.items():
        if os.path.isdir(path):  # no error for a name that is too long
            raise EvalError(f"{option}: {path} is a folder, name a file")
        for other, source in inputs.items():
            if source is not None and _is_same(path, source):
                raise EvalError(f"{option}: {path} is the file of --{other}, which it would destroy; choose another one")
        if is_stdout(path):
            continue
        if reason := _obstacle(path):
            raise EvalError(f"{option}: cannot write {path}: {reason}")
        if path.is_file() and (kind := recognize(path)) in VALUABLE and kind is not kinds.get(option):
            raise EvalError(f"{option}: {path} is {kind.what}, which it would destroy; choose another file")
    options = list(named)
    for number, option in enumerate(options):
        for other in options[:number]:
            if _is_same(named[option], named[other]) and named[option] != _NOWHERE:
                raise EvalError(f"{option}: {named[option]} is the file of --{other}, too; choose another one")


def _obstacle(path: Path) -> str:
    """Why a file cannot be written, empty if nothing is known: a full disk, for one, shows only when it is written."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:  # its folder will be made, below the first one that is there
        above = next(folder for folder in Path(os.path.realpath(path)).parents if folder.exists())
        return "" if os.access(above, os.W_OK | os.X_OK) else f"the folder {above} is write-protected"
    except NotADirectoryError:
        return "a folder of it is a file"
    except OSError as error:
        return str(error.strerror)
    if not (mode & 0o222 and os.access(path, os.W_OK)):
        return "the file is write-protected"
    folder = os.path.dirname(os.path.realpath(path))
    is_open = not stat.S_ISREG(mode) or os.access(folder, os.W_OK | os.X_OK)
    return "" if is_open else f"the folder {folder} is write-protected"


def _is_same(one: Path, other: Path) -> bool:
    """One file, also by links of either kind; or one name, if there is no file yet."""
    if is_stdout(one) and is_stdout(other):
        return True
    try:
        return one.samefile(other)
    except OSError:
        return one.resolve() == other.resolve()
