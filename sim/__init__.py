"""Bit-true simulation of low-precision networks in integers (numpy and numba, no torch).

What most people need is here by name: `sim.lower` makes a `sim.Program` of a trained network for a `sim.HardwareSpec`, a
`sim.Machine` runs it, `sim.evaluate` counts what it gets right.  Names are looked up when they are first used, so that
`import sim` costs nothing.
"""

import sys
from typing import TYPE_CHECKING

from sim.interrupts import end_in_one_line, is_own
from sim.lazy import lazy
from sim.version import __version__

if TYPE_CHECKING:
    from sim.accumulator import Accumulator
    from sim.checkpoint import load_checkpoint
    from sim.evaluation import evaluate
    from sim.hardware import HardwareSpec
    from sim.lowering import lower
    from sim.machine import Machine
    from sim.program import Program

__all__ = ["Accumulator", "HardwareSpec", "Machine", "Program", "__version__", "evaluate", "load_checkpoint", "lower"]

__getattr__, __dir__ = lazy(__name__, {
    "Accumulator": "sim.accumulator", "HardwareSpec": "sim.hardware", "Machine": "sim.machine", "Program": "sim.program",
    "evaluate": "sim.evaluation", "load_checkpoint": "sim.checkpoint", "lower": "sim.lowering"})

if is_own(sys.argv, sys.orig_argv):
    end_in_one_line()
