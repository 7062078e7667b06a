"""sim.diff and sim.trace: a planted bit is found and named, arrays of others are read, what cannot be is refused."""

import dataclasses
import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim import testing
from sim.accumulator import Accumulator
from sim.difference import DiffError, Simulated, Stored, Torch, compare
from sim.difference.axes import codes, fitted, orders
from sim.difference.named import settings
from sim.hardware import HardwareSpec
from sim.lowering import lower
from sim.machine import Machine
from sim.network import AvgPool, Conv, Graph, Input, NetworkSpec, Precision
from sim.ops.row import Activation
from sim.subject import Subject
from sim.traces import SUMS, Trace, TraceError, load_trace
from sim.tracing import machine_tensors, tensor_names
from tests.cli import assert_one_line, run
from tests.examples import examples
from tests.golden import vectors


def network():
    code = Activation()
    graph = Graph((Input("image", "", 6, 5, 2, (0.5,) * 2, (0.25,) * 2),
                   Conv("stem", "image", channels=4, kernel=3, padding=1, role="boundary", activation=code),
                   Conv("deep", "stem", channels=4, kernel=3, padding=1, activation=code),
                   Conv("side", "deep", channels=4, kernel=1, skip="stem", activation=Activation("skip")),
                   AvgPool("pool", "side", 5, 1),
                   Conv("classifier", "pool", channels=3, kernel=1, role="boundary", norm=False, bias=True)))
    return NetworkSpec(graph, testing.arrays_for(graph, np.random.default_rng(11), False, "interval"), Precision(4, 8),
                       "interval")


PIXELS = np.random.default_rng(12).integers(0, 256, (5, 6, 5, 2)).astype(np.uint8)


@pytest.fixture(scope="module")
def program():
    return lower(network(), HardwareSpec(requant="mul_add_shift"))


def changed(program, name, **fields):
    """The program with other constants in one operation."""
    return dataclasses.replace(program, ops=tuple(
        dataclasses.replace(op, **fields) if op.name == name else op for op in program.ops))


def op_of(program, name):
    return next(op for op in program.ops if op.name == name)


def side(program, text="x"):
    return Simulated(text, Subject(program))


def by_hand(a, b):
    """Of each layer of two traces the numbers that differ, the first index, and both numbers there."""
    found = {}
    for name, mine in a.items():
        theirs = b[name]
        places = [place for place in itertools.product(*map(range, mine.shape)) if mine[place] != theirs[place]]
        found[name] = (len(places), places[0] if places else None, mine[places[0]].item() if places else None,
                       theirs[places[0]].item() if places else None)
    return found


def assert_found(a, b, name, kind, *words):
    """Every count and the first index are those of two traces; the first layer is `name`, by this cause."""
    difference = compare(side(a), side(b), PIXELS)
    wanted = by_hand(*(machine_tensors(Machine(each), PIXELS, tensor_names(each)) for each in (a, b)))
    assert {layer.name: (layer.differing, layer.index, layer.a, layer.b) for layer in difference.layers} == {
        key: value for key, value in wanted.items() if not key.endswith(SUMS)}
    first = difference.first
    assert first is not None
    assert (first.name, first.cause.kind) == (name, kind), first.cause
    assert first.own == first.differing
    for word in words:
        assert word in first.cause.text
    later = [layer for layer in difference.layers[difference.layers.index(first) + 1 :] if layer.differing]
    assert all(layer.own == 0 and layer.cause.kind == "input" for layer in later)
    return difference


def test_equal_programs__differ_nowhere(program):
    found = compare(side(program), side(changed(program, "deep", accumulator=Accumulator(None, "saturate"))), PIXELS)
    assert (found.differing, found.first, found.silent) == (0, None, ())
    assert found.images == 5


def test_one_bit_of_one_weight__is_found_and_named(program):
    weights = op_of(program, "deep").weights.copy()
    weights[1, 2, 3, 0] ^= 2  # within 4 bits
    assert_found(program, changed(program, "deep", weights=weights), "deep", "weight", "row 1, column 2, input 3, channel 0",
                 f"is {weights[1, 2, 3, 0] ^ 2} in A, {weights[1, 2, 3, 0]} in B (1 of 144 differ)")


