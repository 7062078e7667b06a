"""Small TOML files of users: nothing in them is executed, and none of a wrong kind fills the memory."""

import tomllib
from pathlib import Path
from typing import Any

from sim.text import printable

MOST_BYTES = 1 << 16
"""None of them is larger, unless its reader says otherwise."""


class TomlError(ValueError):
    """A file that is no TOML, or too large; the text does not name it."""


def read_toml(path: Path, what: str, most: int = MOST_BYTES) -> dict[str, Any]:
    """The keys of a file of at most so many bytes that should be `what`.  Raises TomlError, OSError."""
    with path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise TomlError(f"more than {most} bytes are no {what}")
    try:
        return tomllib.loads(content.decode())
    except (ValueError, RecursionError) as error:
        raise TomlError(f"no TOML: {printable(error)}") from None
