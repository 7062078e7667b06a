"""Add, Multiply, MaxPool, GlobalPool, Concat, Pad and zero points: edges that random networks and programs seldom draw."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from sim import reference
from sim.formats import IntFormat
from sim.hardware import HardwareSpec
from sim.lowering import lower
from sim.machine import Machine
from sim.network import (
    Activation,
    Add,
    AvgPool,
    Concat,
    Conv,
    GlobalPool,
    Graph,
    Input,
    MaxPool,
    Multiply,
    NetworkError,
    NetworkSpec,
    Pad,
    Precision,
    Row,
)
from sim.ops.add import AddOp
from sim.ops.codes_input import CodesInputOp
from sim.ops.maxpool import MaxPoolOp
from sim.ops.multiply import MultiplyOp
from sim.ops.pad import PadOp
from sim.program import InputOp, PoolOp, Program, ProgramError, TableOp
from sim.requantizers.fp32 import Fp32
from sim.requantizers.xnnpack_add import XnnpackAdd
from tests.examples import examples
from tests.strategies import DRAWN_OPS, arrays_for, codes, formats, zero_points
from tests.test_agreement import assert_equal_codes
from training.layers import Codes, Context, build_layer
from training.network import QuantNetwork
from training.quantizers import QUANTIZERS

U8, S8 = IntFormat(8, signed=False), IntFormat(8, signed=True)
LINEAR = Activation("boundary", 1.0, "none")
SHAPE = (4, 5, 3)


def fp32(channels: int, gain: float, skip_gain: float = 0.0) -> Fp32:
    return Fp32(np.full(channels, gain, np.float32), np.zeros(channels, np.float32), np.array([skip_gain], np.float32))


def image_op(shape: tuple[int, int, int], form: IntFormat, zero: int = 0, name: str = "image") -> InputOp:
    """Codes are pixels from the format's least on, as far as it goes."""
    table = np.minimum(np.arange(256) + form.min, form.max).astype(form.dtype)
    return InputOp(name, "", shape, form, np.tile(table, (shape[2], 1)), zero_point=zero)


def program_of(*ops) -> Program:
    """Of these."""
    return Program(ops)


def apply(program: Program, name: str, **values: np.ndarray) -> np.ndarray:
    """One operation's codes, which must be the oracle's."""
    op = next(op for op in program.ops if op.name == name)
    images = len(values[op.source])
    found = Machine(program).apply(op, np.zeros((images, 1, 1, 1), np.uint8), values)
    for n in range(len(found)):
        expected, _ = op.reference(*(values[source][n].tolist() for source in op.sources()))
        np.testing.assert_array_equal(found[n], np.array(expected), err_msg=name)
    return found


@pytest.mark.parametrize("zero", [-128, -3, 0, 127])
def test_max__is_never_of_the_border(zero):
    """All codes are negative: a border of 0, or of any zero point, would win."""
    image = image_op((3, 5, 2), S8, zero)
    pool = MaxPoolOp("pool", "image", (2, 3, 2), S8, 3, 2, 1, zero_point=zero)
    x = np.random.default_rng(0).integers(-128, -4, (2, 3, 5, 2)).astype(np.int8)
    x[0] -= np.arange(5, dtype=np.int8)[:, None] * 5 * (x[0] > -100)
    found = apply(program_of(image, pool), "pool", image=x)
    assert found.max() < -4
    assert found[0, 0, 0, 0] == x[0, :2, :2, 0].max()
    assert found[1, 1, 1, 1] == x[1, 1:3, 1:4, 1].max()
    assert found[0, 1, 2, 1] == x[0, 1:3, 3:5, 1].max()


def test_max__of_either_sign():
    x = np.array([-128, 127, -1, 0, -1, -2, 1, 0, -128, -127, -128, -128], np.int8).reshape(1, 3, 4, 1)
    image, pool = image_op((3, 4, 1), S8), MaxPoolOp("pool", "image", (3, 1, 1), S8, 1, 1, 0, 4)
    assert apply(program_of(image, pool), "pool", image=x).ravel().tolist() == [127, 1, -127]


@pytest.mark.parametrize(("form", "least"), [(IntFormat(16, signed=False), 0), (IntFormat(16, signed=True), -(2**15))])
def test_max__of_wide_codes(form, least):
    x = np.array([least, -1 % 2**16 + least, 5 + least, 32768 + least]).astype(form.dtype).reshape(1, 2, 2, 1)
    image = dataclasses.replace(image_op((2, 2, 1), form), table=np.zeros((1, 256), form.dtype))
    pool = MaxPoolOp("pool", "image", (1, 1, 1), form, 2, 1, 0)
    assert apply(program_of(image, pool), "pool", image=x).item() == form.max


