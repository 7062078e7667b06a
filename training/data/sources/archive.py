"""Reads arrays out of an .npz file that anybody may have written: every byte checked, nothing executed.

numpy.load trusts the header of an array: it asks for as much memory as that says, and reads no further, so that the
zip file's checksum is never compared where the header names fewer bytes than there are.
"""

import math
import os
import warnings
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import IO

import numpy as np

from sim.text import printable
from training.data.dataset import DataError

_AT_ONCE = 1 << 22
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read_arrays(path: Path, wanted: Collection[str], adornments: Collection[str] = (),
                ) -> tuple[dict[str, np.ndarray], list[str]]:
    """The wanted arrays that are there, in the order of `wanted`, and the names of all others.

    Raises DataError in one line for whatever is wrong with the file.  Only `adornments` may be Python objects; they are
    not loaded either, an empty array stands for them.
    """
    where = printable(path)
    try:
        with warnings.catch_warnings(), zipfile.ZipFile(path) as archive:
            warnings.simplefilter("ignore")  # numpy warns of files of Python 2, which it reads
            return _read(where, archive, wanted, adornments)
    except DataError:
        raise
    except MemoryError:
        raise DataError(f"{where}: not enough memory for its arrays") from None
    except OSError as error:
        raise DataError(f"{where}: cannot be read ({error.strerror or error})") from None
    except zipfile.BadZipFile as error:
        raise DataError(f"{where}: not a readable .npz: damaged or another kind of file ({printable(error)})") from None
    except Exception as error:  # parsers of damaged bytes fail in every way there is
        raise DataError(f"{where}: not a readable .npz of plain arrays ({type(error).__name__})") from None


def _read(where: str, archive: zipfile.ZipFile, wanted: Collection[str], adornments: Collection[str],
          ) -> tuple[dict[str, np.ndarray], list[str]]:
    members: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        name = info.filename.removesuffix(".npy")
        if name in members:
            raise DataError(f"{where}: not a readable .npz: array {printable(name)} is in it twice")
        members[name] = info
    chosen = {name: members[name] for name in wanted if name in members}
    check_memory(where, sum(info.file_size for info in chosen.values()))
    arrays = {}
    for name, info in chosen.items():
        with archive.open(info) as stream:
            arrays[name] = _array(f"{where}: {name}", stream, info.file_size, name in adornments)
    return arrays, [name for name in members if name not in chosen]


def check_memory(where: str, size: int) -> None:
    """Refuse what no memory of this machine can hold; asked for, such an amount kills the process instead of failing."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if size > memory:
        raise DataError(f"{where}: its images take {size / 2**30:,.1f} GiB, this machine has {memory / 2**30:,.1f} GiB "
                        "of memory")


def _array(where: str, stream: IO[bytes], size: int, is_adornment: bool) -> np.ndarray:
    """One .npy of `size` bytes, to its very end, where the zip file compares its checksum."""
    version = np.lib.format.read_magic(stream)
    if version not in _HEADERS:
        raise DataError(f"{where} is not a readable array: format {version[0]}.{version[1]} is for types with named fields")
    shape, fortran, dtype = _HEADERS[version](stream)
    if dtype.hasobject and is_adornment:
        return np.empty(0, object)
    if dtype.hasobject:
        raise DataError(f"{where} is not a readable array: it holds Python objects, which are never loaded")
    expected, there = math.prod(shape) * dtype.itemsize, size - stream.tell()
    if expected != there or min(shape, default=0) < 0:
        raise DataError(f"{where} is not a readable array: {printable(dtype)} {shape} takes {expected} bytes, there are "
                        f"{there}")
    content = np.empty(expected, np.uint8)
    done = 0
    while part := stream.read(_AT_ONCE):
        content[done : done + len(part)] = np.frombuffer(part, np.uint8)
        done += len(part)
    if done != expected:
        raise DataError(f"{where} is not a readable array: it ends after {done} of {expected} bytes")
    if dtype.itemsize == 0:
        return np.zeros(0, dtype)
    array = content.view(dtype)
    return array.reshape(shape[::-1]).T if fortran else array.reshape(shape)
