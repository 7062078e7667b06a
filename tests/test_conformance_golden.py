"""Every case of ../shared/vectors through its family: 0 codes differ, and what is not supported is exactly this list."""

import functools

import numpy as np
import pytest

from sim.conformance.check import check
from sim.conformance.cmsis_nn import find, goldens, layers
from sim.conformance.cmsis_nn.moves import TRANSPOSES
from sim.conformance.families import FAMILIES
from sim.conformance.folder import Folder
from sim.conformance.summary import Summary
from sim.requantizers.single import Single
from tests.golden import vectors

INT48 = "its int48 results are not stored: Arm's own library cannot give them out"
FLOATS = "numbers of the type float4e2m1"
EXPECTED = {
    "cmsis-nn": (160, {("svdf", "SVDF has state between calls"): 5, ("lstm", "LSTM has state between steps"): 7,
                       ("transposed conv", "transposed convolution"): 7}),
    "tosa": (847, {("rescale", "INEXACT rounding is the implementation's own, by the specification"): 238,
                   ("conv2d_3x3", INT48): 36, ("depthwise_conv2d_3x3", INT48): 36, ("matmul", INT48): 1}),
    "tflite": (9, {}),
    "onnx": (27, {
        ("dequantizelinear", "numbers of the type float8e4m3fn"): 3, ("dequantizelinear", FLOATS): 1,
        ("dequantizelinear", "an archive that is damaged"): 1, ("quantizelinear", "numbers of the type float8e4m3fn"): 1,
        ("quantizelinear", FLOATS): 1, ("quantizelinear", "an archive that is damaged"): 1,
        ("qlinearmatmul", "QLinearMatMul y: its scale is of type float16, float32 is supported"): 4,
        ("dynamicquantizelinear", "DynamicQuantizeLinear y: its scale depends on the data"): 3,
        ("dynamicquantizelinear", "ReduceMin DynamicQuantizeLinear_test_dynamicquantizelinear"): 3}),
    "qonnx": (4, {}),
    "deeploy": (106, {}),
    "dory": (5, {}),
}
"""family -> (cases that are run, cases that are not by operation and what the reason begins with)"""
LEAST_CODES = {"onnx": 300, "qonnx": 2000}
NEEDS = {"tflite": "tflite", "onnx": "onnx", "qonnx": "onnx", "deeploy": "onnx", "dory": "onnx"}
"""Packages of the extra `import`."""


@functools.cache
def summary_of(family):
    """Every case but those that ask a runtime which is installed."""
    if family in NEEDS:
        pytest.importorskip(NEEDS[family], reason=f"the package {NEEDS[family]} is not installed (extra `import`)")
    cases = FAMILIES[family](Folder(vectors(family)))
    return Summary.of(check(family, case) for case in cases if case.operation != "live")


@pytest.mark.parametrize("family", EXPECTED)
def test_family__no_code_differs(family):
    summary = summary_of(family)
    assert [(outcome.name, outcome.differing, outcome.first) for outcome in summary.differing] == []
    assert sum(row.cases for row in summary.rows) == EXPECTED[family][0]
    assert summary.codes > LEAST_CODES.get(family, 10_000)


@pytest.mark.parametrize("family", EXPECTED)
def test_family__what_is_not_supported_is_this_list(family):
    listed = EXPECTED[family][1]
    found = dict.fromkeys(listed, 0)
    for (_, operation, reason), names in summary_of(family).unsupported.items():
        key = next(((name, begin) for name, begin in listed if name == operation and reason.startswith(begin)), None)
        assert key is not None, (operation, reason, names)
        found[key] += len(names)
    assert found == listed


@pytest.mark.parametrize("family", ["cmsis-nn", "tosa"])
def test_family__small_cases_are_checked_in_plain_integers_too(family):
    rows = summary_of(family).rows
    assert {row.operation for row in rows if not row.plain} <= {"batch matmul", "network"}, "these alone are too large"
    assert sum(row.plain_differing for row in rows) == 0


