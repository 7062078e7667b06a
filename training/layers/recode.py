"""The same values in codes of a fixed format and step."""

import math

import torch

from sim.network import Recode
from training.layers.codes import Codes, multiplier, number
from training.layers.layer import Context, Layer
from training.layers.through import straight_through


class RecodeLayer(Layer):
    """Equation F13 of the identity, in train() as in eval(); its gradient is 1 inside the format's range."""

    def __init__(self, row: Recode, context: Context) -> None:
        super().__init__(row, context)
        self.most = float(row.format.max)

    def forward(self, x: Codes) -> Codes:
        """[N, C, H, W], any shape; real numbers stay real."""
        if not math.isfinite(x.bound):
            return x
        step = self.row.step_for(number(x.scale), float(x.format.max))
        with torch.no_grad():
            codes = (x.values.double() * number(x.scale) / step).round().clamp(-self.most, self.most).float()
        if not torch.is_grad_enabled():
            return Codes(codes, step, self.most)
        smooth = (x.values.float() * multiplier(x.scale) / step).clamp(-self.most, self.most)
        return straight_through(Codes(smooth, step, self.most), codes)