@pytest.mark.parametrize(("size", "padding"), [(1, 1), (2, 2), (2, 3)])
def test_max__of_padding_alone_is_refused(size, padding):
    with pytest.raises(NetworkError, match="windows of padding alone"):
        MaxPool("pool", "image", size, 1, padding)
    with pytest.raises(NetworkError, match="windows of padding alone"):
        MaxPool("pool", "image", 5, 1, padding + 1, size)
    shape = (4 + 2 * padding - size + 1,) * 2
    with pytest.raises(ProgramError, match="windows of padding alone"):
        program_of(image_op((4, 4, 1), U8), MaxPoolOp("pool", "image", (*shape, 1), U8, size, 1, padding))


@pytest.mark.parametrize("kind", [
    "add", "multiply", "pool", "maxpool", "concat", "pad", "rescale", "average", "reduce", "slice", "divide", "compare",
    "table16", "defined"])
@given(data=st.data())
@examples(40)
def test_drawn_operation__equals_plain_integers(kind, data):
    """Signed, unsigned and narrow codes of any width and zero point, lines longer than a register."""
    columns, channels = data.draw(st.sampled_from([1, 2, 5, 40])), data.draw(st.sampled_from([1, 3, 16, 33]))
    shape = data.draw(st.integers(1, 4)), columns, channels
    ops = []
    for name, sides in (("image", shape), ("second", shape), ("pixel", (1, 1, shape[2]))):
        form = data.draw(st.one_of(formats(wide=True), st.just(IntFormat(16, signed=True)), st.just(S8)))
        if name == "second" and data.draw(st.booleans()):
            ops.append(dataclasses.replace(ops[0], name=name))  # codes that can be compared
            continue
        ops.append(CodesInputOp(name, "", sides, form, zero_point=data.draw(zero_points(form))))
    op = data.draw(DRAWN_OPS[kind]("op", ops[data.draw(st.integers(0, 1))], ops))
    program = program_of(*ops, op)
    values = {name: codes(data.draw, (2, *before.shape), before.format).astype(before.format.dtype)
              for before in ops for name in (before.name,)}
    apply(program, "op", **values)


@pytest.mark.parametrize(("a", "b", "expected"), [
    (10, 3, 10 * 2 - 3), (0, 255, -255 + 0), (255, 0, 255 * 2), (64, 0, 128), (64, 1, 127)])
def test_add__by_hand(a, b, expected):
    """2 a - b, clamped to 16 signed bits, and both operands one tensor's codes or two's."""
    form = IntFormat(16, signed=True)
    image = image_op((1, 1, 2), U8)
    second = TableOp("second", "image", (1, 1, 2), U8, np.arange(256, dtype=np.uint8), 0)
    add = AddOp("sum", "image", (1, 1, 2), form, "second", fp32(2, 2.0, -1.0))
    x, y = np.full((1, 1, 1, 2), a, np.uint8), np.full((1, 1, 1, 2), b, np.uint8)
    assert (apply(program_of(image, second, add), "sum", image=x, second=y) == expected).all()
    same = AddOp("sum", "image", (1, 1, 2), form, "image", fp32(2, 2.0, -1.0))
    assert (apply(program_of(image, same), "sum", image=x) == a).all()


@given(data=st.data())
@examples(40)
def test_add__of_bytes_in_words_equals_plain_integers(data):
    """XNNPACK's addition at the ends of what it takes, of every sign and zero point; wider codes take another way."""
    forms = [data.draw(st.sampled_from([S8, S8, U8, IntFormat(12, signed=True)])) for _ in range(3)]
    a, b, target = (CodesInputOp(name, "", (2, 3, 7), form, zero_point=data.draw(zero_points(form)))
                    for name, form in zip("abc", forms, strict=True))
    ratios = [np.float32(2.0 ** data.draw(st.sampled_from([-10, 7.99, data.draw(st.floats(-10, 7.99))]))) for _ in "ab"]
    requant = XnnpackAdd.from_scales(*ratios, 1.0, 7, data.draw(st.sampled_from([1, -1])))
    op = AddOp("sum", "a", (2, 3, 7), target.format, "b", requant, a.zero_point, b.zero_point, zero_point=target.zero_point)
    values = {each.name: codes(data.draw, (2, 2, 3, 7), each.format).astype(each.format.dtype) for each in (a, b)}
    apply(program_of(a, b, op), "sum", **values)


