"""sim.evaluation as a library: what it takes, what it refuses, and that it and the command are one thing."""

import doctest
import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import sim.evaluation
import training.verify
from sim.accumulator import AccumulatorOverflowError
from sim.checkpoint import load_checkpoint
from sim.evaluation import Source, evaluate, prepare
from sim.hardware import HardwareSpec
from sim.lowering import lower
from sim.machine import Machine
from sim.outcome import Evaluation
from sim.program import Program
from sim.records import read_record
from sim.subject import Arithmetic, EvalError
from sim.testset import Examples
from training.data import load_dataset

ROOT = Path(__file__).resolve().parent.parent
CHECKPOINT = Path(__file__).parent / "data" / "takd-digits-2bit.pt"


@pytest.fixture(scope="module")
def checkpoint():
    return load_checkpoint(CHECKPOINT)


@pytest.fixture(scope="module")
def digits():
    test = load_dataset("digits", None).test
    return test.pixels.permute(0, 2, 3, 1).contiguous().numpy(), test.labels.numpy()


@pytest.mark.parametrize("module", [sim.evaluation, training.verify])
def test_evaluation__examples_of_the_documentation_run(module, monkeypatch):
    monkeypatch.chdir(ROOT)
    outcome = doctest.testmod(module)
    assert outcome.attempted > 0
    assert outcome.failed == 0


def test_evaluate__takes_a_path_a_text_a_checkpoint_and_a_program(checkpoint, digits, tmp_path):
    program = lower(checkpoint.spec, HardwareSpec())
    program.save(tmp_path / "p.npz")
    expected = Machine(program).run(digits[0][:50])
    for model in (CHECKPOINT, str(CHECKPOINT), checkpoint, program, tmp_path / "p.npz", str(tmp_path / "p.npz")):
        result = evaluate(model, digits[0][:50], digits[1][:50])
        np.testing.assert_array_equal(result.logits, expected)
        np.testing.assert_array_equal(result.predictions, expected.argmax(1))
        assert result.predictions.dtype == np.int64
    assert result.accuracy == 100.0 * (expected.argmax(1) == digits[1][:50]).mean()


def test_evaluate__without_pixels_takes_the_test_set_of_the_checkpoint(checkpoint, digits):
    result = evaluate(checkpoint)
    np.testing.assert_array_equal(result.labels, digits[1])
    assert (result.images, result.right) == (360, 348)
    np.testing.assert_array_equal(result.predictions, evaluate(checkpoint, *digits, batch=7).predictions)


def test_evaluate__runs_a_program_without_torch(tmp_path, checkpoint):
    lower(checkpoint.spec, HardwareSpec()).save(tmp_path / "p.npz")
    script = """
import sys
sys.modules["torch"] = sys.modules["training"] = None
import numpy as np
from sim.evaluation import evaluate
result = evaluate(sys.argv[1], np.zeros((3, 8, 8, 1), np.uint8), [0, 1, 2], limit=2)
print(result.images, "pandas" in sys.modules)
"""
    result = subprocess.run([sys.executable, "-c", script, str(tmp_path / "p.npz")], capture_output=True, text=True,
                            check=False, cwd=ROOT)
    assert (result.returncode, result.stdout) == (0, "2 False\n"), result.stderr


