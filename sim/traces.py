"""What every operation of a run gave, and its sums before requantization, as files: an archive (.npz) or a folder of .npy.

    trace.npz     NAME.npy        the result [N, H, W, C] of an operation, codes in the type of their format
                  NAME.sums.npy   what its registers held after all products [N, H, W, C], int32 or where that is too
                                  narrow int64
                  __pixels__.npy  the images, uint8 [N, H, W, C]
                  __about__.npy   JSON as bytes: which program and model, the names in their order, a digest of all the rest
    folder/       the same, each array a file, with / and the like in names as %2F; trace.json in place of __about__

A file is written whole or not at all, and so is a folder; `numpy.load("trace.npz")["conv1"]` reads one.
"""

import contextlib
import hashlib
import io
import json
import math
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import numpy as np

from sim.files import write_atomically
from sim.text import printable

VERSION = 1
SUMS = ".sums"
"""Behind the name of an operation: its sums."""
ABOUT, PIXELS = "__about__", "__pixels__"
FOLDER_ABOUT = "trace.json"
MOST_BYTES = 8 << 30
"""No trace is larger: it is held in memory."""
_SAFE = " ()[]+,=@"


class TraceError(ValueError):
    """A trace that cannot be written, or a file that is none: what is wrong, and what is allowed."""


@dataclass(frozen=True)
class Trace:
    """`tensors` by name in the order of operations; `pixels` [N, H, W, C] that they are of, if that is known.

    `about` is what its file says beside: model, program, hardware.  `is_ours`: written here, so that axes stand as they do
    in a program; arrays of others may be in any order.
    """

    tensors: Mapping[str, np.ndarray]
    pixels: np.ndarray | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    is_ours: bool = True

    @property
    def digest(self) -> str:
        """SHA-256 over every name, type, shape and number."""
        digest = hashlib.sha256()
        for name, array in _members(self):
            digest.update(json.dumps([name, array.dtype.str, list(array.shape)]).encode())
            digest.update(np.ascontiguousarray(array).data)
        return "sha256:" + digest.hexdigest()

    def save(self, path: Path | str) -> None:
        """An archive if the name ends in .npz, else a folder that is not there yet.  Raises TraceError, OSError."""
        told = {"format": "bittrue-trace", "version": VERSION, "digest": self.digest, "tensors": list(self.tensors),
                **self.about}
        if Path(path).suffix == ".npz":
            write_atomically(path, lambda file: _write_archive(file, self, told))
        else:
            _write_folder(Path(path), self, told)


def _members(trace: Trace) -> Iterator[tuple[str, np.ndarray]]:
    yield from trace.tensors.items()
    if trace.pixels is not None:
        yield PIXELS, trace.pixels


def _write_archive(file: Any, trace: Trace, about: Mapping[str, Any]) -> None:
    text = np.frombuffer(json.dumps(about).encode(), np.uint8)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, array in (*_members(trace), (ABOUT, text)):
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.ascontiguousarray(array), allow_pickle=False)


def _write_folder(path: Path, trace: Trace, about: Mapping[str, Any]) -> None:
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise TraceError(f"{printable(path)} is there already: name a folder that is not, or that is empty")
    path.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=".bittrue-", dir=path.parent))
    try:
        for name, array in _members(trace):
            np.save(made / f"{file_stem(name)}.npy", np.ascontiguousarray(array), allow_pickle=False)
        (made / FOLDER_ABOUT).write_text(json.dumps(about, indent=1) + "\n")
        made.chmod(0o777 & ~_umask())
        os.replace(made, path)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def file_stem(name: str) -> str:
    """The name of an operation as that of a file.

    >>> file_stem("block1/conv"), file_stem(".hidden")
    ('block1%2Fconv', '%2Ehidden')
    """
    quoted = quote(name, safe=_SAFE)
    return "%2E" + quoted[1:] if quoted.startswith(".") else quoted