def test_add__in_words_is_only_what_32_bits_hold():
    numbers = {"multiplier_a": 2**22, "multiplier_b": -(2**22), "shift": 30}
    requant = XnnpackAdd(**{name: np.array([number], np.int64) for name, number in numbers.items()})
    assert requant.in_words(191) is not None
    assert requant.in_words(192) is None
    uneven = dataclasses.replace(requant, shift=np.array([30, 29], np.int64))
    assert uneven.in_words(1) is None


@pytest.mark.parametrize("kind", ["add", "multiply"])
@pytest.mark.parametrize(("zero", "code", "expected"), [(100, 0, 100), (250, 10, 255), (250, -10, 240), (5, -10, 0)])
def test_zero_point__is_added_before_the_clamp(kind, zero, code, expected):
    """R = 10, z = 250: 260 is beyond u8; R = -10 is a code only because z is 5 or more."""
    image = image_op((1, 1, 1), S8, zero=-7)
    x = np.full((1, 1, 1, 1), code - 7, np.int8)
    other = 21 if kind == "multiply" else 20
    one = TableOp("one", "image", (1, 1, 1), S8, np.full(256, other, np.int8), -128, zero_point=20)
    ones = np.full((1, 1, 1, 1), other, np.int8)
    make, gain = (AddOp, (1.0, 1.0)) if kind == "add" else (MultiplyOp, (1.0,))
    op = make("op", "image", (1, 1, 1), U8, "one", fp32(1, *gain), -7, 20, zero_point=zero)
    assert apply(program_of(image, one, op), "op", image=x, one=ones).item() == expected


@pytest.mark.parametrize("zero", [-128, -5, 0, 90])
def test_pool__of_a_constant_image_is_that_constant_whatever_the_zero_points(zero):
    """Inside; where windows reach into the padding there the code of 0 counts."""
    image = image_op((4, 4, 1), S8, zero)
    pool = PoolOp("pool", "image", (4, 4, 1), S8, 3, 1, 1, fp32(1, 1 / 9), source_zero=zero, zero_point=zero)
    x = np.full((1, 4, 4, 1), 37, np.int8)
    found = apply(program_of(image, pool), "pool", image=x)[0, :, :, 0]
    assert (found[1:3, 1:3] == 37).all()
    assert found[0, 0] == round(4 * (37 - zero) / 9) + zero


def test_wrong_zero_point__is_refused():
    image = image_op((2, 2, 1), U8, zero=3)
    with pytest.raises(ProgramError, match="takes 0 for the zero point of image, which is 3"):
        program_of(image, PoolOp("pool", "image", (1, 1, 1), U8, 2, 1, 0, fp32(1, 0.25)))
    with pytest.raises(ProgramError, match="keeps the format and the zero point"):
        program_of(image, PadOp("pad", "image", (3, 2, 1), U8, (1, 0, 0, 0)))


def test_multiply__by_one_pixel_is_by_each_image_and_channel_of_its_own():
    image = image_op((2, 3, 2), U8)
    pixel = PoolOp("pixel", "image", (1, 1, 2), U8, 2, 1, 0, fp32(2, 0.1), 3)
    op = MultiplyOp("op", "image", (2, 3, 2), IntFormat(16, signed=False), "pixel", fp32(2, 1.0))
    x = np.arange(24).reshape(2, 2, 3, 2).astype(np.uint8)
    y = np.array([[2, 3], [5, 7]], np.uint8).reshape(2, 1, 1, 2)
    found = apply(program_of(image, pixel, op), "op", image=x, pixel=y)
    np.testing.assert_array_equal(found, x.astype(int) * y)
    assert op.macs == 12


def test_multiply__of_16_bit_codes_is_exact():
    """Products up to 2^32, which no int32 holds."""
    form = IntFormat(16, signed=False)
    image = dataclasses.replace(image_op((1, 1, 3), form), table=np.zeros((3, 256), form.dtype))
    op = MultiplyOp("op", "image", (1, 1, 3), form, "image", fp32(3, 2.0**-16))
    x = np.array([65535, 65534, 46341], form.dtype).reshape(1, 1, 1, 3)
    assert apply(program_of(image, op), "op", image=x).ravel().tolist() == [65534, 65532, 32768]


# ---- the float network

ROWS = {
    "add": Add("op", "left", "right", LINEAR),
    "add of one": Add("op", "left", "left", LINEAR),
    "add, relu": Add("op", "left", "right", Activation("inner")),
    "multiply": Multiply("op", "left", "right", LINEAR),
    "multiply by a pixel": Multiply("op", "left", "pixel", Activation("boundary", 0.5)),
    "maxpool": MaxPool("op", "left", 3, 2, 1),
    "maxpool, much padding": MaxPool("op", "left", 3, 1, 2),
    "maxpool of a window": MaxPool("op", "left", 2, 1, 0, 3),
    "globalpool": GlobalPool("op", "left", LINEAR),
    "concat": Concat("op", "left", ("right", "left"), LINEAR),
    "concat, relu6": Concat("op", "left", ("right",), Activation("inner", 6.0, "relu6")),
    "pad": Pad("op", "left", (1, 0, 2, 3)),
}


