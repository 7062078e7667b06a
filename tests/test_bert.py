"""Encoders that answer questions: padding that nobody attends to, segments, definitions by name, weights of others."""

import dataclasses
import doctest
import json
import math
import struct

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from sim import redefined as redefinitions
from sim import reference
from sim.accumulator import Accumulator
from sim.buffers import Padded
from sim.definitions import INTEGER_FUNCTIONS, NORMS, SOFTMAXES
from sim.formats import IntFormat
from sim.functions import FunctionError, function_at, igelu_at
from sim.hardware import HardwareSpec
from sim.lowering import LowerError, lower
from sim.machine import Machine
from sim.network import (
    Activation,
    Embedding,
    Graph,
    Linear,
    MaskedSoftmax,
    NetworkError,
    NetworkSpec,
    Precision,
    Recode,
    Segments,
    Softmax,
    TokenInput,
)
from sim.ops import masked, recode, segments
from sim.ops.defined import DefinedOp
from sim.ops.token_input import TokenInputOp
from sim.outputs import EvalError
from sim.program import Program, ProgramError
from sim.quantizers import QUANTIZERS
from sim.redefined import GELUS, SOFTMAX_UNITS, redefined
from sim.registry import RegistryError
from sim.steps import turned
from sim.steps.conv import Convolution
from sim.steps.rows import rows_of
from sim.steps.turned import Turned
from sim.testing import arrays_for, lowered, widths
from tests.tokens import assert_one_arithmetic, fq_codes
from training.models import MODELS, encoder
from training.models.encoder import bert
from training.network import QuantNetwork
from training.safetensors import SafetensorsError, read_safetensors
from training.weights import WeightsError, first_arrays, float_network, read_state_dict

SEPARATOR = 3
S8, U8 = IntFormat(8, signed=True), IntFormat(8, signed=False)


MODULES = segments, masked, recode, encoder, turned, redefinitions


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_examples_in_docstrings__are_true(module):
    assert doctest.testmod(module).failed == 0


def texts(rng, count: int, tokens: int, vocabulary: int, shortest: int = 0) -> np.ndarray:
    """Ids with padding behind, of any length from `shortest`; sometimes within, too."""
    ids = rng.integers(1, vocabulary, (count, tokens)).astype(np.int32)
    for text, length in zip(ids, rng.integers(shortest, tokens + 1, count), strict=True):
        text[length:] = 0
    return ids


@st.composite
def encoders(draw: st.DrawFn) -> Graph:
    """Random small ones: heads, lengths, widths, blocks, definitions."""
    depth, heads = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    ids = TokenInput("ids", draw(st.integers(1, 6)), draw(st.sampled_from([5, 30])), draw(st.sampled_from([0, SEPARATOR])))
    return bert(ids, 2, depth * heads, layers=draw(st.integers(1, 2)), depth=depth,
                function=draw(st.sampled_from(["gelu_erf", "relu", "gelu"])), norm=draw(st.sampled_from(["exact", "ibert"])))


@st.composite
def specs(draw: st.DrawFn) -> NetworkSpec:
    """With random arrays at random widths, of 2 bits and more: signed codes of 1 bit have no level."""
    graph, bits = draw(encoders()), st.sampled_from([2, 3, 4, 8])
    quantizer = draw(st.sampled_from([name for name in QUANTIZERS if 2 in widths(name) and 8 in widths(name)]))
    precision = Precision(draw(bits), draw(bits), draw(bits), activations=draw(st.sampled_from([0, 2, 4, 8])))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return NetworkSpec(graph, arrays_for(graph, rng, False, quantizer), precision, quantizer)


@given(st.data())
def test_encoder__is_the_model_and_plain_integers_in_every_code(data):
    spec = data.draw(specs())
    program = lowered(spec, "fp32")
    row = spec.graph.rows[0]
    ids = texts(np.random.default_rng(data.draw(st.integers(0, 2**32 - 1))), 2, row.tokens, row.vocabulary)
    assert_one_arithmetic(spec, program, ids)


W4A4 = Precision(4)


