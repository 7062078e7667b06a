"""What a program costs: operations, memory, energy, cycles, and, on data, zero operands and toggled bits.

    cost = cost_of(program, array="ws:32x32");  cost.total["macs"], cost.layers[0].ebops, cost.qonnx["total_bops"]

Every number is of one image.  `static.py` has what follows from the program alone, `activity.py` what data add.
"""

from sim.cost.activity import Activity, activity_of
from sim.cost.arrays import Array, array_named
from sim.cost.cost import Cost, cost_of
from sim.cost.energy import EnergyTable, energy_table
from sim.cost.errors import CostError
from sim.cost.qonnx import inference_cost

__all__ = ["Activity", "Array", "Cost", "CostError", "EnergyTable", "activity_of", "array_named", "cost_of", "energy_table",
           "inference_cost"]
