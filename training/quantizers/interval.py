"""Uniform codes on a learned interval (QKD, Kim et al. 2019, arXiv 1911.12491), per tensor or per channel.

    weights      round(clip(w / I, -1, 1) m),  m = 2^(k - 1) - 1,  worth I / m         ARITHMETIC.md, equation 10
    activations  round(clip(a / I, 0, 1) n),   n = 2^k - 1,        worth I / n         ARITHMETIC.md, equation 11

The paper names learned intervals per layer; this form and its gradients, those of PACT and LSQ, are the usual reading.
"""

from collections.abc import Mapping

from torch import Tensor

from sim.network import Parameters
from training.quantizers.quantizer import Quantizer, Scale, best_interval, bounded, per_weight, refuse_one_bit, round_through


class Interval(Quantizer):
    """Learned intervals of weights and activations, first from the smallest and largest values."""

    is_elementwise = True

    def __init__(self, per_channel: bool = False) -> None:
        self.per_channel = per_channel

    def check(self, bits: int) -> None:
        """There is no 1-bit interval."""
        refuse_one_bit("interval", bits)

    def weight_parameters(self, channels: int) -> Parameters:
        """One interval, or one per channel."""
        return {"weight_interval": (channels if self.per_channel else 1,)}

    def activation_parameters(self) -> Parameters:
        """One interval."""
        return {"interval": (1,)}

    def weight(self, weight: Tensor, bits: int, learned: Mapping[str, Tensor]) -> tuple[Tensor, Scale]:
        """Equation 10, in float64; weights on the edge count as inside."""
        interval, levels = bounded(learned["weight_interval"]), self.weight_bound(bits)
        ratio = (weight.double() / per_weight(interval, weight)).clamp(-1.0, 1.0)
        return round_through(ratio * levels).float(), interval / levels

    def weight_bound(self, bits: int) -> int:
        """Codes are symmetric."""
        return 2 ** (bits - 1) - 1

    def activation_scale(self, bits: int, limit: float, learned: Mapping[str, Tensor], features: int) -> Scale:
        """Equation 11."""
        return bounded(learned["interval"]) / (2**bits - 1)

    def start_weight(self, weight: Tensor, bits: int, method: str) -> dict[str, Tensor]:
        """The largest magnitude, of the layer or of each channel, or less if squared errors say so."""
        rows = weight.detach().double().reshape(len(weight) if self.per_channel else 1, -1)
        largest = rows.abs().amax(1, keepdim=True)
        return {"weight_interval": best_interval(rows, largest, self.weight_bound(bits), method).flatten().float()}

    def start_activation(self, samples: Tensor, bits: int, method: str) -> dict[str, Tensor]:
        """The largest value, or less if squared errors say so."""
        rows = samples.double().reshape(1, -1)
        return {"interval": best_interval(rows, rows.amax(1, keepdim=True), 2**bits - 1, method).flatten().float()}
