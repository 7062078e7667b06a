"""Registers as files say them: those of one layer, and files that give each layer its own.

    [layers]
    stage1_block1_conv1 = "end:12:saturate"
    stage1_block1_conv2 = { stages = "2:16:saturate,end:20:wrap", order = "channels" }
    stage2_block1_conv1 = { bits = 14, overflow = "wrap" }
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sim.accumulator import Accumulator, AccumulatorError, parse_accumulator
from sim.orders import DEFAULT
from sim.text import printable
from sim.toml import TomlError, read_toml

MOST_BYTES = 1 << 20
"""No file of registers is larger."""
KEYS = ("bits", "overflow", "tile", "stages", "order")
LAYERS = "layers"


class RegistersError(ValueError):
    """A file of registers that is none: which key, and what is allowed."""


def register_of(value: Any, where: str) -> Accumulator:
    """The accumulator that a value of a file says: stages as the command line takes them, or a table of KEYS.

    Raises RegistersError, which names the key `where` and what is allowed.
    """
    try:
        if isinstance(value, str):
            return parse_accumulator(value)
        if not isinstance(value, dict):
            raise RegistersError(f"{where} is a table of {', '.join(KEYS)}, not {printable(repr(value))}")
        for key in value:
            if key not in KEYS:
                raise RegistersError(f"{where}.{printable(key)} is no key, a register has {', '.join(KEYS)}")
        if "stages" in value:
            return _staged(value, where)
        if "bits" not in value and value:
            raise RegistersError(f"{where}.bits is missing: only a limited register has {' and '.join(value)}")
        return Accumulator(**value)
    except AccumulatorError as error:
        raise RegistersError(f"{where}: {printable(error)}") from None


def _staged(value: Mapping[str, Any], where: str) -> Accumulator:
    if others := [key for key in value if key not in ("stages", "order")]:
        raise RegistersError(f"{where}.{others[0]} cannot be beside stages, each of which says its own: "
                             "PRODUCTS:BITS:RULE or PRODUCTS:BITS:RULE:TILE")
    if not isinstance(value["stages"], str):
        raise RegistersError(f"{where}.stages is a text such as \"2:16:saturate,end:32:wrap\", not "
                             f"{printable(repr(value['stages']))}")
    return parse_accumulator(value["stages"], value.get("order", DEFAULT))


def layers_of(table: Any) -> dict[str, Accumulator]:
    """The registers of a table of layers.  Raises RegistersError."""
    if not isinstance(table, dict):
        raise RegistersError(f"{LAYERS} is a table of layers and their registers, not {printable(repr(table))}")
    return {name: register_of(value, f"{LAYERS}.{printable(name)}") for name, value in table.items()}


def read_registers(path: Path | str) -> dict[str, Accumulator]:
    """The accumulators of a file, by layer.  Raises RegistersError, which names file and key, and OSError."""
    try:
        tables = read_toml(Path(path), "file of registers", MOST_BYTES)
        if others := [key for key in tables if key != LAYERS]:
            raise RegistersError(f"{printable(others[0])} is no key of it, which has the table {LAYERS}")
        if not tables:
            raise RegistersError(f"the table [{LAYERS}] is missing")
        return layers_of(tables[LAYERS])
    except (RegistersError, TomlError) as error:
        raise RegistersError(f"{printable(path)}: {error}") from None


def registers_text(layers: Mapping[str, Accumulator], comment: str = "") -> str:
    """A file of registers, which `read_registers` reads; `comment` is what stands above, line by line.

    >>> print(registers_text({"conv1": Accumulator(12, "saturate")}), end="")
    [layers]
    "conv1" = "end:12:saturate"
    """
    lines = [f"# {printable(line)}" for line in comment.splitlines()]
    return "\n".join([*lines, f"[{LAYERS}]", *(f"{_quoted(name)} = {_value(own)}" for name, own in layers.items())]) + "\n"


def _value(register: Accumulator) -> str:
    stages = _quoted(register.text)
    return stages if register.order == DEFAULT else f"{{ stages = {stages}, order = {_quoted(register.order)} }}"


def _quoted(text: str) -> str:
    """A text of TOML, whose escapes are those of JSON but for what JSON leaves as it is."""
    return json.dumps(text).replace("\x7f", "\\u007f")
