"""What every quantizer is on the side of the hardware."""

from collections.abc import Mapping

import numpy as np

from sim.formats import IntFormat

Arrays = Mapping[str, np.ndarray]
Parameters = dict[str, tuple[int, ...]]
"""Names of learned arrays and their shapes."""
LEAST, MOST = 2.0**-20, 2.0**20


class QuantizerError(ValueError):
    """A width that a quantizer does not have, and what it has."""


class Quantizer:
    """The rule by which a trained network's floats become the integers of the hardware.

    What a network learned about a layer or an activation comes as float32 arrays by name; `weight_parameters` and
    `activation_parameters` say which there are.  This base class has none.
    """

    def check(self, bits: int) -> None:
        """Raise QuantizerError unless there is such a width."""

    def weight_parameters(self, channels: int) -> Parameters:
        """Names and shapes of what is learned about the weights of a layer."""
        return {}

    def activation_parameters(self) -> Parameters:
        """Names and shapes of what is learned about an activation."""
        return {}

    def at_width(self, name: str, learned: np.ndarray, trained: int, bits: int) -> np.ndarray:
        """What was learned (float32) at a width, for another one: ranges stay as they are."""
        return learned

    def weight_codes(self, weight: np.ndarray, bits: int, learned: Arrays) -> tuple[np.ndarray, np.ndarray | float]:
        """float32 weights [Cout, ...] -> (int32 codes of that shape, what one step stands for: a number or [Cout])."""
        raise NotImplementedError

    def weight_format(self, bits: int) -> IntFormat:
        """The signed operand that holds every weight code."""
        raise NotImplementedError

    def activation_scale(self, bits: int, limit: float, learned: Arrays) -> float:
        """What one activation code step stands for."""
        raise NotImplementedError


def bounded(learned: np.ndarray) -> np.ndarray:
    """A learned interval or step as float64 [1 or channels], nothing below 2^-20 or above 2^20."""
    return np.minimum(np.maximum(learned.astype(np.float64), LEAST), MOST)


def per_weight(scale: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """[1 or Cout] in a shape that broadcasts over weights."""
    return scale.reshape(-1, *[1] * (weight.ndim - 1))


def scale_of(values: np.ndarray) -> np.ndarray | float:
    """A plain number if there is one only."""
    return float(values[0]) if values.size == 1 else values
