"""The input: pixels to codes."""

import torch
from torch import Tensor

from sim.network import FLOAT_BITS, Input
from training.layers.codes import Codes
from training.layers.layer import Context, Layer


class InputLayer(Layer):
    """uint8 pixels -> normalized values, as signed codes of the boundary width (ARITHMETIC.md, equation 5)."""

    gain: Tensor
    offset: Tensor

    def __init__(self, row: Input, context: Context) -> None:
        super().__init__(row, context)
        bits = context.precision.activation_bits("boundary", row.name)
        mean = torch.tensor(row.mean, dtype=torch.float64)
        std = torch.tensor(row.std, dtype=torch.float64)
        self.bound = float("inf") if bits == FLOAT_BITS else 2 ** (bits - 1) - 1
        largest = float((torch.maximum(mean.abs(), (1.0 - mean).abs()) / std).max())
        self.scale = 1.0 if bits == FLOAT_BITS else largest / self.bound
        self.register_buffer("gain", (1.0 / (255.0 * std * self.scale)).float().view(1, -1, 1, 1), persistent=False)
        self.register_buffer("offset", (-mean / (std * self.scale)).float().view(1, -1, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> Codes:
        """[N, C, H, W] pixel values 0 .. 255, uint8 or float32."""
        steps = pixels.float() * self.gain
        steps = steps + self.offset
        if self.bound != float("inf"):
            steps = steps.round().clamp(-self.bound, self.bound)
        return Codes(steps, self.scale, self.bound)
