"""Registers one after another, in any order of products, against plain Python integers and the instruction itself."""

import dataclasses
import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim import plain_registers
from sim.accumulator import (
    Accumulator,
    AccumulatorError,
    AccumulatorOverflowError,
    Stage,
    bits_for,
    parse_accumulator,
)
from sim.checkpoint import load_checkpoint
from sim.formats import IntFormat
from sim.hardware import HardwareSpec
from sim.lowering import LowerError, lower
from sim.machine import Machine
from sim.ops.codes_input import CodesInputOp
from sim.ops.matmul import MatMulOp
from sim.orders import ORDERS, permutation
from sim.program import ConvOp, Program, output_side
from sim.registers import RegistersError, read_registers, registers_text
from sim.requantizers.fp32 import Fp32
from sim.simplify import Extremes, simplified
from sim.steps import step_for
from sim.steps.patched import PatchedConvolution
from tests.cli import assert_one_line, run
from tests.examples import examples, instruction_sets
from tests.maddubs import HAS_AVX2, pair_sums
from tests.strategies import codes, conv_ops, staged

CHECKPOINT = "tests/data/takd-digits-2bit.pt"
PAIRS = parse_accumulator("2:16:saturate,end:32:wrap")
MAPS = (*ORDERS, "channels/2 rows columns channels", "rows channels/3 columns channels/2 channels")


def test_accumulator__of_one_stage_is_what_it_was():
    one = Accumulator(10, "saturate", 4)
    assert one == Accumulator.of([Stage(0, 10, "saturate", 4)]) == parse_accumulator("end:10:saturate:4")
    assert repr(one) == "Accumulator(bits=10, overflow='saturate', tile=4)"
    assert one.to_json() == {"bits": 10, "overflow": "saturate", "tile": 4}
    assert parse_accumulator("unlimited") == parse_accumulator("end:unlimited") == Accumulator()
    assert HardwareSpec(one).to_json().keys() == {"accumulator", "boundary_accumulator", "requant", "others"}


@given(accumulator=staged())
def test_accumulator__comes_back_from_text_and_from_json(accumulator):
    assert Accumulator.from_json(json.loads(json.dumps(accumulator.to_json()))) == accumulator
    assert parse_accumulator(accumulator.text, accumulator.order).text == accumulator.text
    assert eval(repr(accumulator)) == accumulator


@pytest.mark.parametrize(("text", "words"), [
    ("2:16:saturate", ["stage '2:16:saturate'", "products", "end:32:wrap"]),
    ("2:16,end:32:wrap", ["stage '2:16'", "PRODUCTS:BITS:RULE"]),
    ("2:16:clip,end:32:wrap", ["overflow: 'clip'", "wrap, saturate, error"]),
    ("two:16:wrap,end:32:wrap", ["products: 'two'", "1 or more, or end"]),
    ("0:16:wrap,end:32:wrap", ["products: '0'", "1 or more, or end"]),
    ("2:1:wrap,end:32:wrap", ["1 bits", "2 to 63"]),
    ("2:x:wrap,end:32:wrap", ["bits: 'x'", "2 to 63"]),
    ("2:16:wrap:0,end:32:wrap", ["tile: '0'", "1 or more, or end"]),
    ("4:16:wrap,6:20:wrap,end:32:wrap", ["stage '6:20:wrap'", "no multiple", "'4:16:wrap'"]),
    ("end:16:wrap,4:20:wrap,end:32:wrap", ["stage '4:20:wrap'", "no multiple"]),
    ("2:16:error,end:32:wrap", ["error is for all limited stages"]),
    ("2:unlimited:wrap,end:32:wrap", ["stage '2:unlimited:wrap'"]),
    (",".join(["1:9:wrap"] * 8 + ["end:9:wrap"]), ["9 stages", "1 to 8"]),
    ("end:" + "9" * 5000 + ":wrap", ["bits"])])
def test_accumulator__a_bad_stage_names_the_key_and_what_is_allowed(text, words):
    with pytest.raises(AccumulatorError) as refused:
        parse_accumulator(text)
    for word in words:
        assert word in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("order", [
    "columns", "rows columns", "rows columns channels rows", "channels rows columns channels/2",
    "rows columns channels/0 channels", "rows/x rows columns channels", 3, "sideways"])