@pytest.mark.parametrize(("pixels", "labels", "words"), [
    (np.zeros((2, 8, 8, 1), np.float32), [0, 1], ["pixels: ", "float32", "0 .. 255"]),
    (np.zeros((2, 8, 8, 1), np.float16), [0, 1], ["pixels: ", "float16"]),
    (np.zeros((2, 8, 8, 1), np.int64), [0, 1], ["pixels: ", "int64"]),
    ([[0]], [0], ["pixels: ", "not a list"]),
    (torch.zeros(2, 1, 8, 8, dtype=torch.uint8), [0, 1], ["pixels: ", "Tensor", "permute"]),
    (np.zeros((2, 1, 8, 8), np.uint8), [0, 1], ["pixels: ", "[2, 1, 8, 8]", "[N, 8, 8, 1]"]),
    (np.zeros((2, 8, 8), np.uint8), [0, 1], ["pixels: ", "[2, 8, 8]"]),
    (np.zeros((0, 8, 8, 1), np.uint8), [], ["pixels: ", "[0, 8, 8, 1]"]),
    (np.zeros((2, 8, 8, 1), np.uint8), None, ["labels: are missing", "Machine"]),
    (np.zeros((2, 8, 8, 1), np.uint8), [0], ["labels: must be 2 whole numbers"]),
    (np.zeros((2, 8, 8, 1), np.uint8), [[0], [1]], ["labels: must be 2 whole numbers"]),
    (np.zeros((2, 8, 8, 1), np.uint8), [0.0, 1.0], ["labels: must be", "float64"]),
    (np.zeros((2, 8, 8, 1), np.uint8), [0, 10], ["labels: hold 10", "0 to 9"]),
    (np.zeros((2, 8, 8, 1), np.uint8), [0, -1], ["labels: hold -1"]),
    (None, [0, 1], ["labels: have no effect without pixels"]),
])
def test_evaluate__wrong_arrays_are_refused_by_name(checkpoint, pixels, labels, words):
    with pytest.raises(EvalError) as error:
        evaluate(checkpoint, pixels, labels)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(("options", "words"), [
    ({"bits": 9}, ["bits: 9"]),
    ({"bits": "3"}, ["bits: '3' is not allowed"]),
    ({"bits": 2.0}, ["bits: 2.0 is not allowed"]),
    ({"boundary_bits": "8"}, ["boundary-bits: '8' is not allowed"]),
    ({"boundary_bits": 8.0}, ["boundary-bits: 8.0 is not allowed"]),
    ({"limit": "5"}, ["limit: '5' is not allowed"]),
    ({"requant": 3}, ["requant: 3 is not allowed, give a name"]),
    ({"requant": []}, ["requant: [] is not allowed, give a name"]),
    ({"quantizer": 3}, ["quantizer: 3 is not allowed, give a name"]),
    ({"accumulator": 8, "overflow": 3}, ["overflow: 3 is not allowed, give a name"]),
    ({"dataset": 3}, ["dataset: 3 is not allowed, give a name"]),
    ({"data": 3}, ["data: 3 is not allowed, give a path"]),
    ({"json": 3}, ["json: 3 is not allowed, give a path"]),
    ({"bits": np.bool_(True)}, ["bits: "]),
    ({"overflow": "saturate"}, ["add --accumulator"]),
    ({"accumulator": 8, "overflow": "explode"}, ["'explode'"]),
    ({"accumulator": 8, "tile": 0}, ["tile: 0"]),
    ({"accumulator": 8, "tile": 2.5}, ["tile: 2.5"]),
    ({"accumulator": "8"}, ["accumulator"]),
    ({"requant": "fp64"}, ["'fp64'"]),
    ({"limit": 0}, ["limit: 0"]),
    ({"limit": True}, ["limit: True"]),
    ({"batch": 2.0}, ["batch: 2.0"]),
])
def test_evaluate__wrong_options_are_refused_by_name(checkpoint, options, words):
    with pytest.raises(EvalError) as error:
        evaluate(checkpoint, **options)
    for word in words:
        assert word in str(error.value)


def test_evaluate__takes_whole_numbers_of_numpy(checkpoint, tmp_path):
    numbers = {"bits": 2, "boundary_bits": 8, "accumulator": 8, "boundary_accumulator": 20, "limit": 30, "batch": 10,
               "tile": 4}
    options = {"overflow": "saturate", "requant": "fp32"}
    expected = evaluate(checkpoint, **numbers, **options)
    file = tmp_path / "e.json"
    found = evaluate(checkpoint, **{name: np.int64(number) for name, number in numbers.items()}, **options, json=file)
    np.testing.assert_array_equal(found.logits, expected.logits)
    assert [op.accumulator for op in found.program.convolutions] == [op.accumulator for op in expected.program.convolutions]
    assert read_record(file)["result"]["images"] == 30


def test_evaluate__its_record_replaces_nothing_that_it_reads(checkpoint, tmp_path):
    copy = tmp_path / "c.pt"
    copy.write_bytes(CHECKPOINT.read_bytes())
    (tmp_path / "rq.py").write_text("X = 3\n")
    for file, options in ((copy, {}), (tmp_path / "rq.py", {"requant": f"{tmp_path}/rq.py:X"}), (tmp_path, {})):
        with pytest.raises(EvalError, match="json: "):
            evaluate(copy, json=file, limit=1, **options)
    assert copy.read_bytes() == CHECKPOINT.read_bytes()


def test_evaluate__what_has_no_effect_beside_pixels_or_on_a_program_is_refused(checkpoint, digits):
    program = lower(checkpoint.spec, HardwareSpec())
    with pytest.raises(EvalError, match="dataset, data: have no effect beside pixels"):
        evaluate(checkpoint, *digits, dataset="digits")
    with pytest.raises(EvalError, match="bits: a program has"):
        evaluate(program, *digits, bits=2)
    with pytest.raises(EvalError, match="verify: a program has no torch model"):
        evaluate(program, *digits, verify=True)
    with pytest.raises(EvalError, match="model: dict is not allowed"):
        evaluate({}, *digits)


