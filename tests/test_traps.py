"""What cost others dearly in integer arithmetic, by name: the traps that need no golden data."""

import numpy as np
import pytest

from sim.definitions.integer_norms import IbertLayerNorm
from sim.definitions.integers import truncated
from sim.definitions.softmax import IbertSoftmax, Log2Softmax
from sim.formats import IntFormat
from sim.requantizers.mul_add_shift import MulAddDivide, MulAddShift, MulAddShiftFloor

S8, U8 = IntFormat(8, signed=True), IntFormat(8, signed=False)


def codes(rule, last, sums):
    requant = rule.of(np.array([1]), np.array([0]), np.array([last]))
    requant.check(1, max(map(abs, sums)))
    return requant.codes(np.array(sums).reshape(1, 1, -1, 1), None, S8).ravel().tolist()


def test_trap__floor_is_not_truncation_on_negative_numbers():
    sums = [-9, -8, -7, -4, -1, 0, 1, 7]
    assert codes(MulAddShiftFloor, 3, sums) == [total // 8 for total in sums] == [-2, -1, -1, -1, -1, 0, 0, 0]
    assert codes(MulAddDivide, 7, sums) == [total // 7 for total in sums] == [-2, -2, -1, -1, -1, 0, 0, 1]
    toward_zero = truncated(np.array(sums), np.array(8)).tolist()
    assert toward_zero == [int(total / 8) for total in sums] == [-1, -1, 0, 0, 0, 0, 0, 0]


def test_trap__half_up_of_negative_numbers_is_toward_plus_infinity():
    assert codes(MulAddShift, 3, [-12, -4, 4, 12]) == [-1, 0, 1, 2]


def test_trap__a_gamma_of_0_in_an_integer_layernorm_leaves_the_bias():
    learned = {"gamma": np.array([0.0, 1.0, 0.0, -0.0]), "beta": np.array([0.5, 0.0, -0.25, 0.0])}
    definition = IbertLayerNorm.build(0.1, S8, S8, 0.125, learned)
    definition.check(4)
    assert definition.weight[[0, 2, 3]].tolist() == [0, 0, 0]
    for row in ([1, -2, 3, -4], [-128, 127, -128, 127], [5, 5, 5, 5]):
        found = definition.codes(np.array([row]))[0].tolist()
        assert found == definition.oracle(row)
        assert [found[0], found[2], found[3]] == [4, -2, 0]


@pytest.mark.parametrize("definition", [
    Log2Softmax.build(0.05, S8, IntFormat(4, signed=False)), IbertSoftmax.build(2.0**-12, S8, U8)], ids=["log2", "ibert"])
def test_trap__row_sums_of_exponentials_pass_32_bits_at_a_sequence_of_384(definition):
    definition.check(384)
    for row in ([0] * 384, [127] * 384, [127] + [-128] * 383, list(range(-128, 128)) + [3] * 128):
        assert definition.codes(np.array([row]))[0].tolist() == definition.oracle(row)
    largest = (int(definition.c[0]) << 30) if isinstance(definition, Log2Softmax) else int(definition.c[0])
    assert 384 * largest > 2**32
