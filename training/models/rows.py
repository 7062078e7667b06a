"""What the networks of this folder are put together with."""

from sim.network import Activation, Conv, GlobalPool, Graph, Input, NetworkError, Requantize, Row, Shape

RESIDUAL_LIMIT = 4.0
"""Residual sums pass 1, the clip of DoReFa, by far; at 8 bits their step is still 1/64."""
IMAGENET_SIDE = 64
"""Images of so many pixels or more along their shorter side get the stem and the strides of the ImageNet form."""


def check_reads_images(image: Row) -> None:
    """Raise NetworkError unless a network's input row is of images."""
    if not isinstance(image, Input):
        raise NetworkError("it reads images, and these data are texts: choose minilm, bert_tiny or bert_mini")


class Rows:
    """Rows in order, each known by its name; `add` returns the name of what it added."""

    def __init__(self, image: Input, classes: int, width: int) -> None:
        check_reads_images(image)
        if width < 1 or classes < 2:
            raise NetworkError(f"a network has a width of at least 1 and 2 classes, not {width} and {classes}")
        self.image, self.classes = image, classes
        self._rows: list[Row] = []
        self._shapes: dict[str, Shape] = {}
        self.add(image)

    @property
    def last(self) -> str:
        """The name of the newest row."""
        return self._rows[-1].name

    @property
    def is_small(self) -> bool:
        """Whether the images want the form for CIFAR."""
        return min(self.image.height, self.image.width) < IMAGENET_SIDE

    def add(self, row: Row) -> str:
        """One more row."""
        self._shapes[row.name] = row.output_shape(self._shapes)
        self._rows.append(row)
        return row.name

    def shape(self, name: str = "") -> Shape:
        """(height, width, channels) of a row, the newest unless named."""
        return self._shapes[name or self.last]

    def narrowed(self, name: str, source: str, activation: Activation | None = None) -> str:
        """A row of the residual path at the width of what reads it."""
        return self.add(Requantize(name, source, activation or Activation()))

    def pooled(self, activation: Activation, source: str = "") -> str:
        """The average over all pixels."""
        return self.add(GlobalPool("pool", source or self.last, activation))

    def classified(self) -> Graph:
        """The network, ended by a layer that covers what is left of the image."""
        height, width, _ = self.shape()
        self.add(Conv("classifier", self.last, self.classes, height, role="boundary", norm=False, bias=True,
                      kernel_width=width if width != height else 0))
        return Graph(tuple(self._rows))
