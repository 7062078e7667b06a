"""Training for a register: no input overflows what A2Q made, and what overflows in training overflows in the simulator."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import sim
import training
from sim.accumulator import Accumulator, bits_for, prefix_bounds
from sim.checkpoint import load_checkpoint
from sim.formats import IntFormat
from sim.hardware import HardwareSpec
from sim.lowering import lower
from sim.machine import Machine
from sim.network import Conv, Graph, Input, MatMul, Precision, Requantize
from sim.quantizers import QUANTIZERS as TWINS
from sim.quantizers.a2q import LIMIT, NORM, SCALE, norm_limit
from sim.testing import codes as drawn_codes
from sim.testing import generators
from sim.trained import register_notes, shown_by, trained_register
from tests.examples import examples
from tests.test_schemes import config_of, run
from tests.test_training import small_config, small_graph
from training.config import ConfigError, options_of, resolve
from training.data import load_dataset
from training.layers import Codes, ConvLayer
from training.network import QuantNetwork
from training.quantizers import QUANTIZERS
from training.quantizers.a2q import _NormedCodes
from training.registers import Normed, _float32_below, attach, project

FAMILY = ("a2q", "a2q+")
OPERANDS = st.builds(lambda bits, signed: IntFormat(bits, signed=signed, narrow=signed and bits > 1),
                     st.integers(1, 8), st.booleans())


@st.composite
def wild_weights(draw):
    """float32 [channels, depth, rows, columns]: ordinary ones, few or equal ones, and any that float32 holds."""
    shape = tuple(draw(st.integers(1, most)) for most in (4, 6, 3, 3))
    rng = draw(generators)
    normal = rng.normal(size=shape)
    kind = draw(st.sampled_from(["normal", "normal", "sparse", "equal", "skewed", "any"]))
    if kind == "any":
        elements = st.one_of(st.floats(-4, 4, width=32), st.floats(-(2.0**100), 2.0**100, width=32))
        return draw(hnp.arrays(np.float32, shape, elements=elements))
    values = {"normal": normal, "sparse": normal * (rng.random(shape) < 0.2), "equal": np.sign(normal),
              "skewed": np.abs(normal)}[kind]
    return values.astype(np.float32)


# the guarantee

@pytest.mark.parametrize("name", FAMILY)
@given(weight=wild_weights(), operand=OPERANDS, bits=st.sampled_from([3, 4, 8]), data=st.data(),
       spare=st.one_of(st.integers(1, 9), st.integers(1, 24)))
@examples(300)
def test_a2q__codes_fit_the_register_whatever_weights_scales_and_norms_become(name, weight, operand, bits, data, spare):
    """Of any input of that format, in any order of products: contract C7's bounds.  Norms are mostly beyond the limit."""
    width = min(operand.reach.bit_length() + spare, 32)
    limit = norm_limit(width, operand, "+" in name)
    norms = st.one_of(st.just(20.0), st.floats(-8, 8, width=32), st.floats(-(2.0**100), 2.0**100, width=32))
    learned = {SCALE: np.array([data.draw(st.floats(-8, 8, width=32)) for _ in weight], np.float32),
               NORM: np.array([data.draw(norms) for _ in weight], np.float32),
               LIMIT: np.array([_float32_below(limit)], np.float32)}
    codes, _ = TWINS[name].weight_codes(weight, bits, learned)
    low, high = prefix_bounds(codes.transpose(2, 3, 1, 0), operand)
    assert bits_for(int(low.min()), int(high.max())) <= width


@pytest.mark.parametrize(("operand", "centered", "rows"), [
    (IntFormat(3, signed=False), False, [[1.0], [-1.0]]), (IntFormat(3, signed=False), True, [[1.0, -1.0], [3.0, 1.0]]),
    (IntFormat(3, signed=True, narrow=True), False, [[1.0], [-2.0]])])
