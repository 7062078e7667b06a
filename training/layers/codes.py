"""How values travel between layers: as integer codes held in a float tensor."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

import torch
from torch import Tensor

from sim.network import IntFormat
from training.quantizers import Scale

BYTE = 2**8 - 1
_WEIGHTS: ContextVar[torch.Generator | None] = ContextVar("weights", default=None)
"""What first weights are drawn from in this thread; None is torch's generator, which all threads share."""


@contextmanager
def weights_from(generator: torch.Generator) -> Iterator[None]:
    """Within, networks built by this thread draw their first weights from `generator`, whatever other threads draw."""
    token = _WEIGHTS.set(generator)
    try:
        yield
    finally:
        _WEIGHTS.reset(token)


def first_weights() -> torch.Generator | None:
    """What first weights are drawn from now."""
    return _WEIGHTS.get()


class Codes(NamedTuple):
    """`values` [N, C, H, W]; each stands for value * `scale`; `bound` is the largest magnitude (inf: not integers).

    A scale that is learned is a 0-d float64 tensor and carries a gradient.  `packed` are the same codes as bytes, if
    somebody made them; then `values` may be bfloat16, and are there for the gradient.  `least` is the smallest code if it is
    not -`bound`.
    """

    values: Tensor
    scale: Scale
    bound: float
    packed: Tensor | None = None
    least: float | None = None

    @property
    def format(self) -> IntFormat:
        """The integer format of codes whose bound is finite."""
        most = int(self.bound)
        if self.least == 0:
            return IntFormat(max(most.bit_length(), 1), signed=False)
        is_whole = most > 1 and most & (most - 1) == 0  # -2^(bits - 1), which has no positive counterpart
        return IntFormat(most.bit_length() + (not is_whole), signed=True, narrow=not is_whole)


def number(scale: Scale) -> float:
    """A scale as a plain number."""
    return float(scale.detach()) if isinstance(scale, Tensor) else scale


def multiplier(scale: Scale) -> Scale:
    """A scale as float32 tensors are multiplied with it."""
    return scale.float() if isinstance(scale, Tensor) else scale


def is_one(scale: Scale) -> bool:
    """Whether a scale is the number 1, as those of float networks are: nothing has to be multiplied with it."""
    return not isinstance(scale, Tensor) and scale == 1.0


def rescaled(values: Tensor, gain: Scale) -> Tensor:
    """float32 values times a gain that is rounded to float32 (equation 8 without an offset)."""
    return values if is_one(gain) else values * torch.as_tensor(gain, device=values.device).float()


def in_steps(values: Tensor, step: Scale) -> Tensor:
    """Real numbers, float32, in units of a step."""
    return values if is_one(step) else values / multiplier(step)


def add_residual(steps: Tensor, skip: Codes, step: Scale) -> Tensor:
    """Values in units of `step` plus a residual's."""
    gain = skip.scale / step
    if isinstance(gain, Tensor):
        return steps + skip.values.float() * gain.float()
    return torch.add(steps, skip.values.float(), alpha=gain)
