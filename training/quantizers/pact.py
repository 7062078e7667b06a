"""PACT (Choi et al. 2018, arXiv 1805.06085): a learned clip of activations; and SAWB weights (Choi et al. 2019).

    activations  round(clip(a, 0, alpha) n / alpha), worth alpha / n; d/d alpha is 1 where a >= alpha, else 0    (eq. 11)
    SAWB         odd codes 2 i - n, worth alpha / n, alpha = c1 sqrt(E w^2) + c2 E|w|                            (eq. 14)

`pact` keeps DoReFa's weights, `sawb` has its own.
"""

from collections.abc import Mapping

from torch import Tensor

from sim.network import Parameters, QuantizerError
from training import exact
from training.quantizers.dorefa import DoReFa, mean_magnitude
from training.quantizers.quantizer import LEAST, Quantizer, Scale, best_interval, bounded, round_through

SAWB_COEFFICIENTS = {2: (3.12, -2.064), 3: (7.509, -6.892), 4: (12.68, -12.80), 8: (31.76, -35.04)}


class Pact(Quantizer):
    """DoReFa's weights, activations with a learned clip, first the largest value."""

    keeps_size = False
    weights: Quantizer = DoReFa()
    decays = True
    error_teaches_scale = True

    def check(self, bits: int) -> None:
        """As DoReFa."""
        self.weights.check(bits)

    def activation_parameters(self) -> Parameters:
        """The clip."""
        return {"alpha": (1,)}

    def weight(self, weight: Tensor, bits: int, learned: Mapping[str, Tensor]) -> tuple[Tensor, Scale]:
        """DoReFa's."""
        return self.weights.weight(weight, bits, learned)

    def weight_bound(self, bits: int) -> int:
        """DoReFa's."""
        return self.weights.weight_bound(bits)

    def activation_scale(self, bits: int, limit: float, learned: Mapping[str, Tensor], features: int) -> Scale:
        """Equation 11."""
        return bounded(learned["alpha"]) / (2**bits - 1)

    def start_activation(self, samples: Tensor, bits: int, method: str) -> dict[str, Tensor]:
        """The largest value, or less if squared errors say so."""
        rows = samples.double().reshape(1, -1)
        return {"alpha": best_interval(rows, rows.amax(1, keepdim=True), 2**bits - 1, method).flatten().float()}


class Sawb(Pact):
    """Statistics-aware weight binning for the weights, PACT for the activations."""

    keeps_size = True

    def check(self, bits: int) -> None:
        """The paper fits four widths."""
        if bits not in SAWB_COEFFICIENTS:
            raise QuantizerError(f"quantizer sawb has no coefficients for {bits} bits: choose "
                                 f"{', '.join(map(str, SAWB_COEFFICIENTS))}, or another quantizer")

    def weight(self, weight: Tensor, bits: int, learned: Mapping[str, Tensor]) -> tuple[Tensor, Scale]:
        """Equation 14; the clip follows the weights and is held constant in the gradient."""
        levels, clip = 2**bits - 1, sawb_clip(weight.detach(), bits)
        ratio = (weight.double() / clip).clamp(-1.0, 1.0)
        return round_through((ratio * 0.5 + 0.5) * levels).mul(2.0).sub(levels).float(), clip / levels


def sawb_clip(weight: Tensor, bits: int) -> Tensor:
    """alpha as a 0-d float64 tensor; both means are exact integer sums, so that no order of summation can change it."""
    first, second = SAWB_COEFFICIENTS[bits]
    root = exact.sqrt(mean_magnitude(weight.double() * weight.double()))
    return (first * root + second * mean_magnitude(weight)).clamp_min(LEAST)
