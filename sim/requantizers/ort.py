"""`ort`: a float32 product, half to even.  ONNX Runtime in QLinearConv and QLinearMatMul."""

from sim.requantizers.nearest import Nearest, nearest_rule
from sim.requantizers.rule import line_of


class Ort(Nearest):
    """int64 bias [C], float32 scale [C]; ARITHMETIC.md, R5."""

    name = "ort"


Ort.line = line_of("ort", nearest_rule)
