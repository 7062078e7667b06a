"""Torch, numpy and plain Python find the same codes; gradients are those worked out by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sim.quantizers import QUANTIZERS as NUMPY_QUANTIZERS
from sim.quantizers.dorefa import tanh as numpy_tanh
from tests import oracle
from tests.strategies import BITS
from training.quantizers import QUANTIZERS as TORCH_QUANTIZERS
from training.quantizers.dorefa import tanh as torch_tanh

finite = st.floats(-(2.0**100), 2.0**100, width=32)
ordinary = st.floats(-4, 4, width=32)
weights = hnp.arrays(np.float32, hnp.array_shapes(min_dims=1, max_dims=4, max_side=6),
                     elements=st.one_of(ordinary, finite, st.sampled_from([0.0, -0.0, 20.0, -20.0])))


def test_registries__are_twins():
    assert set(TORCH_QUANTIZERS) == set(NUMPY_QUANTIZERS)


@pytest.mark.parametrize("name", sorted(NUMPY_QUANTIZERS))
@given(weight=weights, bits=BITS)
def test_weight_codes__are_equal_in_torch_numpy_and_python(name, weight, bits):
    torch_codes, torch_scale = TORCH_QUANTIZERS[name].weight(torch.from_numpy(weight), bits)
    codes, scale = NUMPY_QUANTIZERS[name].weight_codes(weight, bits)
    oracle_codes, oracle_scale = oracle.dorefa_weights(weight.ravel().tolist(), bits)
    assert codes.ravel().tolist() == oracle_codes == torch_codes.ravel().int().tolist()
    assert float(torch_scale) == scale == oracle_scale
    assert NUMPY_QUANTIZERS[name].weight_format(bits).contains(codes)
    assert np.abs(codes).max() <= TORCH_QUANTIZERS[name].weight_bound(bits)


@given(hnp.arrays(np.float64, st.integers(1, 50), elements=st.floats(-1e300, 1e300)))
def test_tanh__has_the_same_bits_everywhere_and_is_tanh(x):
    values = numpy_tanh(x)
    assert values.tolist() == torch_tanh(torch.from_numpy(x)).tolist() == [oracle.dorefa_tanh(v) for v in x.tolist()]
    np.testing.assert_allclose(values, np.tanh(x), rtol=2e-15, atol=1e-300)


@given(st.floats(-2, 300, width=32), BITS)
def test_activation_codes__round_half_to_even_and_clip(steps, bits):
    codes = TORCH_QUANTIZERS["dorefa"].activation(torch.tensor([steps]), bits)
    assert codes.item() == min(max(oracle.half_even(steps), 0), 2**bits - 1)


@given(BITS, st.sampled_from([1.0, 4.0, 0.37]))
def test_activation_scale__is_equal(bits, limit):
    scales = {q["dorefa"].activation_scale(bits, limit) for q in (TORCH_QUANTIZERS, NUMPY_QUANTIZERS)}
    assert scales == {limit / (2**bits - 1)}


def test_weight_gradient__is_that_of_tanh_with_the_rounding_left_out():
    weight = torch.tensor([0.5, -1.0, 0.1], requires_grad=True)
    codes, _ = TORCH_QUANTIZERS["dorefa"].weight(weight, 2)
    codes.backward(torch.tensor([1.0, 10.0, 100.0]))
    peak = math.tanh(1.0)
    expected = [g * 3 * (1 - math.tanh(w) ** 2) / peak for g, w in ((1, 0.5), (10, -1.0), (100, 0.1))]
    np.testing.assert_allclose(weight.grad, expected, rtol=1e-6)


def test_sign_gradient__passes_straight_through_the_real_weight():
    weight = torch.tensor([0.5, -1.5], requires_grad=True)
    codes, scale = TORCH_QUANTIZERS["dorefa"].weight(weight, 1)
    (codes * scale * torch.tensor([2.0, 3.0])).sum().backward()
    assert weight.grad.tolist() == [2.0, 3.0]


def test_activation_gradient__passes_inside_the_clip_only():
    steps = torch.tensor([-0.1, 0.0, 1.4, 3.0, 3.1], requires_grad=True)
    TORCH_QUANTIZERS["dorefa"].activation(steps, 2).backward(torch.ones(5))
    assert steps.grad.tolist() == [0.0, 1.0, 1.0, 1.0, 0.0]


def test_all_zero_weights__have_codes():
    codes, scale = NUMPY_QUANTIZERS["dorefa"].weight_codes(np.zeros(3, np.float32), 2)
    assert codes.tolist() == [1, 1, 1]  # 3/2 rounds to the even 2
    assert scale == 1 / 3
    assert NUMPY_QUANTIZERS["dorefa"].weight_codes(np.zeros(3, np.float32), 1)[1] == 0.0