@pytest.mark.exhaustive
def test_live__runtimes_that_are_installed():
    cases = [case for case in FAMILIES["tflite"](Folder(vectors("tflite"))) if case.operation == "live"]
    summary = Summary.of(check("tflite", case) for case in cases)
    if not summary.rows:
        pytest.skip("no runtime of .tflite files is installed (extra `peers`)")
    assert [(outcome.name, outcome.differing, outcome.first) for outcome in summary.differing] == []
    for (_, _, reason) in summary.unsupported:
        assert "is not installed" in reason or "LiteRT refuses it" in reason


def golden(name):
    """One case of CMSIS-NN."""
    folder = vectors("cmsis-nn")
    (case,) = [case for case in find(Folder(folder)) if case.name == name]
    return case


def differing(name):
    return check("cmsis-nn", golden(name)).differing


def test_planted_fault__another_rounding_is_seen(monkeypatch):
    assert differing("conv_1_x_n_7") == 0
    monkeypatch.setattr(layers, "Double", Single)
    assert differing("conv_1_x_n_7") > 0


# traps of the oracles

def test_trap__few_convolutions_tell_double_from_single_rounding(monkeypatch):
    """Passing most of them proves nothing."""
    cases = [case for case in find(Folder(vectors("cmsis-nn"))) if case.operation in ("conv", "conv int4", "depthwise")]
    monkeypatch.setattr(layers, "Double", Single)
    telling = [case.name for case in cases if check("cmsis-nn", case).differing]
    assert 0 < len(telling) < len(cases) // 3


def test_trap__weights_have_a_zero_point(monkeypatch):
    assert differing("fully_connected_w_zp") == 0
    numbers = layers.Entry.number
    monkeypatch.setattr(layers.Entry, "number", lambda self, *names, default=None: 0 if names == (
        "FILTER_OFFSET",) else numbers(self, *names, default=default))
    assert differing("fully_connected_w_zp") > 0


def test_trap__packed_weights_begin_with_the_low_nibble(monkeypatch):
    name = "fully_connected_int4_2"
    assert differing(name) == 0

    def high_first(packed, count):
        return unpacked(packed, count + count % 2).reshape(-1, 2)[:, ::-1].ravel()[:count]

    unpacked = layers.unpacked
    monkeypatch.setattr(layers, "unpacked", high_first)
    assert differing(name) > 0


def test_trap__depthwise_multipliers_above_1_repeat_each_channel_side_by_side(monkeypatch):
    name = "depthwise_null_bias_1"
    case = golden(name)
    program = case.make().program
    (op,) = program.convolutions
    assert (op.groups, op.weights.shape[3]) == (2, 16)
    assert check("cmsis-nn", case).differing == 0
    dilated = layers.dilated
    monkeypatch.setattr(layers, "dilated", lambda weights, dilation: dilated(
        weights.reshape(*weights.shape[:3], 8, 2).swapaxes(3, 4).reshape(weights.shape), dilation))
    assert differing(name) > 0


@pytest.mark.parametrize("offset", ["LHS_OFFSET", "RHS_OFFSET"])
def test_trap__a_batch_matmul_has_two_zero_points(monkeypatch, offset):
    name = "batch_matmul_2_s8"
    assert differing(name) == 0
    numbers = goldens.Entry.number
    monkeypatch.setattr(goldens.Entry, "number", lambda self, *names, default=None: 0 if names == (
        offset,) else numbers(self, *names, default=default))
    assert differing(name) > 0


def test_transposes__sides_are_those_of_the_archives():
    for case in find(Folder(vectors("cmsis-nn"))):
        if case.operation == "transpose":
            sides, order = TRANSPOSES[case.name]
            assert case.make().given["x"].size == np.prod(sides)
            assert sorted(order) == list(range(len(sides)))
