"""Deeploy's and DORY's files: golden tensors of theirs, and small networks against plain Python integers."""

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from sim.accumulator import Accumulator
from sim.formats import IntFormat
from sim.importers import READERS, ImporterError, load_model
from sim.importers.deeploy import read_graph as read_deeploy
from sim.importers.deeploy.graph import imported
from sim.importers.dialect import dialect
from sim.importers.dory import read_graph as read_dory
from sim.machine import Machine
from sim.profiles import profile
from sim.program import Program, ProgramError
from sim.recognize import ONNX
from tests import integer_onnx
from tests.examples import examples
from tests.golden import arrays, vectors
from tests.pulp_networks import NEMO_STEPS, S8, STEPS, U8, Net, deeploys, draw_samples, nemos, transformers, whole

onnx = pytest.importorskip("onnx", reason="Deeploy's and DORY's files need the package onnx")

DEEPLOY, DORY = profile("deeploy_pulp"), profile("dory_nemo")


def folders(family: str) -> list[str]:
    """Folders with a model, by their paths below the family's; one that skips where there are no data."""
    try:
        root = vectors(family)
    except pytest.skip.Exception:
        return ["nothing"]
    return sorted({str(path.parent.relative_to(root)) for path in root.rglob("*.onnx")}) or ["nothing"]


def trace_of(graph, given):
    """Every tensor of the file that the program has, as the file has it, and the machine that ran it."""
    machine, trace = Machine(graph.program), {}
    machine.results(graph.given(given), trace)
    return graph.tensors(trace), machine


# --- golden data of others

def matched(stored: dict[str, np.ndarray], found: dict[str, np.ndarray]) -> dict[str, int]:
    """Tensors stored without names of the file: codes that differ from the nearest of the size; none is taken twice."""
    flat = {name: value.ravel() for name, value in found.items()}
    ways = {key: [name for name, value in flat.items() if value.size == array.size and (value == array.ravel()).all()]
            for key, array in stored.items()}
    taken: dict[str, str] = {}

    def place(key, seen):
        """Kuhn's algorithm: who has what this one wants looks for another."""
        for name in ways[key]:
            if name not in seen:
                seen.add(name)
                if name not in taken or place(taken[name], seen):
                    taken[name] = key
                    return True
        return False

    return {key: 0 if place(key, set()) else min(
        (int((value != array.ravel()).sum()) or array.size for value in flat.values() if value.size == array.size),
        default=array.size) for key, array in stored.items()}


