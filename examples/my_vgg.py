"""An own network: a small VGG (Simonyan and Zisserman 2014, arXiv 1409.1556).

    python -m training.run --scheme takd --model examples/my_vgg.py:build

There is no max pooling among the rows: the second convolution of each stage has a stride of 2 instead, and the last row
before the classifier is the average over what is left.
"""

from sim.network import Activation, AvgPool, Conv, Graph, Input, Row


def build(image: Input, classes: int, width: int) -> Graph:
    """Three stages of two 3x3 convolutions, of `width`, 2 `width` and 4 `width` channels.

    The first row is the image as it is given, the last has one channel for each class and no activation.  "boundary" layers,
    first and last, have bits of their own (--boundary-bits); what is "inner" has those of --bits.
    """
    rows: list[Row] = [image]
    for stage in range(3):
        for index, stride in ((1, 1), (2, 2)):
            role = "boundary" if len(rows) == 1 else "inner"
            rows.append(Conv(f"stage{stage + 1}_conv{index}", rows[-1].name, width << stage, kernel=3, stride=stride,
                             padding=1, role=role, activation=Activation()))
    height, breadth = (-(-side // 8) for side in (image.height, image.width))  # three strides of 2, each rounding up
    rows.append(AvgPool("pool", rows[-1].name, kernel=height, kernel_width=breadth, activation=Activation("boundary")))
    rows.append(Conv("classifier", "pool", classes, role="boundary", norm=False, bias=True))
    return Graph(tuple(rows))
