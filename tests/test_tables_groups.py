"""A table groups only runs that are equal in everything but the seed, and shows what tells its rows apart."""

import csv
import functools
import io
import json
import re
import statistics
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import records
from tests.examples import examples
from training.tables import make_tables


def rows_of(markdown):
    """The rows of the one table in Markdown as dictionaries, in parts if it is wide; what all rows share is with each."""
    lines = markdown.splitlines()
    common = next((line for line in lines if line.startswith("In all rows: ")), "").removeprefix("In all rows: ")
    shared = dict(part.split(" ", 1) for part in common.rstrip(".").split("; ") if " " in part)
    parts = [[[re.sub(r"\s*±\s*", " ± ", cell.strip()) for cell in line.strip("|").split(" | ")]
              for line in part.splitlines()] for part in re.findall(r"(?:^\|.*\n?)+", markdown, re.MULTILINE)]
    rows = zip(*([dict(zip(cells[0], row, strict=True)) for row in cells[2:]] for cells in parts), strict=True)
    return [functools.reduce(dict.__or__, row, shared) for row in rows]


def tables_of(runs, tmp_path):
    for number, (record, evaluated) in enumerate(runs):
        records.write_run(tmp_path / "records", f"run-{number}", record, evaluated)
    return make_tables(tmp_path / "records")


def csv_rows(text):
    return list(csv.DictReader(io.StringIO(text)))


RESULTS = ("n", "seeds", "FQ %", "bit-true %", "codes that differ", "s per run", "commit", "date", "hardware")


def test_five_runs_that_differ_in_all_but_their_seed_are_five_rows(tmp_path):
    """As filed: one row, n = 5, 49.56 ± 20.07, seeds 0, 0, 0, 0, 0."""
    changes = [{}, {"lr": 0.2}, {"width": 8}, {"train_limit": 300}, {"boundary_bits": 4}]
    tables = tables_of([(records.training(50.0 + number, **change), True) for number,
        change in enumerate(changes)], tmp_path)
    rows = rows_of(tables["schemes.md"])
    assert [(row["n"], row["seeds"]) for row in rows] == [("1", "0")] * 5
    assert {(row["width"], row["options"], row["FQ %"]) for row in rows} == {
        ("16", "", "50.00"), ("16", "lr 0.2", "51.00"), ("8", "", "52.00"), ("16", "train-limit 300", "53.00"),
        ("16", "boundary-bits 4", "54.00")}


CHANGES = {
    "lr": [0.05, 0.1], "batch": [64, 32], "skip_bits": [8, 4], "weight_decay": [5e-4, 0], "quantizer": ["dorefa", "lsq"],
    "model": ["resnet20", "resnet8"],
    "init_from": ["", "runs/pretrained/ckpt.pt"], "layer_bits": ["", "stem=8"],
    "teacher": ["", "runs/t-seed0/ckpt.pt", "runs/u-seed0/ckpt.pt"], "data": ["", "other.npz"], "augment": ["crop", "none"],
    "a_key_of_the_future": ["", "x"], "dataset": ["digits", "npz"], "kl_reduction": ["batch", "classes"]}


@pytest.mark.parametrize("key", CHANGES)
def test_every_key_of_a_configuration_makes_another_row(key, tmp_path):
    values = CHANGES[key]
    tables = tables_of([(records.training(50.0 + number, digest=None, **{key: value}), True)
                        for number, value in enumerate(values)], tmp_path)
    rows = rows_of(tables["schemes.md"])
    assert len(rows) == len(values)
    assert len({json.dumps({k: v for k, v in row.items() if k not in RESULTS}) for row in rows}) == len(values)


@pytest.mark.parametrize(("change", "told"), [
    ({"digest": "e" * 64}, "data digest"), ({"digest": None}, "data digest"), ({"images": 100}, "images"),
    ({"extended": [{"epochs": 20}]}, "extended")])
def test_data_images_and_extensions_make_another_row_and_are_named(change, told, tmp_path):
    tables = tables_of([(records.training(50.0), True), (records.training(60.0, **change), True)], tmp_path)
    rows = rows_of(tables["schemes.md"])
    assert [row["n"] for row in rows] == ["1", "1"]
    assert all(told in row["options"] for row in rows if row["options"] or told != "extended")
    assert any(told in row["options"] for row in rows)


def test_evaluations_on_fewer_images_are_not_averaged_with_others(tmp_path):
    folder = tmp_path / "records"
    records.write_run(folder, "a", records.training(50.0))
    records.write_run(folder, "b", records.training(60.0, seed=1), images=100)
    assert [row["n"] for row in rows_of(make_tables(folder)["schemes.md"])] == ["1", "1"]


