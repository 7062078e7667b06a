"""Models of others in sim.eval: what a pixel stands for, the hardware that is named, registers, what is refused."""

import json

import numpy as np
import pytest

import sim
from sim.accumulator import Accumulator
from sim.arithmetic import Arithmetic
from sim.formats import IntFormat
from sim.importers import ImporterError, load_model
from sim.importers.pixels import asked_for, image_program, inferred
from sim.importers.subject import foreign_program
from sim.machine import Machine
from sim.ops.conv import ConvOp
from sim.outputs import EvalError
from sim.profiles import profile
from sim.reference import run as run_reference
from tests.cli import assert_one_line, run
from tests.golden import vectors
from tests.tflite_models import Node, Value, model

pytest.importorskip("tflite", reason="the package tflite is not installed (extra `import`)")

S8 = IntFormat(8, signed=True)


def small(scale=1.0, zero=-128, shape=(1, 8, 8, 3), channels_first=False):
    """Pixels through one convolution, whose sums over the image are the answer."""
    rng = np.random.default_rng(5)
    height, width, channels = shape[1:]
    tensors = [Value(shape, "int8", scale, zero), Value((4, height, width, channels), "int8", np.full(4, 0.01), 0,
                                                     rng.integers(-127, 128, (4, height, width, channels))),
               Value((4,), "int32", 0.01 * scale, 0, rng.integers(-500, 500, 4)), Value((1, 1, 1, 4), "int8", 40 * scale, 5)]
    fields = {"Padding": 1, "StrideH": 1, "StrideW": 1}
    return model(tensors, [Node("CONV_2D", [0, 1, 2], [3], "Conv2DOptions", fields, 5)], [0], [3])


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "small.tflite"
    file.write_bytes(small())
    return file


def images(count=40, shape=(8, 8, 3)):
    rng = np.random.default_rng(6)
    return rng.integers(0, 256, (count, *shape)).astype(np.uint8), rng.integers(0, 4, count)


@pytest.mark.parametrize(("scale", "zero", "wanted"), [
    (1.0, -128, np.arange(-128, 128)), (1 / 255, -128, np.arange(-128, 128)), (1 / 256, -128, None),
    (1 / 127.5, -1, np.arange(-128, 128)), (np.float32(0.007843138), -1, np.arange(-128, 128)), (1 / 128, 0, None)])
def test_the_scale_tells_what_a_pixel_stands_for(scale, zero, wanted):
    table = inferred(float(scale)).table(S8, float(scale), zero, 2)
    assert table.shape == (2, 256)
    assert (np.diff(table) >= 0).all()
    if wanted is not None:
        assert (table == wanted).all()
    else:
        assert (table[:, 0], table[:, 255]) == (pytest.approx([-128] * 2), pytest.approx([127] * 2))


def test_a_pixel_can_be_told():
    assert (asked_for("codes").table(S8, 0.3, 7, 1) == np.arange(-128, 128)).all()
    table = asked_for("0.5,0.25/0.5,0.125").table(S8, 1 / 64, 3, 2)
    exact = [int(np.floor((p / 255 - 0.5) / 0.5 * 64 + 0.5 + 2**-11)) + 3 for p in range(256)]
    assert table[0].tolist() == [max(-128, min(127, code)) for code in exact]
    assert table[1, 64] == 3 + round((64 / 255 - 0.25) / 0.125 * 64)
    for wrong in ("half", "1/0", "1,2/1,2,3", "nan/1", "1"):
        with pytest.raises(ImporterError, match=r"pixels-as: .* is not allowed, choose raw, unit, symmetric, codes, or M"):
            asked_for(wrong)


def test_a_model_with_channels_first_gets_images_with_channels_last(tmp_path):
    file = tmp_path / "first.tflite"
    order = Value((4,), "int32", data=[0, 2, 3, 1])
    tensors = [Value((1, 3, 6, 8), "int8", 1.0, -128), order, Value((1, 6, 8, 3), "int8", 1.0, -128)]
    file.write_bytes(model(tensors, [Node("TRANSPOSE", [0, 1], [2], "TransposeOptions")], [0], [2]))
    program, _ = image_program(load_model(file).program, None)
    pixels, _ = images(3, (6, 8, 3))
    assert (Machine(program).run(pixels) == pixels.astype(np.int64) - 128).all()