def small(tokens: int = 12, quantizer: str = "lsq", precision: Precision = W4A4, units=("exact", "exact", "exact")):
    """A random spec with biases, of a network whose definitions are these."""
    graph = bert(TokenInput("ids", tokens, 40, SEPARATOR), 2, 8, layers=2, depth=4)
    torch.manual_seed(0)
    model = QuantNetwork(graph, precision, quantizer)
    for name, parameter in model.named_parameters():
        if name.endswith("bias") or "words" in name:
            torch.nn.init.normal_(parameter, 0.0, 0.5)
    model.calibrate(torch.from_numpy(texts(np.random.default_rng(5), 8, tokens, 40, 4)))
    softmax, gelu, norm = units
    spec = model.eval().spec()
    return dataclasses.replace(spec, graph=redefined(graph, softmax, gelu, norm))


@pytest.mark.parametrize("softmax", SOFTMAX_UNITS)
def test_longer_padding__changes_no_code_of_any_token(softmax):
    """Of 16 tokens and of 32, where the same positions come first, of which some are padding."""
    long = small(32, units=(softmax, "ibert", "exact"))
    short_graph = redefined(bert(TokenInput("ids", 16, 40, SEPARATOR), 2, 8, layers=2, depth=4), softmax, "ibert", "exact")
    arrays = {**long.arrays, "positions.weight": long.arrays["positions.weight"][:16]}
    short = NetworkSpec(short_graph, arrays, long.precision, long.quantizer)
    ids = np.zeros((3, 32), np.int32)
    ids[:, :16] = texts(np.random.default_rng(1), 3, 16, 40, 3)
    ids[0, 16:] = 0
    mine: dict[str, np.ndarray] = {}
    theirs: dict[str, np.ndarray] = {}
    Machine(lower(short)).run(ids[:, :16], mine)
    Machine(lower(long)).run(ids, theirs)
    spread = {name for name in mine if "weights" in name or "scores" in name}
    assert len(spread) == (4 if softmax == "exact" else 6)
    for name, codes in mine.items():
        for text, length in enumerate((ids != 0).sum(1)):
            if name in spread:
                both = [each[text][:, :length, :length] for each in (codes, theirs[name])]
                np.testing.assert_array_equal(*both, name)
            elif name == "positions":
                np.testing.assert_array_equal(codes[text], theirs[name][text, :16], name)
            else:
                side = 1 if name.endswith(("heads", "mixed")) else 0
                both = [np.moveaxis(each[text], side, 0)[:length] for each in (codes, theirs[name])]
                np.testing.assert_array_equal(*both, name)
    for name in ("layer0_weights", "layer1_weights"):
        for text, length in enumerate((ids != 0).sum(1)):
            assert not theirs[name][text][..., length:].any(), f"{softmax}: padding has a weight"
    for name, codes in fq_codes(long, ids).items():
        np.testing.assert_array_equal(theirs[name], codes, err_msg=name)


@pytest.mark.parametrize("softmax", ["exact", "ibert", "gemmlowp", "itamax", "log2"])
@pytest.mark.parametrize(("gelu", "norm"), [("exact", "exact"), ("ibert", "ibert")])
def test_encoder__of_any_definitions_is_the_model_and_plain_integers(softmax, gelu, norm):
    for quantizer, precision in (("lsq", Precision(3, activations=8)), ("dorefa", Precision(2))):
        spec = small(7, quantizer, precision, (softmax, gelu, norm))
        ids = texts(np.random.default_rng(2), 2, 7, 40, 3)
        ids[1, 1] = 0  # within a text
        program = lower(spec)
        assert_one_arithmetic(spec, program, ids, which=1)


@pytest.mark.parametrize("accumulator", [Accumulator(5, "saturate"), Accumulator(5, "wrap"), Accumulator(5, "saturate", 4)],
                         ids=str)
def test_layers_on_tokens__overflow_as_plain_integers_do(accumulator):
    """Read side by side: 12 tokens are a line."""
    spec = small(12, precision=Precision(3))
    program = lower(spec, HardwareSpec(accumulator))
    ids = texts(np.random.default_rng(6), 1, 12, 40, 6)
    machine, trace = Machine(program), {}
    machine.run(ids, trace)
    values, overflows = reference.run(program, ids[0].tolist())
    for name, codes in values.items():
        np.testing.assert_array_equal(trace[name][0], np.array(codes), err_msg=name)
    for name, counts in overflows.items():
        np.testing.assert_array_equal(machine.overflows[name], counts, err_msg=name)
    op = next(op for op in program.ops if op.name == "layer0_up")
    assert isinstance(machine._steps["layer0_up"], Turned)
    codes = trace["layer0_in2"]
    np.testing.assert_array_equal(machine.sums(op, codes), Convolution(op, machine.isa).registers([Padded.of(codes, 0)])[0])
    assert sum(int(counts.sum()) for counts in machine.overflows.values()) > 0


