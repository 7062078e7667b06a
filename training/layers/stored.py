"""Weights that are results: embeddings of ids, positions, what is the same for every image."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sim.network import FLOAT_BITS, Embedding, Positions, TokenInput
from training.layers.codes import Codes, first_weights
from training.layers.layer import Context, Layer
from training.quantizers import Scale

SPREAD = 0.02
"""Standard deviation of first weights, as BERT's."""


class TokenLayer(Layer):
    """Ids as codes."""

    def __init__(self, row: TokenInput, context: Context) -> None:
        super().__init__(row, context)
        self.most = row.vocabulary - 1

    def forward(self, ids: Tensor) -> Codes:
        """Whole numbers [N, tokens] -> [N, 1, tokens, 1]."""
        return Codes(ids[:, None, :, None].float(), 1.0, float(self.most))


class StoredLayer(Layer):
    """A table of weights [rows, features], quantized with one scale whatever the quantizer does for channels."""

    def __init__(self, row: Embedding | Positions, context: Context) -> None:
        super().__init__(row, context)
        self.quantizer = context.quantizer
        self.bits = context.weight_bits(row)
        shape = row.array_shapes(context.shapes)["weight"]
        self.weight = nn.Parameter(torch.empty(shape).normal_(0.0, SPREAD, generator=first_weights()))
        parameters = self.quantizer.weight_parameters(row.weight_channels)
        for name, size in parameters.items():
            self.register_parameter(name, nn.Parameter(torch.ones(size)))
        self.learned = tuple(parameters)

    @torch.no_grad()
    def calibrate_weights(self, method: str) -> None:
        """From the weights themselves."""
        if self.bits != FLOAT_BITS:
            for name, value in self.quantizer.start_weight(self.weight[None], self.bits, method).items():
                getattr(self, name).copy_(value)

    def codes(self) -> Codes:
        """The table [rows, features] as the hardware holds it; float weights have scale 1."""
        if self.bits == FLOAT_BITS:
            return Codes(self.weight, 1.0, float("inf"))
        return self._quantized(self.weight)

    def _quantized(self, weight: Tensor) -> Codes:
        """Of the table, or of rows of it where codes do not depend on others."""
        learned = {name: getattr(self, name) for name in self.learned}
        codes, scale = self.quantizer.weight(weight[None], self.bits, learned)
        return Codes(codes[0], _one(scale), float(self.quantizer.weight_bound(self.bits)))


class EmbeddingLayer(StoredLayer):
    """The row of each id."""

    def forward(self, ids: Codes) -> Codes:
        """[N, 1, tokens, 1] -> [N, features, tokens, 1]."""
        wanted = ids.values[:, 0, :, 0].long()
        if self.bits != FLOAT_BITS and self.quantizer.is_elementwise:  # most words of a vocabulary are in no batch
            found = self._quantized(F.embedding(wanted, self.weight))
        else:
            table = self.codes()
            found = table._replace(values=F.embedding(wanted, table.values))
        return found._replace(values=found.values.transpose(1, 2)[..., None])


class PositionsLayer(StoredLayer):
    """The same for every image."""

    def forward(self, given: Tensor) -> Codes:
        """What the user hands over, which says how many images there are -> [N, features, tokens, 1]."""
        table = self.codes()
        return table._replace(values=table.values.T[None, ..., None].expand(len(given), -1, -1, -1))


def _one(scale: Scale) -> Scale:
    """A scale that is no list."""
    return scale.reshape(()) if isinstance(scale, Tensor) else scale
