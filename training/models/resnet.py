"""The ResNets of He et al. 2015 for small images: three stages of width, 2 width and 4 width channels, shortcuts A."""

from sim.network import Activation, AvgPool, Conv, Graph, Input, NetworkError, Requantize, Row, Shortcut

RESIDUAL_LIMIT = 4.0
"""Residual sums pass 1, the clip of DoReFa, by far; at 8 bits their step is still 1/64."""


def cifar_resnet(image: Input, classes: int, width: int, *, depth: int) -> Graph:
    """ResNet of 6 n + 2 layers.

    The residual path stays at its own width (role "skip") from the first layer to the pooling; each block reads it
    through a requantization to its own, narrow one.
    """
    if width < 1 or classes < 2:
        raise NetworkError(f"a network has a width of at least 1 and 2 classes, not {width} and {classes}")
    residual = Activation("skip", RESIDUAL_LIMIT)
    rows: list[Row] = [
        image,
        Conv("stem", image.name, channels=width, kernel=3, padding=1, role="boundary", activation=residual),
    ]
    for stage in range(3):
        for block in range((depth - 2) // 6):
            channels, stride = width << stage, 2 if stage and not block else 1
            rows += _basic_block(f"stage{stage + 1}_block{block + 1}", rows[-1].name, channels, stride, stage, residual)
    height, width_left = -(-image.height // 4), -(-image.width // 4)  # two stages halve them, rounding up
    pool = AvgPool("pool", rows[-1].name, height, kernel_width=width_left, activation=Activation("boundary", RESIDUAL_LIMIT))
    return Graph((*rows, pool, _classifier("pool", classes)))


def _basic_block(name: str, source: str, channels: int, stride: int, stage: int, residual: Activation) -> list[Row]:
    rows: list[Row] = [
        Requantize(f"{name}_in", source),
        Conv(f"{name}_conv1", f"{name}_in", channels, 3, stride, 1, activation=Activation()),
    ]
    skip = source
    if stride != 1:
        skip = f"{name}_skip"
        rows.append(Shortcut(skip, source, channels, stride))
    rows.append(Conv(f"{name}_conv2", f"{name}_conv1", channels, 3, 1, 1, skip=skip, activation=residual))
    return rows


def _classifier(source: str, classes: int) -> Conv:
    return Conv("classifier", source, classes, role="boundary", norm=False, bias=True)
