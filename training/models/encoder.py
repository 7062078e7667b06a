"""Encoders of text as BERT's (Devlin et al. 2019, arXiv 1810.04805): tokens in; logits for the text, or for each token."""

from sim.network import Add, Embedding, Graph, Linear, NetworkError, Positions, Row, Select, TokenInput
from training.models.transformer import RESIDUAL, Block

HEADS = ("first", "tokens", "span")


def encoder(layers: int, heads: int, width: int, *, tokens: int, vocabulary: int, classes: int = 2, head: str = "first",  # noqa: PLR0913
            hidden: int = 0, function: str = "gelu_erf", norm_first: bool = False, eps: float = 1e-5,
            softmax: str = "exact", norm: str = "exact") -> Graph:
    """`layers` blocks on the sum of word and position embeddings, normalized.

    Blocks are torch.nn.TransformerEncoderLayer's; `hidden` is 4 width if it is 0.  `head` "first" classifies a text by its
    first token, "tokens" each token, both into `classes`; "span" gives two logits for each token, the begin and the end of
    an answer: logits [N, tokens, 1, 2].  Embeddings of segments are left out: those of the first join the positions.

    >>> encoder(2, 2, 16, tokens=8, vocabulary=100, head="span").shapes()["logits"]
    (8, 1, 2)
    """
    if head not in HEADS:
        raise NetworkError(f"head {head!r} is unknown, choose one of {', '.join(HEADS)}")
    block = Block(heads, width, hidden or 4 * width, function, norm_first, eps, softmax, norm)
    rows: list[Row] = [
        TokenInput("ids", tokens, vocabulary),
        Embedding("words", "ids", width),
        Positions("positions", tokens, width),
        Add("sum", "words", "positions", RESIDUAL),
        block.normalized("embedded", "sum", RESIDUAL),
    ]
    for index in range(layers):
        rows += block.rows(f"layer{index}", rows[-1].name)
    if norm_first:
        rows.append(block.normalized("norm", rows[-1].name, RESIDUAL))
    if head == "first":
        rows.append(Select("first", rows[-1].name, 0))
    rows.append(Linear("logits", rows[-1].name, 2 if head == "span" else classes, role="boundary"))
    return Graph(tuple(rows))
