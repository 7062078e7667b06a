"""What a command is told to write must not destroy what it reads, or other people's work: told before any work is done."""

from collections.abc import Mapping
from pathlib import Path

from sim.recognize import PROGRAM, VALUABLE, recognize
from sim.subject import EvalError

STDOUT = ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")
_NOWHERE = Path("/dev/null")
_KINDS = {"save-program": PROGRAM}


def is_stdout(path: Path | None) -> bool:
    """Whether a file's name means the standard output."""
    return str(path) in STDOUT


def check_outputs(outputs: Mapping[str, Path | None], inputs: Mapping[str, Path | None]) -> None:
    """Refuse outputs (by option) that are an input, by whatever link, each other, a folder, or another kind of work.

    Raises EvalError.
    """
    named = {option: path for option, path in outputs.items() if path is not None}
    for option, path in named.items():
        if path.is_dir():
            raise EvalError(f"{option}: {path} is a folder, name a file")
        for other, source in inputs.items():
            if source is not None and _is_same(path, source):
                raise EvalError(f"{option}: {path} is the file of --{other}, which it would destroy; choose another one")
        if path.is_file() and (kind := recognize(path)) in VALUABLE and kind is not _KINDS.get(option):
            raise EvalError(f"{option}: {path} is {kind.what}, which it would destroy; choose another file")
    options = list(named)
    for number, option in enumerate(options):
        for other in options[:number]:
            if _is_same(named[option], named[other]) and named[option] != _NOWHERE:
                raise EvalError(f"{option}: {named[option]} is the file of --{other}, too; choose another one")


def _is_same(one: Path, other: Path) -> bool:
    """One file, also by links of either kind; or one name, if there is no file yet."""
    if is_stdout(one) and is_stdout(other):
        return True
    try:
        return one.samefile(other)
    except OSError:
        return one.resolve() == other.resolve()
