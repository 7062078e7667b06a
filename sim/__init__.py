"""Bit-true simulation of low-precision networks in integers (numpy and numba, no torch).

What most people need is here by name: `sim.lower` makes a `sim.Program` of a trained network for a `sim.HardwareSpec`, a
`sim.Machine` runs it, `sim.evaluate` counts what it gets right.  Names are looked up when they are first used, so that
`import sim` costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sim.accumulator import Accumulator
    from sim.checkpoint import load_checkpoint
    from sim.evaluation import evaluate
    from sim.hardware import HardwareSpec
    from sim.lowering import lower
    from sim.machine import Machine
    from sim.program import Program

__all__ = ["Accumulator", "HardwareSpec", "Machine", "Program", "evaluate", "load_checkpoint", "lower"]

_HOMES = {"Accumulator": "accumulator", "HardwareSpec": "hardware", "Machine": "machine", "Program": "program",
          "evaluate": "evaluation", "load_checkpoint": "checkpoint", "lower": "lowering"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
