"""What is measured: the cases of every measure, their data, and how a turn becomes a number.

Cases travel to the workers as JSON, so they are plain values; data are made where they are used, the same for everyone.
"""

import dataclasses
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

from sim.network import Graph, Input, LayerNorm, NetworkSpec, Precision, TokenInput, expected_arrays
from sim.program import output_side
from training.models import MODELS
from training.models.published import published_width

MEAN, STD = (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)
CLASSES = 1000
"""Of networks for large images."""
MEAN_SQUARE = 1 / 3


@dataclass(frozen=True)
class Case:
    """One thing to do; `quick` if it belongs to the short run, `impls` if not everyone can afford it."""

    kind: ClassVar[str] = "plain"
    name: str
    quick: bool = False
    rounds: int = 0
    """More rounds than this are not worth their time; 0: as many as asked for."""
    impls: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values with the kind of the case."""
        return {"kind": self.kind, **dataclasses.asdict(self)}


@dataclass(frozen=True)
class ConvCase(Case):
    """Square images of `side`, `depth` channels in, `channels` out, padding of half a kernel."""

    kind: ClassVar[str] = "conv"
    images: int = 1
    side: int = 1
    depth: int = 1
    channels: int = 1
    kernel: int = 3
    stride: int = 1
    groups: int = 1

    @property
    def padding(self) -> int:
        """On every side."""
        return self.kernel // 2

    @property
    def out_side(self) -> int:
        """Side of the output."""
        return output_side(self.side, self.kernel, self.stride, self.padding)

    @property
    def products(self) -> int:
        """Multiply-accumulates of one output."""
        return self.kernel**2 * self.depth // self.groups

    @property
    def gmacs(self) -> float:
        """Billions of multiply-accumulates of one call."""
        return self.images * self.out_side**2 * self.channels * self.products / 1e9

    def codes(self, bits: int) -> np.ndarray:
        """uint8 [N, H, W, C], every code equally often."""
        rng = np.random.default_rng(0)
        return rng.integers(0, 2**bits, (self.images, self.side, self.side, self.depth)).astype(np.uint8)

    def weights(self, bits: int) -> np.ndarray:
        """int8 [KH, KW, C / groups, Cout]: the 8-bit integers but -128, or DoReFa's odd ones of fewer bits."""
        rng = np.random.default_rng(1)
        shape = (self.kernel, self.kernel, self.depth // self.groups, self.channels)
        if bits == 8:
            return rng.integers(-127, 128, shape).astype(np.int8)
        steps = 2**bits - 1
        return (2 * rng.integers(0, steps + 1, shape) - steps).astype(np.int8)

    def gain(self, bits: int, code_bits: int | None = None) -> np.float32:
        """A factor after which typical sums use the whole range of codes, zeros included."""
        levels = 2.0 ** (code_bits or bits)
        typical = np.sqrt(self.products) * self.weights(bits).astype(np.float64).std() * levels / np.sqrt(3.0)
        return np.float32(levels / (2.0 * typical))


@dataclass(frozen=True)
class NetworkCase(Case):
    """A network on square `images` with a side of `side`, `batch` at a time."""

    kind: ClassVar[str] = "network"
    images: int = 128
    batch: int = 128
    model: str = "resnet20"
    side: int = 32

    def pixels(self) -> np.ndarray:
        """uint8 [N, H, W, 3]."""
        return random_pixels(self.images, self.side)

    def spec(self, bits: int) -> NetworkSpec:
        """The network with random weights."""
        return resnet20_spec(bits) if self.model == "resnet20" else random_spec(self.model, self.side, bits)

    def starts(self) -> range:
        """Where batches begin."""
        return range(0, self.images, self.batch)


@dataclass(frozen=True)
class EncoderCase(Case):
    """An encoder of text that finds answers, on `texts` of `tokens` tokens, none of which is padding."""

    kind: ClassVar[str] = "encoder"
    texts: int = 8
    tokens: int = 192
    model: str = "minilm"
    vocabulary: int = 30_522
    separator: ClassVar[int] = 102

    @property
    def width(self) -> int:
        """As published."""
        return published_width(self.model)

    def ids(self) -> np.ndarray:
        """int32 [texts, tokens]."""
        return np.random.default_rng(2).integers(1, self.vocabulary, (self.texts, self.tokens)).astype(np.int32)

    def spec(self, bits: int) -> NetworkSpec:
        """The network with random weights, as BERT begins, but larger, so that norms and attention have something to do."""
        rng = np.random.default_rng(3)
        graph = MODELS[self.model](TokenInput("ids", self.tokens, self.vocabulary, self.separator), 2, self.width)
        norms = {row.name for row in graph.rows if isinstance(row, LayerNorm)}
        arrays = {name: np.ones(shape, np.float32) if name.removesuffix(".weight") in norms
                  else (rng.standard_normal(shape) * 0.05).astype(np.float32)
                  for name, shape in expected_arrays(graph).items()}
        return NetworkSpec(graph, arrays, Precision(bits), "dorefa")


@dataclass(frozen=True)
class ModelCase(Case):
    """An int8 model of others, `file` of ../shared/vectors (or $BITTRUE_VECTORS), on so many `images` one after another."""

    kind: ClassVar[str] = "model"
    images: int = 1
    file: str = ""

    def path(self) -> Path:
        """Where it is.  Raises FileNotFoundError that says where it was looked for."""
        root = Path(__file__).resolve().parent.parent
        given = os.environ.get("BITTRUE_VECTORS")
        places = [] if given is None else [Path(given)]
        places += [folder / "shared" / "vectors" for folder in (root.parent, root.parent.parent)]
        for place in places:
            if (place / self.file).exists():
                return place / self.file
        raise FileNotFoundError(f"{self.file} is neither in $BITTRUE_VECTORS nor in ../shared/vectors")

    def codes(self, shape: tuple[int, ...]) -> np.ndarray:
        """int8 codes [images, *shape without its batch]."""
        return np.random.default_rng(2).integers(-128, 128, (self.images, *shape[1:])).astype(np.int8)


KINDS: Mapping[str, type[Case]] = MappingProxyType({kind.kind: kind for kind in (
    Case, ConvCase, NetworkCase, EncoderCase, ModelCase)})


def case_from_json(values: Mapping[str, Any]) -> Case:
    """The inverse of `Case.to_json`."""
    fields = {name: value for name, value in values.items() if name != "kind"}
    return KINDS[values["kind"]](**fields | {"impls": tuple(fields["impls"])})


def resnet20() -> Graph:
    """The network of the cases with small images."""
    return MODELS["resnet20"](Input("image", "", 32, 32, 3, MEAN, STD), 10, 16)


def resnet20_spec(bits: int) -> NetworkSpec:
    """It with random weights, made without torch."""
    rng, graph = np.random.default_rng(3), resnet20()
    arrays = {name: _initial(name.split(".", 1)[1], shape, rng) for name, shape in expected_arrays(graph).items()}
    return NetworkSpec(graph, arrays, Precision(bits), "dorefa")


def _initial(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    if name == "weight":
        return (rng.standard_normal(shape) * np.sqrt(2.0 / np.prod(shape[1:]))).astype(np.float32)
    return np.full(shape, float(name in ("norm.weight", "norm.running_var")), np.float32)


def random_spec(model: str, side: int, bits: int) -> NetworkSpec:
    """A network at its published width for square images, with random weights.

    Batch norms have the statistics of inputs whose mean square is `MEAN_SQUARE`, so that codes use their range.
    """
    rng, graph = np.random.default_rng(3), MODELS[model](
        Input("image", "", side, side, 3, MEAN, STD), CLASSES, published_width(model))
    arrays = {name: _initial(name.split(".", 1)[1], shape, rng) for name, shape in expected_arrays(graph).items()}
    for row in graph.rows:
        if f"{row.name}.norm.running_var" in arrays:
            weights = np.tanh(arrays[f"{row.name}.weight"])  # as DoReFa's quantizer has them
            weights /= np.abs(weights).max()
            arrays[f"{row.name}.norm.running_var"] = (MEAN_SQUARE * np.square(weights).sum((1, 2, 3))).astype(np.float32)
    return NetworkSpec(graph, arrays, Precision(bits), "dorefa")


def random_pixels(images: int, side: int) -> np.ndarray:
    """uint8 [N, H, W, 3]."""
    return np.random.default_rng(2).integers(0, 256, (images, side, side, 3)).astype(np.uint8)


@dataclass(frozen=True)
class Work:
    """What an implementation does in its turn: `call`, and how much one call is (GMAC, images)."""

    call: Callable[[], Any]
    amount: float = 1.0
    repetitions: int = 0
    """Calls of a turn; 0: as many as fill it."""
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Measure:
    """Unit of a row's value, and how to get it from (work, seconds, result of the call)."""

    unit: str
    value: Callable[[Work, float, Any], float]
    base: str = ""
    """The implementation that ratios in the tables refer to."""


def _per_second(work: Work, seconds: float, result: Any) -> float:
    return work.amount / seconds


def _seconds(work: Work, seconds: float, result: Any) -> float:
    return seconds


def _result(work: Work, seconds: float, result: Any) -> float:
    return float(result)


TORCH = "torch float32 channels-last"
MEASURES: Mapping[str, Measure] = MappingProxyType({
    "peak": Measure("GMAC/s", _per_second),
    "conv": Measure("GMAC/s", _per_second, TORCH),
    "depthwise": Measure("GMAC/s", _per_second, TORCH),
    "planes": Measure("GMAC/s", _per_second, "bytes"),
    "matmul": Measure("GMAC/s", _per_second, "vpdpbusd"),
    "accumulator": Measure("GMAC/s", _per_second, "bittrue W3A3, unlimited"),
    "network": Measure("images/s", _per_second, TORCH),
    "imagenet": Measure("images/s", _per_second, TORCH),
    "encoder": Measure("texts/s", _per_second, "torch float32"),
    "tflite": Measure("images/s", _per_second, "LiteRT XNNPACK"),
    "train_step": Measure("images/s", _per_second, "bittrue float32"),
    "startup": Measure("s", _seconds),
    "memory": Measure("MiB", _result),
})


def _conv(network: str, images: int, side: int, depth: int, channels: int,
          kernel: int = 3, stride: int = 1, groups: int = 1, quick: bool = False) -> ConvCase:
    kind = f"{kernel}x{kernel}" + (" depthwise" if groups > 1 else "") + (f" stride {stride}" if stride > 1 else "")
    name = f"{network}: {images} x {side}x{side}x{depth}, {kind}, {channels}"
    return ConvCase(name, quick, 0, (), images, side, depth, channels, kernel, stride, groups)


RESNET20 = (
    _conv("ResNet-20", 64, 32, 3, 16),
    _conv("ResNet-20", 64, 32, 16, 16, quick=True),
    _conv("ResNet-20", 64, 32, 16, 32, stride=2),
    _conv("ResNet-20", 64, 32, 16, 32, kernel=1, stride=2),
    _conv("ResNet-20", 64, 16, 32, 32),
    _conv("ResNet-20", 64, 16, 32, 64, stride=2),
    _conv("ResNet-20", 64, 16, 32, 64, kernel=1, stride=2),
    _conv("ResNet-20", 64, 8, 64, 64),
)
RESNET18 = tuple(
    _conv("ResNet-18", 8, side, depth, channels, kernel, stride, quick=(side, channels) == (14, 256))
    for side, depth, channels, kernel, stride in (
        (56, 64, 64, 3, 1), (56, 64, 128, 3, 2), (56, 64, 128, 1, 2),
        (28, 128, 128, 3, 1), (28, 128, 256, 3, 2), (28, 128, 256, 1, 2),
        (14, 256, 256, 3, 1), (14, 256, 512, 3, 2), (14, 256, 512, 1, 2),
        (7, 512, 512, 3, 1)))
MOBILENET_V2 = tuple(
    _conv("MobileNetV2", 8, side, channels, channels, 3, stride, channels, quick=(side, channels, stride) == (28, 192, 1))
    for side, channels, stride in (
        (112, 32, 1), (112, 96, 2), (56, 144, 1), (56, 144, 2), (28, 192, 1), (28, 192, 2), (14, 384, 1), (14, 576, 1),
        (14, 576, 2), (7, 960, 1)))

BIT_WIDTHS = ((1, 1), (1, 2), (1, 3), (1, 4), (2, 1), (2, 2))
"""Of weights and codes: what bit planes or tables may do faster than bytes."""
MATMULS = tuple(
    ConvCase(f"{64 * 16 * 16} x {depth} by {depth} x 64", depth == 512, 0, (), 64, 16, depth, 64, 1)
    for depth in (64, 128, 256, 512, 1024, 2048))

CASES: Mapping[str, tuple[Case, ...]] = MappingProxyType({
    "peak": (Case("registers only", quick=True),),
    "conv": RESNET20 + RESNET18,
    "depthwise": MOBILENET_V2,
    "planes": tuple(replace(case, quick=case.depth == 32) for case in RESNET20 + RESNET18
                    if case.kernel == 3 and case.stride == 1 and case.depth > 3),
    "matmul": MATMULS,
    "accumulator": tuple(case for case in RESNET20 if case.kernel == 3 and case.depth > 3),
    "network": (
        NetworkCase("ResNet-20, 128 images of 32x32x3", quick=True),
        NetworkCase("ResNet-20, 10,000 images of 32x32x3", rounds=3, images=10_000, batch=100,
                    impls=("bittrue W3A3, fp32", "bittrue W1A1", "bittrue W1A1, bytes", "bittrue W2A2",
                           "bittrue W2A2, bytes", TORCH, "Brevitas W3A3"))),
    "imagenet": tuple(
        NetworkCase(f"{name}, 8 images of 224x224x3", images=8, batch=8, model=model, side=224,
                    impls=("bittrue W8A8", TORCH, "onnxruntime int8"))
        for name, model in (("MobileNetV2", "mobilenetv2"), ("EfficientNet-B0", "efficientnet_b0"),
                            ("ResNet-18", "resnet18"))),
    "encoder": tuple(EncoderCase(f"MiniLM with a span head, {texts} x 192 tokens", texts=texts) for texts in (8, 1)),
    "tflite": (
        ModelCase("MLPerf Tiny ResNet-8 int8, 128 images", quick=True, images=128, file="tflite/mlperf_resnet8_int8.tflite"),
        ModelCase("MLPerf Tiny ResNet-8 int8, 1 image", images=1, file="tflite/mlperf_resnet8_int8.tflite"),
        ModelCase("MobileNetV2 int8, 8 images", images=8, file="tflite/mobilenet_v2_int8.tflite"),
        ModelCase("MobileNetV2 int8, 1 image", images=1, file="tflite/mobilenet_v2_int8.tflite")),
    "train_step": (NetworkCase("ResNet-20, batch of 128 of 32x32x3", quick=True),),
    "startup": (Case("second start", quick=True, rounds=5),),
    "memory": (NetworkCase("sim.eval on 1,000 images of 32x32x3", rounds=3, images=1_000, batch=100),
               NetworkCase("sim.eval on 10,000 images of 32x32x3", rounds=3, images=10_000, batch=100)),
})
