"""An own quantizer in its two halves: weights on a symmetric grid up to the largest magnitude, nothing learned.

    python -m training.run --scheme takd --quantizer examples/my_quantizer.py:ABSMAX
    python -m sim.eval --model ckpt.pt --quantizer examples/my_quantizer.py:ABSMAX --verify

    weights      round(w / peak m),  m = 2^(k - 1) - 1,  peak = max |w|,  worth peak / m
    activations  as DoReFa: the largest code, 2^k - 1, stands for the network's clip

Both halves are written from these equations, in float64 with only +, -, *, / and rounding, ties to even: that is why they
find the same codes.
"""

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from sim.formats import IntFormat
from sim.quantizers import Arrays, QuantizerError
from sim.quantizers import Quantizer as NumpyQuantizer
from training.quantizers import Quantizer, Scale
from training.quantizers.quantizer import round_through

LEAST = 2.0**-20
"""A peak below it counts as it: weights that are all 0 have a scale, too."""


def refuse_one_bit(bits: int) -> None:
    """A signed grid of 1 bit has no positive level."""
    if bits == 1:
        raise QuantizerError("quantizer absmax has no levels at 1 bit: choose 2 or more")


class NumpyAbsmax(NumpyQuantizer):
    """What the simulator lowers a checkpoint with."""

    def check(self, bits: int) -> None:
        """2 bits or more."""
        refuse_one_bit(bits)

    def weight_codes(self, weight: np.ndarray, bits: int, learned: Arrays) -> tuple[np.ndarray, float]:
        """float32 weights of any shape -> (int32 codes, what one step stands for)."""
        values, most = weight.astype(np.float64), 2 ** (bits - 1) - 1
        peak = max(float(np.abs(values).max()), LEAST)
        return np.rint(values / peak * most).astype(np.int32), peak / most

    def weight_format(self, bits: int) -> IntFormat:
        """The operand of the hardware."""
        return IntFormat(bits, signed=True)

    def activation_scale(self, bits: int, limit: float, learned: Arrays) -> float:
        """What one step of an activation stands for."""
        return limit / (2**bits - 1)


class Absmax(Quantizer):
    """What training learns through: the same codes, with a gradient that passes the rounding unchanged."""

    twin = NumpyAbsmax()

    def check(self, bits: int) -> None:
        """2 bits or more."""
        refuse_one_bit(bits)

    def weight(self, weight: Tensor, bits: int, learned: Mapping[str, Tensor]) -> tuple[Tensor, Scale]:
        """Float weights of any shape -> (codes as float32, scale); the peak is held constant in the gradient."""
        most = self.weight_bound(bits)
        peak = weight.detach().double().abs().max().clamp_min(LEAST)
        return round_through(weight.double() / peak * most).float(), peak / most

    def weight_bound(self, bits: int) -> int:
        """Codes are symmetric."""
        return 2 ** (bits - 1) - 1

    def activation_scale(self, bits: int, limit: float, learned: Mapping[str, Tensor], features: int) -> Scale:
        """As the twin."""
        return limit / (2**bits - 1)


ABSMAX = Absmax()
