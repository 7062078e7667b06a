"""Maximum pooling."""

from torch.nn import functional as F

from training.layers.codes import Codes
from training.layers.layer import Layer


class MaxPoolLayer(Layer):
    """The largest code of each window; scale and bound stay."""

    def forward(self, x: Codes) -> Codes:
        """Padding is no part of a window."""
        values, padding = x.values, self.row.padding
        if 2 * padding > min(self.row.window):  # max_pool2d itself allows no padding beyond half a window
            values, padding = F.pad(values, (padding,) * 4, value=float("-inf")), 0
        return x._replace(values=F.max_pool2d(values, self.row.window, self.row.stride, padding), packed=None)
