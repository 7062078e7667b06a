"""How a command fails: one clear line on stderr and a non-zero exit status."""

import sys

import typer
from typer.exceptions import Exit, TyperException

USAGE_ERROR, INTERRUPTED = 2, 130
_GO_ON = "interrupted; a training run goes on with --resume"


def new_app() -> typer.Typer:
    """A typer application with plain help and untouched tracebacks."""
    return typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def run_app(app: typer.Typer, *expected: type[Exception]) -> None:
    """Run a command; turn wrong options, `expected` errors and the disk's into one line, leave bugs their traceback."""
    try:
        status = app(standalone_mode=False)
    except TyperException as error:
        fail(error.format_message(), USAGE_ERROR)
    except Exit as error:
        sys.exit(error.exit_code)
    except Exception as error:
        if not isinstance(error, (*expected, OSError, MemoryError)):
            raise
        if isinstance(error, OSError) and error.filename is not None:
            fail(f"{error.filename}: {error.strerror}")
        fail(str(error) or type(error).__name__)
    except KeyboardInterrupt:
        fail(_GO_ON, INTERRUPTED)
    else:
        if status == INTERRUPTED:  # what typer makes of a KeyboardInterrupt inside the command
            fail(_GO_ON, INTERRUPTED)
        sys.exit(status or 0)


def fail(message: str, status: int = 1) -> None:
    """Print the message as one line on stderr and exit."""
    print("error: " + " ".join(message.split()), file=sys.stderr)
    sys.exit(status)
