"""`xnnpack`: a float32 product, half to even.  XNNPACK, LiteRT's default, in all layers with weights; scales below 256."""

from sim.requantizers.nearest import Nearest, nearest_rule
from sim.requantizers.rule import line_of


class Xnnpack(Nearest):
    """int64 bias [C], float32 scale [C]; ARITHMETIC.md, R5."""

    name = "xnnpack"
    most = 256.0


Xnnpack.line = line_of("xnnpack", nearest_rule)
