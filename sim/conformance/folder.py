"""What lies below a folder: walked once, archives by the names in them.  No file is believed what it says of its size."""

import math
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from sim.conformance.case import UnsupportedError
from sim.lazy import cached_property
from sim.text import printable

MOST_BYTES = 1 << 28
"""Of one archive or text, unpacked: golden data are small."""
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


class Folder:
    """The files below a folder, in the order of their names; links to folders and hidden folders are not followed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def files(self) -> list[Path]:
        """Every file.  Raises OSError for a folder that cannot be read."""
        found = []
        for parent, below, names in os.walk(self.path, onerror=_raise):
            below[:] = sorted(name for name in below if not name.startswith("."))
            found += [Path(parent, name) for name in sorted(names) if not name.startswith(".")]
        return [file for file in found if file.is_file()]

    @cached_property
    def archives(self) -> dict[Path, frozenset[str]]:
        """Every .npz and the names of its arrays; one that cannot be opened has none."""
        return {file: _names(file) for file in self.files if file.suffix == ".npz"}

    @cached_property
    def folders(self) -> dict[Path, list[Path]]:
        """Every folder with files of its own, and those."""
        found: dict[Path, list[Path]] = {}
        for file in self.files:
            found.setdefault(file.parent, []).append(file)
        return found

    def ending(self, suffix: str) -> Iterator[Path]:
        """The files of an ending."""
        return (file for file in self.files if file.suffix == suffix)

    def name_of(self, path: Path) -> str:
        """A path as a case is called by it: from this folder on, without its ending."""
        return path.relative_to(self.path).with_suffix("").as_posix() if path != self.path else path.name


def read_archive(path: Path) -> dict[str, np.ndarray]:
    """Every array of an .npz by name.  Raises UnsupportedError for a damaged one, and for what says to be too large."""
    arrays: dict[str, np.ndarray] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(info.file_size for info in archive.infolist()) > MOST_BYTES:
                raise UnsupportedError(f"an archive of more than {MOST_BYTES:,} bytes")
            for info in archive.infolist():
                with archive.open(info) as file:
                    _check_header(file, info.file_size)
                with archive.open(info) as file:
                    arrays[info.filename.removesuffix(".npy")] = np.lib.format.read_array(file, allow_pickle=False)
    except UnsupportedError:
        raise
    except Exception as error:  # parsers of damaged bytes fail in every way there is
        raise UnsupportedError(f"an archive that is damaged, or of types that numpy does not have ({type(error).__name__})"
                               ) from None
    return arrays


def read_text(path: Path) -> str:
    """A text file.  Raises UnsupportedError for one that is too large or no UTF-8."""
    if path.stat().st_size > MOST_BYTES:
        raise UnsupportedError(f"{printable(path.name)} has more than {MOST_BYTES:,} bytes")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UnsupportedError(f"{printable(path.name)} is no text") from None


def _check_header(file: Any, size: int) -> None:
    """Raise UnsupportedError unless an array has as many bytes as its header says."""
    version = np.lib.format.read_magic(file)
    if version not in _HEADERS:
        raise UnsupportedError(f"an array of the unknown version {version}")
    shape, _, dtype = _HEADERS[version](file)
    if dtype.hasobject or math.prod(shape) * dtype.itemsize > size:
        raise UnsupportedError("an array that is not as large as it says")


def _names(path: Path) -> frozenset[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return frozenset(name.removesuffix(".npy") for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return frozenset()


def _raise(error: OSError) -> None:
    raise error