def test_one_bit_of_one_multiplier__is_found_and_named(program):
    requant = op_of(program, "deep").requant
    multiplier = requant.multiplier.copy()
    multiplier[2] ^= 1 << (int(multiplier[2]).bit_length() - 3)
    other = dataclasses.replace(requant, multiplier=multiplier)
    assert_found(program, changed(program, "deep", requant=other), "deep", "multiplier",
                 "mul_add_shift, multiplier at channel 2 is")


def test_one_bit_that_no_image_shows__is_told_though_nothing_differs(program):
    requant = op_of(program, "deep").requant
    multiplier = requant.multiplier.copy()
    multiplier[1] ^= 1
    other = changed(program, "deep", requant=dataclasses.replace(requant, multiplier=multiplier))
    found = compare(side(program), side(other), PIXELS[:1])
    assert found.differing == 0
    assert found.silent[0].startswith("deep: multiplier: mul_add_shift, multiplier at channel 1 is")


def test_another_rounding__is_found_and_named(program):
    requant = op_of(lower(network(), HardwareSpec(requant="mul_add_shift_floor")), "deep").requant
    assert_found(program, changed(program, "deep", requant=requant), "deep", "rounding",
                 "mul_add_shift in A, mul_add_shift_floor in B")


def test_a_narrower_register__is_found_and_named(program):
    narrow = op_of(program, "deep").safe_bits - 3
    assert_found(program, changed(program, "deep", accumulator=Accumulator(narrow, "saturate")), "deep", "overflow",
                 f"register: unlimited in A, {narrow}-bit register, saturate, each product in B")


def test_of_several_constants__the_decisive_one_is_the_cause(program):
    """A weight's bit and a register that no sum can leave: the weight alone makes one result the other."""
    op = op_of(program, "side")
    weights = op.weights.copy()
    weights[0, 0, 1, 2] ^= 2
    found = assert_found(program, changed(program, "side", weights=weights, accumulator=Accumulator(op.safe_bits + 2)),
                         "side", "weight")
    assert "(with" not in found.first.cause.text


def test_two_layers__each_has_its_own_cause(program):
    weights = op_of(program, "deep").weights.copy()
    weights[1, 2, 3, 0] ^= 2
    other = changed(changed(program, "deep", weights=weights), "classifier", accumulator=Accumulator(6, "wrap"))
    layers = {layer.name: layer for layer in compare(side(program), side(other), PIXELS).layers}
    assert (layers["deep"].cause.kind, layers["classifier"].cause.kind) == ("weight", "overflow")
    assert (layers["side"].own, layers["pool"].own) == (0, 0)
    assert layers["classifier"].own > 0


def test_the_torch_model__is_a_side(program):
    spec = network()
    model = Torch("fq", Subject(lower(spec), spec=spec))
    assert compare(model, side(lower(spec)), PIXELS).differing == 0
    found = compare(model, side(lower(spec, HardwareSpec(requant="mul_add_shift_floor"))), PIXELS)
    assert found.first.cause.kind == "rounding"
    assert "classifier: real numbers on one side" in found.notes[-1]


def trace_of(program, pixels=PIXELS, names=None):
    return Trace(machine_tensors(Machine(program), pixels, names or tensor_names(program)), pixels, {"of": "a test"})


@pytest.mark.parametrize("name", ["t.npz", "folder"])
def test_trace__comes_back_as_it_was(program, tmp_path, name):
    trace = trace_of(program)
    trace.save(tmp_path / name)
    again = load_trace(tmp_path / name)
    assert list(again.tensors) == tensor_names(program)
    assert again.digest == trace.digest
    assert (again.about["of"], again.is_ours) == ("a test", True)
    assert all(again.tensors[key].dtype == array.dtype for key, array in trace.tensors.items())
    np.testing.assert_array_equal(again.pixels, PIXELS)
    np.testing.assert_array_equal(np.load(tmp_path / "t.npz")["deep"] if name == "t.npz" else
                                  np.load(tmp_path / "folder" / "deep.npy"), trace.tensors["deep"])
    assert not list(tmp_path.glob(".bittrue*"))
    assert compare(Stored("t", again), side(program), None if again.pixels is None else again.pixels).differing == 0


