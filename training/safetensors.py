"""Files of the format safetensors, as others publish weights in: a header of JSON, then numbers; every byte checked.

    8 bytes, the length of the header;  {"name": {"dtype", "shape", "data_offsets": [begin, end]}, ...};  data

Source: the format's own description, https://github.com/huggingface/safetensors#format.  Nothing in such a file can be
executed, and the few lines that read it need no library.
"""

import json
import math
import os
import struct
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sim.text import printable

SUFFIX = ".safetensors"
DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
          "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool}
MOST_HEADER = 100_000_000
"""Bytes of a header, as in the format's own library."""


class SafetensorsError(ValueError):
    """A file that is not of the format, and why."""


def is_safetensors(path: Path | str) -> bool:
    """Whether a file's name says so."""
    return str(path).endswith(SUFFIX)


def read_safetensors(path: Path | str) -> dict[str, Tensor]:
    """The tensors of a file by name.  Raises SafetensorsError or OSError."""
    where = printable(path)
    with Path(path).open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= min(MOST_HEADER, size - 8):
            raise SafetensorsError(f"{where}: not of the format safetensors: no header")
        try:
            header: Any = json.loads(file.read(length))
        except (ValueError, RecursionError):
            raise SafetensorsError(f"{where}: not of the format safetensors: its header is no JSON") from None
        data = bytearray(size - 8 - length)
        if file.readinto(data) != len(data):
            raise SafetensorsError(f"{where}: it ends early")
    if not isinstance(header, dict):
        raise SafetensorsError(f"{where}: not of the format safetensors: its header names no tensors")
    header.pop("__metadata__", None)
    return {name: _tensor(f"{where}: {printable(name)}", entry, data) for name, entry in header.items()}


def _tensor(where: str, entry: Any, data: bytearray) -> Tensor:
    try:
        dtype, shape, (begin, end) = DTYPES[entry["dtype"]], entry["shape"], entry["data_offsets"]
        whole = [begin, end, *shape]
    except (KeyError, TypeError, ValueError):
        raise SafetensorsError(f"{where}: has no known type, shape and place in the file") from None
    count = math.prod(shape) if all(type(number) is int and number >= 0 for number in whole) else -1
    if count < 0 or not begin <= end <= len(data) or end - begin != count * dtype.itemsize:
        raise SafetensorsError(f"{where}: its place in the file is not that of its shape")
    if not count:
        return torch.zeros(shape, dtype=dtype)
    return torch.frombuffer(data, dtype=torch.uint8, count=end - begin, offset=begin).clone().view(dtype).reshape(shape)
