"""Ratios: every row's to the base of its measure, and the summary figures that the project promises."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from bench.cases import MEASURES, TORCH

Row = dict[str, Any]
OURS, PORTABLE, VNNI = "bittrue W8A8", "portable", "vnni"


def geometric_mean(values: Iterable[float]) -> float | None:
    """None for no values.

    >>> round(geometric_mean([2.0, 8.0]), 12)
    4.0
    """
    logs = [math.log(value) for value in values]
    return math.exp(sum(logs) / len(logs)) if logs else None


def add_ratios(rows: Sequence[Row]) -> None:
    """Give each measured row its ratio to the base of its measure: same case, and same instruction set if that is ours."""
    for row in rows:
        base = MEASURES[row["what"]].base
        if row["what"] == "planes":
            base = f"{row['impl'].partition(',')[0]}, {base}"  # at the same widths
        against = [other["value"] for other in rows if other["impl"] == base and other["value"] is not None
                   and (other["what"], other["case"]) == (row["what"], row["case"])
                   and (row["what"] != "accumulator" or other["isa"] == row["isa"])]
        if base and against and row["value"] is not None:
            row |= {"ratio": row["value"] / against[0], "ratio to": base}


class Figures:
    """Values of a run by measure, implementation and instruction set."""

    def __init__(self, rows: Sequence[Row], fastest: str) -> None:
        self.fastest = fastest
        self._rows = [row for row in rows if row["value"] is not None]

    def by_case(self, what: str, impl: str, isa: str = "", case: str = "") -> dict[str, float]:
        """Values of the cases whose name contains `case`; an empty instruction set means any."""
        return {row["case"]: row["value"] for row in self._rows
                if (row["what"], row["impl"]) == (what, impl) and isa in ("", row["isa"]) and case in row["case"]}

    def one(self, what: str, impl: str, case: str = "") -> float | None:
        """The value of a single case, None if it was not measured."""
        return next(iter(self.by_case(what, impl, case=case).values()), None)


def _mean_ratio(ours: Mapping[str, float], theirs: Mapping[str, float]) -> tuple[float | None, int]:
    """Over the cases that both have."""
    common = [case for case in ours if case in theirs]
    return geometric_mean(ours[case] / theirs[case] for case in common), len(common)


def _against(what: str, ours: str, theirs: str, isa: str = "", case: str = "") -> "Summary":
    """Ours on `isa` (the fastest by default) against another implementation."""
    def summary(figures: Figures) -> tuple[float | None, int]:
        return _mean_ratio(figures.by_case(what, ours, isa or figures.fastest, case),
                           figures.by_case(what, theirs, case=case))

    return summary


def _within(what: str, ours: str, theirs: str, is_meant: Callable[[str], bool] = lambda case: True) -> "Summary":
    """Two of our own on the same, fastest instruction set, over the cases that are meant."""
    def summary(figures: Figures) -> tuple[float | None, int]:
        values = figures.by_case(what, ours, figures.fastest)
        return _mean_ratio({case: value for case, value in values.items() if is_meant(case)},
                           figures.by_case(what, theirs, figures.fastest))

    return summary


def _steps(ours: str, theirs: str) -> "Summary":
    """Training steps, which run on torch's kernels."""
    def summary(figures: Figures) -> tuple[float | None, int]:
        return _mean_ratio(figures.by_case("train_step", ours), figures.by_case("train_step", theirs))

    return summary


def _of_peak(figures: Figures) -> tuple[float | None, int]:
    peak, ours = figures.one("peak", "vpdpbusd"), figures.by_case("conv", OURS, VNNI)
    return _mean_ratio(ours, dict.fromkeys(ours, peak) if peak else {})


def _start_without_torch(figures: Figures) -> tuple[float | None, int]:
    whole, torch = (figures.one("startup", impl) for impl in ("bittrue sim.eval on digits", "import torch"))
    return (None, 0) if whole is None or torch is None else (whole - torch, 1)


