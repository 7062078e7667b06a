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
EXPECTED = {
    "cmsis-nn": (160, {"svdf": 5, "lstm": 7, "transposed conv": 7}),
    "tosa": (546, {"rescale": 238, "conv2d_3x3": 36, "depthwise_conv2d_3x3": 36, "matmul": 1}),
}
"""family -> (cases that are run, cases that are not by operation)"""
FOLDERS = {"cmsis-nn": "cmsis-nn", "tosa": "tosa"}


@functools.cache
def summary_of(family):
    folder = Folder(vectors(FOLDERS[family]))
    return Summary.of(check(family, case) for case in FAMILIES[family](folder))


@pytest.mark.parametrize("family", EXPECTED)
def test_family__no_code_differs(family):
    summary = summary_of(family)
    assert [(outcome.name, outcome.differing, outcome.first) for outcome in summary.differing] == []
    assert sum(row.cases for row in summary.rows) == EXPECTED[family][0]
    assert summary.codes > 10_000
    assert sum(row.plain for row in summary.rows) > 1000


@pytest.mark.parametrize("family", EXPECTED)
def test_family__what_is_not_supported_is_this_list(family):
    found = {operation: len(names) for (_, operation, _), names in summary_of(family).unsupported.items()}
    assert found == EXPECTED[family][1]


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
