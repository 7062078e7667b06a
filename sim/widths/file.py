"""The file of chosen registers, which sim.eval --registers takes."""

import json
from collections.abc import Mapping

from sim.accumulator import END, Accumulator


def registers_text(layers: Mapping[str, Accumulator], comment: str = "") -> str:
    """TOML: a table `layers`, of each layer's register the stages as --accumulator has them.

    >>> print(registers_text({"stem": Accumulator(12, "saturate", 16)}, "chosen"), end="")
    # chosen
    <BLANKLINE>
    [layers]
    "stem" = "end:12:saturate:16"
    """
    told = "".join(f"# {line}\n" for line in comment.splitlines())
    lines = [f"{json.dumps(name)} = {json.dumps(_stages(register))}\n" for name, register in layers.items()]
    return told + ("\n" if told else "") + "[layers]\n" + "".join(lines)


def _stages(register: Accumulator) -> str:
    if register.bits is None:
        return "unlimited"
    tile = {END: ":end", 1: ""}.get(register.tile, f":{register.tile}")
    return f"end:{register.bits}:{register.overflow}{tile}"