def test_a2q__limit_is_tight(operand, centered, rows):
    """Weights take all that the register has: it would not hold one more."""
    limit = norm_limit(9, operand, centered)
    learned = {SCALE: np.zeros(len(rows), np.float32), NORM: np.full(len(rows), 19, np.float32),
               LIMIT: np.array([limit], np.float32)}
    weight = np.array(rows, np.float32).reshape(len(rows), -1, 1, 1)
    codes, _ = TWINS["a2q+" if centered else "a2q"].weight_codes(weight, 8, learned)
    low, high = prefix_bounds(codes.transpose(2, 3, 1, 0), operand)
    assert bits_for(int(low.min()), int(high.max())) == 9
    assert np.maximum(high, -low).min() + operand.reach > 2**8 - 1


def test_norm_limit__is_that_of_the_papers_with_the_exact_reach_of_codes():
    u3, s3 = IntFormat(3, signed=False), IntFormat(3, signed=True, narrow=True)
    assert norm_limit(16, u3) == (2**15 - 1) // 7
    assert norm_limit(16, u3, centered=True) == 2 * ((2**15 - 1) // 7) <= (2**16 - 2) / (2**3 - 1)
    assert norm_limit(16, s3) == norm_limit(16, s3, centered=True) == (2**15 - 1) // 3
    assert norm_limit(3, u3) == 0


@given(st.one_of(st.integers(0, 2**31), st.integers(2**24, 2**31)))
def test_limits__are_stored_as_the_float32_below(limit):
    stored = _float32_below(limit)
    assert np.float32(stored) == stored <= limit
    assert limit > 2**24 or stored == limit
    assert float(np.nextafter(np.float32(stored), np.float32(np.inf))) > limit


# quantizer

def test_a2q_gradients__are_those_of_the_normed_weights_with_the_rounding_left_out():
    """As autograd finds them of the formula itself, where nothing is clipped; the norm's only where the limit is not."""
    generator = torch.Generator().manual_seed(0)
    for centered in (False, True):
        for limit in (1e6, 9.0):
            weight = torch.randn(3, 8, generator=generator).requires_grad_()
            scale, norm = torch.full((3,), -2.0, requires_grad=True), torch.full((3,), 2.0, requires_grad=True)
            upstream = torch.randn(3, 8, generator=generator)
            _NormedCodes.apply(weight, scale, norm, limit, 1000, centered).backward(upstream)
            found = [each.grad.clone() for each in (weight, scale, norm)]
            for each in (weight, scale, norm):
                each.grad = None
            v = weight - weight.mean(1, keepdim=True) if centered else weight
            length = torch.exp2(norm - scale).clamp_max(limit)[:, None]
            (v / v.abs().sum(1, keepdim=True) * length * upstream).sum().backward()
            for mine, expected in zip(found, (weight.grad, scale.grad, norm.grad), strict=True):
                torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-4)


@given(hnp.arrays(np.float64, st.tuples(st.integers(1, 3), st.integers(1, 8)), elements=st.floats(-8, 8)),
       st.floats(0.01, 20))
def test_project__is_the_nearest_point_of_the_ball(rows, radius):
    """It lies in the ball; inside nothing moves; else no step toward a corner, which are all that there is, comes nearer."""
    found = project(torch.from_numpy(rows), torch.full((len(rows),), radius, dtype=torch.float64)).numpy()
    for row, near in zip(rows, found, strict=True):
        assert np.abs(near).sum() <= radius * (1 + 1e-9) + 1e-9
        if np.abs(row).sum() <= radius:
            np.testing.assert_array_equal(near, row)
        for index in range(len(row)):
            for sign in (-radius, radius):
                corner = np.zeros(len(row))
                corner[index] = sign
                assert np.dot(row - near, corner - near) <= 1e-7  # the angle of a projection is never acute


