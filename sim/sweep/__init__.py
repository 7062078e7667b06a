"""One network on many registers, in one process: `python -m sim.sweep`, or `sweep` from Python.

configurations.py which registers are asked for | plan.py what each of them means for every layer, and which of them are the
same, by layer.py | track.py runs what differs from the network without limits, and nothing else | state.py what is done, in
a file | job.py all together | outcome.py numbers, tables, record
"""

from sim.sweep.job import sweep

__all__ = ["sweep"]