def test_evaluate__other_data_than_those_of_training_are_a_warning_or_refused(checkpoint, tmp_path, digits):
    data = {"name": "digits", "path": "", "label": "digits", "digest": load_dataset("digits", None).digest()}
    own = type(checkpoint)(checkpoint.spec, data, checkpoint.training)
    assert evaluate(own, limit=5).examples.is_as_trained is True
    changed = type(checkpoint)(checkpoint.spec, {**data, "digest": "0" * 64}, checkpoint.training)
    with pytest.raises(EvalError, match="other data than the network was trained on"):
        evaluate(changed, limit=5)
    with pytest.warns(UserWarning, match="other data than the network was trained on"):
        result = evaluate(changed, limit=5, dataset="digits")
    assert result.to_json()["data"]["is_as_trained"] is False
    x = np.zeros((4, 8, 8, 1), np.uint8)
    np.savez(tmp_path / "d.npz", x_train=x, y_train=np.arange(4), x_test=x, y_test=np.arange(4))
    with pytest.warns(UserWarning, match="other data"):
        evaluate(own, dataset="npz", data=str(tmp_path / "d.npz"))


def test_evaluate__verified_agrees_and_says_what_differs(checkpoint):
    result = evaluate(checkpoint, limit=20, verify=True)
    assert result.verification.agrees
    assert (result.verification.differing, result.verification.compared) == (0, 189_000)
    narrow = evaluate(checkpoint, limit=20, verify=True, accumulator=6)
    assert not narrow.verification.agrees
    assert narrow.layers["differing"].sum() > 0


def test_evaluate__an_overflow_that_must_not_be_passes_through(checkpoint):
    with pytest.raises(AccumulatorOverflowError, match="6-bit"):
        evaluate(checkpoint, accumulator=6, overflow="error", limit=5)


def test_evaluate__tells_its_progress(checkpoint):
    seen = []
    result = evaluate(checkpoint, limit=25, batch=10, progress=lambda done, right: seen.append((done, right)))
    assert [done for done, _ in seen] == [0, 10, 20, 25]
    assert seen[-1][1] == result.right


def test_layers__hold_what_the_record_holds(checkpoint):
    result = evaluate(checkpoint, limit=20, accumulator=8, overflow="saturate")
    layers, record = result.layers, result.to_json()["layers"]
    assert layers["name"].to_list() == [op.name for op in result.program.convolutions]
    for key in ("macs", "safe_bits", "overflows", "outputs", "role"):
        assert layers[key].to_list() == [row[key] for row in record]
    assert layers["overflows"].sum() == result.overflowed > 0
    assert layers["accumulator_bits"].to_list() == [pd.NA, *[8] * (len(layers) - 2), pd.NA]
    assert [row["accumulator"]["bits"] for row in record] == [None, *[8] * (len(layers) - 2), None]
    json.dumps(result.to_json(), allow_nan=False)


def named(names, labels, logits):
    examples = Examples(np.zeros((len(labels), 8, 8, 1), np.uint8), np.array(labels, np.int64), "pets", tuple(names))
    job = prepare(CHECKPOINT, Arithmetic(), Source(limit=1))
    values = np.array(logits, np.float32)
    return Evaluation(job.subject, examples, values, values.argmax(1), {}, "plain", 1.0, 1.0)


def test_per_class__counts_each_class_and_knows_no_accuracy_without_images():
    result = named(["cat", "dog", "eel"], [0, 0, 1], [[1, 0, 0], [0, 1, 0], [0, 1, 0]])
    table = result.per_class
    assert table["images"].to_list() == [2, 1, 0]
    assert table["right"].to_list() == [1, 1, 0]
    assert table["accuracy"].to_list()[:2] == [50.0, 100.0]
    assert np.isnan(table["accuracy"][2])
    assert [row["accuracy"] for row in result._classes()] == [50.0, 100.0, None]


def test_save_predictions__keeps_names_and_every_bit_of_the_logits(tmp_path):
    logits = np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)
    result = named(["cat, small", 'a "dog"', "eel"], [0, 1, 2], logits)
    result.save_predictions(tmp_path / "p.csv")
    table = pd.read_csv(tmp_path / "p.csv")
    assert table["label_name"].to_list() == ["cat, small", 'a "dog"', "eel"]
    assert table["prediction"].to_list() == result.predictions.tolist()
    np.testing.assert_array_equal(table[["logit_0", "logit_1", "logit_2"]].to_numpy(np.float32), logits)


def test_evaluation__an_instruction_set_that_interpreted_kernels_would_pass_over_is_refused(checkpoint, monkeypatch):
    monkeypatch.setattr(sim.evaluation, "choose", lambda: "plain")
    monkeypatch.setenv("BITTRUE_ISA", "portable")
    with pytest.raises(EvalError, match="BITTRUE_ISA: 'portable' has no effect"):
        evaluate(checkpoint, limit=1)


def test_evaluation__shows_itself_in_a_line_and_is_pickled(checkpoint):
    result = evaluate(checkpoint, limit=10)
    assert repr(result) == "Evaluation(100.00 % of 10 images of digits, 0 overflows)"
    again = pickle.loads(pickle.dumps(result))
    np.testing.assert_array_equal(again.logits, result.logits)
    assert isinstance(again.program, Program)