def test_a2q__calibration_keeps_the_levels_that_the_width_has():
    weight = torch.randn(4, 9, 3, 3, generator=torch.Generator().manual_seed(1))
    for bits in (2, 3, 4):
        for method in ("minmax", "mse"):
            learned = QUANTIZERS["a2q"].start_weight(weight, bits, method)
            codes, scale = QUANTIZERS["a2q"].weight(weight, bits, learned)
            assert codes.abs().amax((1, 2, 3)).min() >= 2 ** (bits - 1) - 2
            assert ((codes * scale.view(-1, 1, 1, 1) - weight) ** 2).mean() < (weight**2).mean()


# networks

def inner_bits(spec) -> dict[str, int]:
    roles = {row.name: row.weight_role for row in spec.graph.rows}
    return {op.name: op.safe_bits for op in lower(spec).convolutions if roles[op.name] != "boundary"}


@pytest.mark.parametrize(("scheme", "method", "quantizer"), [
    ("individual", "a2q", "dorefa"), ("individual", "a2q+", "dorefa"), ("ptq", "a2q+", "interval_channel")])
def test_a2q__every_checkpoint_of_a_run_fits_its_register_and_is_bit_true(tmp_path, scheme, method, quantizer):
    config = config_of(scheme, 3, epochs=1, width=8, **changes_of(9, method, quantizer))
    run(config, tmp_path)
    checkpoint = load_checkpoint(tmp_path / "ckpt.pt")
    needed = inner_bits(checkpoint.spec)
    assert len(needed) == 6
    assert max(needed.values()) <= 9 < max(inner_bits(unlimited(tmp_path)).values())
    result = sim.evaluate(tmp_path / "ckpt.pt", accumulator=9, overflow="saturate", limit=40, verify=True)
    assert result.overflowed == result.verification.differing == 0
    assert method == "a2q" or all(op.weights.any() for op in result.program.convolutions)


def changes_of(bits, method, quantizer="dorefa", **more):
    given = {"accumulator_bits": bits, "accumulator_training": method, "quantizer": quantizer, **more}
    return given | {key: value for key, value in resolve({"scheme": "individual", "bits": 3, **given})[0].to_json().items()
                    if key == "quantizer"}


def unlimited(folder):
    """The same network as it would be without limits, its norms eight times as large."""
    spec = load_checkpoint(folder / "ckpt.pt").spec
    arrays = {name: np.full_like(array, 2.0**31) if name.endswith(LIMIT) else array + 3 if name.endswith(NORM) else array
              for name, array in spec.arrays.items()}
    return dataclasses.replace(spec, arrays=arrays)


def test_a2q__ladder_limits_the_student_alone(tmp_path):
    """The widths before it are no student of that register."""
    config = small_config(scheme="takd", path=(32, 4, 2), epochs=1, train_limit=100, **changes_of(8, "a2q"))
    run(config, tmp_path)
    assert max(inner_bits(load_checkpoint(tmp_path / "4bit.pt").spec).values()) > 8
    assert max(inner_bits(load_checkpoint(tmp_path / "2bit.pt").spec).values()) <= 8


def test_penalty__is_what_the_norms_have_beyond_their_limits():
    network = QuantNetwork(small_graph(), Precision(3), "a2q")
    assert network.penalized(torch.tensor(1.0)) == 1.0
    normed = Normed(10, centered=False)
    normed.attach(network)
    network.calibrate(torch.rand(4, 1, 8, 8) * 255)
    layers = network.accumulating()
    assert len(layers) == 6
    for layer in layers:
        assert getattr(layer, LIMIT).item() == norm_limit(10, IntFormat(3, signed=False))
        getattr(layer, SCALE).data.fill_(-3.0)
        getattr(layer, NORM).data.fill_(-3.0 + math.log2(73) + 0.5)  # 73 = 511 // 7
    channels = sum(len(layer.weight) for layer in layers)
    assert network.penalized(torch.tensor(0.0)).item() == pytest.approx(1e-3 * 0.5 * channels, rel=1e-4)
    network.penalized(torch.tensor(0.0)).backward()
    assert all(torch.allclose(getattr(layer, key).grad, torch.tensor(1e-3 * sign))
               for layer in layers for key, sign in ((NORM, 1), (SCALE, -1)))


