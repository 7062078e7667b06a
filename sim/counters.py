"""What registers did, stage by stage: outputs whose sum did not fit, or only sums on the way to it (arXiv 2504.09064)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sim.accumulator import Stage


def total(told: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Outputs that are persistent and transient, int64 [stages, images, channels] each, of all images and channels: int64
    [stages, persistent and transient]."""
    return np.stack([each.sum((1, 2)) for each in told], axis=1)


@dataclass(frozen=True, eq=False)
class Counters:
    """The outputs of one layer, for some images.

    `persistent`, `transient` int64 [stages, images, channels]; of one image and channel there are `outputs`.  An output is
    persistent at a stage if of one of its registers the exact sum of all that it received does not fit; it is transient
    if all of these fit, but a sum on the way, when the register was consulted, did not (equations A5, A6).
    """

    stages: tuple[Stage, ...]
    persistent: np.ndarray
    transient: np.ndarray
    outputs: int

    @property
    def clipped(self) -> np.ndarray:
        """Outputs of which some addition to a register did not fit: both kinds."""
        clipped: np.ndarray = self.persistent + self.transient
        return clipped

    def totals(self) -> np.ndarray:
        """Of all images and channels, int64 [stages, persistent and transient]."""
        return total((self.persistent, self.transient))

    @property
    def images(self) -> int:
        """How many."""
        return int(self.persistent.shape[1])

    def total(self) -> list[dict[str, Any]]:
        """A row for each stage, of all images and channels."""
        return [{"stage": str(stage), "clipped": int(self.clipped[s].sum()), "persistent": int(self.persistent[s].sum()),
                 "transient": int(self.transient[s].sum())} for s, stage in enumerate(self.stages)]

    @classmethod
    def join(cls, parts: Sequence["Counters"]) -> "Counters":
        """Those of one layer for some images, and for the next ones."""
        persistent, transient = (np.concatenate([getattr(part, name) for part in parts], axis=1)
                                 for name in ("persistent", "transient"))
        return cls(parts[0].stages, persistent, transient, parts[0].outputs)
