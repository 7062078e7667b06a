"""The end of a row: its function, then codes."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sim.network import FLOAT_BITS, Activation
from training import kernels
from training.layers.codes import BYTE, Codes
from training.quantizers import Quantizer, Scale

FLOAT_FUNCTIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu, "relu6": F.relu6, "none": lambda values: values}


class Activate(nn.Module):
    """The end of every row: ReLU, or codes of the row's activation format.

    `bits` may be changed for a forward pass (SPEQ's teacher); what the quantizer learned stays.
    """

    def __init__(self, activation: Activation, bits: int, quantizer: Quantizer, features: int) -> None:
        super().__init__()
        self.role, self.limit, self.features = activation.role, activation.limit, features
        self.activation = activation
        self.bits = bits
        self.quantizer = quantizer
        for name, shape in quantizer.activation_parameters().items():
            self.register_parameter(name, nn.Parameter(torch.full(shape, activation.limit)))
        self.learned = tuple(quantizer.activation_parameters())

    @property
    def is_float(self) -> bool:
        """Whether there are no codes."""
        return self.bits == FLOAT_BITS

    @property
    def levels(self) -> float:
        """The largest code, or inf."""
        return float("inf") if self.is_float else 2 ** self.activation.magnitude_bits(self.bits) - 1

    @property
    def least(self) -> float:
        """The smallest code."""
        return -self.levels if self.activation.signed else 0.0

    def can_fuse(self, x: Codes) -> bool:
        """Whether a row that reads `x` and ends like this may run as one operation."""
        is_usual = self.levels <= BYTE and type(self.quantizer).activation is Quantizer.activation
        if self.activation.signed or not is_usual:
            return False
        is_plain = x.values.device.type == "cpu" and x.values.dtype in (torch.float32, torch.bfloat16)
        return is_plain and not torch.is_autocast_enabled("cpu") and kernels.is_available()

    def taught(self, step: Scale) -> Tensor | None:
        """The step if its quantizer wants the rounding error's gradient for it."""
        return step if self.quantizer.error_teaches_scale and isinstance(step, Tensor) else None

    def step(self) -> Scale:
        """What one code stands for."""
        if self.is_float:
            return 1.0
        learned = {name: getattr(self, name) for name in self.learned}
        bits = self.activation.magnitude_bits(self.bits)
        return self.quantizer.activation_scale(bits, self.limit, learned, self.features)

    def forward(self, steps: Tensor, step: Scale) -> Codes:
        """Values in units of `step` -> codes."""
        if self.is_float:
            return Codes(FLOAT_FUNCTIONS[self.activation.function](steps), 1.0, float("inf"))
        bits = self.activation.magnitude_bits(self.bits)
        # quantizers of one's own need not know of signs unless a network has such activations
        codes = self.quantizer.activation(steps, bits, step, signed=True) if self.activation.signed else \
            self.quantizer.activation(steps, bits, step)
        return Codes(codes, step, self.levels, least=self.least)

    @torch.no_grad()
    def calibrate(self, samples: Tensor, method: str) -> None:
        """First values of what the quantizer learns, from real results of the row [any number]."""
        bits = self.activation.magnitude_bits(self.bits)
        for name, value in self.quantizer.start_activation(samples.abs(), bits, method).items():
            getattr(self, name).copy_(value)

    def codes(self, values: Tensor, packed: Tensor, step: Scale) -> Codes:
        """What a fused row found."""
        return Codes(values, step, self.levels, packed if packed.numel() else None, self.least)
