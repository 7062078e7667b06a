"""How commands speak: what they print is text as it is, and how they fail is one clear line and an exit status."""

import contextlib
import copy
import io
import os
import sys
import traceback
from collections.abc import Collection
from pathlib import Path
from typing import Any, NoReturn

import typer
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.measure import Measurement
from rich.segment import Segments
from rich.table import Table
from rich.text import Text
from typer.exceptions import Exit, TyperException

from sim.interrupts import INTERRUPTED
from sim.registry import where
from sim.text import printable, shell_word
from sim.version import __version__

__all__ = ["CODES_DIFFER", "INTERRUPTED", "REFUSED", "fail", "new_app", "new_console", "new_table", "printable", "run_app",
           "shell_word", "show_table"]

CODES_DIFFER, REFUSED = 1, 2
"""Exit statuses beside 0, and 130 if interrupted: 2 for what was refused or broke, be it an option, a file or this code."""
WIDEST = 100_000


def new_app() -> typer.Typer:
    """A typer application with plain help and untouched tracebacks."""
    return typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def run_app(app: typer.Typer, *expected: type[Exception], go_on: str = "") -> None:
    """Run a command and exit; wrong options, `expected` and the disk's errors become one line, bugs a traceback.

    `go_on` says how to go on once it was interrupted, if that is more than to begin again.
    """
    if sys.argv[1:] == ["--version"]:
        print(f"bittrue {__version__}")
        sys.exit(0)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # no name is beyond a terminal
    try:
        status = _status(app, expected, f"interrupted; {go_on}" if go_on else "interrupted")
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_output()
        fail("the output was closed before its end")
    sys.exit(status)


def _status(app: typer.Typer, expected: tuple[type[Exception], ...], interrupted: str) -> int:
    try:
        result = app(standalone_mode=False)
    except TyperException as error:
        fail(error.format_message())
    except Exit as error:
        return error.exit_code
    except SystemExit as error:  # typer's own way to end when an output is closed
        if isinstance(error.__context__, BrokenPipeError):
            raise error.__context__ from None
        if isinstance(error, _FailedError):
            raise
        fail(f"something called exit before the work was done{where(error)}")  # code of the user's own: no success
    except Exception as error:
        if not isinstance(error, (*expected, OSError, MemoryError)):
            traceback.print_exc()
            sys.exit(REFUSED)
        if isinstance(error, OSError) and error.filename is not None:
            fail(f"{_file_name(error.filename)}: {error.strerror}")
        fail(str(error) or type(error).__name__)
    except KeyboardInterrupt:
        result = INTERRUPTED
    if result == INTERRUPTED:  # typer makes this of a KeyboardInterrupt inside the command, too
        fail(interrupted, INTERRUPTED)
    return result if type(result) is int else 0


def fail(message: str, status: int = REFUSED) -> NoReturn:
    """Print the message as one line on stderr and exit."""
    with contextlib.suppress(OSError):  # nobody reads it
        print("error: " + printable(message), file=sys.stderr, flush=True)
    raise _FailedError(status)


class _FailedError(SystemExit):
    """The end of a command that has said why."""


def new_console(stderr: bool = False) -> Console:
    """A console that takes text as text: no markup, no emoji codes, any encoding, long lines whole where no terminal is."""
    return _PlainConsole(stderr=stderr, markup=False, emoji=False, highlight=False)


def new_table(*columns: str, left: Collection[str], title: str | None = None) -> Table:
    """A table of these columns, those of `left` with text and the others with numbers, whose cells stay on one line."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, title=title)
    for column in columns:
        table.add_column(column, justify="left" if column in left else "right", no_wrap=True)
    return table


def show_table(console: Console, table: Table) -> None:
    """Print a table whose cells are never cut: too wide for the terminal, each row becomes lines of "column  value".

    Where there is no terminal, lines are as long as they need to be, unless the variable COLUMNS says otherwise.
    """
    table = copy.copy(table)
    title, table.title = table.title, None  # a title of its own line is not squeezed into a narrow table
    if title is not None:
        console.print(_plain(title), style="table.title", soft_wrap=True)
    if fits(console, table):
        options = console.options.update(width=_natural(console, table))
        console.print(Segments(console.render(table, options)), soft_wrap=True, end="")
    else:
        for line in _blocks(table, console.width):
            console.print(line, soft_wrap=True)


def fits(console: Console, table: Table) -> bool:
    """Whether show_table prints it as a table: it is no wider than the terminal, or there is none."""
    return _natural(console, table) <= console.width or (not console.is_terminal and "COLUMNS" not in os.environ)


def _natural(console: Console, table: Table) -> int:
    return Measurement.get(console, console.options.update(max_width=WIDEST), table).maximum


class _PlainConsole(Console):
    """Lets work go on whose output nobody reads any more, and shows control characters instead of sending them."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        stream = self.file
        self.soft_wrap = not (hasattr(stream, "isatty") and stream.isatty())

    def render_str(self, text: str, **options: Any) -> Text:
        """Every string that is printed, also in tables and titles."""
        shown = "".join(char if char in "\n\t" else printable(char) for char in text)
        return super().render_str(shown.encode(self.encoding, "backslashreplace").decode(self.encoding), **options)

    def on_broken_pipe(self) -> None:
        """What was begun is brought to its end, in silence."""
        self.quiet = True
        _discard_output()


def _discard_output() -> None:
    """Send what is still printed nowhere; without this, Python complains of it at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            os.dup2(nowhere, stream.fileno())
        except (OSError, ValueError):
            pass
    os.close(nowhere)


def _blocks(table: Table, width: int) -> list[str]:
    """Each row as lines of a column's title and its value; where both are too long for a line, one below the other."""
    titles = [_plain(column.header) for column in table.columns]
    indent = max(map(cell_len, titles), default=0) + 2
    lines = []
    for cells in zip(*(column.cells for column in table.columns), strict=True):
        for title, cell in zip(titles, map(_plain, cells), strict=True):
            if cell:
                fits = indent + cell_len(cell) <= width
                padding = " " * (indent - cell_len(title))
                lines += [f"{title}{padding}{cell}"] if fits else [title, f"  {cell}"]
        lines.append("")
    return lines


def _plain(cell: object) -> str:
    return cell.plain if isinstance(cell, Text) else str(cell)


def _file_name(name: object) -> str:
    return os.fsdecode(name) if isinstance(name, (bytes, str)) else str(name)


def output_file(text: str) -> Path:
    """The path of an output as the command line gives it; refuses a folder's, which a Path does not tell by its end."""
    if not text or text.endswith(("/", os.sep)):
        raise typer.BadParameter(f"{text!r} names a folder, name a file to write")
    return Path(text)