def test_rows__of_any_stored_codes_are_the_definitions():
    """Loops of their own: zero points, borders, codes of one and two bytes, signed and not, kept and not."""
    rng = np.random.default_rng(7)
    wide, narrow = IntFormat(16, signed=False), IntFormat(3, signed=False)
    learned = {"gamma": rng.normal(size=13), "beta": rng.normal(size=13)}
    for source, target in ((S8, U8), (IntFormat(12, signed=True), wide), (U8, narrow)):
        softmax = SOFTMAXES["exact"].build(0.05, source, target)
        signed = IntFormat(target.bits + 1 if target.bits < 16 else 16, signed=True)
        norm = NORMS["exact"].build(0.05, source, signed, 0.03, learned, 1e-12)
        x = rng.integers(source.min, source.max + 1, (3, 2, 5, 13)).astype(source.dtype)
        given, kept = Padded.of(x, 1), rng.random((3, 13)) < 0.5
        kept[1] = False
        for definition, mask in ((softmax, None), (softmax, kept), (norm, None)):
            op = DefinedOp("y", "x", (2, 5, 13), definition.target, definition)
            out = Padded.zeros(3, op.shape, definition.target.dtype, 2)
            loops = rows_of(op)
            assert loops.takes(given, out)
            loops(given, mask, out)
            wanted = np.zeros(x.shape, np.int64)
            for image in range(3):
                real = np.ones(13, bool) if mask is None else mask[image]
                if real.any():
                    wanted[image][..., real] = definition.codes(x[image][..., real].astype(np.int64))
            np.testing.assert_array_equal(out.interior, wanted)
            assert not out.array[:, :2].any()


def test_text_of_padding_alone__has_no_weights():
    spec = small(6)
    ids = np.zeros((2, 6), np.int32)
    trace: dict[str, np.ndarray] = {}
    Machine(lower(spec)).run(ids, trace)
    assert not trace["layer0_weights"].any()
    model = QuantNetwork(spec.graph, Precision.of(32)).eval()
    assert torch.isfinite(model(torch.from_numpy(ids))).all()


def test_masked_weights__teach_the_gradients_of_a_softmax_of_what_remains():
    graph = Graph((TokenInput("ids", 4, 9), Embedding("words", "ids", 4),
                   MaskedSoftmax("y", "words", ids="ids", role="boundary"), Linear("logits", "y", 2, role="boundary")))
    model = QuantNetwork(graph, Precision(4))
    ids = torch.tensor([[3, 0, 5, 0]])
    words = model.layers["words"](model.layers["ids"](ids))
    values = words.values.detach().clone().requires_grad_()
    found = model.layers["y"](words._replace(values=values), model.layers["ids"](ids))
    (found.values * found.scale * torch.arange(4.0).view(1, 4, 1, 1)).sum().backward()
    real = values.detach().clone().requires_grad_()
    kept = torch.softmax(real[:, [0, 2]] * words.scale, 1)
    (kept * torch.tensor([0.0, 2.0]).view(1, 2, 1, 1)).sum().backward()
    torch.testing.assert_close(values.grad, real.grad, rtol=1e-5, atol=1e-7)
    assert not found.values[:, [1, 3]].any()


def test_segments__end_with_the_first_separator():
    graph = Graph((TokenInput("ids", 6, 9), Segments("kinds", "ids", 3), Embedding("sides", "kinds", 2, role="boundary"),
                   Linear("logits", "sides", 2, role="boundary")))
    model = QuantNetwork(graph, Precision(4)).eval()
    ids = np.array([[1, 3, 2, 3, 0, 0], [3, 1, 1, 1, 1, 1], [1, 2, 1, 2, 1, 3], [1] * 6], np.int32)
    trace: dict[str, np.ndarray] = {}
    Machine(lower(model.spec())).run(ids, trace)
    expected = [[0, 0, 1, 1, 1, 1], [0, 1, 1, 1, 1, 1], [0] * 6, [0] * 6]
    np.testing.assert_array_equal(trace["kinds"][..., 0, 0], expected)
    np.testing.assert_array_equal(fq_codes(model.spec(), ids)["kinds"][..., 0, 0], expected)


