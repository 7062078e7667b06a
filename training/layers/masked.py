"""Softmax over tokens but for padding, whose weights are 0: the definition of what remains, as the machine has it."""

import torch
from torch import Tensor

from sim.definitions import Definition
from sim.network import MaskedSoftmax
from training.layers.codes import Codes, in_steps, rescaled
from training.layers.defined import SoftmaxLayer, rows_of
from training.layers.layer import Context


class MaskedSoftmaxLayer(SoftmaxLayer):
    """`SoftmaxLayer` that takes the ids as well."""

    def __init__(self, row: MaskedSoftmax, context: Context) -> None:
        super().__init__(row, context)
        self.padding = row.padding

    def forward(self, x: Codes, ids: Codes) -> Codes:  # type: ignore[override]
        """[N, others, heads, tokens], over the others, and [N, 1, others, 1]."""
        return self._masked(x, ids.values[:, 0, :, 0] != self.padding)

    def _found(self, definition: Definition, values: Tensor, kept: Tensor | None) -> Tensor:
        """Text by text: each has padding of its own."""
        assert kept is not None
        codes = torch.full_like(values, float(definition.zero), dtype=torch.float32)
        for text, real in enumerate(kept):
            if real.any():
                codes[text, real] = rows_of(definition, values[text : text + 1, real])[0]
        return codes

    def _smooth(self, x: Codes, step: float, levels: float, kept: Tensor | None = None) -> Codes:
        """In real numbers, in units of `step`: minus infinity for what is left out, 0 where all is."""
        assert kept is not None
        is_out = ~kept[:, None, None, :]
        scores = rescaled(x.values.float(), x.scale).permute(0, 2, 3, 1).masked_fill(is_out, float("-inf"))
        if is_empty := bool(is_out.all(-1).any()):
            scores = scores.masked_fill(is_out.all(-1, keepdim=True), 0.0)
        weights = torch.softmax(scores, -1)
        weights = weights.masked_fill(is_out, 0.0) if is_empty else weights
        return Codes(in_steps(weights.permute(0, 3, 1, 2), step), step, levels, least=0.0)
