"""What rules of an addition share: two operands of scales s_a and s_b -> codes of scale s_y.  Used as AddOp's `requant`."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from sim.formats import IntFormat
from sim.requantizers.requantizer import Affine, RequantizeError, Requantizer
from sim.requantizers.rule import Rule


@dataclass(frozen=True, eq=False, repr=False)
class Addition(Rule):
    """A rule(x, y): x are codes of one operand less their zero point, y those of the other."""

    @classmethod
    def from_scales(  # type: ignore[override]
            cls, a: Any, b: Any, target: Any, channels: int, sign: int = 1) -> "Addition":
        """Of the scales of both operands and of the output, float32; sign -1 is a subtraction a - b."""
        raise NotImplementedError

    @classmethod
    def build(cls, affine: Affine, target: IntFormat) -> "Addition":
        """For an addition of our own: scales of both operands in units of the output's."""
        if affine.skip_gain is None or affine.offset.any() or (affine.gain != affine.gain[0]).any():
            raise RequantizeError(f"{cls.name} adds two tensors, and is nothing for other layers")
        return cls.from_scales(np.float32(affine.gain[0]), np.float32(affine.skip_gain), np.float32(1.0), len(affine.gain))

    @classmethod
    def build_logits(cls, affine: Affine) -> tuple[Requantizer, float]:
        """None."""
        raise RequantizeError(f"{cls.name} adds two tensors, and is nothing for the last layer")


def ratios(a: Any, b: Any, target: Any) -> tuple[np.float32, np.float32]:
    """The scales of both operands in units of the output's, quotients in float32."""
    return np.float32(a) / np.float32(target), np.float32(b) / np.float32(target)