def test_programs_with_masks__come_back_from_files(tmp_path):
    program = lower(small(6, units=("itamax", "ibert", "ibert")))
    program.save(tmp_path / "program.npz")
    assert Program.load(tmp_path / "program.npz") == program
    assert "but for id 0 of ids" in repr(next(op for op in program.ops if op.name == "layer0_weights"))


# definitions of other hardware

@pytest.mark.parametrize("scale", [0.03, 0.1, 1.0])
def test_igelu_of_a_table__is_the_integer_definition(scale):
    form = IntFormat(8, signed=True)
    definition = INTEGER_FUNCTIONS["igelu"].build(scale, form, IntFormat(32, signed=True))
    codes = list(range(-128, 128))
    unit = definition.output_scale(scale)
    expected = [code * unit for code in definition.oracle(codes)]
    np.testing.assert_array_equal(igelu_at(scale)(np.array(codes) * scale), expected)
    np.testing.assert_array_equal(igelu_at(scale)(torch.tensor(codes, dtype=torch.float64) * scale).numpy(), expected)
    with pytest.raises(FunctionError, match="must stand for"):
        igelu_at(1e-9)
    assert function_at("gelu", scale) is not function_at("igelu", scale)


@given(st.lists(st.integers(-128, 127), min_size=1, max_size=9), st.integers(1, 16), st.sampled_from([0.01, 0.1, 0.5]))
def test_log2shift__gives_the_powers_of_the_exponents(row, bits, scale):
    form = IntFormat(8, signed=True)
    powers = SOFTMAXES["log2shift"].build(scale, form, IntFormat(bits, signed=False))
    exponents = SOFTMAXES["log2"].build(scale, form, IntFormat(8, signed=False)).oracle(row)
    expected = [math.floor(2.0 ** (bits - 1 - n)) for n in exponents]
    assert powers.oracle(row) == expected
    assert powers.codes(np.array([row])).tolist() == [expected]
    assert powers.output_scale(scale) * 2 ** (bits - 1) == 1.0


@pytest.mark.parametrize(("given", "message"), [
    ({"softmax": "hard"}, "softmax: unknown name 'hard'|softmax:.*hard"), ({"gelu": "cosine"}, "gelu: 'cosine' is unknown"),
    ({"norm": "irmsnorm"}, "irmsnorm has no bias"), ({"norm": "hard"}, "norm:.*hard")])
def test_definitions__that_do_not_fit_are_refused(given, message):
    with pytest.raises(EvalError, match=message):
        redefined(small(4).graph, **given)


def test_definitions__of_what_a_network_has_not_are_refused():
    graph = Graph((TokenInput("ids", 4, 9), Embedding("words", "ids", 4), Linear("logits", "words", 2, role="boundary")))
    for option in ("softmax", "gelu", "norm"):
        with pytest.raises(EvalError, match=f"{option}: this network has none"):
            redefined(graph, **{option: "exact"})
    assert redefined(graph) == graph
    assert set(GELUS.values()) == {"gelu_erf", "gelu", "igelu"}
    assert redefinitions.redefined(small(4).graph, "exact", "exact", "exact") == small(4).graph


SIDES = {"x": (2, 3, 5), "ids": (5, 1, 9)}


@pytest.mark.parametrize(("build", "message"), [
    (lambda: MaskedSoftmax("y", "x", ids="ids", padding=-1), "padding must be an id"),
    (lambda: MaskedSoftmax("y", "x", ids="ids").output_shape(SIDES | {"x": (2, 3, 4)}), "scores of 4 tokens, and ids of 5"),
    (lambda: MaskedSoftmax("y", "x", ids="ids", padding=9).output_shape(SIDES), "padding 9 is no id"),
    (lambda: Segments("y", "ids", -1), "separator must be an id"),
    (lambda: Segments("y", "ids", 9).output_shape(SIDES), "separator 9 is no id"),
    (lambda: TokenInput("ids", 4, 9, 9), "separator 9 is no id"),
    (lambda: Softmax("y", "x", bits=17), "bits must be 1 to 16"),
    (lambda: Recode("y", "x", 1), "bits must be 2 to 16"), (lambda: Recode("y", "x", 8, -1.0), "a step is pos"),
    (lambda: Graph((TokenInput("ids", 4, 9), Embedding("x", "ids", 4), MaskedSoftmax("y", "x", ids="x"))), "reads ids of"),
    (lambda: bert(TokenInput("ids", 4, 9), 3, 8, layers=1, depth=4), "not 3 classes"),
    (lambda: MODELS["resnet8"](TokenInput("ids", 4, 9), 2, 8), "these data are texts"),
    (lambda: MODELS["vit"](TokenInput("ids", 4, 9), 2, 8), "these data are texts"),
])
def test_rows__that_make_no_sense_are_refused(build, message):
    with pytest.raises(NetworkError, match=message):
        build()