def test_a_teacher_of_each_seed_is_one_row_and_one_teacher_for_all_another(tmp_path):
    own = [(records.training(50.0, seed=seed, teacher=f"runs/t-seed{seed}/ckpt.pt"), True) for seed in range(3)]
    shared = [(records.training(70.0, seed=seed, teacher="runs/t-seed0/ckpt.pt"), True) for seed in (1, 2)]
    rows = rows_of(tables_of(own + shared, tmp_path)["schemes.md"])
    assert sorted((row["seeds"], row["FQ %"]) for row in rows) == [("0, 1, 2", "50.00 ± 0.00"), ("1, 2", "70.00 ± 0.00")]
    assert len({row["options"] for row in rows}) == 2


def test_one_teacher_for_all_seeds_is_one_row(tmp_path):
    shared = [(records.training(70.0, seed=seed, teacher="runs/t-seed0/ckpt.pt"), True) for seed in range(3)]
    assert [row["seeds"] for row in rows_of(tables_of(shared, tmp_path)["schemes.md"])] == ["0, 1, 2"]


def test_extended_run__says_so_with_the_commands_of_its_sessions(tmp_path):
    record = records.training(50.0, extended=[{"from": 20, "to": 30, "of": "finished", "session": 1, "test": {}}])
    record |= {"command": "train a", "sessions": [{"command": "train a"}, {"command": "train b"}, {"command": "train b"}]}
    tables = tables_of([(record, False), (records.training(60.0), False)], tmp_path)
    text = "extended from 20 to 30 epochs; test set used twice"
    assert [row["options"] for row in rows_of(tables["schemes.md"])].count(text) == 1
    assert {row["options"]: row["command"] for row in csv_rows(tables["schemes.csv"])}[text] == "train a; then train b"
    assert "used once, unless `options` say otherwise" in tables["schemes.md"]


@pytest.mark.parametrize(("own_code", "options"), [
    ({"scheme": {"defaults": {"kd-weight": 0.5}}}, ""), ({"scheme": {"defaults": {"kd_weight": 0.25}}}, "kd-weight 0.5"),
    ({"scheme": {"file": "mine.py"}}, "kd-weight 0.5"), ({"scheme": "mine"}, "kd-weight 0.5"), ([], "kd-weight 0.5")])
def test_own_scheme__has_its_own_defaults(own_code, options, tmp_path):
    record = records.training(50.0, scheme="mine.py:MINE", kd_weight=0.5) | {"own_code": own_code}
    row, = rows_of(tables_of([(record, True)], tmp_path)["schemes.md"])
    assert row["options"] == options


def test_records_from_before_an_option_share_a_row_with_its_default(tmp_path):
    old, new = records.training(50.0), records.training(60.0, seed=1, augment="crop", gradients="float32")
    for key in ("calibration", "layer_bits", "init_from", "u", "phases"):
        del old["config"][key]
    assert [row["n"] for row in rows_of(tables_of([(old, True), (new, True)], tmp_path)["schemes.md"])] == ["2"]


def test_of_one_seed_twice_the_newest_counts_and_is_named(tmp_path):
    runs = [(records.training(50.0, date="2026-11-22T00:00:00+00:00"), True),
            (records.training(60.0, date="2026-11-22T00:30:00+00:00"), True)]
    text = tables_of(runs, tmp_path)["schemes.md"]
    assert [(row["n"], row["FQ %"]) for row in rows_of(text)] == [("1", "60.00")]
    assert "run-0.train.json: seed 0 of the same configuration again" in text


def test_hardware_and_commits_may_differ_and_are_named(tmp_path):
    one, other = records.training(50.0), records.training(60.0, seed=1)
    one["hardware"] |= {"family": 25, "model": 17}
    other["commit"] = "f" * 40
    text = tables_of([(one, True), (other, True)], tmp_path)["schemes.md"]
    assert "hardware AMD EPYC (family 25, model 17), 1 of 2 cores; AMD EPYC, 1 of 2 cores" in text
    commits = rows_of(text)[0]["commit"]
    assert "ffffffffff" in commits
    assert len(commits.split(", ")) == 2


def test_a_run_without_an_evaluation_has_a_row(tmp_path):
    tables = tables_of([(records.training(50.0), False), (records.training(60.0, seed=1), True)], tmp_path)
    row, = rows_of(tables["schemes.md"])
    assert (row["n"], row["FQ %"], row["bit-true %"]) == ("2", "55.00 ± 7.07", "60.00 (1 of 2)")
    assert [row["bit-true"] for row in csv_rows(tables["schemes.csv"])] == ["", "60.0000"]


@pytest.mark.parametrize("change", [{"lr": 0.2}, {"width": 8}, {"train_limit": 300}, {"digest": "e" * 64},
                                    {"epochs": 5, "curve": [50.0] * 5}])
