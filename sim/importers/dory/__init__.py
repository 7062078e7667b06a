"""DORY's integer ONNX (NEMO's export): Conv, Mul, Add, Div, Clip for a layer.  Profile `dory_nemo`.

    layer        clamp(floor((sum mul + add) / D), 0, 255): Mul and Add of a batch norm's constants, Mul of a factor, Div
                 by D, which is mostly a power of 2, a shift of the accelerator's; some are 2^d - 1, a true floor division
    residual     floor((a m_a + b m_b) / D), then as the file says: without a Clip there is no clamp
    pools        maxima; a mean is the sum times what the file says, rounded down, or floor(sum / count)

Quotients of integers are rounded down; ONNX's Div of int64 truncates, which is the same behind a Clip at 0.  What the host
computes of the last sums in floats (LogSoftmax, Sigmoid) is left to it: the output is the sums.
"""

from sim.importers.dory.reader import OPERATORS, read, read_graph

__all__ = ["OPERATORS", "read", "read_graph"]
