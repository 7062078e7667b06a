"""Signed uniform codes on learned intervals or steps: ARITHMETIC.md, equations 10 to 13."""

import numpy as np

from sim.formats import IntFormat
from sim.quantizers.quantizer import Arrays, Parameters, Quantizer, QuantizerError, bounded, per_weight, scale_of


class _Uniform(Quantizer):
    """What intervals and steps share."""

    name = ""

    def __init__(self, per_channel: bool = False) -> None:
        self.per_channel = per_channel

    def check(self, bits: int) -> None:
        """A signed code of 1 bit has no positive level."""
        if bits == 1:
            raise QuantizerError(f"quantizer {self.name} has no levels at 1 bit: choose 2 or more, or another quantizer")

    def weight_format(self, bits: int) -> IntFormat:
        """k bits, signed."""
        return IntFormat(bits, signed=True)


class Interval(_Uniform):
    """Codes up to m = 2^(k-1) - 1 on [-I, I], up to n = 2^k - 1 on [0, I]."""

    name = "interval"

    def weight_parameters(self, channels: int) -> Parameters:
        """I of the weights."""
        return {"weight_interval": (channels if self.per_channel else 1,)}

    def activation_parameters(self) -> Parameters:
        """I of the activation."""
        return {"interval": (1,)}

    def weight_codes(self, weight: np.ndarray, bits: int, learned: Arrays) -> tuple[np.ndarray, np.ndarray | float]:
        """Equation 10."""
        interval, most = bounded(learned["weight_interval"]), float(2 ** (bits - 1) - 1)
        share = np.clip(weight.astype(np.float64) / per_weight(interval, weight), -1.0, 1.0)
        return np.rint(share * most).astype(np.int32), scale_of(interval / most)

    def activation_scale(self, bits: int, limit: float, learned: Arrays) -> float:
        """Equation 11."""
        return float(bounded(learned["interval"])[0] / (2**bits - 1))


class Lsq(_Uniform):
    """Codes are multiples of a step s."""

    name = "lsq"

    def weight_parameters(self, channels: int) -> Parameters:
        """s of the weights."""
        return {"weight_step": (channels if self.per_channel else 1,)}

    def activation_parameters(self) -> Parameters:
        """s of the activation."""
        return {"activation_step": (1,)}

    def at_width(self, name: str, learned: np.ndarray, trained: int, bits: int) -> np.ndarray:
        """Steps change so that the largest code stands for the same number."""
        spare = 1 if name == "weight_step" else 0
        return (learned * (2.0 ** (trained - spare) - 1.0) / (2.0 ** (bits - spare) - 1.0)).astype(np.float32)

    def weight_codes(self, weight: np.ndarray, bits: int, learned: Arrays) -> tuple[np.ndarray, np.ndarray | float]:
        """Equation 12."""
        step, form = bounded(learned["weight_step"]), self.weight_format(bits)
        multiples = np.clip(weight.astype(np.float64) / per_weight(step, weight), form.min, form.max)
        return np.rint(multiples).astype(np.int32), scale_of(step)

    def activation_scale(self, bits: int, limit: float, learned: Arrays) -> float:
        """Equation 13."""
        return float(bounded(learned["activation_step"])[0])