def test_comparisons_and_ablations_pair_only_equal_configurations(change, tmp_path):
    runs = [(records.training(90.0, seed=seed), True) for seed in (0, 1)]
    runs += [(records.training(80.0, seed=seed, scheme="individual", path=[2], **change), True) for seed in (0, 1)]
    runs += [(records.training(85.0, seed=seed, quantizer="lsq", **change), True) for seed in (0, 1)]
    tables = tables_of(runs, tmp_path)
    assert "comparisons.md" not in tables
    assert "ablations.md" not in tables


@pytest.mark.parametrize(("scheme", "own"), [
    ("individual", {"path": [2]}), ("individual", {"path": [2], "init_from": "runs/float/ckpt.pt"}),
    ("qad", {"teacher_model": "resnet56", "teacher_width": 32, "init_from": "runs/float/ckpt.pt", "kd_weight": 1.0,
             "temperature": 4.0})])
def test_comparisons_pair_schemes_whatever_weights_belong_to_one_of_them(scheme, own, tmp_path):
    runs = [(records.training(90.0 + seed, seed=seed), True) for seed in (0, 1)]
    runs += [(records.training(80.0 + seed, seed=seed, scheme=scheme, **own), True) for seed in (0, 1)]
    rows = csv_rows(tables_of(runs, tmp_path)["comparisons.csv"])
    row, = [row for row in rows if row["against"] == "skip-level"]
    assert (row["scheme"], row["n"], row["difference"]) == (scheme, "2", "-10.0000")


def test_comparisons_of_any_data_with_the_references_there_are(tmp_path):
    """Here none of the usual ones."""
    common = {"dataset": "npz", "data": "mine.npz"}
    folder = tmp_path / "records"
    for seed in (0, 1, 2):
        for name, accuracy, change in (("a", 90.0 + seed, {"scheme": "takd", "path": [32, 8, 2]}),
                                       ("b", 80.0 + 3 * seed, {}), ("c", 70.0 + seed, {"u": 0.9})):
            config = {"scheme": "single-level", "path": [4, 2], **common, **change}
            records.write_run(folder, f"{name}{seed}", records.training(accuracy, seed=seed, **config), dataset="mine")
    tables = make_tables(folder)
    row, = csv_rows(tables["comparisons.csv"])
    assert (row["dataset"], row["scheme"], row["path"], row["against"], row["n"], row["difference"]) == (
        "mine", "takd", "32-8-2", "single-level", "3", "8.0000")
    change, = csv_rows(tables["ablations.csv"])
    assert (change["dataset"], change["change"], change["n"], change["difference"]) == ("mine", "u 0.9", "3", "-12.0000")
    assert "digits" not in tables["schemes.md"] + tables["comparisons.md"] + tables["ablations.md"]


DRAWN = st.fixed_dictionaries({
    "seed": st.integers(0, 3), "lr": st.sampled_from([0.05, 0.1]), "width": st.sampled_from([16, 8]),
    "train_limit": st.sampled_from([None, 300]), "quantizer": st.sampled_from(["dorefa", "lsq"])})
OUTSIDE = st.fixed_dictionaries({
    "digest": st.sampled_from(["d" * 64, "e" * 64, None]), "images": st.sampled_from([360, 100]),
    "extended": st.sampled_from([None, [{"epochs": 20}]])})


@examples(40, deadline=None)  # every example writes files and draws tables of them
@given(runs=st.lists(st.tuples(DRAWN, OUTSIDE, st.floats(0, 100), st.booleans()), min_size=1, max_size=12))
def test_no_group_ever_mixes_configurations(runs):
    """Against grouping in plain Python; of one seed the last, which is the newest, counts."""
    expected: dict[str, dict[int, tuple[float, bool]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, (config, outside, accuracy, evaluated) in enumerate(runs):
            record = records.training(accuracy, date=f"2026-11-22T00:00:{number:02}+00:00", **config, **outside)
            records.write_run(folder, f"run-{number:02}", record, evaluated)
            key = json.dumps([{**config, "seed": None}, outside], sort_keys=True)
            expected.setdefault(key, {})[config["seed"]] = (accuracy, evaluated)
        tables = make_tables(Path(folder))
    rows = rows_of(tables["schemes.md"])
    found = sorted((row["n"], row["seeds"], row["FQ %"], row["bit-true %"]) for row in rows)
    assert found == sorted((str(len(group)), ", ".join(map(str, sorted(group))),
                            mean_text([accuracy for accuracy, _ in group.values()], len(group)),
                            mean_text([accuracy for accuracy, evaluated in group.values() if evaluated], len(group)))
                           for group in ({seed: group[seed] for seed in sorted(group)} for group in expected.values()))
    assert len({json.dumps({k: v for k, v in row.items() if k not in RESULTS}) for row in rows}) == len(rows)


def mean_text(values, whole):
    if not values:
        return "-"
    text = f"{sum(values) / len(values):.2f}"
    text += f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return text if len(values) == whole else f"{text} ({len(values)} of {whole})"
