"""The same values in another format."""

import torch
from torch import Tensor

from training.fused import Rescaled
from training.layers.codes import Codes, rescaled
from training.layers.layer import Layer


class RequantizeLayer(Layer):
    """Equation 7."""

    def forward(self, x: Codes) -> Codes:
        """Values in units of the new step, then its codes."""
        if self.training and x.packed is not None and self.end.can_fuse(x):
            return self._fused(x, x.packed)
        step = self.end.step()
        return self.end(rescaled(x.values.float(), x.scale / step), step)

    def _fused(self, x: Codes, packed: Tensor) -> Codes:
        step = self.end.step()
        gain = torch.as_tensor(x.scale / step, dtype=torch.float64)
        values, codes = Rescaled.apply(
            x.values, packed, gain, self.end.taught(step), int(self.end.levels), self.gradients)
        return self.end.codes(values, codes, step)