def _memory_growth(figures: Figures) -> tuple[float | None, int]:
    few, many = (figures.one("memory", "bittrue sim.eval", f"on {images} images") for images in ("1,000", "10,000"))
    return (None, 0) if few is None or many is None else (many / few, 1)


def _is_wide(case: str) -> bool:
    """Whether a convolution has 32 channels or more."""
    return "3x3, 16" not in case


Summary = Callable[[Figures], tuple[float | None, int]]
_LIMITED = "bittrue W3A3, saturate, "
_UNLIMITED = "bittrue W3A3, unlimited"
_LAYERS = "3x3 and 1x1 convolutions of ResNet-20 (32x32, batch 64) and ResNet-18 (224x224, batch 8), W8A8, geometric mean"
_IMAGENET = "MobileNetV2, EfficientNet-B0 and ResNet-18, 8 images of 224x224, W8A8, whole machine, geometric mean"
_CONVOLUTIONS = "3x3 convolutions of 32 channels and more of ResNet-20 and ResNet-18, codes to codes, geometric mean"
_NETWORK = "ResNet-20 W3A3, 10,000 images, fp32 requantizer, whole machine"
SUMMARIES: tuple[tuple[str, str, Summary], ...] = (
    (f"{_LAYERS}, against oneDNN int8", "at least 1.0 x", _against("conv", OURS, "oneDNN int8")),
    ("the same against torch float32 channels-last", "at least 4 x", _against("conv", OURS, TORCH)),
    ("the same, BITTRUE_ISA=vnni, against the machine's own vpdpbusd peak", "at least 0.6 x", _of_peak),
    ("the same, BITTRUE_ISA=portable, against torch float32 channels-last", "at least 0.5 x",
     _against("conv", OURS, TORCH, PORTABLE)),
    ("depthwise 3x3 (MobileNetV2's), W8A8, against torch float32 channels-last", "at least 2 x",
     _against("depthwise", OURS, TORCH)),
    (f"{_NETWORK}, against torch float32 channels-last eval", "at least 3 x",
     _against("network", "bittrue W3A3, fp32", TORCH, case="10,000")),
    ("the same against Brevitas W3A3 eval", "at least 10 x",
     _against("network", "bittrue W3A3, fp32", "Brevitas W3A3", case="10,000")),
    (f"{_IMAGENET}, against onnxruntime int8 of the same network", "at least 1.0 x",
     _against("imagenet", OURS, "onnxruntime int8")),
    ("the same against torch float32 channels-last eval", "at least 3 x", _against("imagenet", OURS, TORCH)),
    ("MiniLM with a span head, texts of 192 tokens, W8A8, whole machine, geometric mean, against torch float32",
     "at least 2 x", _against("encoder", OURS, "torch float32")),
    ("the same against torch with linear layers in int8, quantized as they run", "no target",
     _against("encoder", OURS, "torch int8 dynamic")),
    ("MLPerf Tiny ResNet-8 and MobileNetV2 int8 under litert_xnnpack, whole machine, geometric mean, against LiteRT XNNPACK",
     "at least 1.0 x", _against("tflite", "bittrue litert_xnnpack", "LiteRT XNNPACK")),
    ("wrap accumulator of 12 bits, where hardly a sum overflows, against unlimited", "at least 0.9 x",
     _within("accumulator", "bittrue W3A3, wrap 12", _UNLIMITED)),
    ("wrap accumulator of 8 bits, where many do, against unlimited", "at least 0.9 x",
     _within("accumulator", "bittrue W3A3, wrap 8", _UNLIMITED)),
    ("saturate, tile 1, where sums of either sign flag under 1 % of outputs, against unlimited", "at least 0.3 x",
     _within("accumulator", _LIMITED + "under 1 % flagged", _UNLIMITED)),
    ("saturate, tile 1, at a width where under 1 % of outputs overflow, against unlimited", "no target",
     _within("accumulator", _LIMITED + "under 1 % overflow", _UNLIMITED)),
    ("saturate, tile 1, where sums of either sign flag everything, against unlimited", "at least 0.05 x",
     _within("accumulator", _LIMITED + "all flagged", _UNLIMITED)),
    ("registers of 16 products that saturate, then 32 bits, where under 1 % of the groups can leave them, against unlimited",
     "at least 0.3 x", _within("accumulator", "bittrue W8A8, two stages, under 1 % watched", "bittrue W8A8, unlimited")),
    ("registers of 16 products and 16 bits that saturate, then 32 bits, which every group can leave, against unlimited",
     "no target", _within("accumulator", "bittrue W8A8, two stages, all watched", "bittrue W8A8, unlimited")),
    ("pairs that saturate to 16 bits, then 32 bits, as vpmaddubsw, where a quarter can, against unlimited",
     "no target", _within("accumulator", "bittrue W8A8, pairs of 16 bits", "bittrue W8A8, unlimited")),
    *((f"{_CONVOLUTIONS}, W{weights}A{codes} by bit planes, against our own products of bytes", target,
       _within("planes", f"bittrue W{weights}A{codes}, planes", f"bittrue W{weights}A{codes}, bytes", _is_wide))
      for weights, codes, target in ((1, 1, "at least 3.8 x"), (1, 2, "at least 2.2 x"), (2, 1, "at least 1.25 x"),
                                     (2, 2, "at least 1.25 x"), (1, 3, "no target"), (1, 4, "no target"))),
    *((f"{_CONVOLUTIONS}, W{weights}A{codes} by tables of bytes (AVX2), against our own products of bytes", target,
       _within("planes", f"bittrue W{weights}A{codes}, tables", f"bittrue W{weights}A{codes}, bytes", _is_wide))
      for weights, codes, target in ((1, 1, "at least 2.5 x"), (1, 2, "at least 2.5 x"), (2, 1, "at least 1.4 x"),
                                     (2, 2, "at least 1.4 x"), (1, 3, "no target"), (1, 4, "no target"))),
    *((f"ResNet-20 W{bits}A{bits}, 10,000 images, whole machine, against products of bytes alone", target,
       _against("network", f"bittrue W{bits}A{bits}", f"bittrue W{bits}A{bits}, bytes", case="10,000"))
      for bits, target in ((1, "at least 2.5 x"), (2, "at least 1.35 x"))),
    ("quantized training step ResNet-20 W2A2 against our own float step, same precision and layout", "at least 0.85 x",
     _steps("bittrue W2A2", "bittrue float32")),
    ("the same against Brevitas' quantized step", "at least 4 x", _steps("bittrue W2A2", "Brevitas W2A2")),
    ("quantized step with bfloat16 gradients against our own float step with them", "at least 0.85 x",
     _steps("bittrue W2A2, bfloat16 gradients", "bittrue float32, bfloat16 gradients")),
    ("the same against Brevitas' quantized step under bfloat16 autocast", "at least 4 x",
     _steps("bittrue W2A2, bfloat16 gradients", "Brevitas W2A2, bfloat16 autocast")),
    ("the same against Brevitas' quantized step in float32", "no target",
     _steps("bittrue W2A2, bfloat16 gradients", "Brevitas W2A2")),
    ("second start of sim.eval on digits until done, import of torch aside", "under 3 s", _start_without_torch),
    ("peak memory of sim.eval on 10,000 against 1,000 images, data set itself aside", "at most 1.05 x", _memory_growth),
)
"""(measure, target, how to compute it) of everything the project promises."""


def summarize(rows: Sequence[Row], fastest: str) -> list[Row]:
    """One entry per promise; `cases` says over how many cases, and the value is null where a part was not measured."""
    figures = Figures(rows, fastest)
    summaries = []
    for measure, target, summary in SUMMARIES:
        value, cases = summary(figures)
        summaries.append({"measure": measure, "target": target, "value": value, "cases": cases, "isa": fastest})
    return summaries
