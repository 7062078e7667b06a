"""Which of two texts a token belongs to."""

import torch

from sim.network import Segments
from training.layers.codes import Codes
from training.layers.layer import Context, Layer


class SegmentsLayer(Layer):
    """Ids to ids: 0, and 1 behind the first separator."""

    def __init__(self, row: Segments, context: Context) -> None:
        super().__init__(row, context)
        self.separator = row.separator

    def forward(self, ids: Codes) -> Codes:
        """[N, 1, tokens, 1], the same shape."""
        ends = (ids.values == self.separator).long()
        before = ends.cumsum(2) - ends
        return Codes((before > 0).to(torch.float32), 1.0, 1.0)