def test_trace__sums_are_products_in_plain_integers(program):
    tensors, op = trace_of(program).tensors, op_of(program, "deep")
    codes_before = np.pad(tensors["stem"].astype(np.int64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    for n, y, x, c in ((0, 0, 0, 0), (4, 5, 4, 3), (2, 3, 1, 2)):
        total = sum(int(codes_before[n, y + i, x + j, k]) * int(op.weights[i, j, k, c])
                    for i in range(3) for j in range(3) for k in range(4))
        assert tensors["deep" + SUMS][n, y, x, c] == total
    assert tensors["deep" + SUMS].dtype == np.int32


@examples(10)
@given(st.data())
def test_trace__a_changed_byte_is_refused_or_changes_nothing(program, tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("damaged")
    trace = Trace({"a/b": np.arange(6, dtype=np.int8).reshape(1, 1, 2, 3), "c": np.ones((1, 1, 1, 2), np.int32)})
    trace.save(folder / "t.npz")
    content = bytearray((folder / "t.npz").read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    (folder / "t.npz").write_bytes(content)
    try:
        assert load_trace(folder / "t.npz").digest == trace.digest
    except TraceError as error:
        assert "\n" not in str(error)


def test_trace__an_array_that_says_more_than_it_has_takes_no_memory(tmp_path):
    header = b"{'descr': '<i8', 'fortran_order': False, 'shape': (1000000000000,), }"
    header += b" " * (117 - len(header)) + b"\n"
    (tmp_path / "x.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(TraceError, match=r"x\.npy: an array with more or fewer numbers than it says"):
        load_trace(tmp_path / "x.npy")
    np.save(tmp_path / "o.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(TraceError, match="whole or real numbers"):
        load_trace(tmp_path / "o.npy")


@examples(40)
@given(st.permutations(range(4)), st.tuples(*[st.integers(1, 4)] * 4), st.integers(0, 2**32 - 1), st.booleans())
def test_axes__in_any_order_are_recognized(axes, sides, seed, drops):
    """Of numbers that are all different there is one order in which none differs."""
    array = np.random.default_rng(seed).permutation(int(np.prod(sides))).reshape(sides)
    given_array = array.transpose(axes)
    if drops:
        given_array = given_array.reshape([side for side in given_array.shape if side != 1] or [1])
    order, found = fitted("x", given_array, sides[1:], array)
    np.testing.assert_array_equal(found, array)
    letters = "".join("NHWC"[axis] for axis in axes)
    if not drops and len(set(sides)) == 4:
        assert order.told == ("" if letters == "NHWC" else letters)


def test_axes__flat_arrays_and_what_fits_nowhere():
    array = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    order, found = fitted("x", array.transpose(0, 3, 1, 2).reshape(2, 60), (3, 4, 5), array)
    assert order.told == "flat, NCHW"
    np.testing.assert_array_equal(found, array)
    assert orders((7, 3), (3, 4, 5)) == []
    with pytest.raises(DiffError, match=r"x: the array is \[7, 3\], no \[N, 3, 4, 5\] in any order of axes"):
        fitted("x", np.zeros((7, 3)), (3, 4, 5), array)


def test_numbers__real_ones_are_codes_times_a_scale_or_refused():
    assert codes("x", np.array([1.0, -2.0], np.float32), None, 0)[0].tolist() == [1, -2]
    found, told = codes("x", np.array([0.25, -0.5], np.float32), 0.25, -3)
    assert (found.tolist(), told) == ([-2, -5], "real numbers, 0.25 for a code")
    with pytest.raises(DiffError, match="x: its numbers are no whole ones: write codes"):
        codes("x", np.array([0.3]), None, 0)


def test_dump__in_another_order_of_axes_is_compared_and_said(program):
    deep = trace_of(program, names=["deep"]).tensors["deep"].astype(np.float32)
    wrong = deep.copy()
    wrong[3, 2, 1, 0] += 1
    dump = Stored("deep.npy", Trace({"deep": wrong.transpose(0, 3, 1, 2)}, is_ours=False))
    found = compare(side(program), dump, PIXELS)
    assert found.notes == ("deep: its axes are NCHW",)
    assert [(layer.name, layer.differing, layer.index) for layer in found.layers] == [("deep", 1, (3, 2, 1, 0))]
    assert found.first.b == found.first.a + 1


def test_stored_sums__tell_the_requantizer_from_the_products(program):
    tensors = dict(trace_of(program).tensors)
    tensors["deep"] = tensors["deep"].copy()
    tensors["deep"][0, 0, 0, 0] ^= 1
    found = compare(Stored("t", Trace(tensors, PIXELS)), side(program), PIXELS)
    assert (found.first.name, found.first.cause.kind, found.first.own) == ("deep", "requantizer", 1)
    tensors["deep" + SUMS] = tensors["deep" + SUMS] + 1
    found = compare(side(program), Stored("t", Trace(tensors, PIXELS)), PIXELS)
    assert found.first.name == "deep" + SUMS
    assert {layer.name: layer.cause.kind for layer in found.layers if layer.cause} == {"deep": "sums"}


def test_sides__that_share_nothing_are_refused(program):
    with pytest.raises(DiffError, match=r"A and B have no tensor of the same name: A has image, .*; B has other"):
        compare(side(program), Stored("t", Trace({"other": np.zeros((1, 1, 1, 1), np.int8)})), PIXELS)


@pytest.mark.parametrize(("text", "words"), [
    ("litert", "no file, none of the profiles"), ("acumulator=3", "'acumulator=3' is no setting, there are bits,"),
    ("tile=", "is no setting")])
def test_settings__that_there_are_not_are_refused(text, words):
    with pytest.raises(DiffError, match=r"^B: ") as error:
        settings("B", text)
    assert words in str(error.value)


@pytest.fixture
def files(program, tmp_path):
    """a.npz, and b.npz with another bit in a weight; a data set."""
    weights = op_of(program, "deep").weights.copy()
    weights[1, 2, 3, 0] ^= 2
    program.save(tmp_path / "a.npz")
    changed(program, "deep", weights=weights).save(tmp_path / "b.npz")
    np.savez(tmp_path / "data.npz", x_train=PIXELS, y_train=np.arange(5) % 3, x_test=PIXELS, y_test=np.arange(5) % 3)
    return tmp_path


def test_commands__find_a_planted_bit(files):
    a, b, trace, record = files / "a.npz", files / "b.npz", files / "t.npz", files / "d.json"
    done = run("sim.diff", a, b, "--json", record)
    assert done.returncode == 1, done.stderr
    assert "first difference: deep, image " in done.stdout
    assert "cause: weight: at row 1, column 2, input 3, channel 0 is" in done.stdout
    assert "made images" in done.stdout
    assert max(map(len, done.stdout.splitlines())) < 130
    found = json.loads(record.read_text())
    assert (found["kind"], found["first"]) == ("difference", "deep")
    done = run("sim.trace", "--model", a, "--out", trace, "--dataset", "npz", "--data", files / "data.npz", "--limit", 4)
    assert (done.returncode, done.stderr) == (0, "")
    assert "deep.sums" in done.stdout
    done = run("sim.diff", trace, a)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "equal: 0 of" in done.stdout
    assert f"4 images: the images in {trace}" in done.stdout
    np.save(files / "dump.npy", load_trace(trace).tensors["deep"].transpose(0, 3, 1, 2))
    done = run("sim.diff", trace, files / "dump.npy", "--layer", "deep")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "deep: its axes are NCHW" in done.stdout
    assert "codes differ" not in run("sim.diff", trace, b).stderr


def test_commands__refuse_in_one_line(files):
    a = files / "a.npz"
    assert_one_line(run("sim.diff", a, "litert_ruy"), "B: there is no file litert_ruy", "--model", status=2)
    assert_one_line(run("sim.diff", a, files / "data.npz"), "B: ", "a data set, which holds no tensors", status=2)
    np.save(files / "dump.npy", np.zeros((5, 4, 6, 5), np.int8))
    assert_one_line(run("sim.diff", a, files / "dump.npy", "--layer", "deep"), "does not hold the images", status=2)
    assert_one_line(run("sim.diff", a, a, "--json", a), "json: ", "destroy", status=2)
    options = ("--model", a, "--data", files / "data.npz", "--out")
    assert_one_line(run("sim.trace", *options, files), "is there already", status=2)
    options += (files / "t.npz",)
    assert_one_line(run("sim.trace", *options, "--layer", "depp"), "layer: depp is none of the tensors image, ", status=2)
    assert_one_line(run("sim.trace", *options, "--torch"), "torch: only a checkpoint has a torch model", status=2)
    assert not (files / "t.npz").exists()


def test_two_resolvers_of_litert__first_differ_where_their_rounding_does():
    pytest.importorskip("tflite", reason="the package tflite is not installed (extra `import`)")
    model = vectors("tflite/mlperf_resnet8_int8.tflite")
    done = run("sim.diff", "litert_reference", "litert_xnnpack", "--model", model, "--limit", 4)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "cause: rounding: double in A, xnnpack in B" in done.stdout