def test_order__that_there_is_not_is_refused(order):
    with pytest.raises(AccumulatorError, match=r"order: .*rows, channels, sorted, or a tile map"):
        Accumulator(8, order=order)


@pytest.mark.parametrize("order", MAPS)
def test_order__is_that_of_plain_loops(order):
    for sides in itertools.product((1, 2, 3), (1, 2), (1, 3, 4, 7)):
        places = list(range(sides[0] * sides[1] * sides[2]))
        expected = places if order == "sorted" else plain_registers.in_order(places, order, sides)
        assert permutation(order, *sides).tolist() == expected


@pytest.mark.parametrize(("text", "order", "products", "register", "overflowed", "told"), [
    ("2:8:saturate,end:32:wrap", "rows", [100, 100, -100, -50], 127 - 128, True, [(True, False, 1), (False, False, -1)]),
    ("2:8:wrap,end:32:wrap", "rows", [100, 100, -100, -50], -56 + 106, False, [(True, False, 1), (False, False, -1)]),
    ("4:8:saturate,end:32:wrap", "rows", [100, 100, -100, 20], 47, True, [(False, True, 1), (False, False, -1)]),
    ("4:8:saturate:end,end:32:wrap", "rows", [100, 100, -100, 50], 127, True, [(True, False, 3), (False, False, -1)]),
    ("4:8:saturate:2,end:32:wrap", "rows", [100, 20, -100, 50], 70, False, [(False, False, -1), (False, False, -1)]),
    ("2:8:saturate,end:9:saturate", "rows", [90, 90, 90, 90, 90], 255, True, [(True, False, 1), (True, False, 4)]),
    ("2:8:saturate,4:9:wrap,end:9:wrap", "rows", [90] * 8, 254 + 254 - 512, True,
     [(True, False, 1), (False, False, -1), (True, False, 7)]),
    ("end:8:saturate,end:32:wrap", "rows", [100, 100, -100], 27, True, [(False, True, 1), (False, False, -1)]),
    ("end:8:saturate", "sorted", [100, 100, -90, -80, 0], 30, False, [(False, False, -1)]),
    ("end:8:saturate", "rows", [100, 100, -90, -80, 0], -43, True, [(False, True, 1)]),
], ids=str)
def test_stages__by_hand(text, order, products, register, overflowed, told):
    accumulator = parse_accumulator(text, order)
    stages, _ = accumulator.plain
    ordered = plain_registers.in_order(products, order, (1, 1, len(products)))
    assert plain_registers.accumulate(ordered, stages) == (register, overflowed, told)
    op, machine = _alone(np.array(products).reshape(1, 1, -1, 1), IntFormat(1, signed=False), accumulator)
    ones = np.ones((1, 1, 1, len(products)), np.uint8)
    assert machine.sums(op, ones).tolist() == [[[[register]]]]
    assert machine.overflows["y"].tolist() == [int(overflowed)]
    counters = machine.counters(op, ones)
    assert list(zip(counters.persistent.ravel(), counters.transient.ravel(), machine.first_overflows(op, ones).ravel(),
                    strict=True)) == told


@pytest.mark.parametrize("isa", instruction_sets())
@given(data=st.data())
@examples(60)
def test_convolution__equals_plain_integers_for_all_stages_and_orders(isa, data):
    """Sums, overflows, counters, first products, for any shape, groups, paddings, strides, and what registers start with."""
    form = IntFormat(data.draw(st.integers(1, 8)), signed=data.draw(st.booleans()))
    shape = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4)), data.draw(st.integers(1, 7))
    image = CodesInputOp("x", "", shape, form, zero_point=data.draw(st.sampled_from([0, form.min, form.max])))
    op = dataclasses.replace(data.draw(conv_ops("y", image, [], last=True)), accumulator=data.draw(staged()))
    machine = Machine(Program((image, op)), isa)
    x = codes(data.draw, (2, *shape), form).astype(form.dtype)
    stages, order = op.accumulator.plain
    sides, start = op.weights.shape[:3], np.zeros(op.shape[2], int) if op.start is None else op.start
    products = _products_of(op, x, image.zero_point)
    _compare(machine, op, (x,), lambda products, place: plain_registers.accumulate(
        plain_registers.in_order(products, order, sides), stages, int(start[place[-1]])), products)