def test_own_network__that_gives_no_spans_is_refused():
    build = MODELS.add("test no spans", lambda ids, classes, width: Graph((
        ids, Embedding("words", "ids", 4), Linear("y", "words", 2, role="boundary", activation=Activation("boundary")))))
    with pytest.raises(RegistryError, match="two logits for each of 4 tokens"):
        build(TokenInput("ids", 4, 9), 2, 8)


@pytest.mark.parametrize(("change", "message"), [
    ({"padding": 40}, "padding 40 is no id"), ({"ids": "layer0_scores"}, "ids of tokens are wanted"),
    ({"ids": "kinds", "padding": 2}, "padding 2 is no id")])
def test_programs__with_masks_that_make_no_sense_are_refused(change, message):
    program = lower(small(4))
    ops = tuple(dataclasses.replace(op, **change) if op.name == "layer0_weights" else op for op in program.ops)
    with pytest.raises(ProgramError, match=message):
        dataclasses.replace(program, ops=ops)


def test_programs__with_segments_that_make_no_sense_are_refused():
    program = lower(small(4))
    wide = IntFormat(2, signed=False)
    for change, message in (({"separator": 40}, "no id of a vocabulary"), ({"format": wide}, "its codes are u1")):
        ops = tuple(dataclasses.replace(op, **change) if op.name == "kinds" else op for op in program.ops)
        with pytest.raises(ProgramError, match=message):
            dataclasses.replace(program, ops=ops)
    assert isinstance(program.ops[0], TokenInputOp)


def test_norms_of_many_features__beyond_what_a_definition_holds_are_refused_by_name():
    spec = small(4)
    wide = dataclasses.replace(spec, graph=redefined(spec.graph, softmax="tflite_int16"))
    with pytest.raises(LowerError, match="tflite_int16"):
        lower(wide)


# weights of others

NAMES = {"attention.self.query": (8, 8), "attention.self.key": (8, 8), "attention.self.value": (8, 8),
         "attention.output.dense": (8, 8), "intermediate.dense": (32, 8), "output.dense": (8, 32)}


def published(rng: np.random.Generator, positions: int = 20) -> dict[str, torch.Tensor]:
    """A state dict as Hugging Face's BertModel has it, of 2 layers and 8 features."""
    shapes = {"embeddings.word_embeddings.weight": (40, 8), "embeddings.position_embeddings.weight": (positions, 8),
              "embeddings.token_type_embeddings.weight": (2, 8), "embeddings.LayerNorm.weight": (8,),
              "embeddings.LayerNorm.bias": (8,), "pooler.dense.weight": (8, 8), "pooler.dense.bias": (8,)}
    for layer in range(2):
        for name, shape in NAMES.items():
            shapes |= {f"encoder.layer.{layer}.{name}.weight": shape, f"encoder.layer.{layer}.{name}.bias": shape[:1]}
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes |= {f"encoder.layer.{layer}.{name}.{part}": (8,) for part in ("weight", "bias")}
    return {name: torch.from_numpy(rng.normal(size=shape).astype(np.float32)) for name, shape in shapes.items()} | {
        "embeddings.position_ids": torch.arange(positions)[None]}


