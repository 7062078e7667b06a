"""Padding."""

from torch import Tensor
from torch.nn import functional as F

from training.layers.codes import Codes
from training.layers.layer import Layer


class PadLayer(Layer):
    """Zero codes around the image; the others are copied."""

    def forward(self, x: Codes) -> Codes:
        """Scale and bound stay."""
        return x._replace(values=self._copy(x.values), packed=None if x.packed is None else self._copy(x.packed))

    def _copy(self, values: Tensor) -> Tensor:
        top, bottom, left, right = self.row.paddings
        return F.pad(values, (left, right, top, bottom))