def load_trace(path: Path | str) -> Trace:
    """The trace in an archive, a folder, or one array (.npy), of ours or of anybody's.  Nothing in it is executed.

    Of ours the digest is checked.  Raises TraceError, OSError.
    """
    path = Path(path)
    try:
        if path.is_dir():
            return _load_folder(path)
        with path.open("rb") as file:
            is_archive = file.read(2) == b"PK"
        if is_archive:
            return _load_archive(path)
        return Trace({unquote(path.stem): _array(path.read_bytes())}, is_ours=False)
    except TraceError as error:
        raise TraceError(f"{printable(path)}: {error}") from None


def _array(content: bytes) -> np.ndarray:
    """An .npy file; no memory is taken for numbers that it does not have."""
    file = io.BytesIO(content)
    with _damage():
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, is_fortran, dtype = read(file)
        if dtype.kind not in "biuf":
            raise TraceError("its arrays must be of whole or real numbers")
        count = math.prod(shape)
        if count * dtype.itemsize != len(content) - file.tell():
            raise TraceError("an array with more or fewer numbers than it says")
        flat = np.frombuffer(content, dtype, count, file.tell())
    return flat.reshape(shape, order="F" if is_fortran else "C").astype(dtype.newbyteorder("="), copy=False)


@contextlib.contextmanager
def _damage() -> Iterator[None]:
    try:
        yield
    except (TraceError, MemoryError):
        raise
    except Exception as error:  # parsers of damaged bytes fail in every way there is
        raise TraceError(f"no array, or a damaged one ({type(error).__name__})") from None


def _load_archive(path: Path) -> Trace:
    with _damage(), zipfile.ZipFile(path) as archive:
        members = [entry for entry in archive.infolist() if entry.filename.endswith(".npy")]
        _check_size(sum(entry.file_size for entry in members))
        arrays = {entry.filename.removesuffix(".npy"): _array(archive.read(entry)) for entry in members}
    about = arrays.pop(ABOUT, None)
    return _made(arrays, None if about is None else about.tobytes())


def _load_folder(path: Path) -> Trace:
    files = sorted(path.glob("*.npy"))
    if not files:
        raise TraceError("a folder without .npy files")
    _check_size(sum(file.stat().st_size for file in files))
    about = path / FOLDER_ABOUT
    return _made({unquote(file.stem): _array(file.read_bytes()) for file in files},
                 about.read_bytes() if about.is_file() else None)


def _check_size(size: int) -> None:
    if size > MOST_BYTES:
        raise TraceError(f"its arrays have {size / 2**30:.1f} GiB, at most {MOST_BYTES >> 30} are read")


def _made(arrays: dict[str, np.ndarray], about: bytes | None) -> Trace:
    if about is None:
        return Trace(arrays, arrays.pop(PIXELS, None), is_ours=False)
    try:
        told = json.loads(about)
        names = list(told["tensors"])
        version, digest = told["version"], told["digest"]
    except (ValueError, RecursionError, KeyError, TypeError):
        raise TraceError("what it says of itself cannot be read, it was changed") from None
    if version != VERSION:
        raise TraceError(f"version {printable(repr(version))}, this program reads version {VERSION}")
    pixels = arrays.pop(PIXELS, None)
    if sorted(names) != sorted(arrays):
        raise TraceError("arrays are missing or were added")
    trace = Trace({name: arrays[name] for name in names}, pixels,
                  {key: value for key, value in told.items() if key not in ("format", "version", "digest", "tensors")})
    if trace.digest != digest:
        raise TraceError("the digest does not match, it was changed")
    return trace


def chosen(names: Iterable[str], wanted: Iterable[str] | None) -> list[str]:
    """Those of `names` that are asked for, in their order; all if `wanted` is None.  Raises TraceError for unknown ones."""
    known = list(names)
    if wanted is None:
        return known
    asked = set(wanted)
    if unknown := sorted(asked - set(known)):
        raise TraceError(f"layer: {printable(unknown[0])} is none of the tensors {', '.join(map(printable, known))}")
    return [name for name in known if name in asked]