def formula(state: dict[str, torch.Tensor], ids: torch.Tensor, heads: int) -> torch.Tensor:
    """BERT in eval mode as Hugging Face's modeling_bert.py has it, mask and segments included: [N, tokens, 8]."""
    def linear(name, x):
        return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])

    def norm(name, x):
        return F.layer_norm(x, (8,), state[f"{name}.weight"], state[f"{name}.bias"], 1e-12)

    kinds = torch.zeros_like(ids)
    for text, end in enumerate((ids == SEPARATOR).long().argmax(1)):
        kinds[text, end + 1 :] = 1
    tokens = torch.arange(ids.shape[1])
    table = {part: state[f"embeddings.{part}_embeddings.weight"] for part in ("word", "position", "token_type")}
    x = norm("embeddings.LayerNorm", table["word"][ids] + table["position"][tokens] + table["token_type"][kinds])
    is_out = (ids == 0)[:, None, None, :]
    for layer in range(2):
        at = f"encoder.layer.{layer}"
        q, k, v = (linear(f"{at}.attention.self.{part}", x).unflatten(-1, (heads, -1)).transpose(1, 2)
                   for part in ("query", "key", "value"))
        scores = (q @ k.mT / math.sqrt(q.shape[-1])).masked_fill(is_out, float("-inf"))
        mixed = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
        x = norm(f"{at}.attention.output.LayerNorm", linear(f"{at}.attention.output.dense", mixed) + x)
        hidden = F.gelu(linear(f"{at}.intermediate.dense", x))
        x = norm(f"{at}.output.LayerNorm", linear(f"{at}.output.dense", hidden) + x)
    return x


def write_safetensors(path, state):
    header, data = {"__metadata__": {"format": "pt"}}, b""
    kinds = {torch.float32: "F32", torch.int64: "I64", torch.bfloat16: "BF16"}
    for name, tensor in state.items():
        part = tensor.contiguous().view(torch.uint8).numpy().tobytes()
        place = [len(data), len(data) + len(part)]
        header[name] = {"dtype": kinds[tensor.dtype], "shape": list(tensor.shape), "data_offsets": place}
        data += part
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


@pytest.mark.parametrize("prefix", ["", "bert."])
def test_weights_of_others__make_the_network_that_they_were_trained_as(tmp_path, prefix):
    state = published(np.random.default_rng(3))
    named = {prefix + name: tensor for name, tensor in state.items()}
    read = read_state_dict(write_safetensors(tmp_path / "model.safetensors", named))
    assert all(torch.equal(read[name], tensor) for name, tensor in named.items())
    graph = bert(TokenInput("ids", 12, 40, SEPARATOR), 2, 8, layers=2, depth=4)
    model = QuantNetwork(graph, Precision.of(32)).eval()
    left = model.adapt_from(first_arrays(graph, read, "bert_tiny"))
    assert left == ["logits.bias", "logits.weight"]
    ids = torch.from_numpy(texts(np.random.default_rng(4), 5, 12, 40, 3))
    ids[:, 2] = SEPARATOR
    trace: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        model(ids, trace)
        expected = formula(state, ids.long(), 2)
    found = trace["layer1_norm2"][..., 0].transpose(1, 2)
    real = (ids != 0)
    torch.testing.assert_close(found[real], expected[real], rtol=1e-5, atol=1e-5)


def test_weights_of_others__with_a_head_stand_in_for_a_trained_network():
    state = published(np.random.default_rng(3), positions=12)
    graph = bert(TokenInput("ids", 12, 40, SEPARATOR), 2, 8, layers=2, depth=4)
    with pytest.raises(WeightsError, match=r"qa_outputs.weight is missing; qa_outputs.bias is missing; .*--init-from"):
        float_network(graph, state, "bert_tiny")
    state |= {"qa_outputs.weight": torch.ones(2, 8), "qa_outputs.bias": torch.zeros(2)}
    spec = float_network(graph, state, "bert_tiny")
    assert spec.arrays.keys() == QuantNetwork(graph, Precision.of(32)).spec().arrays.keys()
    with pytest.raises(WeightsError, match="no tensor of it fits bert_tiny"):
        first_arrays(graph, {"x": torch.ones(3)}, "bert_tiny")


def one_tensor(entry):
    shape, begin, end = entry
    return json.dumps({"a": {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}}).encode()


@pytest.mark.parametrize(("content", "message"), [
    (b"", "no header"), (struct.pack("<Q", 2**40) + b"{}", "no header"), (struct.pack("<Q", 2) + b"{]", "is no JSON"),
    (struct.pack("<Q", 2) + b"[]", "names no tensors"),
    (struct.pack("<Q", 9) + b'{"a": {}}', "no known type, shape and place"),
    *((struct.pack("<Q", len(text)) + text + bytes(8), "not that of its shape") for text in map(one_tensor, (
        ([3], 0, 8), ([-2], 0, 8), ([4], 0, 16), ([True], 0, 4), ([1], 4, 0), ([1], -4, 0))))])
def test_damaged_safetensors__are_refused_in_one_line(tmp_path, content, message):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(SafetensorsError, match=message) as caught:
        read_safetensors(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(WeightsError):
        read_state_dict(path)
