"""Mistakes that networks share, and profiles of their codes: counts by hand, chains of runs, records that become tables."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import training
from sim.checkpoint import load_checkpoint
from sim.records import read_record
from tests.examples import examples
from tests.records import ROOT
from tests.test_sweep_grid import BOTH, schedule, write  # noqa: F401 - a fixture
from tests.test_tables_groups import csv_rows
from training.data import load_dataset
from training.examined import ExamineError, chain
from training.mistakes import Shared, compare, main, shared
from training.network import QuantNetwork
from training.profile import examine
from training.sweeps.grid import GridError
from training.tables import make_tables

STUDENT = ROOT / "tests/data/takd-digits-2bit.pt"
SMALL = {"model": "resnet8", "width": 4, "epochs": 1, "train_limit": 100}


@pytest.fixture(scope="module")
def ladder(tmp_path_factory):
    """Two runs, the second of which goes on from the first one's student."""
    home = tmp_path_factory.mktemp("ladder")
    training.train("takd", path=(32, 8), out=home / "first", **SMALL)
    training.train("takd", path=(32, 8, 2), teacher=home / "first/ckpt.pt", out=home / "second", **SMALL)
    return home


@examples(100)
@given(st.integers(0, 2**32), st.integers(1, 60), st.integers(2, 5))
def test_shared__counts_as_plain_python_does(seed, count, classes):
    labels, teacher, student = np.random.default_rng(seed).integers(0, classes, (3, count))
    found = shared(labels, teacher, student)
    answers = list(zip(labels.tolist(), teacher.tolist(), student.tolist(), strict=True))
    assert found.both_wrong == sum(a != label != b for label, a, b in answers)
    assert found.same_answer == sum(a == b != label for label, a, b in answers)
    expected = 0.0
    for label in set(labels.tolist()):
        here = [(a, b) for each, a, b in answers if each == label]
        expected += sum(a != label for a, _ in here) * sum(b != label for _, b in here) / len(here)
    assert found.both_expected == pytest.approx(expected)
    assert found.same_answer <= found.both_wrong <= min(found.teacher_wrong, found.student_wrong)
    assert 0 <= found.same_expected <= found.both_expected + 1e-9


def test_shared__of_a_network_with_itself_repeats_everything():
    labels, answers = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    assert shared(labels, answers, answers) == Shared(4, 2, 2, 2, 2, 1.0, 1.0)


def test_chance__is_what_independent_networks_share():
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 10, 200_000)
    one, other = (np.where(generator.random(200_000) < 0.2 + 0.05 * labels, (labels + 1) % 10, labels) for _ in range(2))
    found = shared(labels, one, other)
    assert found.both_wrong == pytest.approx(found.both_expected, rel=0.02)
    assert found.repeated == pytest.approx(found.by_chance, rel=0.02)


def test_chain__of_a_folder_goes_back_to_the_first_teacher(ladder):
    files = [str(file.relative_to(ladder)) for file in chain(ladder / "second")]
    assert files == ["first/32bit.pt", "first/8bit.pt", "second/2bit.pt"]
    assert chain(STUDENT) == [STUDENT]
    (ladder / "first/run.json").rename(ladder / "first/away")
    assert [file.name for file in chain(ladder / "second")] == ["8bit.pt", "2bit.pt"]
    (ladder / "first/away").rename(ladder / "first/run.json")
    with pytest.raises(ExamineError, match="no folder of a run"):
        chain(ROOT / "tests")


