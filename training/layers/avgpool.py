"""Average pooling."""

import math

import torch
from torch.nn import functional as F

from sim.formats import EXACT_FLOAT32
from training.layers.codes import Codes
from training.layers.layer import Layer


class AvgPoolLayer(Layer):
    """Sums over windows, then equation 7 with the number of codes in a window as divisor."""

    def forward(self, x: Codes) -> Codes:
        """Padding counts as 0 and the divisor is always the whole window."""
        area = math.prod(self.row.window)
        values = x.values.float()
        if x.bound != float("inf") and area * x.bound >= EXACT_FLOAT32:
            values = values.double()
        values = F.pad(values, (self.row.padding,) * 4)  # avg_pool2d itself allows no padding beyond half a window
        values = F.avg_pool2d(values, self.row.window, self.row.stride, divisor_override=1).float()
        step = self.end.step()
        gain = torch.as_tensor(x.scale / (area * step), device=values.device).float()
        return self.end(values * gain, step)
