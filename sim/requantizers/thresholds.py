"""`thresholds`: a code is a count of levels that a sum has reached: exact for any monotone function.

    code = base + step #{k : sum >= level_k}                                                       ARITHMETIC.md, R9

FINN's and QONNX's MultiThreshold count so.  For our own networks levels are where `fp32` goes to the next code, so that the
codes are `fp32`'s, all of them (C5, without a residual).
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from sim.formats import IntFormat
from sim.kernels.jit import inline
from sim.requantizers.fp32 import Fp32
from sim.requantizers.requantizer import Affine, RequantizeError, Requantizer, check_array
from sim.requantizers.rule import Own, Rule, line_of

MOST_LEVELS = 1 << 24
NEVER = 2**62
"""A level that no sum reaches, for channels with fewer."""


@dataclass(frozen=True, eq=False, repr=False)
class Thresholds(Rule):
    """int64 `levels` [C, n], sorted in each channel, `base` and `step` [C]; `skip_levels` [1, m], `skip_base`, `skip_step`."""

    name = "thresholds"
    levels: np.ndarray
    base: np.ndarray
    step: np.ndarray
    skip_levels: np.ndarray
    skip_base: np.ndarray
    skip_step: np.ndarray
