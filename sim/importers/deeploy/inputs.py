"""How wide the inputs of a model are: Deeploy writes integers as float32 and keeps examples of inputs beside a model."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sim.formats import IntFormat
from sim.importers.deeploy.model import Given
from sim.importers.deeploy.requant import format_for

MOST_BYTES = 1 << 28
"""Of all arrays in the file, unpacked."""
BYTES = IntFormat(8, signed=True), IntFormat(8, signed=False)


def formats_beside(path: Path, inputs: Sequence[Given]) -> dict[str, IntFormat]:
    """From the examples in an .npz, whose arrays are in the order of the inputs: 8 bits where these suffice, else more.

    Nothing where there is no such file, or where it is none of this model.
    """
    found: dict[str, IntFormat] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > MOST_BYTES:
                return {}
        with np.load(path, allow_pickle=False) as file:
            for given, name in zip(inputs, file.files, strict=False):
                values = file[name]
                if values.size == np.prod(given.shape, dtype=np.int64) and values.dtype.kind in "iuf" and values.size \
                        and (np.abs(values.astype(np.float64)) < 2**31).all() and (values == np.rint(values)).all():
                    found[given.name] = format_holding(int(values.min()), int(values.max()))
    except Exception:  # no file, or parsers of damaged bytes, which fail in every way there is
        return found
    return found


def format_holding(low: int, high: int) -> IntFormat:
    """s8 or u8 if one of them holds both, else the narrowest of more bits."""
    return next((form for form in BYTES if form.min <= low and high <= form.max), format_for(low, high))
