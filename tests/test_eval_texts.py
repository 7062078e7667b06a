"""sim.eval on texts: answers to questions, bit-true and of the torch model, and what their record holds."""

import copy
import csv
import io
import json

import numpy as np
import pytest
import torch
from rich.console import Console

import sim
from sim.checkpoint import Checkpoint, save_checkpoint
from sim.eval import _Live, _show
from sim.network import Precision
from sim.outputs import EvalError
from sim.tasks import TASKS
from sim.tasks.task import interval
from tests import records
from tests.squad_files import write
from training.data import load_dataset
from training.models import MODELS
from training.network import QuantNetwork
from training.report.compute import bit_operations
from training.report.record import Record
from training.tables import make_tables


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A checkpoint of a network that was never taught, and the folder of its data."""
    root = tmp_path_factory.mktemp("texts")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BITTRUE_CACHE_DIR", str(root / "cache"))
        folder = write(root / "squad", pytest.importorskip("tokenizers", reason="extra text is not installed"))
        data = load_dataset("squad", folder, size="24")
        torch.manual_seed(1)
        model = QuantNetwork(MODELS["bert_tiny"](data.first_row(), data.classes, 8), Precision(3), "lsq")
        torch.nn.init.normal_(model.layers["words"].weight, 0.0, 0.5)
        model.calibrate(data.train.ready())
        saved = {"name": "squad", "path": str(folder), "label": data.label, "digest": data.digest(), "size": data.size}
        save_checkpoint(root / "ckpt.pt", Checkpoint(model.eval().spec(), saved))
        yield root


def test_evaluation__measures_answers_of_machine_and_model_alike(trained):
    result = sim.evaluate(trained / "ckpt.pt", verify=True, json=trained / "eval.json")
    data = load_dataset("squad", trained / "squad", size="24")
    model = QuantNetwork.from_spec(result.subject.spec)
    with torch.no_grad():
        logits = model(data.test.ready()).permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(result.logits, logits)
    answers = data.test.questions.answered(logits)
    exact, overlap = data.test.questions.scores(answers)
    assert result.predictions.tolist() == answers
    assert (result.images, len(result.logits)) == (3, len(data.test))
    assert (result.accuracy, result.measures["em"]) == (100 * overlap.mean(), 100 * exact.mean())
    found = result.verification
    assert (found.differing, found.agrees, found.fq_accuracy) == (0, True, result.accuracy)
    assert found.compared > len(logits) * sum(np.prod(op.shape) for op in result.program.ops) // 2
    record = json.loads((trained / "eval.json").read_text())
    assert record["definitions"] == {"softmax": "exact", "gelu": "exact", "norm": "exact"}
    assert "redefined" not in record
    kept = record["result"]
    assert (kept["task"], kept["measure"], kept["images"], kept["windows"]) == ("spans", "f1", 3, len(logits))
    assert (kept["accuracy"], kept["f1"], kept["em"]) == (result.accuracy, result.accuracy, result.measures["em"])
    assert (kept["fq_accuracy"], kept["fq_em"]) == (result.accuracy, result.measures["em"])
    assert kept["scores"]["f1"] == overlap.round(4).tolist()
    assert kept["intervals"]["f1"] == list(interval(overlap))
    assert kept["per_class"] == []
    assert result.layers["outputs"].iloc[0] == len(logits) * 24 * 8


def test_evaluation__of_the_first_questions_takes_all_their_windows(trained):
    one, everything = (sim.evaluate(trained / "ckpt.pt", limit=limit) for limit in (1, None))
    assert (one.images, everything.images) == (1, 3)
    assert one.predictions[0] == everything.predictions[0]
    one.save_predictions(trained / "answers.csv")
    rows = list(csv.DictReader((trained / "answers.csv").read_text().splitlines()))
    assert [row["answer"] for row in rows] == one.predictions.tolist()
    assert [row["id"] for row in rows] == list(one.examples.questions.ids)


@pytest.mark.parametrize("options", [
    {"softmax": "itamax", "gelu": "ibert", "norm": "ibert"}, {"softmax": "log2"}, {"bits": 4}])
def test_evaluation__of_other_definitions_and_widths_is_the_models(trained, options):
    result = sim.evaluate(trained / "ckpt.pt", verify=True, limit=1, **options)
    assert result.verification.differing == 0
    assert dict(result.subject.redefined) == {name: value for name, value in options.items() if name != "bits"}
    assert ("bits" in options) != any("computed by other definitions" in note for note in result.notes)


def test_evaluation__counts_overflows_of_every_product_of_attention(trained):
    result = sim.evaluate(trained / "ckpt.pt", accumulator=4, overflow="saturate")
    counted = {name: int(counts.sum()) for name, counts in result.overflows.items()}
    assert {"layer0_scores", "layer0_mixed", "layer0_q", "layer1_down", "logits"} <= counted.keys()
    assert counted["layer0_scores"] + counted["layer0_mixed"] > 0
    assert counted["logits"] == 0


@pytest.mark.parametrize(("options", "message"), [
    ({"pixels": np.zeros((1, 24), np.int32), "labels": [0]}, "evaluated as a data set"),
    ({"dataset": "digits"}, "the network reads windows of 24 tokens, data set digits is of images"),
    ({"softmax": "hard"}, "softmax"), ({"gelu": 3}, "gelu: 3 is not allowed"),
    ({"norm": "irmsnorm"}, "irmsnorm has no bias")])
def test_evaluation__refuses_what_does_not_fit(trained, options, message):
    with pytest.raises(EvalError, match=message):
        sim.evaluate(trained / "ckpt.pt", **options)


def test_evaluation__of_images_refuses_texts_and_definitions_that_it_has_not(trained):
    with pytest.raises(EvalError, match="the network reads images of 8x8x1, data set squad is of texts"):
        sim.evaluate("tests/data/takd-digits-2bit.pt", dataset="squad", data=trained / "squad")
    with pytest.raises(EvalError, match="softmax: this network has none"):
        sim.evaluate("tests/data/takd-digits-2bit.pt", softmax="ibert", limit=1)


@pytest.mark.parametrize("is_of_before", [False, True])
def test_record__of_a_transformer_gives_the_table_its_bit_true_columns(trained, tmp_path, is_of_before):
    """Products of two activations have registers, and no weights; records of before know no role of theirs."""
    result = sim.evaluate(trained / "ckpt.pt", verify=True)
    measured = {"accuracy": result.accuracy, **result.measures}
    run = records.training(images=result.images, digest=None, dataset="squad", model="bert_tiny", path=[3])
    run["test"] |= measured
    records.write(tmp_path, "run.json", run)
    record = json.loads(json.dumps(records.evaluation(run) | result.to_json()))
    record["training"] = {**copy.deepcopy(run["config"]), "step": "3bit"}
    roles = {layer["name"]: layer["role"] for layer in record["layers"]}
    assert roles["layer0_scores"] == roles["layer0_mixed"] == roles["layer0_q"] == "inner"
    for layer in record["layers"] if is_of_before else []:
        if layer["name"].endswith(("_scores", "_mixed")):
            del layer["role"]
    records.write(tmp_path, "eval.json", record)
    row, = csv.DictReader(make_tables(tmp_path)["squad.csv"].splitlines())
    assert (row["bit-true F1"], row["bit-true EM"]) == (f"{result.accuracy:.4f}", f"{result.measures['em']:.4f}")
    assert row["codes differing"] == "0"
    operations = [(op.macs, op.operand.bits, getattr(op, "weight_bits", 0) or op.other_operand.bits)
                  for op in result.program.accumulating]
    assert bit_operations(Record(tmp_path, record)) == sum(macs * one * other for macs, one, other in operations)


def test_command__shows_a_line_for_each_layer_at_80_columns_and_says_what_it_counts(trained, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=80, color_system=None)
    _show(console, sim.evaluate(trained / "ckpt.pt", limit=1), per_class=False)
    lines = out.getvalue().splitlines()
    for name in ("layer0_scores", "layer1_mixed", "logits"):
        line, = [line for line in lines if name in line]
        assert line.split()[-1] == "0"  # overflows, in the same line
    assert any("s3n x s3n" in line for line in lines if "layer0_scores" in line)
    assert "n: narrow, without the most negative code" in lines
    with _Live(console, 4, TASKS["spans"]) as live:
        live(0, 0)
        live(4, 1)
    assert "25.00 % with the exact span" in out.getvalue()
