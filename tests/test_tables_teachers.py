"""Teachers that runs were given: whose epochs count, and which of them are the same kind."""

import hashlib
import json

import pytest

from tests import records
from tests.test_tables_groups import csv_rows, rows_of
from training.tables import make_tables


def student(folder, teacher, digest="", *, seed=0, accuracy=80.0, epochs=20, out="", **config):
    """A run that adopted a float network."""
    record = records.training(accuracy, seed=seed, teacher=str(teacher), epochs=epochs, curve=[50.0] * epochs, **config)
    record["steps"] = {"32bit": {"bits": 32, "from": str(teacher), "precision": "float", "epochs": []}, **record["steps"]}
    record["command"] = f"python -m training.run --out {out or folder}"
    if digest:
        record["digests"] = {"teacher": digest}
    return records.write(folder, "run.json", record)


def teacher(folder, epochs, *, seed=0, out="", content=b"weights"):
    """A float network of so many epochs; the digest of its checkpoint."""
    record = records.training(90.0, seed=seed, scheme="individual", path=[32], epochs=epochs, curve=[50.0] * epochs,
                              date="2026-11-21T00:00:00+00:00")
    record["command"] = f"python -m training.run --out {out or folder}"
    records.write(folder, "run.json", record)
    (folder / "ckpt.pt").write_bytes(content)
    return "sha256:" + hashlib.sha256(content).hexdigest()


def epochs_of(folder, scheme="skip-level"):
    return [row["epochs along path"] for row in csv_rows(make_tables(folder)["schemes.csv"]) if row["scheme"] == scheme]


def test_epochs__are_those_that_the_teacher_had(tmp_path):
    """As filed: those of this run were counted, 20 + 20."""
    digest = teacher(tmp_path / "t", 7)
    student(tmp_path / "s", tmp_path / "t/ckpt.pt", digest)
    assert epochs_of(tmp_path) == ["27"]
    (tmp_path / "t").rename(tmp_path / "moved")
    assert epochs_of(tmp_path) == ["27"]


def test_epochs__of_a_teacher_that_is_not_here_or_another_are_not_guessed(tmp_path):
    student(tmp_path / "s", tmp_path / "t/ckpt.pt", "sha256:" + "0" * 64)
    assert epochs_of(tmp_path) == [""]
    assert rows_of(make_tables(tmp_path)["schemes.md"])[0]["along path"] == "-"
    teacher(tmp_path / "t", 7)
    assert epochs_of(tmp_path) == [""]


def test_epochs__of_kept_records_are_found_by_the_folder_of_their_command(tmp_path):
    teacher(tmp_path / "a", 7, out="runs/x/t")
    student(tmp_path / "b", "runs/x/t/ckpt.pt", out="runs/x/s")
    assert epochs_of(tmp_path) == ["27"]


@pytest.mark.parametrize(("path", "epochs"), [("runs/digits/t-seed0/ckpt.pt", "40"), ("runs/other/t-seed0/ckpt.pt", "")])
def test_epochs__of_sweeps_before_0_2_are_equal(path, epochs, tmp_path):
    student(tmp_path, path, out="runs/digits/s-seed0")
    assert epochs_of(tmp_path) == [epochs]


@pytest.mark.parametrize("layout", [
    "runs/float/{0}/ckpt.pt", "/runs/{0}.float/8/ckpt.pt", "runs/t-seed{0}/ckpt.pt", "r{0}/x{0}.pt"])
def test_runs__each_with_the_teacher_of_its_seed_are_one_row(layout, tmp_path):
    """As filed: three rows of one seed each."""
    for seed in (0, 1, 2):
        student(tmp_path / str(seed), layout.format(seed), f"sha256:{seed:064}", seed=seed)
    assert [row["n"] for row in rows_of(make_tables(tmp_path)["schemes.md"])] == ["3"]


@pytest.mark.parametrize("paths", [["w4/t.pt", "w4/t.pt", "w2/t.pt", "w2/t.pt"], ["a/t.pt", "a/t.pt", "b/t.pt", "b/t.pt"]])
def test_runs__whose_teachers_differ_in_more_are_not(paths, tmp_path):
    """A width may equal a seed by chance."""
    for number, (path, seed) in enumerate(zip(paths, (2, 4, 2, 4), strict=True)):
        student(tmp_path / str(number), path, f"sha256:{number // 2:064}", seed=seed)
    assert [row["n"] for row in rows_of(make_tables(tmp_path)["schemes.md"])] == ["2", "2"]


def test_runs__of_one_teacher_under_two_paths_are_one_row(tmp_path):
    for seed, path in enumerate(["runs/t/ckpt.pt", "/home/me/runs/t/ckpt.pt", "copy.pt"]):
        student(tmp_path / str(seed), path, "sha256:" + "1" * 64, seed=seed)
    assert [row["n"] for row in rows_of(make_tables(tmp_path)["schemes.md"])] == ["3"]


def test_epochs__do_not_count_where_nothing_is_trained(tmp_path):
    """Calibration of a given network: more epochs or another augmentation are the same experiment."""
    for seed, epochs in enumerate((20, 30)):
        file = student(tmp_path / str(seed), "t.pt", "sha256:" + "1" * 64, seed=seed, scheme="ptq", epochs=1)
        text = file.read_text().replace('"epochs": 1,', f'"epochs": {epochs},')
        file.write_text(text)
        record = json.loads(text)
        entry, = record["steps"]["2bit"]["epochs"]
        entry["loss"] = entry["validation_loss"]
        records.write(tmp_path / str(seed), "run.json", record)
    row, = rows_of(make_tables(tmp_path)["schemes.md"])
    assert (row["n"], row["epochs"], row["augment"]) == ("2", "-", "-")
