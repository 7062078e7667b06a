"""Global average pooling."""

from sim.formats import EXACT_FLOAT32
from training.layers.codes import Codes, rescaled
from training.layers.layer import Layer


class GlobalPoolLayer(Layer):
    """Sums over whole images, then equation 7 with the number of pixels as divisor."""

    def forward(self, x: Codes) -> Codes:
        """The sums are exact in any order."""
        area = x.values.shape[2] * x.values.shape[3]
        values = x.values.float()
        if x.bound != float("inf") and area * x.bound >= EXACT_FLOAT32:
            values = values.double()
        step = self.end.step()
        return self.end(rescaled(values.sum((2, 3), keepdim=True).float(), x.scale / (area * step)), step)
