"""A softmax on what remains of its rows without the tokens that are padding."""

from collections.abc import Sequence

import numpy as np

from sim.buffers import Padded
from sim.ops.masked import MaskedOp
from sim.steps.step import Step


class Masked(Step):
    """The definition as it is written, on int64 arrays, image by image: each has padding of its own."""

    def __init__(self, op: MaskedOp, isa: str) -> None:
        self.definition, self.source_zero = op.definition, op.source_zero
        self.padding, self.zero = op.padding, op.zero_point

    def __call__(self, inputs: Sequence[Padded], out: Padded) -> None:
        """Scores [N, heads, tokens, others] and ids [N, others, 1, 1] -> codes."""
        scores, ids, codes = inputs[0].interior, inputs[1].interior, out.interior
        codes[...] = self.zero
        for image in range(len(ids)):
            kept = np.flatnonzero(ids[image, :, 0, 0] != self.padding)
            if len(kept):
                codes[image][..., kept] = self.definition.codes(self._less(scores[image][..., kept]))

    def _less(self, codes: np.ndarray) -> np.ndarray:
        return codes.astype(np.int64) - self.source_zero
