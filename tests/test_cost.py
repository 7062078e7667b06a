"""What a program costs: counts by hand and by plain loops, qonnx's own numbers, SCALE-Sim's cycles, toggled bits."""

import ast
import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim import testing
from sim.accumulator import Accumulator, Stage, parse_accumulator
from sim.checkpoint import load_checkpoint
from sim.cost import CostError, array_named, cost_of, energy_table, inference_cost
from sim.cost.activity import layer_activity
from sim.cost.register import Registers
from sim.cost.static import Gemm, effective_bits, gemm_of, layers_of
from sim.formats import IntFormat
from sim.hardware import HardwareSpec
from sim.lowering import lower
from sim.network import AvgPool, Conv, Graph, Input, MatMul, NetworkSpec, Precision, Requantize, Shortcut
from sim.ops.row import Activation
from sim.plain_registers import in_order
from sim.program import ConvOp, Program
from tests.cli import assert_one_line, run
from tests.examples import examples

CHECKPOINT = Path(__file__).parent / "data" / "takd-digits-2bit.pt"


def residual_network(bits=2, width=4):
    """Two blocks as a ResNet of CIFAR has them, the second with a stride and a shortcut."""
    code, wide = Activation(), Activation("skip")
    rows = [Input("image", "", 8, 8, 3, (0.5,) * 3, (0.25,) * 3),
            Conv("stem", "image", channels=width, kernel=3, padding=1, role="boundary", activation=wide),
            Requantize("narrow", "stem", code),
            Conv("conv1", "narrow", channels=width, kernel=3, padding=1, activation=code),
            Conv("conv2", "conv1", channels=width, kernel=3, padding=1, skip="stem", activation=wide),
            Requantize("narrow2", "conv2", code),
            Conv("conv3", "narrow2", channels=2 * width, kernel=3, stride=2, padding=1, activation=code),
            Shortcut("shortcut", "conv2", 2 * width, 2),
            Conv("conv4", "conv3", channels=2 * width, kernel=3, padding=1, skip="shortcut", activation=wide),
            AvgPool("pool", "conv4", 4, 4),
            Conv("classifier", "pool", channels=10, kernel=1, role="boundary", norm=False, bias=True)]
    graph = Graph(tuple(rows))
    arrays = testing.arrays_for(graph, np.random.default_rng(3), False, "interval")
    return NetworkSpec(graph, arrays, Precision(bits, 8), "interval")


@pytest.fixture(scope="module")
def program():
    return lower(residual_network())


def test_counts__are_those_of_plain_loops(program):
    layers = {layer.name: layer for layer in layers_of(program)}
    ops = {op.name: op for op in program.ops}
    for name in ("stem", "conv1", "conv3", "classifier"):
        op, layer = ops[name], layers[name]
        height, width, _ = op.shape
        macs = bops = ebops = zeros = 0
        for weight in op.weights.ravel().tolist():
            text = bin(abs(weight))[2:].strip("0")  # the bits from the highest to the lowest that is 1
            macs += height * width
            bops += height * width * op.weight_bits * op.operand.bits
            ebops += height * width * len(text) * op.operand.bits
            zeros += weight == 0
        assert (layer.macs, layer.bops, layer.ebops, layer.zero_weights) == (macs, bops, ebops, zeros)
        assert layer.weight_bits == op.weights.size * op.weight_bits
        assert layer.registers == ((op.safe_bits, macs),)
        assert gemm_of(op).macs == macs
    assert layers["conv1"].operands == (2, 2)
    assert sum(layer.macs for layer in layers.values()) == program.macs


def test_live_bits__are_what_later_operations_still_read(program):
    layers = {layer.name: layer.live_bits for layer in layers_of(program)}
    wide, code = 8 * 8 * 4 * 8, 8 * 8 * 4 * 2
    assert layers["image"] == 8 * 8 * 3 * 8
    assert layers["stem"] == 8 * 8 * 3 * 8 + wide
    assert layers["conv1"] == wide + code + code  # the stem waits for conv2
    assert layers["conv2"] == wide + code + wide
    assert layers["shortcut"] == wide + 4 * 4 * 8 * 2 + 4 * 4 * 8 * 8  # conv2, conv3, itself


def test_effective_bits__of_every_weight_of_a_byte():
    weights = np.arange(-128, 128)
    assert effective_bits(weights).tolist() == [len(bin(abs(w))[2:].strip("0")) for w in range(-128, 128)]


