"""Networks that answer questions are trained as others are: by every scheme, from weights of others, resumed, bit-true."""

import json

import numpy as np
import pytest
import torch

import sim
import training
from sim.tasks import TASKS as MEASURES
from tests.test_data_squad import folder  # noqa: F401 - a fixture
from tests.test_run_within import timeless
from tests.test_training import Silent, Stops, arrays
from training.api import execute
from training.config import ConfigError
from training.data import load_dataset
from training.loop import evaluate
from training.schemes import SCHEMES
from training.tasks import TASKS
from training.verify import Comparison

QUICK = ("takd", "speq")
TINY = {"model": "bert_tiny", "width": 16, "dataset": "squad", "size": "24", "preset": "squad", "epochs": 1, "batch": 4,
        "quantizer": "interval", "lr": 1e-3}


@pytest.fixture
def tiny(folder):  # noqa: F811
    return {**TINY, "data": folder}


@pytest.mark.parametrize("scheme", [pytest.param(name, marks=() if name in QUICK else pytest.mark.exhaustive)
                                    for name in SCHEMES])
def test_scheme__trains_a_network_that_answers_and_verifies(tmp_path, tiny, scheme):
    result = training.train(scheme, bits=3, out=tmp_path / "run", **tiny)
    data, test = load_dataset("squad", tiny["data"], size="24"), result.record["test"]
    assert (test["accuracy"], test["images"]) == (test["f1"], MEASURES["spans"].count(data.test))
    last = list(result.record["steps"].values())[-1]["epochs"][-1]
    assert last["validation_accuracy"] == last["validation_f1"] >= last["validation_em"]
    model = training.load(result.checkpoint)
    assert evaluate(model, data.test, TASKS["spans"])[0] == test["f1"]
    machine, trace = sim.Machine(sim.lower(sim.load_checkpoint(result.checkpoint).spec)), {}
    ids = data.test.ids.numpy()[:6]
    machine.run(ids, trace)
    comparison = Comparison(machine, model)
    comparison.add(ids, data.test.labels.numpy()[:6], trace)
    assert sum(comparison.differing.values()) == 0
    assert comparison.compared > 10_000


def test_resume__inside_an_epoch_of_texts_ends_with_the_same_bits(tmp_path, tiny):
    options = {**{key: str(value) if key == "data" else value for key, value in tiny.items()}, "scheme": "sqakd", "bits": 4,
               "hidden_weight": 1.0, "accumulate": 2, "save_minutes": 0.0}
    whole = execute({**options, "out": str(tmp_path / "whole")}, Silent())
    died = 0
    while True:
        try:
            killed = execute({**options, "out": str(tmp_path / "killed"), "resume": True}, Stops(4))
            break
        except KeyboardInterrupt:
            died += 1
    assert died
    mine, theirs = (arrays(result.checkpoint) for result in (killed, whole))
    assert all(np.array_equal(mine[key], theirs[key]) for key in theirs)
    assert timeless(killed.record) == timeless(whole.record)


def test_training__begins_with_weights_of_others_but_for_the_head(tmp_path, tiny):
    """A state dict of BERT's names, without a span head, with a pooler that nothing reads."""
    first = training.train("individual", bits=32, out=tmp_path / "first", **tiny)
    spec = sim.load_checkpoint(first.checkpoint).spec
    words, hidden = spec.arrays["words.weight"], spec.arrays["layer0_up.weight"]
    state = {"embeddings.word_embeddings.weight": torch.tensor(words + 1.0), "pooler.dense.weight": torch.zeros(16, 16),
             "encoder.layer.0.intermediate.dense.weight": torch.tensor(hidden + 1.0)}
    torch.save(state, tmp_path / "others.pt")
    result = training.train("individual", bits=32, out=tmp_path / "second", init_from=tmp_path / "others.pt",
                            **{**tiny, "lr": 0.0})
    found = sim.load_checkpoint(result.checkpoint).spec.arrays
    assert np.array_equal(found["words.weight"], words + 1.0)
    assert np.array_equal(found["layer0_up.weight"], hidden + 1.0)
    assert "logits" in result.record["transferred"]["new_layers"]
    (tmp_path / "bad.pt").write_text("no weights")
    with pytest.raises(ValueError, match=r"bad\.pt") as error:
        training.train("individual", bits=32, out=tmp_path / "third", init_from=tmp_path / "bad.pt", **tiny)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(("options", "message"), [
    ({"label_smoothing": 0.1}, "label-smoothing: 0.1 makes no sense for data set squad"),
    ({"kl_reduction": "classes", "scheme": "takd", "bits": 3}, "kl-reduction: classes makes no sense"),
    ({"mean": (0.5,), "std": (0.5,)}, "mean: .* texts have no pixels"),
    ({"augment": "crop"}, "augment: crop makes no sense"),
    ({"model": "resnet8"}, "it reads images, and these data are texts"), ({"optimizer": "adam"}, "sgd, nesterov, adamw"),
    ({"accumulate": 0}, "accumulate: 0 is not allowed"), ({"clip": -1.0}, "clip: -1"),
    ({"test_limit": 0}, "test-limit: 0 is not allowed"),
])
def test_option__that_makes_no_sense_for_texts_is_one_line(tmp_path, tiny, options, message):
    with pytest.raises(ValueError, match=message) as error:
        training.train(**{"scheme": "individual", "bits": 32, **tiny, **options}, out=tmp_path / "out")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_limits__are_of_questions_and_recorded(tmp_path, tiny):
    said = []
    given = {"scheme": "individual", "bits": 32, "out": str(tmp_path / "run"), "test_limit": 2, "validation_limit": 900,
             **{key: str(value) if key == "data" else value for key, value in tiny.items()}}
    result = execute(given, Silent(), say=said.append)
    assert result.record["test"]["images"] == 2
    assert json.loads((tmp_path / "run/run.json").read_text())["config"]["test_limit"] == 2
    assert any(line.startswith("validation-limit: 900 limits nothing") and "questions held out" in line for line in said)


def test_quantizer__that_forgets_the_size_of_weights_is_named(tmp_path, tiny):
    said = []
    given = {**tiny, "scheme": "ptq", "bits": 4, "out": str(tmp_path / "run"), "data": str(tiny["data"]),
             "quantizer": "pact"}
    execute(given, Silent(), say=said.append)
    assert any(line.startswith("quantizer: weights of pact forget") for line in said)


def test_transfer__of_weights_that_fit_nothing_is_refused(tmp_path, tiny):
    torch.save({"a": torch.zeros(3)}, tmp_path / "others.pt")
    with pytest.raises(ConfigError, match=r"init-from .*others\.pt: no tensor of it fits bert_tiny"):
        training.train("individual", bits=32, init_from=tmp_path / "others.pt", out=tmp_path / "out", **tiny)
