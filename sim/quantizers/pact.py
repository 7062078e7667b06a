"""PACT's learned clip, with DoReFa's weights or SAWB's: ARITHMETIC.md, equations 11 and 14."""

import numpy as np

from sim.formats import IntFormat
from sim.quantizers.dorefa import DoReFa, mean_magnitude
from sim.quantizers.quantizer import LEAST, Arrays, Parameters, QuantizerError, bounded

COEFFICIENTS = {2: (3.12, -2.064), 3: (7.509, -6.892), 4: (12.68, -12.80), 8: (31.76, -35.04)}


class Pact(DoReFa):
    """Weights as DoReFa; the largest activation code stands for a learned number."""

    def activation_parameters(self) -> Parameters:
        """The clip."""
        return {"alpha": (1,)}

    def activation_scale(self, bits: int, limit: float, learned: Arrays) -> float:
        """Equation 11."""
        return float(bounded(learned["alpha"])[0] / (2**bits - 1))


class Sawb(Pact):
    """Odd weight codes on a clip that follows from the weights."""

    def check(self, bits: int) -> None:
        """Four widths have coefficients."""
        if bits not in COEFFICIENTS:
            raise QuantizerError(f"quantizer sawb has no coefficients for {bits} bits: choose "
                                 f"{', '.join(map(str, COEFFICIENTS))}, or another quantizer")

    def weight_codes(self, weight: np.ndarray, bits: int, learned: Arrays) -> tuple[np.ndarray, np.ndarray | float]:
        """Equation 14."""
        values, steps = weight.astype(np.float64), float(2**bits - 1)
        root, mean = COEFFICIENTS[bits]
        clip = max(root * float(np.sqrt(mean_magnitude(values * values))) + mean * mean_magnitude(values), LEAST)
        level = np.rint((np.clip(values / clip, -1.0, 1.0) * 0.5 + 0.5) * steps)
        return (2.0 * level - steps).astype(np.int32), clip / steps

    def weight_format(self, bits: int) -> IntFormat:
        """As DoReFa's odd codes."""
        return IntFormat(bits + 1, signed=True)
