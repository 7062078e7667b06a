"""Multiplication."""

from training.layers.codes import EXACT_FLOAT32, Codes, rescaled
from training.layers.layer import Layer


class MultiplyLayer(Layer):
    """Equation B, in training as in eval()."""

    def forward(self, x: Codes, other: Codes) -> Codes:
        """Exact products of codes, then their scales."""
        step = self.end.step()
        values, factors = x.values.float(), other.values.float()
        largest = x.bound * other.bound
        if largest != float("inf") and largest >= EXACT_FLOAT32:
            values = values.double()
        products = (values * factors).float()
        return self.end(rescaled(products, x.scale * other.scale / step), step)
