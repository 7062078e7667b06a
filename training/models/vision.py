"""Small vision transformers (Dosovitskiy et al. 2021, arXiv 2010.11929): patches of an image as tokens."""

from sim.network import Activation, Add, Conv, GlobalPool, Graph, Input, Linear, NetworkError, Positions, Row, Sequence
from training.models.rows import check_reads_images
from training.models.transformer import RESIDUAL, Block


def vision_transformer(image: Input, classes: int, width: int, *, layers: int, heads: int, patch: int, ratio: int = 2,  # noqa: PLR0913
                       function: str = "gelu", softmax: str = "exact", norm: str = "exact") -> Graph:
    """`layers` blocks, norms first, on `patch` x `patch` patches; the mean of all tokens is classified.

    `ratio` is hidden features / width.
    """
    check_reads_images(image)
    if image.height % patch or image.width % patch:
        raise NetworkError(f"patches of {patch} x {patch} pixels do not divide images of {image.height} x {image.width}")
    block = Block(heads, width, ratio * width, function, True, softmax=softmax, norm=norm)
    rows: list[Row] = [
        image,
        Conv("patches", image.name, width, patch, patch, role="boundary", norm=False, bias=True, activation=RESIDUAL),
        Sequence("tokens", "patches"),
        Positions("positions", image.height * image.width // patch**2, width),
        Add("embedded", "tokens", "positions", RESIDUAL),
    ]
    for index in range(layers):
        rows += block.rows(f"layer{index}", rows[-1].name)
    rows += [
        block.normalized("norm", rows[-1].name, RESIDUAL),
        GlobalPool("pool", "norm", Activation("boundary", 4.0, "none")),
        Linear("classifier", "pool", classes, role="boundary"),
    ]
    return Graph(tuple(rows))
