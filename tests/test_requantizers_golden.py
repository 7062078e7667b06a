"""Rules against codes that nobody here made: CMSIS-NN's layers and TOSA's RESCALE, sums by numpy, 0 codes differ."""

from pathlib import Path

import numpy as np

from sim.formats import IntFormat
from sim.requantizers.double import Double
from sim.requantizers.int16 import Int16
from sim.requantizers.requantizer import Requantizer
from sim.requantizers.single import Single
from sim.requantizers.tosa import TosaDouble, TosaSingle
from tests import golden

S8, S16 = IntFormat(8, signed=True), IntFormat(16, signed=True)
OTHER_LAYERS = ("lstm", "svdf", "transpose", "reverse_transpose", "batch_matmul", "pad_", "mul", "add", "requantize")


class Case:
    """A layer of CMSIS-NN: numbers and arrays by name."""

    def __init__(self, path: Path) -> None:
        self.name, data = path.stem, golden.arrays(path)
        told = {key[4:]: data[key] for key in data if key.startswith("def/")}
        self.numbers = {key: int(value) if value.dtype.kind in "iu" else str(value) for key, value in told.items()}
        self.arrays = {key[4:]: data[key] for key in data if key.startswith("arr/")}

    def number(self, *names, default=None):
        return next((self.numbers[name] for name in names if name in self.numbers), default)

    def array(self, *names):
        return next((self.arrays[name] for name in names if name in self.arrays), None)

    @property
    def is_layer(self) -> bool:
        return not self.name.startswith(OTHER_LAYERS) and self.array("weights", "input_weights") is not None

    @property
    def is_depthwise(self) -> bool:
        return "CH_MULT" in self.numbers or self.name.startswith("depthwise")

    def weights(self, shape):
        """int64 of a shape; half as many bytes hold two nibbles each, the low one first."""
        stored, count = self.array("weights", "input_weights").astype(np.int64), int(np.prod(shape))
        if stored.size != count or (count == 1 and self.numbers.get("W_TYPE") == "INT4"):
            stored = np.stack([((stored & 15) ^ 8) - 8, stored >> 4], axis=1).ravel()[:count]
        return stored.reshape(shape)

    def sums(self):
        """int64 [batches * positions, channels], bias not included."""
        if "FILTER_X" not in self.numbers:
            return self.dense()
        batches, depth = self.number("INPUT_BATCHES", default=1), self.number("IN_CH")
        height, width, channels = (self.number(name) for name in ("INPUT_H", "INPUT_W", "OUT_CH"))
        rows, columns = self.number("FILTER_Y"), self.number("FILTER_X")
        if self.is_depthwise:
            kernel, groups = self.weights((1, rows, columns, channels)).transpose(1, 2, 0, 3), depth
        else:
            inner = self.number("FILTER_CH", default=depth)
            kernel, groups = self.weights((channels, rows, columns, inner)).transpose(1, 2, 3, 0), depth // inner
        x = self.array("input", "input_tensor").astype(np.int64)[: batches * height * width * depth]
        x = x.reshape(batches, height, width, depth) + self.number("INPUT_OFFSET", default=0)
        return self.convolved(x, kernel, groups)

    def convolved(self, x, kernel, groups):
        steps = self.number("STRIDE_Y"), self.number("STRIDE_X")
        spread = self.number("DILATION_Y", default=1), self.number("DILATION_X", default=1)
        out = self.number("OUTPUT_H"), self.number("OUTPUT_W")
        rows, columns, inner, channels = kernel.shape
        before = self.number("PAD_Y"), self.number("PAD_X")
        behind = [max((out[a] - 1) * steps[a] + ((rows, columns)[a] - 1) * spread[a] + 1 - x.shape[a + 1] - before[a], 0)
                  for a in (0, 1)]
        x = np.pad(x, ((0, 0), (before[0], behind[0]), (before[1], behind[1]), (0, 0)))
        sums = np.zeros((len(x), *out, groups, channels // groups), np.int64)
        parts = kernel.reshape(rows, columns, inner, groups, channels // groups)
        for a in range(rows):
            for b in range(columns):
                top, left = a * spread[0], b * spread[1]
                view = x[:, top : top + (out[0] - 1) * steps[0] + 1 : steps[0],
                         left : left + (out[1] - 1) * steps[1] + 1 : steps[1]]
                sums += np.einsum("nijgc,cgk->nijgk", view.reshape(*view.shape[:3], groups, inner), parts[a, b])
        return sums.reshape(-1, channels)

    def dense(self):
        depth = self.number("ACCUMULATION_DEPTH") or self.number("IN_CH") * self.number("INPUT_W", default=1) * self.number(
            "INPUT_H", default=1)
        channels = self.number("OUT_CH")
        weights = self.weights((channels, depth)) + self.number("FILTER_OFFSET", default=0)
        x = self.array("input", "input_tensor").astype(np.int64) + self.number("INPUT_OFFSET", default=0)
        return x.reshape(-1, depth) @ weights.T

    def rule(self, kind: type[Requantizer] | None = None) -> Requantizer:
        """Of its own constants: `int16` where the bias has 64 bits, else `double`."""
        channels, bias = self.number("OUT_CH"), self.array("biases", "bias", "input_bias")
        multiplier, shift = self.array("output_mult", "output_multiplier"), self.array("output_shift")
        if multiplier is None:
            multiplier, shift = ([self.number(*names)] * channels for names in (
                ("OUTPUT_MULTIPLIER", "OUTPUT_MULT"), ("OUTPUT_SHIFT",)))
        is_wide = bias is not None and bias.dtype == np.int64
        parts = (bias if bias is not None and bias.size else np.zeros(channels), multiplier, shift)
        parts = tuple(np.asarray(part).astype(np.int64) for part in parts)
        return kind(*parts) if kind else Int16.reduced(*parts) if is_wide else Double(*parts)

    def differing(self, kind: type[Requantizer] | None = None) -> tuple[int, int]:
        """(codes that differ, codes)."""
        expected, sums, requant = self.array("output_ref", "output").ravel(), self.sums(), self.rule(kind)
        form = S16 if expected.dtype == np.int16 else S8
        zero = self.number("OUTPUT_OFFSET", default=0)
        raw = requant.codes(sums.reshape(1, 1, *sums.shape), None, IntFormat(31, signed=True)).astype(np.int64)
        low = self.number("OUT_ACTIVATION_MIN", "ACTIVATION_MIN", default=form.min)
        high = self.number("OUT_ACTIVATION_MAX", "ACTIVATION_MAX", default=form.max)
        found = np.clip(raw + zero, low, high).ravel()
        assert found.shape == expected.shape
        return int((found != expected).sum()), expected.size


def cases():
    return [case for path in sorted(golden.vectors("cmsis-nn").glob("*.npz")) if (case := Case(path)).is_layer]


def test_double_and_int16__are_cmsis_nn_in_every_layer():
    found = {case.name: case.differing() for case in cases()}
    assert len(found) >= 100
    assert sum(codes for _, codes in found.values()) > 30_000
    assert {name: wrong for name, (wrong, _) in found.items() if wrong} == {}


def test_single__is_not_cmsis_nn():
    """Few cases can tell: passing most of them proves nothing."""
    told = [case.name for case in cases() if isinstance(case.rule(), Double) and case.differing(Single)[0]]
    assert 5 <= len(told) <= 40


def test_tosa__rescales_as_arms_vectors():
    codes = {"S": 0, "D": 0}
    for path in sorted(golden.vectors("tosa/rescale").glob("*.npz")):
        mode = path.stem.split("_rm")[1][0]
        if mode == "I":  # implementation-defined
            continue
        data = golden.arrays(path)
        multiplier, shift, zero, other = (data[f"const-{k}"] for k in range(4))
        unsigned = "_iu1" in path.stem, "_ou1" in path.stem
        x = as_read(data["in0"], unsigned[0]) - as_read(zero, unsigned[0])
        x = np.atleast_1d(x)
        channels = x.shape[-1] if len(multiplier) > 1 else 1
        kind = TosaDouble if mode == "D" else TosaSingle
        requant = kind(np.zeros(channels, np.int64), multiplier.astype(np.int64), shift.astype(np.int64))
        raw = requant.codes(x.reshape(1, 1, -1, channels), None, IntFormat(31, signed=True)).astype(np.int64)
        bits = 8 * data["out"].itemsize
        form = IntFormat(bits, signed=not unsigned[1])
        found = np.clip(raw.reshape(x.shape) + as_read(other, unsigned[1]), form.min, form.max)
        assert (found == as_read(np.atleast_1d(data["out"]), unsigned[1])).all(), path.stem
        codes[mode] += found.size
    assert codes["S"] > 3_900
    assert codes["D"] > 1_900


def as_read(array, unsigned):
    """Files hold signed types; unsigned numbers are the same bits."""
    kind = {1: np.uint8, 2: np.uint16}.get(array.itemsize)
    return (array.view(kind) if unsigned and kind and array.ndim else
            np.atleast_1d(array).view(kind) if unsigned and kind else array).astype(np.int64)