def network(row: Row, precision: Precision, quantizer: str = "dorefa", seed: int = 0) -> NetworkSpec:
    """Two signed branches of other ranges, a pixel, the row, a classifier."""
    graph = Graph((
        Input("image", "", *SHAPE[:2], 2, (0.4, 0.5), (0.2, 0.3)),
        Conv("left", "image", 3, 3, 1, 1, role="boundary", activation=LINEAR),
        Conv("right", "image", 3, 1, role="boundary", activation=Activation("boundary", 2.5, "none")),
        GlobalPool("pixel", "left", Activation("boundary", 0.7)), row, AvgPool("pool", "op", 1, 3, activation=LINEAR),
        GlobalPool("last", "pool", LINEAR), Conv("logits", "last", 2, role="boundary", norm=False)))
    arrays = arrays_for(graph, np.random.default_rng(seed), False, quantizer)
    for name, array in arrays.items():  # steps and clips that leave more codes than the extreme ones
        if name.split(".")[-1] in ("weight_step", "activation_step"):
            arrays[name] = array * np.float32(0.1)
    return NetworkSpec(graph, arrays, precision, quantizer)


def pixels(count: int = 3) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, *SHAPE[:2], 2)).astype(np.uint8)


@pytest.mark.parametrize("precision", [Precision(2), Precision(8), Precision(3, 16, 4), Precision(4, 2)], ids=str)
@pytest.mark.parametrize("quantizer", ["dorefa", "lsq", "pact"])
@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_row__equals_the_machine_and_plain_integers(row, quantizer, precision):
    spec = network(row, precision, quantizer)
    program = lower(spec, HardwareSpec())
    assert_equal_codes(spec, program, pixels())
    trace: dict[str, np.ndarray] = {}
    Machine(program).run(pixels(1), trace)
    assert len(np.unique(trace["op"])) > 1 or quantizer != "dorefa" or precision.boundary < 8
    for name, values in reference.run(program, pixels(1)[0].tolist())[0].items():
        np.testing.assert_array_equal(trace[name][0], np.array(values), err_msg=name)


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_row__and_its_operation_survive_files(row, tmp_path):
    spec = network(row, Precision(4))
    assert Graph.from_json(spec.graph.to_json()) == spec.graph
    program = lower(spec)
    program.save(tmp_path / "program.npz")
    assert Program.load(tmp_path / "program.npz") == program
    assert all(repr(op) for op in program.ops)


def plain(row: Row, left: torch.Tensor, right: torch.Tensor, pixel: torch.Tensor) -> torch.Tensor:
    """The row in torch's own words, before its activation."""
    inputs = {"left": left, "right": right, "pixel": pixel}
    x, *others = (inputs[name] for name in row.sources())
    match row:
        case Add():
            return x + others[0]
        case Multiply():
            return x * others[0]
        case MaxPool():
            low = F.pad(x, (row.padding,) * 4, value=float("-inf"))
            return F.max_pool2d(low, row.window, row.stride)
        case GlobalPool():
            return F.adaptive_avg_pool2d(x, 1)
        case Concat():
            return torch.cat([x, *others], 1)
        case _:
            top, bottom, left_, right_ = row.paddings
            return F.pad(x, (left_, right_, top, bottom))


def layer_of(row: Row, precision: Precision):
    graph = network(row, precision).graph
    return build_layer(row, Context(graph.shapes(), precision, QUANTIZERS["dorefa"]))


