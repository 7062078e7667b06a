"""An answer in a text: two choices among its tokens, where it begins and where it ends (Devlin et al. 2019, section 4.2)."""

from types import MappingProxyType
from typing import Any

from torch import Tensor

from training.data.texts import PADDING
from training.tasks.task import Task

NEVER = -1e9
"""The logit of a token that nobody may choose: finite, so that the difference of two is a number; exp of it is always 0."""


class Spans(Task):
    """Logits [N, 2, tokens, 1] against labels [N, 2]: a row of tokens for each begin and each end.

    A mean over rows is thus the mean of both ends: the cross-entropy is BERT's, distances of soft labels likewise.
    """

    name = "spans"
    inputs = "texts"
    batch = 32  # scores of attention are tokens x tokens for every head
    refused = MappingProxyType({
        "label_smoothing": (0.0, "a label would share its weight with tokens that are no answers"),
        "kl_reduction": ("batch", "a mean over tokens would depend on the padding"),
        "augment": ("none", "texts are learned from as they are"),
        "mean": ((), "texts have no pixels"), "std": ((), "texts have no pixels")})

    def rows(self, logits: Tensor, inputs: Tensor) -> Tensor:
        """[N, 2, tokens, 1] and ids [N, tokens] -> [2 N, tokens]; padding is never chosen."""
        return logits[..., 0].masked_fill(~self.real(inputs)[:, None], NEVER).flatten(0, 1)

    def targets(self, labels: Tensor) -> Tensor:
        """[N, 2] -> [2 N]."""
        return labels.flatten()

    def real(self, inputs: Tensor) -> Tensor:
        """bool [N, tokens]."""
        return inputs != PADDING

    def measured(self, logits: Tensor, examples: Any) -> dict[str, float]:
        """F1 and exact match."""
        return self.measures.measure(logits.permute(0, 2, 3, 1).numpy(), examples)