@pytest.mark.parametrize("fuse", [
    pytest.param(True, id="fused"), pytest.param(False, id="sums", marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize("folder", folders("deeploy"))
def test_deeploys_golden_tensors(folder, fuse):
    root = vectors(f"deeploy/{folder}")
    given, outputs = arrays(root / "inputs.npz"), arrays(root / "outputs.npz")
    graph = read_deeploy(root / "network.onnx", DEEPLOY, fuse=fuse)
    names = [value.name for value in onnx.load(root / "network.onnx").graph.input]
    tensors, machine = trace_of(graph, dict(zip(names, given.values(), strict=False)))
    wrong = {name: int((tensors[name].reshape(array.shape) != array).sum())
             for name, array in zip(graph.outputs, outputs.values(), strict=True)}
    stored = dict(outputs)
    if not fuse and (root / "activations.npz").exists():
        inside = arrays(root / "activations.npz")
        wrong |= matched(inside, tensors)
        stored |= inside
    overflows = sum(int(counts.sum()) for counts in machine.overflows.values())
    print(f"deeploy {folder}: {len(wrong)} tensors, {sum(a.size for a in stored.values())} codes, "
          f"{sum(wrong.values())} differ; {overflows} overflows of 32 bits")
    assert set(wrong.values()) == {0}, {name: count for name, count in wrong.items() if count}
    assert overflows == 0


def numbers(path: Path) -> np.ndarray:
    """A text of DORY's: a line of words, then numbers with commas."""
    text = path.read_text().replace("\\", "").split("\n", 1)[1]
    return np.array([int(float(word)) for word in re.split(r"[,\s]+", text) if word], np.int64)


@pytest.mark.exhaustive
@pytest.mark.parametrize("fuse", [True, False], ids=["fused", "sums"])
@pytest.mark.parametrize("folder", folders("dory"))
def test_dorys_golden_layers(folder, fuse):
    root = vectors(f"dory/{folder}")
    graph = read_dory(next(root.glob("*.onnx")), DORY, fuse=fuse)
    (name,) = graph.inputs
    view = graph.views[name]
    sides = view.shape[1:]
    x = np.moveaxis(numbers(root / "input.txt").reshape(*sides[1:], sides[0]), -1, 0)[None]
    tensors, machine = trace_of(graph, {name: x})
    flat = {}
    for key, value in tensors.items():  # text files are HWC, those of dscnn_test CHW
        flat[key] = np.moveaxis(value[0], 0, -1).ravel() if value.ndim > 2 else value[0].ravel()
        flat[f"{key} channels first"] = value[0].ravel()
    layers = sorted(root.glob("out_layer*.txt"), key=lambda path: int(re.findall(r"\d+", path.stem)[0]))
    stored = {path.stem: numbers(path) for path in layers}
    wrong = matched(stored, flat)
    overflows = sum(int(counts.sum()) for counts in machine.overflows.values())
    print(f"dory {folder}: {len(wrong)} layers, {sum(a.size for a in stored.values())} codes, {sum(wrong.values())} differ; "
          f"{overflows} overflows of 32 bits")
    assert set(wrong.values()) == {0}, {key: count for key, count in wrong.items() if count}
    assert overflows == 0


@pytest.mark.parametrize("family", ["deeploy", "dory", "onnx", "qonnx"])
def test_a_dialect_is_told_from_operators(family):
    root = vectors(family)
    found = {str(path): dialect(onnx.load(path)) for path in root.rglob("*.onnx")}
    assert set(found.values()) == {family}, found
    assert {reader.dialect for reader in READERS if reader.kind is ONNX} == {"deeploy", "dory", "onnx", "qonnx"}


@pytest.mark.parametrize(("name", "own"), [("deeploy/KeywordSpotting/network.onnx", "deeploy_pulp"),
                                           ("dory/TCN_T/TCN.onnx", "dory_nemo")])
def test_load_model_takes_the_dialects_own_profile(name, own):
    imported = load_model(vectors(name))
    assert imported.profile.name == own
    assert set(imported.tensors.values()) <= {op.name for op in imported.program.ops}
    assert {op.accumulator for op in imported.program.accumulating} == {Accumulator(32, "wrap")}


def test_a_narrow_register_changes_codes_and_is_counted():
    root = vectors("deeploy/KeywordSpotting")
    (x,) = arrays(root / "inputs.npz").values()
    first = []
    for rules in (DEEPLOY, DEEPLOY.with_(accumulator=Accumulator(14, "wrap"))):
        graph = read_deeploy(root / "network.onnx", rules)
        tensors, machine = trace_of(graph, {graph.inputs[0]: x})
        first.append((tensors["input.1"], int(machine.overflows["input.1"].sum())))
    (wide, none), (narrow, some) = first
    assert none == 0 < some <= wide.size
    assert 0 < int((wide != narrow).sum()) <= some


# --- small networks of our own

@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("pulp") / "model.onnx"


def check_equal(draw, networks, read, rules, place):
    """Fused or not, every tensor of every sample."""
    model, output, form = draw(networks)
    shape = [side.dim_value for side in model.graph.input[0].type.tensor_type.shape.dim]
    samples = draw_samples(draw, shape, form)
    place.write_bytes(model.SerializeToString())
    expected = [integer_onnx.run(model, {"x": sample[None]}) for sample in samples]
    for fuse in (True, False):
        graph = read(place, rules, inputs={"x": form}, fuse=fuse)
        tensors, machine = trace_of(graph, {"x": samples})
        assert output in tensors
        for name, found in tensors.items():
            wanted = np.stack([each[name].array()[0] for each in expected])
            np.testing.assert_array_equal(found, wanted, err_msg=f"{name}, {fuse=}")
        assert not any(counts.any() for counts in machine.overflows.values())


SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.__name__)
@examples(40, suppress_health_check=SLOW)
@given(data=st.data())
def test_small_networks_of_requantshift__equal_plain_integers(place, step, data):
    check_equal(data.draw, deeploys(step), read_deeploy, DEEPLOY, place)


@examples(60, suppress_health_check=SLOW)
@given(data=st.data())
def test_small_transformers__equal_plain_integers(place, data):
    check_equal(data.draw, transformers(), read_deeploy, DEEPLOY, place)


@pytest.mark.parametrize("step", NEMO_STEPS, ids=lambda step: step.__name__)
@examples(40, suppress_health_check=SLOW)
@given(data=st.data())
def test_small_networks_of_nemos__equal_plain_integers(place, step, data):
    check_equal(data.draw, nemos(step), read_dory, DORY, place)


# --- what is refused

def refused(net, output, place, read=read_deeploy, rules=DEEPLOY, inputs=None):
    place.write_bytes(net.model(output).SerializeToString())
    with pytest.raises((ImporterError, ProgramError)) as caught:
        read(place, rules, inputs=inputs or {})
    text = str(caught.value)
    assert "\n" not in text
    assert str(place) in text
    return text


def test_what_is_refused_is_named(place):
    net = Net((1, 2, 4, 4))
    assert "Tanh n0: is none of Deeploy's operators" in refused(net, net.add("Tanh", "x"), place)
    net = Net((1, 2, 4, 4))
    weights = net.constant(np.full((2, 2, 1, 1), 0.5))
    assert "c0 holds numbers that are not whole" in refused(net, net.add("Conv", "x", weights), place)
    net = Net((1, 2, 4, 4))
    weights = net.constant(np.ones((2, 2, 1, 1)))
    assert "auto_pad" in refused(net, net.add("Conv", "x", weights, auto_pad="SAME_UPPER"), place)
    net = Net((1, 2, 4, 4))
    weights = net.constant(np.ones((2, 2, 2, 2)))
    assert "dilations [1, 2]" in refused(net, net.add("Conv", "x", weights, dilations=[1, 2]), place)
    net = Net((1, 2))
    one = net.constant([1.0])
    div = net.add("RequantShift", "x", one, one, div=whole(3), n_levels=whole(256), signed=whole(1))
    assert "divides by 3, half up takes powers of 2" in refused(net, div, place)
    net = Net((3, 2, 4, 4))
    assert "batch of 3" in refused(net, net.add("Conv", "x", net.constant(np.ones((2, 2, 1, 1)))), place)
    net = Net((1, 2))
    half = net.add("Div", "x", net.constant(2.0))
    assert "a quotient that nothing rounds" in refused(net, net.add("Flatten", half), place, read_dory, DORY)
    net = Net((1, 2))
    middle = net.add("Sigmoid", "x")
    assert "behind the last sums alone" in refused(net, net.add("Add", middle, middle), place, read_dory, DORY)


def test_another_runtimes_requantizer_is_refused(place):
    net = Net((1, 2))
    one = net.constant([1.0])
    output = net.add("RequantShift", "x", one, one, div=whole(4), n_levels=whole(256), signed=whole(1))
    text = refused(net, output, place, rules=profile("litert_xnnpack"))
    assert "mul_add_shift" in text


@pytest.mark.parametrize(("multiplier", "noted"), [(2**31 // (4 * 255 * 9) - 1, False), (2**31 // (4 * 255 * 9) + 1, True)])
def test_a_note_tells_where_deeploys_own_code_could_wrap(place, multiplier, noted):
    net = Net((1, 1, 2, 2))
    sums = net.add("Conv", "x", net.constant(np.full((1, 1, 2, 2), 9)), shape=(1, 1, 1, 1))
    output = net.add("RequantShift", sums, net.constant([float(multiplier)]), net.constant([0.0]), div=whole(1),
                     n_levels=whole(256), signed=whole(1))
    place.write_bytes(net.model(output).SerializeToString())
    graph = read_deeploy(place, DEEPLOY, inputs={"x": U8})
    assert any("C code has 32" in note for note in graph.notes) == noted


def test_a_mean_without_a_factor_is_rounded_down(place):
    net = Net((1, 1, 2, 2))
    mean = net.add("AveragePool", "x", shape=(1, 1, 1, 1), kernel_shape=[2, 2])
    output = net.add("Flatten", mean, shape=(1, 1))
    place.write_bytes(net.model(output).SerializeToString())
    graph = read_dory(place, DORY)
    tensors, _ = trace_of(graph, {"x": np.array([1, 2, 2, 2], np.uint8).reshape(1, 1, 2, 2)})
    assert tensors[output].ravel().tolist() == [1]
    assert any("rounded down" in note for note in graph.notes)


@pytest.mark.parametrize(("factor", "addend", "numbers"), [
    (0, 0, (1, 1, 1)),  # 0 alone: by 1
    (1, 0, (1, 1, 1)),  # 0 .. 3: by 1 .. 4
    (1, -3, (1, 1, 5)),  # -3 .. 0: by 2 .. 5
    (-1, -1, (7, -2, 0)),  # -4 .. -1: by 8 .. 2, eta below 0
    (0, 0, (3, 2, -1)),  # 0 alone: by -1
    (1, 1, (9, 1, -9)),  # 1 .. 4: by -8 .. -5
    (1, 1, (5, -1, 0)),  # 1 .. 4: by -1 .. -4
    (2, -3, (4, 3, 0)),  # -3, -1, 1, 3: of both signs
    (0, 300, (1, 1, 1)),  # 300 alone: quotients below all dividends
], ids=str)
@pytest.mark.parametrize("least", [0, 1, -2])
def test_integer_div__bounds_go_by_the_sign_of_the_denominator(place, factor, addend, numbers, least):
    """Of least .. least + 3 by a tensor of factor * (0 .. 3) + addend, each by each, in plain integers: none is clipped,
    and what follows is told bounds that hold all."""
    net = Net((1, 2))
    above, below = (net.add("Gather", "x", net.constant([index], np.int64), shape=(1, 1), axis=1) for index in (0, 1))
    above = net.add("Add", above, net.constant([least]))
    below = net.add("Add", net.add("Mul", below, net.constant([factor])), net.constant([addend]))
    output = net.add("IntegerDiv", above, below, **dict(zip(("Delta", "eta", "eps"), numbers, strict=True)))
    model = net.model(output)
    place.write_bytes(model.SerializeToString())
    samples = np.array(list(itertools.product(range(4), repeat=2)))
    graph = read_deeploy(place, DEEPLOY, inputs={"x": IntFormat(2, signed=False)})
    tensors, _ = trace_of(graph, {"x": samples})
    wanted = np.array([integer_onnx.run(model, {"x": sample[None]})[output].values for sample in samples])
    np.testing.assert_array_equal(tensors[output], wanted)
    low, high = graph.views[output].bounds
    assert low <= wanted.min() <= wanted.max() <= high


def test_integer_div__one_by_nothing_and_epsilon_is_one(place):
    net = Net((1, 1))
    output = net.add("IntegerDiv", "x", net.constant([[0]]), Delta=1, eta=1, eps=1)
    place.write_bytes(net.model(output).SerializeToString())
    graph = read_deeploy(place, DEEPLOY, inputs={"x": IntFormat(1, signed=False)})
    tensors, _ = trace_of(graph, {"x": np.array([[0], [1]])})
    assert tensors[output].tolist() == [[0], [1]]


def test_a_cache_without_tokens_is_nothing_to_hand_over(place):
    """Deeploy's decoders begin with an empty cache, which a Concat reads."""
    info = onnx.helper.make_tensor_value_info
    node = onnx.helper.make_node
    nodes = [node("Concat", ["cache", "x"], ["all"], axis=-2), node("Add", ["all", "all"], ["y"])]
    tokens = {"x": 1, "cache": 0, "y": 1}
    x, cache, y = (info(name, onnx.TensorProto.FLOAT, (1, 2, count, 3)) for name, count in tokens.items())
    place.write_bytes(onnx.helper.make_model(onnx.helper.make_graph(nodes, "net", [cache, x], [y])).SerializeToString())
    graph = read_deeploy(place, DEEPLOY)
    assert graph.inputs == ("x",)
    tensors, _ = trace_of(graph, {"x": np.arange(6).reshape(1, 2, 1, 3)})
    assert tensors["y"].ravel().tolist() == [0, 2, 4, 6, 8, 10]


@pytest.mark.parametrize(("form", "told"), [(U8, "p stands for p"), (S8, "smallest code"),
                                            (IntFormat(9, signed=True), "p stands for p")])
def test_pixels_are_codes(place, form, told):
    net = Net((1, 1, 2, 2))
    output = net.add("MaxPool", "x", shape=(1, 1, 1, 1), kernel_shape=[2, 2])
    place.write_bytes(net.model(output).SerializeToString())
    assert told in imported(read_deeploy(place, DEEPLOY, inputs={"x": form}), DEEPLOY).pixels.told


def test_an_imported_program_is_saved_and_loaded(place, tmp_path):
    net = Net((1, 2, 3, 3))
    sums = net.add("Conv", "x", net.constant(np.arange(8).reshape(4, 2, 1, 1)), shape=(1, 4, 3, 3))
    output = net.add("RequantShift", sums, net.constant([[[3.0]]]), net.constant([[[1.0]]]), div=whole(4),
                     n_levels=whole(100), signed=whole(1))
    place.write_bytes(net.model(output).SerializeToString())
    program = read_deeploy(place, DEEPLOY).program
    program.save(tmp_path / "program.npz")
    assert Program.load(tmp_path / "program.npz") == program
    assert program.ops[-1].limits == (-50, 49)


def test_damaged_files_are_told_in_one_line(place):
    """Bytes changed, cut off and doubled at even distances: a program, or one line."""
    net = Net((1, 2, 4, 4))
    sums = net.add("Conv", "x", net.constant(np.ones((2, 2, 2, 2))), shape=(1, 2, 3, 3))
    output = net.add("RequantShift", sums, net.constant([1.0]), net.constant([1.0]), div=whole(4), n_levels=whole(256),
                     signed=whole(1))
    good = net.model(output).SerializeToString()
    for at, change in itertools.product(range(0, len(good), 7), (lambda b: b ^ 0xFF, lambda b: (b + 1) % 256, None)):
        damaged = bytearray(good)
        if change is None:
            damaged = damaged[:at]
        else:
            damaged[at] = change(damaged[at])
        place.write_bytes(damaged)
        for read, rules in ((read_deeploy, DEEPLOY), (read_dory, DORY)):
            try:
                read(place, rules)
            except (ImporterError, ProgramError) as error:
                assert "\n" not in str(error)