# overflows in training

@pytest.mark.parametrize(("overflow", "tile"), [("saturate", "1"), ("saturate", "5"), ("wrap", "1")])
def test_overflow_training__computes_as_the_simulator_with_that_register(tmp_path, overflow, tile):
    out = tmp_path / "run"
    config = small_config(epochs=1, accumulator_bits=5, accumulator_training="overflow", overflow=overflow, tile=tile)
    student = run(config, out)._load("2bit")
    register = Accumulator(5, overflow, int(tile))
    pixels = load_dataset("digits", None).test.pixels[:30]
    machine = Machine(lower(load_checkpoint(out / "ckpt.pt").spec, HardwareSpec(register)))
    trace: dict[str, np.ndarray] = {}
    logits = machine.run(pixels.permute(0, 2, 3, 1).contiguous().numpy(), trace)
    assert sum(int(counts.sum()) for counts in machine.overflows.values()) > 0
    for network in (student, training.load(out / "ckpt.pt")):
        expected: dict[str, torch.Tensor] = {}
        with torch.no_grad():
            found = network(pixels.float(), expected)
        np.testing.assert_array_equal(logits, found.numpy())
        for name, codes in trace.items():
            np.testing.assert_array_equal(codes, expected[name].permute(0, 2, 3, 1).numpy(), err_msg=name)
    options = shown_by(load_checkpoint(out / "ckpt.pt").training)
    result = sim.evaluate(out / "ckpt.pt", limit=30, verify=True, **options)
    assert result.overflowed > 0 == result.verification.differing
    assert not any("trained with" in note for note in result.notes)
    wide = sim.evaluate(out / "ckpt.pt", limit=30, verify=True)  # contract C4
    assert wide.verification.differing == 0
    assert any(f"--accumulator 5 --overflow {overflow}" in note for note in wide.notes)
    record = json.loads((out / "run.json").read_text())
    assert record["test"]["accuracy"] == sim.evaluate(out / "ckpt.pt", **options).accuracy


@given(st.data())
@examples(40)
def test_through_register__equals_plain_integers_on_convolutions_and_products(data):
    """Of any window, groups and signs: products one after another, in Python's own integers."""
    register = Accumulator(data.draw(st.integers(2, 12)), data.draw(st.sampled_from(["wrap", "saturate"])),
                           data.draw(st.sampled_from([0, 1, 3])))
    groups, taps, stride, padding = (data.draw(st.integers(1, most)) for most in (2, 3, 2, 2))
    form = IntFormat(data.draw(st.integers(2, 4)), signed=data.draw(st.booleans()))
    x = drawn_codes(data.draw, (2, 2 * groups, 4, 5), form)
    weight = drawn_codes(data.draw, (3 * groups, 2, taps, taps), IntFormat(3, signed=True))
    layer = conv_layer(groups, taps, stride, padding, register)
    given_codes = Codes(torch.from_numpy(x).float(), 1.0, float(form.reach), least=float(form.min))
    found = layer.sums(given_codes, torch.from_numpy(weight).float())
    framed = np.pad(x, ((0, 0), (0, 0), (padding,) * 2, (padding,) * 2))
    for (n, c, i, j), value in np.ndenumerate(found.detach().numpy()):
        group = c // 3
        products = [int(weight[c, k, a, b]) * int(framed[n, 2 * group + k, i * stride + a, j * stride + b])
                    for a in range(taps) for b in range(taps) for k in range(2)]
        assert value == held(products, register)