@pytest.mark.parametrize(("tile", "transient"), [(1, 1), (3, 1), (4, 0)])
@pytest.mark.parametrize("overflow", ["wrap", "saturate"])
def test_single_register__is_told_when_it_is_consulted(overflow, tile, transient):
    """180 does not fit 8 bits after three products; after four it is 120 again."""
    weights = np.array([60, 60, 60, -60, 0, 0, 0, 0])[None, None, :, None] * np.ones(16, int)
    op, machine = _alone(weights, IntFormat(1, signed=False), Accumulator(8, overflow, tile), side=(2, 3))
    found = machine.counters(op, np.ones((1, 2, 3, 8), np.uint8))
    assert (found.transient == 6 * transient).all()
    assert not found.persistent.any()


def test_patches__are_made_where_they_are_few():
    weights = np.ones((3, 3, 16, 8), int)
    weights[1, 1, :4, 2] = 127
    op, machine = _alone(weights, IntFormat(8, signed=False), PAIRS, side=6)
    assert isinstance(step_for(op, [], machine.isa), PatchedConvolution)
    x = np.full((1, 6, 6, 16), 255, np.uint8)
    exact = 255 * weights.sum((0, 1, 2))
    exact[2] -= 2 * (2 * 255 * 127 - 32767)
    assert (machine.sums(op, x) == exact).all()
    assert machine.overflows["y"].tolist() == [0, 0, 16, 0, 0, 0, 0, 0]


@given(data=st.data())
@examples(40)
def test_product__equals_plain_integers_for_all_stages_and_orders(data):
    forms = [IntFormat(data.draw(st.integers(1, 8)), signed=data.draw(st.booleans())) for _ in range(2)]
    heads, rows, depth, columns = (data.draw(st.integers(1, most)) for most in (2, 3, 9, 4))
    one = Fp32(np.ones(1, np.float32), np.zeros(1, np.float32), np.zeros(1, np.float32))
    a, b = (CodesInputOp(name, "", shape, form) for name, shape, form in zip(
        "ab", ((heads, rows, depth), (heads, depth, columns)), forms, strict=True))
    op = MatMulOp("y", "a", (heads, rows, columns), IntFormat(16, signed=True), "b", *forms, depth, False,
                  data.draw(staged()), one)
    machine = Machine(Program((a, b, op)))
    x, y = (codes(data.draw, (2, *each.shape), each.format).astype(each.format.dtype) for each in (a, b))
    products = {(n, h, i, j): [int(x[n, h, i, c]) * int(y[n, h, c, j]) for c in range(depth)]
                for n, h, i, j in np.ndindex(2, heads, rows, columns)}
    stages, order = op.accumulator.plain
    _compare(machine, op, (x, y), lambda products, place: plain_registers.accumulate(
        plain_registers.in_order(products, order, (1, 1, depth)), stages), products)


