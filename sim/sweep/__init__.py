"""One network on many registers, in one process: `python -m sim.sweep`, or `sweep` from Python.

configurations.py which registers are asked for | plan.py what each of them means for every layer, and which of them are the
same | track.py runs what differs from the network without limits, and nothing else | state.py what is done, kept in a file |
outcome.py numbers, tables, record
"""
