"""Concatenation along channels."""

import torch

from training.layers.codes import Codes, rescaled
from training.layers.layer import Layer


class ConcatLayer(Layer):
    """Equation 7 for each input, side by side."""

    def forward(self, *inputs: Codes) -> Codes:
        """All in units of the new step, then its codes."""
        step = self.end.step()
        steps = [rescaled(x.values.float(), x.scale / step) for x in inputs]
        return self.end(torch.cat(steps, 1), step)
