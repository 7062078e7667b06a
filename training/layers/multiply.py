"""Multiplication."""

from training.layers.codes import Codes, rescaled
from training.layers.layer import Layer


class MultiplyLayer(Layer):
    """Equation B, in training as in eval()."""

    def forward(self, x: Codes, other: Codes) -> Codes:
        """Products of codes, then their scales.

        Codes are exact in float32, so that one float32 product of two is the exact one rounded once, as equation 8 has it.
        """
        step = self.end.step()
        products = x.values.float() * other.values.float()
        return self.end(rescaled(products, x.scale * other.scale / step), step)