def held(products: list[int], register: Accumulator) -> int:
    low, high, value = -(2 ** (register.bits - 1)), 2 ** (register.bits - 1) - 1, 0
    for start in range(0, len(products), register.tile or len(products)):
        value += sum(products[start : start + (register.tile or len(products))])
        value = min(max(value, low), high) if register.overflow == "saturate" else (value - low) % (high - low + 1) + low
    return value


def conv_layer(groups, taps, stride, padding, register) -> ConvLayer:
    rows = (Input("image", "", 4, 5, 2 * groups, (0.5,) * 2 * groups, (0.5,) * 2 * groups),
            Conv("conv", "image", 3 * groups, kernel=taps, stride=stride, padding=padding, groups=groups, norm=False))
    network = QuantNetwork(Graph(rows), Precision(3))
    network.limit(register)
    return network.layers["conv"]


def test_matrix_products__go_through_the_register_too():
    pixels = Input("image", "", 2, 3, 4, (0.5,) * 4, (0.5,) * 4)
    rows = (pixels, Requantize("a", "image"), MatMul("product", "a", "a"), Conv("logits", "product", 2, role="boundary",
                                                                                norm=False))
    network = QuantNetwork(Graph(rows), Precision(4)).eval()
    images = torch.randint(0, 256, (5, 4, 2, 3), generator=torch.Generator().manual_seed(0)).float()
    register = Accumulator(6, "saturate")
    network.limit(register)
    trace: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        network(images, trace)
    machine, mine = Machine(lower(network.spec(), HardwareSpec(register))), {}
    machine.run(images.permute(0, 2, 3, 1).contiguous().numpy().astype(np.uint8), mine)
    assert machine.overflows["product"].sum() > 0
    for name, codes in mine.items():
        np.testing.assert_array_equal(codes, trace[name].permute(0, 2, 3, 1).numpy(), err_msg=name)


def test_gradient__stops_where_a_saturating_register_is_full_and_passes_one_that_wraps():
    for overflow, expected in (("saturate", [1.0, 0.0, 0.0, 1.0]), ("wrap", [1.0, 1.0, 1.0, 1.0])):
        layer = conv_layer(1, 1, 1, 0, Accumulator(4, overflow))
        values = torch.tensor([[[[1.0, 3.0, -3.0, 2.0]], [[1.0, 3.0, -3.0, -1.0]]]], requires_grad=True)
        x = Codes(values, 1.0, 3.0)
        sums = layer.sums(x, torch.tensor([[[[2.0]], [[2.0]]]] * 3))
        assert sums[0, 0, 0].tolist() == ([4, 7, -8, 2] if overflow == "saturate" else [4, -4, 4, 2])
        sums[:, :1].sum().backward()
        assert values.grad[0, 0, 0].tolist() == [2.0 * moves for moves in expected]


def test_register__that_holds_every_sum_changes_no_weight_of_a_run(tmp_path):
    """32 bits: inner layers train bit for bit through the kernels as through torch, where that has no fused loops."""
    wide = small_config(epochs=1, train_limit=64, accumulator_bits=32, accumulator_training="overflow", overflow="saturate")
    one = run(wide, tmp_path / "one")._load("2bit").state_dict()
    can_fuse = ConvLayer._can_fuse
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ConvLayer, "_can_fuse", lambda self, *given: self.row.role == "boundary" and can_fuse(self, *given))
        other = run(small_config(epochs=1, train_limit=64), tmp_path / "other")._load("2bit").state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


# options, notes

