"""Hidden states and attention scores of a transformer, which a student may learn from its teacher beside soft labels.

Source: TernaryBERT (Zhang et al. 2020, arXiv 2009.12812, section 3.3): the sum over all blocks of the mean squared distance
of hidden states and of that of attention scores, here each with a weight of its own.  BiT (Liu et al. 2022) has both, too.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from sim.network import Graph, MatMul
from training.schemes.options import LossOptions

SCORES = "_scores"
"""How the rows of queries times keys end, in the blocks of training/models/transformer.py."""
ENDS = ("_norm2", "_sum2")
"""How the last row of a block ends, with its norm behind or in front."""


def attention_rows(graph: Graph) -> list[str]:
    """Scores before their softmax, of every block."""
    return [row.name for row in graph.rows if isinstance(row, MatMul) and row.name.endswith(SCORES)]


def hidden_rows(graph: Graph) -> list[str]:
    """What every block gives to the next."""
    read = {name for row in graph.rows for name in row.sources()}
    blocks = [name.removesuffix(SCORES) for name in attention_rows(graph)]
    rows = [row.name for row in graph.rows]
    before = {block: [name for name in rows if name.startswith(f"{block}_")] for block in blocks}
    return [own[-1] for block, own in before.items() if own and own[-1] in read and own[-1].endswith(ENDS)]


def watched_rows(config: LossOptions, graph: Graph) -> list[str]:
    """The rows whose distance has a weight."""
    return [*(hidden_rows(graph) if config.hidden_weight else []),
            *(attention_rows(graph) if config.attention_weight else [])]


def states_distance(config: LossOptions, mine: Mapping[str, Tensor | None], theirs: Mapping[str, Tensor | None],
                    real: Tensor | None) -> Tensor:
    """The weighted sum over rows of the mean squared distance; no gradient reaches the teacher.

    States are real numbers [N, C, tokens, 1], scores [N, keys, heads, tokens]; tokens that are not `real` (bool [N, tokens];
    None: all are) do not count, as queries and as keys.
    """
    total = torch.zeros(())
    for name, state in mine.items():
        other = theirs[name]
        assert state is not None
        assert other is not None
        is_score = name.endswith(SCORES)
        distance = (state - other.detach()).square()
        weight = config.attention_weight if is_score else config.hidden_weight
        total = total + weight * (distance.mean() if real is None else _mean(distance, real, is_score))
    return total


def _mean(distance: Tensor, real: Tensor, is_score: bool) -> Tensor:
    """Over the pairs of real tokens of each head, or over the features of real tokens."""
    counts = (real[:, :, None, None] & real[:, None, None, :] if is_score else real[:, None, :, None]).expand_as(distance)
    return (distance * counts).sum() / counts.sum().clamp_min(1)