def test_command__records_every_pair_and_tables_show_it(ladder, tmp_path):
    main([ladder / "second"], json_file=tmp_path / "m.json")
    record = read_record(tmp_path / "m.json", "mistakes")
    test = load_dataset("digits").test
    for network in record["networks"]:
        model = training.load(network["file"])
        with torch.no_grad():
            assert network["right"] == int((model(test.pixels.float()).argmax(1) == test.labels).sum())
    assert [network["name"] for network in record["networks"]] == ["takd 32", "takd 32-8", "takd 32-8-2"]
    assert [(pair["teacher"], pair["student"]) for pair in record["pairs"]] == [(0, 1), (0, 2), (1, 2)]
    rows = csv_rows(make_tables(tmp_path)["mistakes.csv"])
    assert [int(row["both wrong"]) for row in rows] == [pair["both_wrong"] for pair in sorted(
        record["pairs"], key=lambda pair: (pair["student"], pair["student"] - pair["teacher"]))]
    changed = json.loads((tmp_path / "m.json").read_text())
    del changed["digest"], changed["schema"]
    changed["pairs"][0]["both_wrong"] = 7
    (tmp_path / "m.json").write_text(json.dumps(changed))
    assert any(row["both wrong"] == "7" for row in csv_rows(make_tables(tmp_path)["mistakes.csv"]))


@pytest.mark.parametrize(("call", "words"), [
    (lambda: main([STUDENT]), "two checkpoints at least"), (lambda: main([STUDENT, STUDENT]), "two checkpoints at least"),
    (lambda: main([STUDENT, STUDENT], limit=0), "limit: 0")])
def test_command__refuses_in_one_line(call, words):
    with pytest.raises(ExamineError, match=words) as error:
        call()
    assert "\n" not in str(error.value)


def test_networks__of_other_data_are_refused(ladder, tmp_path):
    data = training.from_arrays(*(np.zeros((20, 8, 8, 1), np.uint8), np.arange(20) % 2) * 2)
    other = training.train("individual", dataset=data, bits=2, out=tmp_path / "o", **SMALL)
    with pytest.raises(ExamineError, match="other images"):
        compare([STUDENT, other.checkpoint])


def test_profile__counts_every_weight_and_activation():
    record = examine(STUDENT, limit=20)
    spec = load_checkpoint(STUDENT).spec
    network = QuantNetwork.from_spec(spec)
    for layer in record["weights"]:
        weights = spec.arrays[f"{layer['name']}.weight"]
        assert sum(layer["counts"]) == weights.size == sum(code["count"] for code in layer["codes"])
        codes = network.layers[layer["name"]].weight_codes()[0].detach().numpy()
        assert {code["code"]: code["count"] for code in layer["codes"]} == dict(
            zip(*(part.tolist() for part in np.unique(codes, return_counts=True)), strict=True))
        assert all(low["most"] <= high["least"] for low, high in zip(layer["codes"], layer["codes"][1:], strict=False))
    shapes = spec.graph.shapes()
    for layer in record["activations"]:
        assert layer["total"] == sum(layer["counts"]) == 20 * np.prod(shapes[layer["name"]])
        assert 0 <= layer["below"] + layer["above"] <= layer["total"]
    assert {layer["most"] for layer in record["activations"]} == {3.0, 255.0}


def test_grid__asks_for_mistakes_and_profiles(write):  # noqa: F811 - the fixture
    tasks = schedule(write(BOTH + "[[evaluations]]\nof = 'mistakes'\nname = 'm-{job}-{seed}'\njob = 'skip'\n"
                           "[[evaluations]]\nof = 'profile'\nname = 'p-{job}'\nlimit = 9")).tasks
    mistakes, profile = tasks["mine/m-skip-0"], tasks["mine/p-skip"]
    assert mistakes.commands[0].module == "training.mistakes"
    assert mistakes.commands[0].options[0] == "runs/mine/skip-seed0"
    assert mistakes.kept[0][1] == "m-skip-0.mistakes.json"
    assert profile.commands[0].options[:4] == ("--model", "runs/mine/skip-seed0/ckpt.pt", "--limit", "9")


@pytest.mark.parametrize(("text", "words"), [
    ("of = 'mistake'\nname = 'a'", "of: 'mistake' is unknown"), ("of = 'mistakes'\nname = 'a'\nbits = 2", "bits"),
    ("beside = 'float'\nname = 'a'", "beside: only mistakes"),
    ("of = 'mistakes'\nname = '{job}-m'\njob = 'float'", "no teacher")])
def test_grid__refuses_what_makes_no_sense(text, words, write):  # noqa: F811 - the fixture
    with pytest.raises(GridError, match=words):
        schedule(write(BOTH + "[[evaluations]]\n" + text))