def tensors(seed: int = 0) -> list[torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return [torch.randn(2, 3, *sides, generator=rng).requires_grad_() for sides in (SHAPE[:2], SHAPE[:2], (1, 1))]


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_float_row__is_torchs(row):
    inputs = dict(zip(("left", "right", "pixel"), tensors(), strict=True))
    layer = layer_of(row, Precision.of(32))
    found = layer(*(Codes(inputs[name], 1.0, float("inf")) for name in row.sources()))
    expected = plain(row, **inputs)
    if row.ends() is not None and not row.ends().signed:
        expected = expected.clamp(0.0, 6.0 if row.ends().function == "relu6" else float("inf"))
    torch.testing.assert_close(found.values, expected)
    assert (found.scale, found.bound) == (1.0, float("inf"))


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_gradients__are_those_of_the_float_row_inside_the_clip(row):
    """Straight through: 0 beyond the clip, else the float row's, in real units."""
    scales = {"left": 0.25, "right": 0.125, "pixel": 0.5}
    whole = {name: (x.detach() / scales[name]).round().clamp(-7, 7).requires_grad_()
             for name, x in zip(scales, tensors(), strict=True)}
    layer = layer_of(row, Precision(8)).train()
    found = layer(*(Codes(whole[name], scales[name], 7) for name in row.sources()))
    real = {name: (x.detach() * scales[name]).requires_grad_() for name, x in whole.items()}
    expected = plain(row, **real)
    end = row.ends()
    weight = torch.randn(found.values.shape, generator=torch.Generator().manual_seed(5))
    (found.values * found.scale * weight).sum().backward()
    clipped = expected if end is None else expected.clamp(-found.bound * found.scale * end.signed, found.bound * found.scale)
    (clipped * weight).sum().backward()
    assert end is None or end.signed or (expected < 0).any()
    for name in set(row.sources()):
        assert real[name].grad.abs().sum() > 0
        torch.testing.assert_close(whole[name].grad, real[name].grad * scales[name])
    assert found.values.abs().max() <= found.bound
    np.testing.assert_array_equal(found.values.detach(), found.values.detach().round())


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_training_and_eval__give_the_same_codes(row):
    layer = layer_of(row, Precision(4))
    inputs = [Codes((x.detach() * 3).round().clamp(-7, 7), 0.2, 7) for x in tensors(1)]
    named = dict(zip(("left", "right", "pixel"), inputs, strict=True))
    results = [layer.train(mode)(*(named[name] for name in row.sources())).values for mode in (True, False)]
    assert torch.equal(*results)


@pytest.mark.parametrize(("kind", "limit"), [("add", 1e4), ("multiply", 1e6), ("globalpool", 0.2)])
def test_layer__rounds_as_fp32_does_where_float32_is_short(kind, limit):
    """16-bit codes, a hundred thousand of them, in images of so many pixels that float32 does not hold their sums."""
    rng, (left, right) = np.random.default_rng(2), (0.1, 0.03)
    a, b = (rng.integers(-32767, 32768, (2, 128, 128, 3)) for _ in range(2))
    if kind == "globalpool":  # partial sums far beyond the whole
        a = rng.integers(32000, 32768, a.shape) * np.where(np.arange(128) < 64, 1, -1).reshape(1, -1, 1, 1)
    layer = layer_of(ROWS[kind], Precision(8, 16)).eval()
    layer.end.limit = limit
    step = layer.end.step()
    inputs = [Codes(torch.from_numpy(x).float().permute(0, 3, 1, 2), scale, 32767) for x, scale in ((a, left), (b, right))]
    found = layer(*inputs[: len(ROWS[kind].sources())]).values.permute(0, 2, 3, 1).numpy()
    sums, gain = {"add": (a, left / step), "multiply": (a * b, left * right / step),
                  "globalpool": (a.sum((1, 2), keepdims=True), left / (128 * 128 * step))}[kind]
    exact = Fp32(np.full(3, gain, np.float32), np.zeros(3, np.float32), np.array([right / step], np.float32))
    expected = exact.codes(sums, b.astype(np.int16) if kind == "add" else None, IntFormat(16, signed=True, narrow=True))
    np.testing.assert_array_equal(found, expected)
    assert len(np.unique(found)) > 5


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_network__learns_through_it(row):
    spec = network(row, Precision(4))
    model = QuantNetwork.from_spec(spec).train()
    model(torch.from_numpy(pixels(8)).permute(0, 3, 1, 2)).square().sum().backward()
    assert model.layers["left"].weight.grad.abs().sum() > 0


@pytest.mark.parametrize(("row", "message"), [
    (Add("op", "left", "pixel"), "must be of one shape"),
    (Multiply("op", "pixel", "left"), r"must be \(1, 1, 3\) or \(1, 1, 3\)"),
    (Concat("op", "left", ("pixel",)), "height and width must be the same"),
])
def test_shapes_that_do_not_fit__are_refused(row, message):
    with pytest.raises(NetworkError, match=message):
        network(row, Precision(4))


def test_no_names_and_no_sizes__are_refused():
    with pytest.raises(NetworkError, match="others must be names"):
        Concat("op", "left")
    with pytest.raises(NetworkError, match="four whole numbers"):
        Pad("op", "left", (1, 2, 3))
    with pytest.raises(NetworkError, match="four whole numbers"):
        Pad("op", "left", (1, 2, 3, -1))