def theirs_of(program):
    """The total of qonnx's inference_cost on the exported file as it is, for one image."""
    pytest.importorskip("onnx", reason="ONNX files are written with the package onnx")
    pytest.importorskip("qonnx", reason="qonnx is the oracle")
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.util.inference_cost import inference_cost as theirs

    from sim.exporters import export

    return [theirs(ModelWrapper(export(program, "qonnx")), discount_sparsity=discount)["total_cost"]
            for discount in (True, False)]


def assert_equal_keys(program):
    for theirs, discount in zip(theirs_of(program), (True, False), strict=True):
        ours = inference_cost(program, discount)
        assert ours.keys() == theirs.keys()
        ours["unsupported"], theirs["unsupported"] = (
            set() if text == "set()" else ast.literal_eval(text) for text in (ours["unsupported"], theirs["unsupported"]))
        assert ours == theirs  # every bit of every number
        assert ours["total_macs"] > 0


@pytest.mark.filterwarnings("ignore")
def test_inference_cost__equals_qonnx_key_by_key(program):
    assert_equal_keys(program)


@pytest.mark.exhaustive
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("requant", ["fp32"])
def test_inference_cost__of_resnet20_at_2_bits_equals_qonnx_key_by_key(requant):
    assert_equal_keys(lower(load_checkpoint(CHECKPOINT).spec, HardwareSpec(requant=requant)))
    from training.models import MODELS

    graph = MODELS["resnet20"](Input("image", "", 32, 32, 3, (0.5,) * 3, (0.25,) * 3), 10, 16)
    arrays = testing.arrays_for(graph, np.random.default_rng(5), False, "interval")
    assert_equal_keys(lower(NetworkSpec(graph, arrays, Precision(2, 8), "interval")))


def conv_gemm(side, kernel, channels, filters, stride=1):
    positions = [math.floor((length - kernel) / stride) + 1 for length in side]
    return Gemm(positions[0] * positions[1], kernel * kernel * channels, filters, 1)


def test_cycles__are_scale_sims_for_three_shapes_by_hand():
    """Total Cycles of COMPUTE_REPORT.csv (SCALE-Sim 3.0.0, which was run on these) on an array of R = 4 rows, C = 6 columns.

    A fold of T steps takes T + R + C - 2 cycles, and R more where weights or inputs are loaded first; the first is cycle 0.
    """
    shapes = {"a": conv_gemm((5, 5), 3, 2, 4), "b": conv_gemm((10, 10), 3, 3, 8), "c": conv_gemm((9, 7), 1, 16, 20, 2)}
    assert {key: (g.rows, g.depth, g.columns) for key, g in shapes.items()} == {
        "a": (9, 18, 4), "b": (64, 27, 8), "c": (20, 16, 20)}
    by_hand = {
        # outputs stay: ceil(pixels / 4) * ceil(filters / 6) folds of T = depth
        ("os", "a"): 3 * 1 * (18 + 8) - 1, ("os", "b"): 16 * 2 * (27 + 8) - 1, ("os", "c"): 5 * 4 * (16 + 8) - 1,
        # weights stay: ceil(depth / 4) * ceil(filters / 6) folds of T = pixels
        ("ws", "a"): 5 * 1 * (9 + 12) - 1, ("ws", "b"): 7 * 2 * (64 + 12) - 1, ("ws", "c"): 4 * 4 * (20 + 12) - 1,
        # inputs stay: ceil(depth / 4) * ceil(pixels / 6) folds of T = filters
        ("is", "a"): 5 * 2 * (4 + 12) - 1, ("is", "b"): 7 * 11 * (8 + 12) - 1, ("is", "c"): 4 * 4 * (20 + 12) - 1,
    }
    found = {(flow, key): array_named(f"{flow}:4x6").timing(key, gemm).total_cycles
             for flow in ("os", "ws", "is") for key, gemm in shapes.items()}
    assert found == by_hand
    assert by_hand["os", "a"] == 77  # as it printed
    assert by_hand["ws", "b"] == 1063
    assert by_hand["is", "a"] == 159
    report = array_named("ws:4x6").timing("a", shapes["a"]).to_json()
    assert list(report) == ["Total Cycles", "Stall Cycles", "Overall Util %", "Mapping Efficiency %", "Compute Util %"]
    assert [round(value, 9) for value in report.values()] == [104, 0, 25.961538462, 60.0, 20.769230769]