def test_the_default_hardware_is_named(path):
    program, foreign, notes = foreign_program(path, Arithmetic())
    assert foreign.profile.name == "litert_xnnpack"
    assert notes == ("hardware litert_xnnpack, the default of this kind of model: choose with --hardware",
                     "a pixel p stands for p")
    assert program.accumulating[0].accumulator == Accumulator(32, "wrap")


def test_single_options_override_the_profile(path):
    program, _, _ = foreign_program(path, Arithmetic(hardware="litert_ruy", boundary_accumulator=14, overflow="saturate"))
    (op,) = (op for op in program.ops if isinstance(op, ConvOp))
    assert (op.requant.name, op.accumulator) == ("ruy", Accumulator(14, "saturate"))
    assert op.start.any()  # the bias is in a register that may overflow from the start, as the profile has it


@pytest.mark.parametrize("name", ["tflite_micro_cmsis_nn", "litert_reference", "litert_ruy", "litert_xnnpack"])
@pytest.mark.parametrize(("bits", "overflow"), [
    (15, "wrap"), (15, "saturate"), pytest.param(20, "wrap", marks=pytest.mark.exhaustive),
    pytest.param(12, "saturate", marks=pytest.mark.exhaustive)])
def test_narrow_registers_are_those_of_the_plain_integer_reference(path, name, bits, overflow):
    program = load_model(path, profile(name).with_(Accumulator(bits, overflow))).program
    codes = np.random.default_rng(1).integers(-128, 128, (3, 8, 8, 3)).astype(np.int8)
    found = Machine(program).run(codes)
    for one, codes_of_one in zip(found, codes, strict=True):
        wanted, _ = run_reference(program, codes_of_one.tolist())
        assert one.reshape(-1).tolist() == np.array(wanted[program.ops[-1].name]).reshape(-1).tolist()


def test_eval_gives_accuracy_layers_and_overflows(path):
    pixels, labels = images()
    result = sim.evaluate(path, pixels, labels, hardware="tflite_micro_cmsis_nn", boundary_accumulator=12,
                          overflow="saturate")
    assert result.layers.loc[0, "accumulator_bits"] == 12
    assert result.overflowed
    wide = sim.evaluate(path, pixels, labels, hardware="tflite_micro_cmsis_nn")
    assert wide.overflowed == 0
    assert wide.to_json()["profile"]["name"] == "tflite_micro_cmsis_nn"
    assert wide.to_json()["pixels"] == "a pixel p stands for p"
    codes = (pixels.astype(np.int64) - 128).astype(np.int8)
    assert (wide.logits == Machine(load_model(path, profile("tflite_micro_cmsis_nn")).program).run(codes)).all()


def test_the_command_names_hardware_and_pixels_and_saves_a_program(path, tmp_path):
    pixels, labels = images()
    data = tmp_path / "data.npz"
    np.savez(data, x_train=pixels, y_train=labels, x_test=pixels, y_test=labels)
    saved, record = tmp_path / "program.npz", tmp_path / "record.json"
    done = run("sim.eval", "--model", path, "--dataset", "npz", "--data", data, "--save-program", saved, "--json", record)
    assert done.returncode == 0, done.stderr
    assert "hardware litert_xnnpack, the default of this kind of model" in done.stdout
    assert "a pixel p stands for p" in done.stdout
    assert json.loads(record.read_text())["profile"]["name"] == "litert_xnnpack"
    again = run("sim.eval", "--model", saved, "--dataset", "npz", "--data", data)
    assert done.stdout.split("accuracy")[1].split(",")[0] == again.stdout.split("accuracy")[1].split(",")[0]


@pytest.mark.parametrize(("options", "words"), [
    (["--bits", "4"], ["bits: a model of another's has its widths built in"]),
    (["--hardware", "litert"], ["hardware: profile litert is unknown, choose one of"]),
    (["--pixels-as", "half"], ["pixels-as: 'half' is not allowed, choose raw, unit, symmetric, codes"])])
def test_the_command_refuses_in_one_line(path, options, words):
    assert_one_line(run("sim.eval", "--model", path, "--dataset", "npz", "--data", path, *options), *words)


