"""Copies in another order: the same codes, scales and bounds."""

from torch import Tensor

from training.layers.codes import Codes
from training.layers.layer import Layer


class MoveLayer(Layer):
    """What all layers here share."""

    def forward(self, x: Codes) -> Codes:
        """[N, C, H, W] -> [N, C', H', W']."""
        return x._replace(values=self._moved(x.values), packed=None)

    def _moved(self, values: Tensor) -> Tensor:
        raise NotImplementedError


class HeadsLayer(MoveLayer):
    """Features by heads."""

    def _moved(self, values: Tensor) -> Tensor:
        """[N, heads depth, tokens, 1] -> [N, depth, heads, tokens]."""
        images, features, tokens, _ = values.shape
        return values.reshape(images, self.row.heads, features // self.row.heads, tokens).transpose(1, 2)


class TokensLayer(MoveLayer):
    """Heads side by side."""

    def _moved(self, values: Tensor) -> Tensor:
        """[N, depth, heads, tokens] -> [N, heads depth, tokens, 1]."""
        images, depth, heads, tokens = values.shape
        rows = values.permute(0, 3, 2, 1).reshape(images, tokens, 1, heads * depth)  # channels last, as linear layers read
        return rows.permute(0, 3, 1, 2)


class FlattenLayer(MoveLayer):
    """One pixel."""

    def _moved(self, values: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C H W, 1, 1]."""
        return values.flatten(1)[:, :, None, None]


class SequenceLayer(MoveLayer):
    """A token for each pixel."""

    def _moved(self, values: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C, H W, 1]."""
        return values.flatten(2)[..., None]


class SelectLayer(MoveLayer):
    """One token."""

    def _moved(self, values: Tensor) -> Tensor:
        """[N, C, tokens, 1] -> [N, C, 1, 1]."""
        return values[:, :, self.row.index : self.row.index + 1]
