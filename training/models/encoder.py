"""Encoders of text as BERT's (Devlin et al. 2019, arXiv 1810.04805): tokens in; logits for the text, or for each token."""

from sim.network import (
    Activation,
    Add,
    Embedding,
    Graph,
    Linear,
    NetworkError,
    Positions,
    Row,
    Segments,
    Select,
    TokenInput,
)
from training.models.transformer import RESIDUAL, Block

HEADS = ("first", "tokens", "span")
EMBEDDED = Activation("skip", 1.0, "none")
"""Of sums of embeddings, which are small until they are normalized: MiniLM's and BERT's are within 1 but for outliers."""
BERT_EPS = 1e-12


def encoder(layers: int, heads: int, width: int, *, tokens: int, vocabulary: int, classes: int = 2, head: str = "first",  # noqa: PLR0913
            hidden: int = 0, function: str = "gelu_erf", norm_first: bool = False, eps: float = 1e-5,
            softmax: str = "exact", norm: str = "exact") -> Graph:
    """`layers` blocks on the sum of word and position embeddings, normalized.

    Blocks are torch.nn.TransformerEncoderLayer's; `hidden` is 4 width if it is 0.  `head` "first" classifies a text by its
    first token, "tokens" each token, both into `classes`; "span" gives two logits for each token, the begin and the end of
    an answer: logits [N, tokens, 1, 2].  There are no segments and no mask: every token counts (`bert` has both).

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


def bert(ids: Row, classes: int, width: int, *, layers: int, depth: int, function: str = "gelu_erf", softmax: str = "exact",
         norm: str = "exact") -> Graph:
    """BERT with a span head: two logits for each token, the begin and the end of an answer.

    `ids` is the input row, whose padding (id 0) no token attends to, and whose `separator`, if it has one, ends the first of
    two segments.  `depth` is the features of a head (all in one if `width` is less); blocks have 4 width features between
    their two linear layers.

    >>> bert(TokenInput("ids", 8, 100, 3), 2, 16, layers=1, depth=8).shapes()["layer0_weights"]
    (2, 8, 8)
    """
    if not isinstance(ids, TokenInput):
        raise NetworkError(f"it reads texts, such as data set squad has, not {ids.kind}")
    if classes != 2:
        raise NetworkError(f"it finds the begin and the end of an answer, not {classes} classes")
    block = Block(max(1, width // depth), width, 4 * width, function, eps=BERT_EPS, softmax=softmax, norm=norm, ids=ids.name)
    rows: list[Row] = [
        ids, Embedding("words", ids.name, width), Positions("positions", ids.tokens, width),
        Add("placed", "words", "positions", EMBEDDED)]
    if ids.separator:
        rows += [Segments("kinds", ids.name, ids.separator), Embedding("segments", "kinds", width),
                 Add("sum", "placed", "segments", EMBEDDED)]
    rows.append(block.normalized("embedded", rows[-1].name, RESIDUAL))
    for index in range(layers):
        rows += block.rows(f"layer{index}", rows[-1].name)
    return Graph((*rows, Linear("logits", rows[-1].name, classes, role="boundary")))


def torch_names(row: str) -> str:
    """The layer of a row in the state dicts of Hugging Face's BertModel, without a prefix."""
    fixed = {"words": "embeddings.word_embeddings", "positions": "embeddings.position_embeddings",
             "segments": "embeddings.token_type_embeddings", "embedded": "embeddings.LayerNorm", "logits": "qa_outputs"}
    if row in fixed:
        return fixed[row]
    index, part = row.removeprefix("layer").split("_", 1)
    parts = {"q": "attention.self.query", "k": "attention.self.key", "v": "attention.self.value",
             "out": "attention.output.dense", "norm1": "attention.output.LayerNorm", "up": "intermediate.dense",
             "down": "output.dense", "norm2": "output.LayerNorm"}
    return f"encoder.layer.{index}.{parts[part]}"