def test_folding__is_finns():
    """(columns / PE) * (depth / SIMD) cycles a pixel; a depthwise convolution shares PE out to channels."""
    dense, depthwise = Gemm(64, 36, 8, 1), Gemm(64, 9, 1, 12)
    assert array_named("pe:4x6").timing("x", dense).total_cycles == 64 * 2 * 6
    assert array_named("pe:4x6").timing("x", dense).overall_util == 100.0
    assert array_named("pe:3x8").timing("x", dense).total_cycles == 64 * 3 * 5
    assert array_named("pe:4x3").timing("x", depthwise).total_cycles == 64 * 3 * 3


def toggles_by_hand(op, codes):
    """One multiplier, one chain of registers, in plain Python integers."""
    rows, columns, depth, channels = op.weights.shape
    top, _, left, _ = op.window.paddings
    height, width = len(codes), len(codes[0])
    stages = [(stage.products, stage.bits or op.safe_bits, bool(stage.bits) and stage.overflow == "saturate", stage.tile)
              for stage in op.accumulator.stages]
    unlimited = [stage.bits is None for stage in op.accumulator.stages]
    found = dict.fromkeys(("zero_activations", "zero_weights", "zero_either", "activations", "weights", "register"), 0)

    def changed(a, b, bits):
        return bin((a ^ b) & (2**bits - 1)).count("1")

    def fitted(total, stage):
        _, bits, saturates, _ = stages[stage]
        low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
        return total if unlimited[stage] else max(low, min(high, total)) if saturates else (total - low) % 2**bits + low

    def through(values, stage, start):
        """What a stage hands on: (value, products so far) pairs."""
        size, bits, _, tile = stages[stage]
        groups = {}
        for value, number in values:
            groups.setdefault(number // size if size else 0, []).append((value, number))
        handed = []
        for group in groups.values():
            held = fitted(start, stage)
            for begin in range(0, len(group), tile or len(group)):
                total = held + sum(value for value, _ in group[begin : begin + (tile or len(group))])
                after = fitted(total, stage)
                found["register"] += changed(held, after, bits)
                held = after
            handed.append((held, group[-1][1]))
        return handed

    for y in range(op.shape[0]):
        for x in range(op.shape[1]):
            for channel in range(channels):
                pairs = []
                for i in range(rows):
                    for j in range(columns):
                        for k in range(depth):
                            row, column = y * op.stride + i - top, x * op.stride + j - left
                            inside = 0 <= row < height and 0 <= column < width
                            pairs.append((codes[row][column][k] if inside else 0, int(op.weights[i, j, k, channel])))
                for number, (code, weight) in enumerate(pairs):
                    found["zero_activations"] += code == 0
                    found["zero_weights"] += weight == 0
                    found["zero_either"] += code == 0 or weight == 0
                    if number:
                        found["activations"] += changed(code, pairs[number - 1][0], op.operand.bits)
                        found["weights"] += changed(weight, pairs[number - 1][1], op.weight_format.bits)
                products = [code * weight for code, weight in pairs]
                if op.accumulator.order == "sorted":
                    products = in_order(products, "sorted", (rows, columns, depth))
                values = [(product, number) for number, product in enumerate(products)]
                for stage in range(len(stages)):
                    is_loaded = stage == len(stages) - 1 and op.start is not None
                    values = through(values, stage, int(op.start[channel]) if is_loaded else 0)
    return found


ACCUMULATORS = [Accumulator(), Accumulator(5, "wrap", 1), Accumulator(4, "saturate", 5), Accumulator(6, "saturate", 0),
                Accumulator(7, "wrap", 2, (Stage(4, 4, "saturate"),)),
                Accumulator(9, "saturate", 1, (Stage(2, 4, "wrap"), Stage(6, 5, "saturate", 2))),
                Accumulator(5, "saturate", 1, order="sorted"),
                Accumulator(6, "saturate", 0, (Stage(2), Stage(4, 5, "wrap", 0)), "sorted")]


@pytest.mark.parametrize("accumulator", ACCUMULATORS, ids=lambda accumulator: f"{accumulator.text} {accumulator.order}")
@examples(10)
@given(st.integers(0, 2**32 - 1), st.integers(1, 2), st.integers(0, 1), st.booleans(), st.booleans())
def test_toggles__are_those_of_plain_integers(accumulator, seed, stride, padding, signed, is_biased):
    rng = np.random.default_rng(seed)
    operand, weights = IntFormat(3, signed), rng.integers(-4, 4, (2, 3, 2, 2)).astype(np.int32)
    shape = ((4 + 2 * padding - 2) // stride + 1, (5 + 2 * padding - 3) // stride + 1, 2)
    op = ConvOp("conv", "x", shape, None, skip="", weights=weights, stride=stride, padding=padding, groups=1,
                operand=operand, weight_format=IntFormat(3, True), weight_bits=3, accumulator=accumulator, requant=None,
                start=rng.integers(-60, 60, 2) if is_biased else None)
    codes = rng.integers(operand.min, operand.max + 1, (2, 4, 5, 2)).astype(operand.dtype)
    found = layer_activity(op, {"x": codes})
    wanted = [toggles_by_hand(op, image) for image in codes.tolist()]
    for name, mine in (("zero_activations", found.zero_activations), ("zero_weights", found.zero_weights),
                       ("zero_either", found.zero_either), ("activations", found.toggled_activations),
                       ("weights", found.toggled_weights), ("register", found.toggled_register)):
        assert mine == sum(each[name] for each in wanted), name
    assert found.products == 2 * op.macs


def test_registers__that_are_unlimited_hand_on_what_they_hold():
    """Products of -65 .. 65 need 9 bits together; six that wrapped in 7 bits may come to less than these hold."""
    registers = Registers((1, 1), parse_accumulator("1:7:wrap,6:unlimited,end:12:saturate"), wide=9)
    for product in (-64, -64, -64, 65, 65, 65):
        registers.take(np.array([[product]]))
    assert registers.close().tolist() == [[3 * -64 + 3 * (65 - 128)]]


def test_activity__of_a_network_whose_products_come_sorted(program):
    """Zeros and operands do not depend on the order; no layer is left out."""
    pixels = np.random.default_rng(9).integers(0, 256, (1, *program.input_shape)).astype(np.uint8)
    ours, plain = ({name: vars(found) for name, found in cost_of(each, pixels).activity.items()} for each in (
        dataclasses.replace(program, ops=tuple(dataclasses.replace(op, accumulator=Accumulator(30, order="sorted"))
                                               if op.accumulates else op for op in program.ops)), program))
    assert list(ours) == list(plain) == [op.name for op in program.accumulating]
    for name in ours:
        assert {key: value for key, value in ours[name].items() if "register" not in key} == {
            key: value for key, value in plain[name].items() if "register" not in key}
    assert sum(each["toggled_register"] for each in ours.values()) > 0


def test_toggles__follow_the_order_of_products():
    """Codes 7, 0, 7, 0 along channels: channels outside, then rows, the operand changes once."""
    weights = np.ones((2, 1, 2, 1), np.int32)
    codes = np.zeros((1, 2, 1, 2), np.uint8)
    codes[0, :, 0, 0] = 7

    def activations(order):
        op = ConvOp("conv", "x", (1, 1, 1), None, skip="", weights=weights, stride=1, padding=0, groups=1,
                    operand=IntFormat(3, False), weight_format=IntFormat(2, True), weight_bits=2,
                    accumulator=Accumulator(8, order=order), requant=None)
        return layer_activity(op, {"x": codes}).toggled_activations

    assert (activations("rows"), activations("channels")) == (9, 3)


def test_toggles__of_a_product_of_activations():
    spec_rows = (Input("image", "", 3, 3, 2, (0.5,) * 2, (0.25,) * 2),
                 Conv("q", "image", channels=2, kernel=1, role="boundary", activation=Activation(function="none")),
                 MatMul("qk", "q", "q"), Conv("classifier", "qk", channels=3, kernel=3, role="boundary", norm=False))
    graph = Graph(spec_rows)
    arrays = testing.arrays_for(graph, np.random.default_rng(1), False, "interval")
    op = lower(NetworkSpec(graph, arrays, Precision(4, 8), "interval")).ops[2]
    codes = np.random.default_rng(2).integers(op.operand.min, op.operand.max + 1, (1, 3, 3, 2)).astype(op.operand.dtype)
    found = layer_activity(op, {"q": codes})
    wanted = sum(bin((int(a[1]) ^ int(a[0])) & (2**op.operand.bits - 1)).count("1") * 3 for head in codes[0] for a in head)
    assert found.toggled_activations == found.toggled_weights == wanted
    assert found.products == op.macs == 3 * 3 * 3 * 2


def test_energy__by_hand(program):
    """Straight lines over bits of sums and products of bits; every weight, input and result moved once."""
    cost = cost_of(program)
    op = next(op for op in program.ops if op.name == "conv1")
    table = energy_table()
    multiply = 0.2 / 64 * (2 * 2)
    add = 0.03 + (0.1 - 0.03) / (32 - 8) * (op.safe_bits - 8) if op.safe_bits > 8 else 0.03 / 8 * op.safe_bits
    assert cost.energy["conv1"].compute_pj == pytest.approx(op.macs * (multiply + add))
    moved = op.weights.size * 2 + 2 * 8 * 8 * 4 * 2
    assert cost.energy["conv1"].memory_pj == pytest.approx(moved * 10 / 64)  # both memories are below 8 KB
    assert table.multiply_pj(64, 64) == pytest.approx(3.1 + (3.1 - 0.2) / (1024 - 64) * (4096 - 1024))
    assert sum(each.total_pj for each in cost.energy.values()) == pytest.approx(
        cost.total["compute_pj"] + cost.total["memory_pj"])


def test_total__sums_layers_and_takes_the_slowest(program):
    cost = cost_of(program, array="os:8x8")
    assert cost.total["macs"] == program.macs == int(sum(layer.macs for layer in cost.layers))
    assert cost.total["cycles"] == sum(each.total_cycles for each in cost.timing.values())
    assert cost.total["slowest_cycles"] == max(each.total_cycles for each in cost.timing.values())
    assert json.loads(json.dumps(cost.to_json()))["qonnx"]["total_macs"] == cost.qonnx["total_macs"]


@pytest.mark.parametrize(("text", "words"), [
    ("xs:4x4", "os:ROWSxCOLUMNS"), ("os:0x4", "rows must be a whole number from 1 to 65536, not 0"),
    ("dataflow = 'zz'", "dataflow 'zz' is unknown, choose one of os, ws, is, pe"),
    ("dataflow = 'os'\nrows = 4", "columns must be a whole number"), ("dataflow = 'os'\npe = 4", "pe is no key, there are"),
    ("dataflow = 'pe'\npe = 4\nsimd = 2\nlayers = 3", "layers is a table of layers"),
    ("dataflow = 'pe'\npe = 4\nsimd = 2\n[layers.a]\npe = true\nsimd = 1", "layers.a: pe must be a whole number"),
    ("rows = [", "no TOML")])
def test_arrays__that_there_are_not_are_refused_by_key(tmp_path, text, words):
    given_text = text
    if "=" in text:
        given_text = tmp_path / "array.toml"
        given_text.write_text(text)
    with pytest.raises(CostError, match=r"^array: ") as error:
        array_named(given_text)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("change", "words"), [
    ({"source": '""'}, "source is missing"), ({"add": "3"}, "add must be a list of pairs"),
    ({"multiply": "[[8, 0.2], [8, 3.1]]"}, "rising"), ({"memory": "[[0, 1]]"}, "one is [0, 1]"),
    ({"beyond": "-1"}, "beyond must be a number"), ({"watts": "1"}, "watts is no key of it")])
def test_energies__that_are_no_table_are_refused_by_key(tmp_path, change, words):
    keys = {"source": '"measured"', "add": "[[8, 0.03]]", "multiply": "[[8, 0.2]]", "memory": "[[8192, 1.0]]",
            "beyond": "20"}
    file = tmp_path / "mine.toml"
    file.write_text("\n".join(f"{key} = {value}" for key, value in (keys | change).items()))
    with pytest.raises(CostError, match=r"^energy: .*mine\.toml: ") as error:
        energy_table(file)
    assert words in str(error.value)
    file.write_text("\n".join(f"{key} = {value}" for key, value in keys.items()))
    assert energy_table(file).add_pj(16) == pytest.approx(0.06)
    with pytest.raises(CostError, match="energy: nobodys is unknown, choose one of horowitz_45nm"):
        energy_table("nobodys")


def test_eval__shows_costs_and_records_them(tmp_path):
    record = tmp_path / "e.json"
    done = run("sim.eval", "--model", CHECKPOINT, "--limit", 3, "--cost-images", 2, "--array", "pe:2x9", "--json", record)
    assert done.returncode == 0, done.stderr
    for word in ("EBOPs", "PE x SIMD array 2x9", "0 act. %", "on 2 images"):
        assert word in done.stdout
    cost = json.loads(record.read_text())["cost"]
    assert cost["images"] == 2
    assert cost["total"]["macs"] == cost["total"]["products"] / 2 == 631_616
    stem = next(layer for layer in cost["layers"] if layer["name"] == "stem")
    assert stem["array"]["Total Cycles"] == 64 * 4 * 1
    assert stem["operands"] == [8, 8]
    assert_one_line(run("sim.eval", "--model", CHECKPOINT, "--array", "os:4"), "array: os:4 is not allowed", status=2)
    assert_one_line(run("sim.eval", "--model", CHECKPOINT, "--cost-images", 0), "cost-images: 0", status=2)


def test_cost__of_a_program_needs_no_data(program):
    assert isinstance(program, Program)
    assert cost_of(program).activity == {}