@given(data=st.data())
def test_simplified__has_the_same_sums_and_overflows(data):
    """What is left out changes nothing (contract C7): plain integers, products anywhere between their extremes."""
    accumulator, count = data.draw(staged()), data.draw(st.integers(1, 24))
    reach = data.draw(st.sampled_from([1, 5, 40, 200]))
    least = np.array(data.draw(st.lists(st.integers(-reach, reach // 2), min_size=count, max_size=count)))
    most = least + np.array(data.draw(st.lists(st.integers(0, reach), min_size=count, max_size=count)))
    start = data.draw(st.sampled_from([None, 0, 7, -100]))
    starts = None if start is None else np.array([start])
    plain = simplified(accumulator, Extremes(least[:, None], most[:, None], starts))
    for _ in range(3):
        ends = data.draw(st.lists(st.integers(0, 4), min_size=count, max_size=count))
        products = [int(low + (high - low) * end // 4) for low, high, end in zip(least, most, ends, strict=True)]
        found, expected = (plain_registers.accumulate(
            plain_registers.in_order(products, "sorted" if each.order == "sorted" else "rows", (1, 1, count)),
            each.plain[0], start or 0)[:2] for each in (plain, accumulator))
        assert found == expected, plain


@pytest.mark.parametrize(("text", "plain"), [
    ("2:18:saturate,end:20:wrap", "end:20:wrap"), ("2:17:saturate,end:40:wrap", "unlimited"),
    ("16:16:wrap,end:12:wrap", "end:12:wrap"), ("16:16:wrap,end:16:wrap", "end:16:wrap"),
    ("16:16:wrap,32:16:wrap,end:14:wrap", "end:14:wrap"), ("16:12:wrap,end:16:wrap", "16:12:wrap,end:16:wrap"),
    ("2:17:saturate,end:16:saturate", "end:16:saturate:2"), ("4:20:wrap,end:16:saturate:2", "end:16:saturate:8"),
    ("2:20:saturate,end:8:saturate:2147483647", "end:8:saturate:end"),
    ("2147483647:30:saturate,end:8:saturate:2147483647", "end:8:saturate:end"),
    ("2:20:saturate,4:8:saturate:2147483647,end:30:wrap", "4:8:saturate:end,end:unlimited"),
    ("2:16:saturate,end:40:wrap", "2:16:saturate,end:unlimited"), ("end:16:saturate,end:40:wrap", "end:16:saturate")])
def test_simplified__by_hand(text, plain):
    extremes = Extremes(np.full((64, 1), -128 * 255), np.full((64, 1), 127 * 255))
    assert simplified(parse_accumulator(text), extremes).text == plain


def test_one_register__runs_on_the_kernels_that_it_always_had():
    weights = np.ones((3, 3, 32, 16), int)
    for text, order in (("16:24:wrap,end:12:wrap", "rows"), ("end:12:wrap", "channels"),
                        ("4:20:saturate,end:12:saturate", "rows")):
        op, machine = _alone(weights, IntFormat(4, signed=False), parse_accumulator(text, order), side=4)
        assert step_for(op, [], machine.isa).path != "stages"


@pytest.mark.skipif(not HAS_AVX2, reason="this processor has no vpmaddubsw")
@given(data=st.data())
@examples(40)
def test_vpmaddubsw__is_predicted_in_every_sum(data):
    """u8 x s8 codes whose pairs pass 16 bits: `2:16:saturate,end:32:wrap` is what the instruction itself gives."""
    rows, depth, channels = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 40)), data.draw(st.integers(1, 20))
    form, weight_format = IntFormat(8, signed=False), IntFormat(8, signed=True)
    weights = codes(data.draw, (rows, rows, depth, channels), weight_format).astype(np.int32)
    weights[0, 0, : depth // 2] = data.draw(st.sampled_from([127, -128]))
    x = codes(data.draw, (1, 4, 5, depth), form).astype(np.uint8)
    x[:, :2] = np.maximum(x[:, :2], 200)
    op, machine = _alone(weights, form, PAIRS, side=(4, 5))
    windows = np.lib.stride_tricks.sliding_window_view(x[0], (rows, rows), (0, 1)).transpose(0, 1, 3, 4, 2)
    lines = windows.reshape(-1, rows * rows * depth)
    expected = pair_sums(lines, weights.reshape(-1, channels).T.astype(np.int8))
    np.testing.assert_array_equal(machine.sums(op, x).reshape(-1, channels), expected)


@pytest.mark.skipif(not HAS_AVX2, reason="this processor has no vpmaddubsw")
def test_vpmaddubsw__clips_pairs_here():
    """The instruction does what is said of it: 255 x 127 twice is 32767, not 64770."""
    assert pair_sums(np.array([[255, 255, 255, 1]], np.uint8), np.array([[127, 127, -128, 1]], np.int8)).tolist() == [
        [32767 - 32639]]


@pytest.mark.parametrize("overflow", ["wrap", "saturate"])
def test_exact_bound__of_every_layer_is_reached_by_an_input_built_of_its_weights(overflow):
    """It does not overflow there, and overflows at one bit less; each layer alone, on images as large as its kernel."""
    layers = lower(load_checkpoint(CHECKPOINT).spec).accumulating
    assert len(layers) > 8
    for layer in layers:
        x, bound = _reaching(layer)
        assert bits_for(min(bound, 0), max(bound, 0)) == layer.safe_bits
        for bits, overflowed in ((layer.safe_bits, False), (layer.safe_bits - 1, True)):
            op, machine = _alone(layer.weights, layer.operand, Accumulator(bits, overflow), layer.weights.shape[:2])
            sums = machine.sums(op, x)
            assert (bound in sums) != overflowed, layer.name
            assert machine.overflows["y"].any() == overflowed, layer.name


def test_error__in_stages_names_them():
    op, machine = _alone(np.full((1, 1, 4, 1), 100), IntFormat(2, signed=False), parse_accumulator("2:8:error,end:10:error"))
    with pytest.raises(AccumulatorOverflowError, match="y, channel 0: a sum does not fit the registers 2:8:error,end:10"):
        machine.sums(op, np.full((1, 1, 1, 4), 3, np.uint8))


def test_registers__of_a_file_are_those_of_the_layers(tmp_path):
    layers = {"stage1_block1_conv1": parse_accumulator("2:5:saturate,end:9:wrap", "channels"),
              'odd "name"\n.\x7f': Accumulator(9, "saturate", 0), "stem": Accumulator()}
    file = tmp_path / "registers.toml"
    file.write_text(registers_text(layers, "of a test\nin two lines"))
    assert read_registers(file) == layers
    file.write_text('[layers]\na = { bits = 9, overflow = "saturate", tile = 4 }\n')
    assert read_registers(file) == {"a": Accumulator(9, "saturate", 4)}


@pytest.mark.parametrize(("text", "words"), [
    ("", ["table [layers] is missing"]), ("layers = 3", ["layers is a table"]), ("[other]\n", ["other is no key"]),
    ("[layers]\na = 3", ["layers.a is a table of bits, overflow, tile, stages, order"]),
    ("[layers]\na = 'end:1:wrap'", ["layers.a", "2 to 63"]), ("[layers]\na = { width = 3 }", ["layers.a.width is no key"]),
    ("[layers]\na = { stages = 'end:8:wrap', bits = 3 }", ["layers.a.bits cannot be beside stages"]),
    ("[layers]\na = { stages = 3 }", ["layers.a.stages is a text"]),
    ("[layers]\na = { bits = 8, order = 'diagonal' }", ["layers.a", "order: 'diagonal'", "tile map"]), ("]", ["no TOML"])])
def test_registers__a_bad_file_is_one_line(tmp_path, text, words):
    (tmp_path / "r.toml").write_text(text)
    with pytest.raises(RegistersError) as refused:
        read_registers(tmp_path / "r.toml")
    assert all(word in str(refused.value) for word in ("r.toml", *words))


def test_layers__that_there_are_not_are_named():
    with pytest.raises(LowerError, match="registers: stage9 is no layer with registers, there are stem, stage1"):
        lower(load_checkpoint(CHECKPOINT).spec, HardwareSpec(layers={"stage9": Accumulator(9)}))


@pytest.mark.parametrize(("options", "words"), [
    (["--accumulator", "2:16:clip,end:32:wrap"], ["accumulator: stage '2:16:clip'", "wrap, saturate, error"]),
    (["--accumulator", "ten"], ["accumulator: 'ten'", "whole number of bits, or stages"]),
    (["--accumulator", "2:8:wrap,end:9:wrap", "--tile", "4"], ["overflow, tile: stages have their own"]),
    (["--accumulator", "8", "--order", "up"], ["order: 'up'", "rows, channels, sorted"]),
    (["--order", "channels"], ["order: only a limited register"]),
    (["--registers", "nowhere.toml"], ["nowhere.toml"])])
def test_eval__a_bad_register_is_one_line(options, words):
    assert_one_line(run("sim.eval", "--model", CHECKPOINT, "--limit", 2, *options), *words, status=2)


def test_eval__counts_stage_by_stage_and_keeps_it(tmp_path):
    registers = tmp_path / "r.toml"
    registers.write_text('[layers]\nstage1_block1_conv2 = "end:7:saturate"\n')
    result = run("sim.eval", "--model", CHECKPOINT, "--limit", 20, "--accumulator", "8:5:saturate,end:9:wrap", "--counters",
                 "--registers", registers, "--json", tmp_path / "e.json")
    assert result.returncode == 0, result.stderr
    layers = {layer["name"]: layer for layer in json.loads((tmp_path / "e.json").read_text())["layers"]}
    assert layers["stage1_block1_conv1"]["accumulator"]["before"] == [Stage(8, 5, "saturate").to_json()]
    assert layers["stage1_block1_conv2"]["accumulator"] == {"bits": 7, "overflow": "saturate", "tile": 1}
    (own,) = layers["stage1_block1_conv2"]["stages"]
    assert own["clipped"] == own["persistent"] + own["transient"] == layers["stage1_block1_conv2"]["overflows"] > 0
    assert [row["stage"] for row in layers["stage1_block1_conv1"]["stages"]] == ["8:5:saturate", "end:9:wrap"]
    assert "persistent" in result.stdout
    assert "stages" not in layers["stem"]


def _alone(weights, form, accumulator, side=1, isa=None, stride=1, padding=0):
    """A convolution on codes, and a machine of it: its logits are what registers hold."""
    rows, columns, depth, channels = weights.shape
    height, width = (side, side) if isinstance(side, int) else side
    one = Fp32(np.ones(channels, np.float32), np.zeros(channels, np.float32), np.zeros(1, np.float32))
    image = CodesInputOp("x", "", (height, width, depth), form)
    sides = output_side(height, rows, stride, padding), output_side(width, columns, stride, padding)
    op = ConvOp("y", "x", (*sides, channels), None, skip="", weights=weights.astype(np.int32), stride=stride,
                padding=padding, groups=1, operand=form, weight_format=IntFormat(9, signed=True), weight_bits=9,
                accumulator=accumulator, requant=one)
    return op, Machine(Program((image, op)), isa)


def _products_of(op, x, zero):
    """Of every output, in the order kernel row, column, channel: nothing of the simulator is used."""
    top, bottom, left, right = op.window.paddings
    down, across, dilation = op.window.steps
    framed = np.pad(x.astype(int), ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=zero)
    rows, columns, depth, channels = op.weights.shape
    return {(n, i, j, o): [int(framed[n, i * down + a * dilation, j * across + b * dilation,
                                      o // (channels // op.groups) * depth + c]) * int(op.weights[a, b, c, o])
                           for a in range(rows) for b in range(columns) for c in range(depth)]
            for n, i, j, o in np.ndindex(len(x), *op.shape)}


def _compare(machine, op, inputs, oracle, products):
    sums, counts = machine.sums(op, *inputs), np.zeros(op.shape[2], int)
    counters, first = machine.counters(op, *inputs), machine.first_overflows(op, *inputs)
    persistent, transient = (np.zeros_like(counters.persistent) for _ in range(2))
    for place, each in products.items():
        register, overflowed, told = oracle(each, place)
        assert sums[place] == register, place
        counts[place[-1]] += overflowed
        for stage, (persists, passes, product) in enumerate(told):
            persistent[stage, place[0], place[-1]] += persists
            transient[stage, place[0], place[-1]] += passes
            assert first[(stage, *place)] == product, place
    np.testing.assert_array_equal(machine.overflows["y"], counts)
    np.testing.assert_array_equal(counters.persistent, persistent)
    np.testing.assert_array_equal(counters.transient, transient)


def _reaching(op):
    """Codes with which some sum of a layer is the largest, or the smallest, that its weights allow; and that sum."""
    wide, form = op.weights.astype(int), op.operand
    ends = wide * form.min, wide * form.max
    low, high = (choose(*ends).sum((0, 1, 2)) for choose in (np.minimum, np.maximum))
    is_high = high.max() > -low.min() - 1
    channel, sign = (int(high.argmax()), 1) if is_high else (int(low.argmin()), -1)
    best = np.where(sign * wide[..., channel] > 0, form.max, form.min).astype(form.dtype)
    return best[None], int(high[channel] if is_high else low[channel])
