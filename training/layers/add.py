"""Addition."""

from training.layers.codes import Codes, rescaled
from training.layers.layer import Layer


class AddLayer(Layer):
    """Equation A, in training as in eval()."""

    def forward(self, x: Codes, other: Codes) -> Codes:
        """Both in units of the new step, then their sum: three roundings, none fused (C3)."""
        step = self.end.step()
        steps = rescaled(x.values.float(), x.scale / step)
        more = rescaled(other.values.float(), other.scale / step)
        return self.end(steps + more, step)
