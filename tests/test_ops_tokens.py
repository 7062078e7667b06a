"""Rows of transformers: tables, products of activations, heads, tokens, softmax and norms."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sim import reference
from sim.accumulator import Accumulator, AccumulatorOverflowError
from sim.definitions import SOFTMAXES
from sim.formats import IntFormat
from sim.functions import FUNCTIONS
from sim.inputs import InputError
from sim.lowering import LowerError, lower
from sim.machine import Machine
from sim.network import (
    Activation,
    Embedding,
    Flatten,
    Graph,
    Heads,
    Input,
    LayerNorm,
    Linear,
    Lookup,
    MatMul,
    NetworkError,
    Precision,
    Requantize,
    Select,
    Sequence,
    Softmax,
    TokenInput,
    Tokens,
)
from sim.ops.matmul import MatMulOp
from sim.ops.positions import ConstantOp
from sim.program import InputOp, Program
from sim.requantizers.fp32 import Fp32
from sim.testing import ids_for, lowered, networks, token_graphs
from tests.tokens import assert_one_arithmetic, fq_codes
from training.functions import slope
from training.models.encoder import encoder
from training.models.transformer import block_arrays
from training.models.vision import vision_transformer
from training.network import QuantNetwork


@given(st.data())
def test_networks_of_tokens__are_the_model_and_plain_integers_in_every_code(data):
    spec = data.draw(networks(graph=data.draw(token_graphs())))
    program = lowered(spec, "fp32")
    ids = ids_for(data.draw, spec.graph)
    assert_one_arithmetic(spec, program, ids)


@given(st.data())
def test_programs_of_tokens__come_back_from_files(tmp_path_factory, data):
    program = lowered(data.draw(networks(graph=data.draw(token_graphs()))), "fp32")
    path = tmp_path_factory.mktemp("programs") / "program.npz"
    program.save(path)
    assert Program.load(path) == program
    assert repr(program).startswith(f"<Program: {program.ops[0].shape[0]} ids below")


@pytest.mark.parametrize(("zero", "other_zero"), [(0, 0), (3, 0), (0, -5), (-8, 7)])
@pytest.mark.parametrize("transpose", [True, False])
@pytest.mark.parametrize("accumulator", [
    Accumulator(), Accumulator(6, "wrap", 1), Accumulator(6, "saturate", 1), Accumulator(6, "saturate", 3),
    Accumulator(6, "saturate", 0)], ids=str)
def test_product__is_that_of_plain_integers_for_every_register(accumulator, transpose, zero, other_zero):
    rng = np.random.default_rng(1)
    form, heads, rows, depth, columns = IntFormat(4, signed=True), 2, 3, 7, 5
    program, a, b = product(accumulator, transpose, (zero, other_zero), (heads, rows, depth, columns), form, form)
    op = program.ops[3]
    x, y = (rng.integers(form.min, form.max + 1, (2, *shape)).astype(np.int8) for shape in (a, b))
    machine = Machine(program)
    found = machine.apply(op, np.zeros((2, 1, 1, 1), np.uint8), {"a": x, "b": y})
    counts = np.zeros(columns, np.int64)
    for image in range(2):
        expected, overflows = op.reference(x[image].tolist(), y[image].tolist())
        np.testing.assert_array_equal(found[image], np.array(expected))
        counts += np.array(overflows)
    np.testing.assert_array_equal(machine.overflows["product"], counts)
    assert counts.any() == (accumulator.bits is not None)
    if accumulator.bits is None:
        left, right = x.astype(int) - zero, y.astype(int) - other_zero
        np.testing.assert_array_equal(found, np.clip(left @ (right.swapaxes(2, 3) if transpose else right), -32768, 32767))
        raw = machine.sums(op, x, y)
        np.testing.assert_array_equal(raw, x.astype(int) @ (y.swapaxes(2, 3) if transpose else y).astype(int))


def product(accumulator, transpose, zeros, sizes, form, other):
    """A program whose fourth operation multiplies `a` and `b`, codes of these formats and zero points, to 16-bit codes."""
    heads, rows, depth, columns = sizes
    a, b = (heads, rows, depth), (heads, columns, depth) if transpose else (heads, depth, columns)
    one = Fp32(np.ones(columns, np.float32), np.zeros(columns, np.float32), np.zeros(1, np.float32))
    tables = [np.zeros(shape, kind.dtype) for shape, kind in ((a, form), (b, other))]
    program = Program((
        InputOp("image", "", (1, 1, 1), IntFormat(8, signed=False), np.zeros((1, 256), np.uint8)),
        ConstantOp("a", "", a, form, tables[0], zero_point=zeros[0]),
        ConstantOp("b", "", b, other, tables[1], zero_point=zeros[1]),
        MatMulOp("product", "a", (heads, rows, columns), IntFormat(16, signed=True), "b", form, other, depth, transpose,
                 accumulator, one, *zeros)))
    return program, a, b


@pytest.mark.parametrize(("form", "other", "depth"), [
    (IntFormat(8, signed=False), IntFormat(8, signed=True), 600),
    (IntFormat(16, signed=True), IntFormat(16, signed=True), 64),
    (IntFormat(8, signed=False), IntFormat(8, signed=False), 200),
    (IntFormat(1, signed=False), IntFormat(1, signed=True), 9)])
def test_product__of_extremes_is_exact(form, other, depth):
    """On both sides of 2^24, where float32 ends."""
    program, a, b = product(Accumulator(), True, (0, 0), (1, 2, depth, 3), form, other)
    machine, op = Machine(program), program.ops[3]
    for x in (form.min, form.max):
        for y in (other.min, other.max):
            codes = np.full((1, *a), x, form.dtype), np.full((1, *b), y, other.dtype)
            codes[0][..., 0] = form.max
            expected = y * (x * (depth - 1) + form.max)
            assert (machine.sums(op, *codes) == expected).all()
            assert op.bounds[0] <= expected <= op.bounds[1]


def test_product__of_a_register_that_must_not_overflow_stops():
    form = IntFormat(4, signed=True)
    program, a, b = product(Accumulator(8, "error"), True, (0, 0), (1, 1, 9, 2), form, form)
    machine = Machine(program)
    x, y = np.full((1, *a), 7, np.int8), np.full((1, *b), 7, np.int8)
    y[0, 0, 0] = 1
    with pytest.raises(AccumulatorOverflowError, match="product, channel 1"):
        machine.sums(program.ops[3], x, y)


def test_moves__are_those_of_torch():
    """A copy that only the two halves agree on could be wrong in both."""
    graph = Graph((
        Input("image", "", 2, 3, 6, (0.5,) * 6, (0.5,) * 6), Flatten("flat", "image"), Sequence("tokens", "image"),
        Heads("heads", "tokens", 3), Tokens("joined", "heads"), Select("third", "tokens", 2),
        Linear("logits", "flat", 2, role="boundary")), ("flat", "tokens", "heads", "joined", "third", "logits"))
    model = QuantNetwork(graph, Precision(4)).eval()
    pixels = np.random.default_rng(0).integers(0, 256, (2, 2, 3, 6)).astype(np.uint8)
    codes: dict[str, np.ndarray] = {}
    Machine(lower(model.spec())).results(pixels, codes)
    image = torch.from_numpy(codes["image"]).permute(0, 3, 1, 2)  # [N, C, H, W]
    tokens = image.flatten(2).transpose(1, 2)  # as in torchvision's vision transformer
    heads = tokens.view(2, 6, 3, 2).transpose(1, 2)  # as in torch's attention
    np.testing.assert_array_equal(codes["flat"][:, 0, 0], image.flatten(1).numpy())
    np.testing.assert_array_equal(codes["tokens"][:, :, 0], tokens.numpy())
    np.testing.assert_array_equal(codes["heads"], heads.numpy())
    np.testing.assert_array_equal(codes["joined"], codes["tokens"])
    np.testing.assert_array_equal(codes["third"][:, 0], codes["tokens"][:, 2])


@pytest.mark.parametrize("function", sorted(FUNCTIONS))
def test_lookup__takes_codes_from_the_table_in_training_and_the_gradient_of_the_function(function):
    graph = Graph((
        Input("image", "", 4, 8, 8, (0.5,) * 8, (0.25,) * 8),
        Lookup("y", "image", function, Activation("boundary", 4.0, "none")),
        Linear("logits", "y", 2, role="boundary")), ("y", "logits"))
    model = QuantNetwork(graph, Precision(4))
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 8, 4, 8)
    traces: list[dict[str, torch.Tensor]] = []
    for mode in (True, False):
        model.train(mode)
        traces.append({})
        model(pixels, traces[-1])
    torch.testing.assert_close(traces[0]["y"], traces[1]["y"], rtol=0, atol=0)
    layer, image = model.layers["y"], model.layers["image"](pixels)
    values = image.values.clone().requires_grad_()
    layer(image._replace(values=values)).values.sum().backward()
    step, scale = 4.0 / 127, image.scale
    real = values.detach().double() * scale
    outputs = torch.from_numpy(FUNCTIONS[function](real.numpy())) / step
    wanted = torch.where(outputs.abs() <= 127, slope(function, real) * (scale / step), 0.0)
    sure = (outputs.abs() - 127).abs() > 1e-3
    torch.testing.assert_close(values.grad[sure], wanted.float()[sure], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layer", [Softmax("y", "image", "exact", "boundary"),
                                   LayerNorm("y", "image", activation=Activation("boundary", 4.0, "none")),
                                   LayerNorm("y", "image", "irmsnorm", activation=Activation("boundary", 4.0, "none"))])
def test_definitions__teach_the_gradients_of_their_float_shape(layer):
    graph = Graph((Input("image", "", 2, 3, 8, (0.5,) * 8, (0.25,) * 8), layer, Linear("logits", "y", 2, role="boundary")))
    model, real = QuantNetwork(graph, Precision(4)), QuantNetwork(graph, Precision.of(32))
    real.load_state_dict(model.state_dict())
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 8, 2, 3)).astype(np.uint8))
    image = model.layers["image"](pixels)
    gradients, outputs = [], []
    for network in (model, real):
        values = image.values.clone().requires_grad_()
        found = network.layers["y"](image._replace(values=values))
        (found.values * found.scale * torch.linspace(-1, 1, 8).view(1, 8, 1, 1)).sum().backward()
        gradients.append(values.grad)
        outputs.append(found.values.detach() * found.scale)
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-4)
    assert (outputs[0] - outputs[1]).abs().max() < 0.063  # two codes


@pytest.mark.parametrize("bits", [1, 2, 8, 16])
def test_softmax__of_every_definition_is_the_models(bits):
    """Those whose codes are no exponents, at the widths that they have."""
    for name in SOFTMAXES:
        graph = Graph((TokenInput("ids", 16, 40), Embedding("words", "ids", 16), Requantize("q", "words", Activation(
            "boundary", 127 * math.log(2) / 32, "none")), Softmax("y", "q", name, "skip"),
            Linear("logits", "y", 2, role="boundary")))
        model = QuantNetwork(graph, Precision(4, 8, bits)).eval()
        try:
            program = lower(model.spec())
        except LowerError as error:
            assert name in str(error)
            assert (name in ("log2", "tflite_int16") or (name == "gemmlowp" and bits < 8)
                    or (name == "itapartialmax" and bits == 1))
            continue
        ids = np.random.default_rng(0).integers(0, 40, (3, 16)).astype(np.int32)
        trace: dict[str, np.ndarray] = {}
        Machine(program).run(ids, trace)
        for row, codes in fq_codes(model.spec(), ids).items():
            np.testing.assert_array_equal(trace[row], codes, err_msg=f"{name} {row}")
        assert name == "exact" or bits > 2 or trace["y"].max() <= 2**bits - 1


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("function", ["relu", "gelu"])
def test_encoder__in_float_is_torchs(function, norm_first):
    torch.manual_seed(0)
    layer = torch.nn.TransformerEncoderLayer(16, 2, 24, 0.0, function, batch_first=True, norm_first=norm_first)
    theirs = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, 0.0, 0.3)
    graph = encoder(2, 2, 16, tokens=7, vocabulary=50, hidden=24, norm_first=norm_first,
                    function="relu" if function == "relu" else "gelu_erf")
    mine = QuantNetwork(graph, Precision.of(32)).eval()
    mine.adapt_from({name: array for index, each in enumerate(theirs.layers)
                     for name, array in block_arrays(f"layer{index}", each).items()})
    trace: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        mine(torch.randint(0, 50, (3, 7)), trace)
        expected = theirs(trace["embedded"][..., 0].transpose(1, 2))
    last = trace["layer1_sum2" if norm_first else "layer1_norm2"]
    torch.testing.assert_close(last[..., 0].transpose(1, 2), expected, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize(("head", "shape"), [("first", (4, 3)), ("tokens", (4, 5, 1, 3)), ("span", (4, 5, 1, 2))])
def test_encoder__is_the_model_in_every_code_and_learns_everywhere(head, shape):
    graph = encoder(2, 2, 8, tokens=5, vocabulary=30, classes=3, head=head, norm_first=head == "tokens")
    for quantizer, precision in (("lsq", Precision(4, activations=8)), ("dorefa", Precision(2))):
        model = QuantNetwork(graph, precision, quantizer)
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):  # first ones are 0
                torch.nn.init.normal_(parameter, 0.0, 0.5)
        ids = torch.from_numpy(np.random.default_rng(0).integers(0, 30, (4, 5)).astype(np.int32))
        model.calibrate(ids)
        program = lower(model.spec())
        trace: dict[str, np.ndarray] = {}
        assert Machine(program).run(ids.numpy(), trace).shape == shape
        for name, codes in fq_codes(model.spec(), ids.numpy()).items():
            np.testing.assert_array_equal(trace[name], codes, err_msg=name)
        if quantizer == "lsq":
            values, _ = reference.run(program, ids[0].tolist())
            for name, value in values.items():
                np.testing.assert_array_equal(trace[name][0], np.array(value), err_msg=name)
        model.train()(ids).square().sum().backward()
        assert not [name for name, parameter in model.named_parameters() if parameter.grad is None]


def test_vision_transformer__is_the_model_in_every_code():
    graph = vision_transformer(Input("image", "", 8, 8, 1, (0.5,), (0.3,)), 10, 8, layers=1, heads=2, patch=4)
    model = QuantNetwork(graph, Precision(3), "lsq")
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (5, 1, 8, 8)).astype(np.uint8))
    model.calibrate(pixels)
    images, trace, expected = pixels.permute(0, 2, 3, 1).numpy(), {}, {}
    assert Machine(lower(model.eval().spec())).run(images, trace).shape == (5, 10)
    with torch.no_grad():
        model(pixels, expected)
    for name, codes in expected.items():
        np.testing.assert_array_equal(trace[name], codes.permute(0, 2, 3, 1).numpy(), err_msg=name)


@pytest.mark.parametrize(("ids", "message"), [
    (np.zeros((2, 4), np.int32), r"ids: int32 0 .. 29 \[N, 5\] are wanted, not int32 \[2, 4\]"),
    (np.zeros((2, 5), np.float32), "not float32"), (np.zeros(5, np.int64), r"take ids\[None\]"), ([[0] * 5], "not a list"),
    (np.full((1, 5), 30, np.int32), r"of 30 .. 30"), (np.full((1, 5), -1, np.int32), r"of -1 .. -1"),
    (np.zeros((0, 5), np.int32), r"\[0, 5\]"), (torch.zeros((1, 5), dtype=torch.int32), r"take .numpy\(\)")])
def test_ids__of_another_kind_are_refused(ids, message):
    graph = encoder(1, 1, 4, tokens=5, vocabulary=30)
    machine = Machine(lower(QuantNetwork(graph, Precision(4)).spec()))
    with pytest.raises(InputError, match=message):
        machine.run(ids)


@pytest.mark.parametrize(("build", "message"), [
    (lambda: Lookup("y", "image", "cosine"), "y: function: .*cosine"),
    (lambda: Softmax("y", "image", "hard"), "y: softmax:"),
    (lambda: LayerNorm("y", "image", "hard"), "y: norm:"),
    (lambda: LayerNorm("y", "image", eps=0.0), "eps must be positive"),
    (lambda: MatMul("y", "image", "image", divisor=0.0), "divisor must be"),
    (lambda: Linear("y", "image", 0), "features must"),
    (lambda: Heads("y", "image", 3).output_shape({"image": (4, 1, 8)}), "3 heads need"),
    (lambda: Heads("y", "image", 2).output_shape({"image": (4, 2, 8)}), "2 heads need"),
    (lambda: Select("y", "image", 4).output_shape({"image": (4, 1, 8)}), "no token 4"),
    (lambda: Select("y", "image", -1), "index must be"),
    (lambda: MatMul("y", "a", "b").output_shape({"a": (2, 3, 4), "b": (2, 5, 3)}), "differ in heads or in what is summed"),
    (lambda: Graph((TokenInput("ids", 4, 9), Linear("y", "ids", 3))), "an embedding reads ids of tokens, and nothing else"),
    (lambda: Graph((Input("image", "", 1, 1, 1, (0.5,), (0.5,)), Embedding("y", "image", 3))), "an embedding reads ids"),
    (lambda: encoder(1, 3, 8, tokens=5, vocabulary=30), "width 8 cannot have 3 heads"),
    (lambda: encoder(1, 2, 8, tokens=5, vocabulary=30, head="last"), "head 'last' is unknown"),
])
def test_rows__that_make_no_sense_are_refused(build, message):
    with pytest.raises(NetworkError, match=message):
        build()


@given(token_graphs())
def test_graphs_of_tokens__come_back_from_json(graph):
    assert Graph.from_json(json.loads(json.dumps(graph.to_json()))) == graph
