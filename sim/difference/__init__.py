"""Two machines beside each other: where their integers first differ, how many do, and why where that can be told.

    found = compare(side_a, side_b, pixels);  found.first, found.layers

`sides.py` says what may be compared, `axes.py` reads arrays of others, `count.py` counts, `causes.py` says why.
"""

from sim.difference.count import Difference, LayerDifference, compare
from sim.difference.errors import DiffError
from sim.difference.sides import Side, Simulated, Stored, Torch

__all__ = ["DiffError", "Difference", "LayerDifference", "Side", "Simulated", "Stored", "Torch", "compare"]