@pytest.mark.parametrize(("options", "message"), [
    ({"accumulator_bits": 1}, "accumulator-bits: 1 is not allowed, choose 2 to 32"),
    ({"accumulator_bits": 33}, "accumulator-bits: 33 is not allowed"),
    ({"accumulator_training": "a2q"}, "accumulator-training: of which width"),
    ({"accumulator_bits": 8, "accumulator_training": "a2q++"}, "choose one of a2q, a2q\\+, overflow"),
    ({"accumulator_bits": 3, "bits": 3}, "accumulator-bits: 3 bits hold no product of 3-bit activations: choose 4 or more"),
    ({"accumulator_bits": 8, "bits": 32}, "accumulator-bits: a float network has no registers"),
    ({"accumulator_bits": 8, "quantizer": "a2q"}, "quantizer: a2q does not go with --accumulator-training a2q\\+"),
    ({"accumulator_bits": 8, "accumulator_training": "overflow", "overflow": "error"},
     "overflow: 'error' is unknown, choose one of wrap, saturate"),
    ({"accumulator_bits": 8, "accumulator_training": "overflow", "overflow": "saturate", "tile": "0"}, "tile: '0'"),
    ({"accumulator_bits": 8, "overflow": "saturate"}, "overflow: what no sum can leave \\(a2q\\+\\) never overflows"),
    ({"overflow": "saturate"}, "overflow: there is no register without accumulator-bits"),
    ({"accumulator_bits": 8, "accumulator_training": "overflow", "tile": 4}, "tile: a register that wraps"),
])
def test_options__of_registers_that_make_no_sense_are_one_line(tmp_path, options, message):
    with pytest.raises(ConfigError, match=message) as caught:
        training.train("individual", out=tmp_path / "out", **{"bits": 2, **options})
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a2q__of_a_product_of_activations_is_refused():
    rows = (Input("image", "", 2, 3, 4, (0.5,) * 4, (0.5,) * 4), Requantize("a", "image"), MatMul("product", "a", "a"),
            Conv("logits", "product", 2, role="boundary", norm=False))
    network = QuantNetwork(Graph(rows), Precision(4), "a2q")
    Normed(9, centered=False).attach(network)
    with pytest.raises(ConfigError, match="product multiplies two activations, so that no weights can keep its sums within "
                                          "9 bits: choose 11 or more"):
        network.calibrate(torch.zeros(1, 4, 2, 3))


def test_options__of_registers_are_made_again_from_their_configuration():
    for told in ({"accumulator_bits": 12},
                 {"accumulator_bits": 9, "accumulator_training": "a2q", "quantizer": "lsq_channel"},
                 {"accumulator_bits": 8, "accumulator_training": "overflow", "overflow": "saturate", "tile": "end"}):
        config = resolve({"scheme": "individual", "bits": 3, **told})[0]
        assert resolve(options_of(config.to_json()))[0] == config
    assert resolve({"scheme": "qkd", "bits": 3, "accumulator_bits": 12})[0].quantizer == "a2q+_interval"
    assert attach(QuantNetwork(small_graph(), Precision.of(32)), config).register is None


@pytest.mark.parametrize(("told", "register", "options"), [
    ({}, None, {}), ({"accumulator_bits": 0, "accumulator_training": ""}, None, {}),
    ({"accumulator_bits": 12, "accumulator_training": "a2q"}, Accumulator(12), {"accumulator": 12}),
    ({"accumulator_bits": 8, "accumulator_training": "overflow", "overflow": "saturate", "tile": "end"},
     Accumulator(8, "saturate", 0), {"accumulator": 8, "overflow": "saturate", "tile": "end"}),
    ({"accumulator_bits": 10**6, "accumulator_training": "a2q"}, None, {}),
    ({"accumulator_bits": "8\x1b", "accumulator_training": "a2q"}, None, {}),
    ({"accumulator_bits": 8, "accumulator_training": ["a2q"]}, None, {}),
    ({"accumulator_bits": 8, "accumulator_training": "overflow", "overflow": {}, "tile": "1"}, None, {}),
    ({"accumulator_bits": 8, "accumulator_training": "overflow", "overflow": "wrap", "tile": "²"}, None, {}),
])
def test_trained_register__is_what_a_checkpoint_says_if_that_makes_sense(told, register, options):
    assert trained_register(told) == register
    assert shown_by(told) == options
    assert len(register_notes(told, Accumulator())) == (register is not None)
