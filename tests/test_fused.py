"""Rows as one operation, against the same formula in float64, and integer products against exact ones."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given
from hypothesis import strategies as st
from torch.nn import functional as F

from sim.network import Activation, Conv, Input, Precision, Requantize, Shape
from tests.examples import compiling, examples
from tests.strategies import generators
from training import kernels, products
from training.fused import NormalizedRow
from training.layers import Codes, Context, ConvLayer, RequantizeLayer
from training.layers.norm import BATCH_NORM_EPS
from training.models import MODELS
from training.network import QuantNetwork
from training.products import Geometry
from training.quantizers import QUANTIZERS
from training.quantizers.dorefa import DoReFa

pytestmark = pytest.mark.skipif(not kernels.is_available(), reason="torch uses another OpenMP library here")
NEAR = 2e-3
"""Steps so near to a limit or to a tie may land on the other side of it."""
CONDITION = 100
"""Of a channel's sums: by this much float32's rounding of their mean, 2^-24 of it, grows in what is normed."""
CALM = compiling(60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])


def tensor(rng, low, high, shape):
    values = torch.from_numpy(rng.integers(low, high + 1, shape).astype(np.float32))
    return values.contiguous(memory_format=torch.channels_last) if values.ndim == 4 else values


def as_codes(values, scale, bound, kind=torch.float32):
    return Codes(values.to(kind).requires_grad_(), scale, bound, values.to(torch.uint8))


@st.composite
def rows(draw):
    """A row, its input and its residual."""
    rng, name = draw(generators), draw(st.sampled_from(["dorefa", "interval", "pact", "lsq"]))
    bits = draw(st.integers(2, 8))
    groups, kernel, stride = draw(st.sampled_from([1, 1, 2])), draw(st.sampled_from([1, 3])), draw(st.integers(1, 2))
    depth, channels = groups * draw(st.integers(1, 20)), groups * draw(st.integers(1, 40))
    side, images, has_skip = draw(st.integers(2, 9)), draw(st.integers(2, 5)), draw(st.booleans())
    torch.manual_seed(draw(st.integers(0, 2**31)))
    row = Conv("row", "x", channels, kernel, stride, kernel // 2, groups, skip="skip" if has_skip else "",
               activation=Activation("inner", 1.0))
    out_side = -(-side // stride)
    shapes: dict[str, Shape] = {"x": (side, side, depth), "row": (out_side, out_side, channels)}
    layer = ConvLayer(row, Context(shapes, Precision.of(bits), QUANTIZERS[name])).to(
        memory_format=torch.channels_last).train()
    assert layer.norm is not None
    with torch.no_grad():
        layer.norm.weight.copy_(tensor(rng, 2, 20, channels) / 10)
        layer.norm.bias.copy_(tensor(rng, -5, 5, channels) / 10)
    x = as_codes(tensor(rng, 0, 2**bits - 1, (images, depth, side, side)), 0.3, 2**bits - 1)
    skip = as_codes(tensor(rng, 0, 255, (images, channels, out_side, out_side)), 0.004, 255)
    return layer, x, skip if has_skip else None, rng


def expected_row(layer, x, skip, upstream):
    """Values, steps and gradients in float64, from the formulas alone."""
    x64 = x.values.detach().double().requires_grad_()
    skip64 = None if skip is None else skip.values.detach().double().requires_grad_()
    weight, weight_scale = layer.weight_codes()
    weight64 = weight.detach().double().requires_grad_()
    gamma, beta = (p.detach().double().requires_grad_() for p in (layer.norm.weight, layer.norm.bias))
    step = layer.activate.step()
    step64 = torch.as_tensor(step, dtype=torch.float64).detach()
    geometry = layer.geometry
    sums = F.conv2d(x64, weight64, None, geometry.stride, geometry.padding, 1, geometry.groups)
    eps = BATCH_NORM_EPS / float(torch.as_tensor(x.scale * weight_scale).detach()) ** 2
    mean, variance = sums.mean((0, 2, 3), keepdim=True), sums.var((0, 2, 3), correction=0, keepdim=True)
    shape = (1, -1, 1, 1)
    real = (sums - mean) / torch.sqrt(variance + eps) * gamma.view(shape) + beta.view(shape)
    if skip64 is not None:
        real = real + skip64 * skip.scale
    steps = real / step64
    levels = layer.activate.levels
    clipped = steps.clamp(0.0, levels)
    value = clipped + (clipped.round() - clipped).detach()
    near = (steps.abs() < NEAR) | ((steps - levels).abs() < NEAR) | ((steps % 1.0 - 0.5).abs() < NEAR)
    upstream = torch.where(near, 0.0, upstream)
    (value * upstream.double()).sum().backward()
    # what the gradients would be if nothing canceled, as batch norm lets most of it
    gain = (gamma / torch.sqrt(variance.flatten() + eps) / step64).detach().view(shape)
    reach_x, reach_weight = products.gradients((upstream * gain).abs(), x64.abs(), weight64.abs(), geometry, (True, True))
    normed = ((sums - mean) / torch.sqrt(variance + eps)).detach()
    return value.detach(), near, upstream, {
        "x": (x64.grad, reach_x), "weight codes": (weight64.grad, reach_weight),
        "gamma": (gamma.grad, (upstream * normed).abs().sum((0, 2, 3)) / step64),
        "beta": (beta.grad, upstream.abs().sum((0, 2, 3)) / step64),
        "skip": (None if skip64 is None else skip64.grad, upstream.abs() * skip.scale if skip is not None else None)}


def assert_near(found, wanted, reach, what):
    assert float((found.double() - wanted).abs().max()) <= 2e-5 * float(reach.detach().abs().max()), what


@given(rows())
@CALM
def test_row__is_the_formula_with_its_gradients(case):
    layer, x, skip, rng = case
    upstream = tensor(rng, -9, 9, (len(x.values), *(layer(x, skip).values.shape[1:])))
    values, near, upstream, wanted = expected_row(layer, x, skip, upstream)
    sums = layer.sums(x, layer.weight_codes()[0]).detach()
    spread = sums.double().std((0, 2, 3), correction=0)  # beside a channel's sums: else the mean's rounding is all there is
    assume(bool((spread > sums.double().abs().amax((0, 2, 3)).clamp(min=1.0) / CONDITION).all()))
    weight, _ = layer.weight_codes()
    codes: dict[str, torch.Tensor] = {}
    weight.register_hook(lambda g: codes.update(weight=g))
    layer.weight_codes = lambda: (weight, _)  # the gradient of the codes themselves, before the quantizer's own
    out = layer(x, skip)
    assert torch.equal(torch.where(near, 0.0, out.values.detach().double()), torch.where(near, 0.0, values))
    assert torch.equal(out.packed.float(), out.values.detach())
    (out.values * upstream).sum().backward()
    found = {"x": x.values.grad, "weight codes": codes["weight"], "gamma": layer.norm.weight.grad,
             "beta": layer.norm.bias.grad}
    for name, gradient in found.items():
        assert_near(gradient, *wanted[name], name)
    if skip is not None:
        assert_near(skip.values.grad, *wanted["skip"], "skip")


def learned_gradient(layer, x, skip, upstream):
    """Of what the activation's quantizer learns, the codes' own scale included."""
    for parameter in layer.parameters():
        parameter.grad = None
    out = layer(x, skip)
    (out.values * out.scale * upstream).sum().backward()
    return [getattr(layer.activate, name).grad.clone() for name in layer.activate.learned]


@given(rows())
@CALM
def test_row__teaches_the_quantizer_as_torchs_own_operations_do(case):
    layer, x, skip, rng = case
    assume(layer.activate.learned)
    upstream = tensor(rng, 1, 9, (len(x.values), *(layer(x, skip).values.shape[1:])))
    upstream = expected_row(layer, x, skip, upstream)[2]
    fused = learned_gradient(layer, x, skip, upstream)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "is_available", lambda: False)
        plain = learned_gradient(layer, x, skip, upstream)
    for mine, theirs in zip(fused, plain, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=2e-3, atol=2e-3 * float(upstream.abs().sum()) / 100)


@given(rows())
@CALM
def test_bfloat16_gradients__leave_every_code_and_statistic_as_it_is(case):
    layer, x, skip, rng = case
    assume(layer.norm is not None)
    upstream = tensor(rng, -9, 9, (len(x.values), *(layer(x, skip).values.shape[1:])))
    found = {}
    for kind in (torch.float32, torch.bfloat16):
        layer.gradients = kind
        layer.norm.running_mean.zero_()
        layer.norm.running_var.fill_(1.0)
        layer.zero_grad()
        x_kind = x if x.packed is None else as_codes(x.values.detach().float(), x.scale, x.bound, kind)
        skip_kind = skip if skip is None or skip.packed is None else as_codes(
            skip.values.detach().float(), skip.scale, skip.bound, kind)
        out = layer(x_kind, skip_kind)
        (out.values.float() * upstream).sum().backward()
        found[kind] = (out.values.detach().float(), out.packed, layer.norm.running_mean.clone(),
                       layer.norm.running_var.clone())
    for mine, theirs in zip(*found.values(), strict=True):
        assert (mine is None and theirs is None) or torch.equal(mine, theirs)


@given(generators, st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 3]), st.integers(1, 2), st.integers(1, 8))
@examples(40)
def test_bfloat16_gradients__are_off_by_their_rounding_alone(rng, depth, channels, kernel, stride, bits):
    geometry = Geometry(stride, kernel // 2, 1)
    x = tensor(rng, 0, 2**bits - 1, (3, depth, 7, 7))
    weight = tensor(rng, 1 - 2**bits, 2**bits - 1, (channels, depth, kernel, kernel))
    gradient = torch.randn(products.sums(x, None, weight, geometry, (255, 255)).shape)
    found = products.gradients(gradient.bfloat16(), x.bfloat16(), weight, geometry, (True, True))
    exact = products.gradients(gradient.double(), x.double(), weight.double(), geometry, (True, True))
    reach = products.gradients(gradient.abs().double(), x.double(), weight.abs().double(), geometry, (True, True))
    for mine, wanted, most in zip(found, exact, reach, strict=True):
        # codes are exact; the gradient is rounded once, the result once, by 2^-8 of itself at most
        assert ((mine.double() - wanted).abs() <= 2**-7 * 1.01 * most).all()


@given(generators, st.integers(1, 8), st.integers(1, 8), st.floats(0.01, 2.0), st.integers(1, 40), st.integers(1, 7))
@examples(40)
def test_rescaled_codes__are_rounded_and_clipped(rng, from_bits, to_bits, scale, channels, side):
    row = Requantize("row", "x", Activation("inner", 1.0))
    layer = RequantizeLayer(row, Context({"row": (side, side, channels)}, Precision.of(to_bits), DoReFa())).train()
    levels = 2**from_bits - 1
    x = as_codes(tensor(rng, 0, levels, (3, channels, side, side)), scale / levels, levels)
    out = layer(x)
    gain = np.float32(x.scale / layer.activate.step())
    steps = x.values.detach().numpy() * gain
    np.testing.assert_array_equal(out.values.detach().numpy(), np.rint(np.clip(steps, 0, 2**to_bits - 1)))
    np.testing.assert_array_equal(out.packed.numpy(), out.values.detach().numpy())
    upstream = tensor(rng, -9, 9, x.values.shape)
    (out.values * upstream).sum().backward()
    np.testing.assert_array_equal(x.values.grad.numpy(), np.where(steps <= 2**to_bits - 1, upstream.numpy() * gain, 0))


@given(generators, st.integers(1, 8), st.integers(1, 7), st.integers(1, 70), st.integers(1, 40), st.sampled_from([1, 3, 5]),
       st.integers(1, 2), st.sampled_from(["random", "extremes", "one sign"]))
@examples(60)
def test_integer_sums__are_those_of_plain_integers(rng, bits, weight_bits, depth, channels, kernel, stride, pattern):
    largest, most = 2**bits - 1, 2**weight_bits - 1
    x, weight = tensor(rng, 0, largest, (2, depth, 6, 6)), tensor(rng, -most, most, (channels, depth, kernel, kernel))
    if pattern != "random":
        is_mixed = pattern == "extremes"
        x = torch.where(x > largest / 2, float(largest), 0.0) if is_mixed else torch.full_like(x, largest)
        weight = torch.where(weight > 0, float(most), -float(most)) if is_mixed else torch.full_like(weight, most)
    found = products.sums(torch.full_like(x, torch.nan), x.to(torch.uint8), weight, Geometry(stride, kernel // 2, 1),
                          (largest, most))
    if 2 * largest * most > products.PAIR and not products.has_dot_product():
        assert found.isnan().any()  # real products of the values, which are none here
        return
    padded = np.pad(x.numpy().astype(np.int64), ((0, 0), (0, 0), (kernel // 2,) * 2, (kernel // 2,) * 2))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), (2, 3))[:, :, ::stride, ::stride]
    wanted = np.einsum("nchwab,ocab->nohw", windows, weight.numpy().astype(np.int64))
    np.testing.assert_array_equal(found.numpy(), wanted)


@given(generators, st.integers(1, 12), st.integers(1, 12), st.sampled_from([1, 3]), st.integers(0, 1), st.integers(1, 3),
       st.integers(1, 9), st.integers(2, 9), st.booleans())
@examples(100)
def test_gradients__are_those_of_plain_integers(rng, depth, channels, kernel, padding, stride, rows, columns, is_grouped):
    """oneDNN reads and writes beyond its arrays for strided kernels of one pixel, where it has no AVX-512."""
    assume(min(rows, columns) + 2 * padding >= kernel)
    groups = depth if is_grouped else 1
    x = tensor(rng, 0, 15, (2, depth, rows, columns)).requires_grad_()
    weight = tensor(rng, -7, 7, (channels * groups, depth // groups, kernel, kernel)).requires_grad_()
    geometry = Geometry(stride, padding, groups)
    _, simple = products.dense(x, weight, geometry)
    assert kernel > 1 or simple.stride == 1  # that nothing was overwritten shows by chance only
    sums = F.conv2d(x.double(), weight.double(), None, stride, padding, 1, groups)  # not oneDNN's: it has no float64
    upstream = tensor(rng, -9, 9, sums.shape)
    expected = torch.autograd.grad(sums, (x, weight), upstream.double())
    for _ in range(4):
        del [torch.full((int(size),), torch.nan) for size in rng.integers(1, 3000, 20)][:]  # what memory may be found as
        found = products.gradients(upstream, x.detach(), weight.detach(), geometry, (True, True))
        assert all(map(torch.equal, found, expected))


def test_weights_beyond_a_byte__are_multiplied_as_real_numbers():
    x, weight = torch.full((1, 1, 1, 1), 3.0), torch.full((1, 1, 1, 1), 255.0)
    packed = torch.zeros(1, 1, 1, 1, dtype=torch.uint8)
    for bounds in ((3, 255), (3, 127), (256, 1)):
        assert products.sums(x, packed, weight, Geometry(1, 0, 1), bounds).item() == 765.0


@pytest.mark.parametrize("threads", [1, 3])
def test_threads__change_no_bit(threads):
    rng = np.random.default_rng(0)
    x = tensor(rng, -40, 40, (40, 24, 16, 16))
    weight = tensor(rng, -3, 3, (24, 24, 1, 1))
    row = Conv("row", "x", 24, activation=Activation("inner", 1.0))
    results = []
    before = torch.get_num_threads()
    try:
        for count in (2, threads):
            torch.set_num_threads(count)
            layer = ConvLayer(row, Context({"x": (16, 16, 24), "row": (16, 16, 24)}, Precision.of(4), DoReFa())).train()
            with torch.no_grad():
                layer.weight.copy_(weight)
            out = layer(Codes(x, 0.1, 40))
            (out.values * x).sum().backward()
            results.append((out.values.detach(), layer.norm.running_mean, layer.norm.running_var, layer.norm.weight.grad,
                            layer.norm.bias.grad))
    finally:
        torch.set_num_threads(before)
    for mine, theirs in zip(*results, strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("what", ["norm.weight", "norm.bias", "weight"])
def test_what_is_no_number__is_not_lost_in_a_byte(what):
    """Or a run that has diverged would go on."""
    row = Conv("row", "x", 4, 3, 1, 1, activation=Activation("inner", 1.0))
    layer = ConvLayer(row, Context({"x": (8, 8, 3), "row": (8, 8, 4)}, Precision.of(4), DoReFa())).train()
    with torch.no_grad():
        layer.get_parameter(what).view(-1)[1] = torch.nan
    first = layer(as_codes(tensor(np.random.default_rng(0), 0, 15, (4, 3, 8, 8)), 0.1, 15))
    assert first.values.isnan().any()
    assert first.packed is None


def test_step_that_is_no_number__is_not_lost_in_a_byte():
    layer = RequantizeLayer(Requantize("row", "x", Activation("inner", 1.0)), Context(
        {"row": (4, 4, 3)}, Precision.of(4), QUANTIZERS["interval"])).train()
    with torch.no_grad():
        layer.activate.interval.fill_(torch.nan)
    out = layer(as_codes(tensor(np.random.default_rng(0), 0, 15, (4, 3, 4, 4)), 0.1, 15))
    assert out.values.isnan().all()
    assert out.packed is None


@given(st.lists(st.floats(-40, 40, width=32), min_size=1, max_size=50), st.sampled_from([2, 4, 8, 16]))
def test_tanh_codes__and_slopes_have_the_bits_of_torchs_own_operations(values, bits):
    found = []
    for is_available in (kernels.is_available, lambda: False):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(kernels, "is_available", is_available)
            weight = torch.tensor(values).requires_grad_()
            codes, _ = DoReFa().weight(weight, bits, {})
            codes.sum().backward()
            found.append((codes.detach(), weight.grad))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


def test_network__takes_this_way(monkeypatch):
    """So that the tests above are about what training runs."""
    calls = []
    apply = NormalizedRow.apply
    monkeypatch.setattr(NormalizedRow, "apply", lambda *arguments: calls.append(1) or apply(*arguments))
    for bits in (8, 2):
        calls.clear()
        model = QuantNetwork(MODELS["resnet8"](Input("image", "", 8, 8, 1, (0.3,), (0.4,)), 10, 4), Precision.of(bits))
        model.channels_last().train()(torch.zeros(4, 1, 8, 8))
        assert len(calls) == sum(isinstance(row, Conv) and row.norm for row in model.graph.rows)


@pytest.mark.parametrize(("size", "kernel", "padding", "stride", "idle"), [
    (1, 3, 1, 1, True), (2, 3, 1, 2, True), (2, 3, 1, 1, False), (4, 3, 1, 2, False), (1, 5, 2, 1, True),
    (1, 1, 0, 1, False)])
def test_bfloat16_gradients__of_taps_that_meet_only_padding_are_zero(size, kernel, padding, stride, idle):
    """oneDNN leaves them unwritten."""
    x, weight = torch.ones(2, 3, size, size), torch.ones(4, 3, kernel, kernel)
    geometry = Geometry(stride, padding, 1)
    gradient = torch.ones_like(products.sums(x, None, weight, geometry, (1, 1)))
    assert products._has_idle_tap(size, kernel, gradient.shape[2], stride, padding) == idle
    for _ in range(3):
        torch.full((4, 3, kernel, kernel), torch.nan, dtype=torch.bfloat16)  # what the next allocation may find
        found = products.gradients(gradient.bfloat16(), x.bfloat16(), weight, geometry, (False, True))[1]
        assert torch.equal(found, products.gradients(gradient, x, weight, geometry, (False, True))[1])


def test_memory_of_another_kind__never_reaches_the_loops():
    """They read what lies there as float32."""
    rng = np.random.default_rng(0)
    x = as_codes(tensor(rng, 0, 15, (4, 3, 8, 8)), 0.1, 15)
    row = Conv("row", "x", 4, 3, 1, 1, activation=Activation("inner", 1.0))
    layer = ConvLayer(row, Context({"x": (8, 8, 3), "row": (8, 8, 4)}, Precision.of(4), DoReFa())).train()
    plain = layer(x).values.detach()
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).packed is None
    layer.norm.running_mean = torch.zeros(4, 2)[:, 0]
    assert torch.equal(layer(x).values.detach(), plain)
    assert layer.norm.running_mean.abs().sum() > 0
    for change in (torch.float64, torch.float16):
        with pytest.raises(RuntimeError):
            layer.to(change)(x).values.sum().backward()
    weight = torch.linspace(-1, 1, 24)
    for other in (weight.double(), weight.view(4, 6)[:, ::2], weight[:1].expand(5)):
        codes, _ = DoReFa().weight(other, 4, {})
        assert torch.equal(codes.float(), DoReFa().weight(other.float().contiguous(), 4, {})[0])


def test_second_derivatives__are_refused_not_wrong():
    row = Requantize("row", "x", Activation("inner", 1.0))
    layer = RequantizeLayer(row, Context({"row": (4, 4, 3)}, Precision.of(4), DoReFa())).train()
    x = as_codes(tensor(np.random.default_rng(0), 0, 15, (2, 3, 4, 4)), 0.1, 15)
    (first,) = torch.autograd.grad(layer(x).values.square().sum(), x.values, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


def test_limits_and_ties__exactly_there():
    """Half to even; the gradient passes at both ends of the clip, as contract C3 rounds and the formulas say."""
    steps = torch.tensor([-0.5, 0.0, 0.5, 1.5, 2.5, 3.0, 3.5]).view(1, 1, 1, -1)
    count = steps.numel()
    shape, one, zero = torch.tensor([count, 1, count]), torch.ones(count), torch.zeros(count)
    limits, nothing = torch.tensor([3.0, 0.0]), torch.empty(0)
    kinds = kernels.Kinds()
    values, packed = torch.empty(count), torch.empty(count, dtype=torch.uint8)
    kernels.finish(kinds)(1, shape, steps, one, zero, limits, nothing, values, packed)
    assert values.tolist() == packed.tolist() == [0, 0, 0, 2, 2, 3, 3]
    upstream, total, out = torch.tensor([1.0, 2, 4, 8, 16, 32, 64]), torch.empty(4, dtype=torch.float64), torch.empty(count)
    kernels.reduce(kinds)(1, shape, steps, one, zero, limits, nothing, upstream, total)
    kernels.differentiate(kinds)(1, shape, steps, one, zero, limits, nothing, upstream, zero, zero, out, nothing)
    assert out.tolist() == [0, 2, 4, 8, 16, 32, 0]
    assert total.tolist()[:2] == [62, 0.5 * 4 + 1.5 * 8 + 2.5 * 16 + 3 * 32]