def test_what_no_scale_tells_has_to_be_told(tmp_path):
    file = tmp_path / "odd.tflite"
    file.write_bytes(small(scale=0.0186))
    with pytest.raises(ImporterError, match=r"pixels-as: a step of the input stands for 0\.0186, which does not tell"):
        foreign_program(file, Arithmetic())
    _, foreign, _ = foreign_program(file, Arithmetic(pixels_as="0.5/0.25"))
    assert foreign.pixels.told == "a pixel p stands for (p / 255 - 0.5) / 0.25"


def test_options_of_our_own_networks_are_refused(path):
    with pytest.raises(EvalError, match="activation-bits: a model of another's has its widths built in"):
        foreign_program(path, Arithmetic(activation_bits=4))


def test_the_trained_models_read_pixels():
    program, pixels = image_program(load_model(vectors("tflite/person_detect.tflite")).program, None)
    assert pixels.told == "a pixel p stands for (p - 127.5) / 127.5"
    assert (program.ops[0].table == np.arange(-128, 128)).all()


def test_table_command__every_cell_is_an_evaluation(path, tmp_path):
    pixels, labels = images()
    np.savez(tmp_path / "d.npz", x_test=pixels, y_test=labels)
    record = tmp_path / "records" / "small.json"
    result = run("sim.importers.table", "--model", path, "--data", tmp_path / "d.npz", "--json", record, "--hardware",
                 "litert_xnnpack,tosa_1_0", "--accumulator", "32,13", "--pixels-as", "codes", "--limit", 30)
    assert result.returncode == 0, result.stderr
    rows = {(row["profile"], row["overflow"]): row["widths"] for row in json.loads(record.read_text())["rows"]}
    assert len(rows) == 4
    for (hardware, overflow), widths in rows.items():
        for bits, cell in widths.items():
            found = sim.evaluate(path, pixels[:30], labels[:30], hardware=hardware, overflow=overflow,
                                 accumulator=int(bits), boundary_accumulator=int(bits), pixels_as="codes")
            outputs = 30 * sum(int(np.prod(op.shape)) for op in found.program.accumulating)
            assert cell == {"right": found.right, "of": 30, "overflowed": found.overflowed / outputs}
            assert f"{100 * found.right / 30:.2f}" in (tmp_path / "small.md").read_text()
    assert {cell["overflowed"] > 0 for widths in rows.values() for cell in widths.values()} == {True, False}
    assert_one_line(run("sim.importers.table", "--model", path, "--json", tmp_path / "x.json", "--accumulator", "8:24"),
                    "accumulator: '8:24'", "with commas")
    assert_one_line(run("sim.importers.table", "--model", path, "--json", path), "--model")
    assert path.read_bytes() == small()


@pytest.mark.parametrize("limit", [0, -3])
def test_table__of_no_images_is_refused(path, tmp_path, limit):
    assert_one_line(run("sim.importers.table", "--model", path, "--json", tmp_path / "x.json", "--limit", limit),
                    f"limit: {limit} is not allowed, choose 1 or more images")


@pytest.mark.parametrize(("arrays", "words"), [
    (None, "not a readable .npz"), ({"a": np.zeros(3)}, "array x_test is missing"),
    ({"x_test": np.uint8(3), "y_test": np.int64(3)}, "x_test [] and y_test [] are not"),
    ({"x_test": np.zeros((3, 8, 8, 3), np.uint8), "y_test": np.zeros(2, int)}, "x_test [3, 8, 8, 3] and y_test [2] are not"),
    ({"x_test": np.zeros((3, 5, 8, 3), np.uint8), "y_test": np.zeros(3, np.int64)}, "are wanted, not uint8 [3, 5, 8, 3]")])
def test_table__of_a_file_that_is_no_test_set_is_refused(path, tmp_path, arrays, words):
    file = tmp_path / "data.npz"
    if arrays is None:
        file.write_text("nothing")
    else:
        np.savez(file, **arrays)
    assert_one_line(run("sim.importers.table", "--model", path, "--data", file, "--json", tmp_path / "x.json",
                        "--hardware", "litert_ruy"), words)
