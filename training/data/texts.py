"""Texts as ids of tokens, with the spans that answer questions about them."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sim.tasks import Questions

PADDING = 0
"""The id behind a text that is shorter than the window."""


@dataclass(frozen=True, repr=False)
class Texts:
    """`ids` int32 [N, tokens], `labels` int64 [N, 2]: first and last token of the answer, (0, 0) where there is none.

    `questions` says to which question a window belongs and what answers it; splits that are only learned from have none.
    """

    ids: Tensor
    labels: Tensor
    questions: Questions | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        asked = "" if self.questions is None else f" of {len(self.questions)} questions"
        return f"<{len(self)} windows of {self.ids.shape[1]} tokens{asked}>"

    @property
    def inputs(self) -> Tensor:
        """The ids."""
        return self.ids

    def ready(self) -> Tensor:
        """The ids, as a network takes them."""
        return self.ids

    def to(self, device: torch.device) -> "Texts":
        """A copy on a device."""
        return Texts(self.ids.to(device), self.labels.to(device), self.questions)

    def take(self, index: Tensor) -> "Texts":
        """Some windows, in that order, without their questions."""
        return Texts(self.ids[index], self.labels[index])

    def first(self, count: int | None) -> "Texts":
        """The first `count` windows (all if None); of a split with questions all windows of the first `count` questions."""
        if count is None:
            return self
        if self.questions is None:
            return Texts(self.ids[:count], self.labels[:count])
        windows = self.questions.windows(count)
        return Texts(self.ids[:windows], self.labels[:windows], self.questions.first(count))

    def batches(self, size: int) -> Iterator["Texts"]:
        """Consecutive windows, without their questions; the last batch is perhaps smaller."""
        for start in range(0, len(self), size):
            yield Texts(self.ids[start : start + size], self.labels[start : start + size])

    def plain(self) -> np.ndarray:
        """The ids, as a machine takes them."""
        return self.ids.contiguous().numpy()

    def content(self) -> Iterator[bytes | memoryview]:
        """All that makes it what it is, for digests."""
        yield repr(tuple(self.ids.shape)).encode()
        yield self.ids.contiguous().numpy().data
        yield self.labels.contiguous().numpy().data
        yield b"" if self.questions is None else self.questions.digest().encode()

    @property
    def described(self) -> str:
        """What one of it is, for people."""
        return f"windows of {self.ids.shape[1]} tokens"


def texts_of(ids: np.ndarray, labels: np.ndarray, questions: Questions | None = None) -> Texts:
    """Tensors of whole numbers [N, tokens] and [N, 2]."""
    return Texts(torch.from_numpy(np.ascontiguousarray(ids, dtype=np.int32)),
                 torch.from_numpy(np.ascontiguousarray(labels, dtype=np.int64)), questions)
