"""Data that nobody here wrote, and as much of ONNX's and TFLite's formats as it takes to read them."""

import os
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
DTYPES = {1: np.float32, 2: np.uint8, 3: np.int8, 4: np.uint16, 5: np.int16, 6: np.int32, 7: np.int64, 11: np.float64}


def vectors(name: str) -> Path:
    """A file or folder of ../shared/vectors (or $BITTRUE_VECTORS); skips the test where it is not."""
    places = [Path(place) for place in (os.environ.get("BITTRUE_VECTORS"),) if place]
    places += [folder / "shared" / "vectors" for folder in (ROOT.parent, ROOT.parent.parent)]
    for place in places:
        if (place / name).exists():
            return place / name
    pytest.skip(f"golden data {name} are in none of {', '.join(map(str, places))}")


def arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


@dataclass
class Node:
    kind: str = ""
    name: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    attributes: dict[str, Any] = field(default_factory=dict)


def fields(data: bytes):
    """(number, value) of each field: an int where it is a varint, else bytes."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(data):
        key = varint()
        kind = key & 7
        if kind == 0:
            yield key >> 3, varint()
            continue
        size = varint() if kind == 2 else {1: 8, 5: 4}[kind]
        yield key >> 3, data[at:at + size]
        at += size


def signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def varints(values):
    """Repeated integers, packed or not."""
    for value in values:
        if isinstance(value, int):
            yield signed(value)
        else:
            yield from (signed(v) for _, v in fields(b"".join(b"\x08" + part for part in _split(value))))


def _split(packed: bytes):
    start = 0
    for at, byte in enumerate(packed):
        if byte < 128:
            yield packed[start:at + 1]
            start = at + 1


def tensor(data: bytes) -> tuple[str, np.ndarray]:
    parts: dict[int, list] = {}
    for number, value in fields(data):
        parts.setdefault(number, []).append(value)
    dtype, shape = DTYPES[parts[2][0]], list(varints(parts.get(1, [])))
    if 9 in parts:
        array = np.frombuffer(parts[9][0], dtype)
    elif 4 in parts:
        array = np.frombuffer(b"".join(parts[4]), "<f4")
    else:
        array = np.array(list(varints(parts.get(5, []) + parts.get(7, []))))
    return parts.get(8, [b""])[0].decode(), array.astype(dtype).reshape(shape)


def attribute(data: bytes) -> tuple[str, Any]:
    parts: dict[int, list] = {}
    for number, value in fields(data):
        parts.setdefault(number, []).append(value)
    name = parts[1][0].decode()
    if 5 in parts:
        return name, tensor(parts[5][0])[1]
    if 2 in parts:
        return name, struct.unpack("<f", parts[2][0])[0]
    if 3 in parts:
        return name, signed(parts[3][0])
    if 4 in parts:
        return name, parts[4][0].decode()
    return name, list(varints(parts.get(8, [])))


def read_onnx(path: Path) -> tuple[list[Node], dict[str, np.ndarray], list[str]]:
    """The nodes in order, the constants by name, and the names of the graph's inputs."""
    graph = next(value for number, value in fields(path.read_bytes()) if number == 7)
    nodes, constants, inputs = [], {}, []
    for number, value in fields(graph):
        if number == 1:
            node = Node()
            for key, part in fields(value):
                if key in (1, 2):
                    (node.inputs if key == 1 else node.outputs).append(part.decode())
                elif key == 3:
                    node.name = part.decode()
                elif key == 4:
                    node.kind = part.decode()
                elif key == 5:
                    name, content = attribute(part)
                    node.attributes[name] = content
            nodes.append(node)
        elif number == 5:
            name, array = tensor(value)
            constants[name] = array
        elif number == 11:
            inputs.append(next(part for key, part in fields(value) if key == 1).decode())
    return nodes, constants, [name for name in inputs if name not in constants]


def input_scale(path: Path, output: int) -> float:
    """Of the .tflite operator that writes tensor number `output`: the scale of its first input."""
    data = path.read_bytes()

    def number(kind: str, at: int) -> int:
        return struct.unpack_from(kind, data, at)[0]

    def member(table: int, index: int) -> int:
        """Where a field's content is (an offset is followed), of a flatbuffer's table; 0 if it has none."""
        layout = table - number("<i", table)
        place = number("<H", layout + 4 + 2 * index) if 4 + 2 * index < number("<H", layout) else 0
        return table + place + number("<I", table + place) if place else 0

    def tables(vector: int) -> list[int]:
        starts = range(vector + 4, vector + 4 + 4 * number("<I", vector), 4)
        return [start + number("<I", start) for start in starts]

    (graph,) = tables(member(number("<I", 0), 2))
    operators = tables(member(graph, 3))
    found = next(operator for operator in operators if number("<i", member(operator, 2) + 4) == output)
    tensor = tables(member(graph, 0))[number("<i", member(found, 1) + 4)]
    return number("<f", member(member(tensor, 4), 2) + 4)
