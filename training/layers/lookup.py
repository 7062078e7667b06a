"""A function of one value: a table over codes forward, the smooth function's gradient backward."""

import math

import torch
from torch import Tensor

from sim.functions import function_at
from training.functions import smooth
from training.layers.codes import Codes, in_steps, number, rescaled
from training.layers.layer import Layer
from training.layers.through import straight_through
from training.quantizers import Scale


class LookupLayer(Layer):
    """Equation F13, in train() as in eval()."""

    def forward(self, x: Codes) -> Codes:
        """[N, C, H, W], any shape."""
        step = self.end.step()
        if self.end.is_float or not math.isfinite(x.bound):
            return self._smooth(x, step)
        codes = self._gathered(x, step)
        if not torch.is_grad_enabled():
            return Codes(codes, step, self.end.levels, least=self.end.least)
        return straight_through(self._smooth(x, step), codes)

    def _smooth(self, x: Codes, step: Scale) -> Codes:
        """In real numbers, with gradients, then as codes."""
        values = smooth(self.row.function)(rescaled(x.values.float(), x.scale))
        return self.end(in_steps(values, step), step)

    @torch.no_grad()
    def _gathered(self, x: Codes, step: Scale) -> Tensor:
        """From a table over all that codes of this bound may be, filled in float64."""
        most, scale = int(x.bound), number(x.scale)
        every = torch.arange(-most, most + 1, dtype=torch.float64, device=x.values.device)
        steps = (function_at(self.row.function, scale)(every * scale) / number(step)).round()
        table = steps.clamp(self.end.least, self.end.levels).float()
        codes = table[x.values.nan_to_num().long() + most]
        return codes + 0.0 * x.values if self.training else codes  # of a network that diverges, what is no number stays none
