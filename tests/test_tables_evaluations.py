"""Evaluations: of programs, of networks of one name, on some of the images, and those that no table has."""

import pytest

from tests import records
from tests.test_tables_groups import csv_rows, rows_of
from training.tables import make_tables


def program(training, accuracy=60.0, *, bits=None, model="out/prog.npz", **changes):
    """As sim.eval --model prog.npz --json writes it."""
    record = records.evaluation(training, accuracy) | {"training": {}, "model": model, "model_digest": "sha256:" + "a" * 64,
                                                       **changes}
    for key in ("precision", "trained_precision", "hardware_spec"):
        del record[key]
    for layer in record["layers"]:
        del layer["role"]
        layer["accumulator"] = {"bits": bits, "overflow": "wrap", "tile": 1}
    return record


@pytest.mark.parametrize(("bits", "options"), [(None, ""), (12, "accumulator 12 bit wrap, tile 1")])
def test_program__has_a_row_with_its_name_and_registers(bits, options, tmp_path):
    """As filed: damaged record (KeyError: 'role')."""
    records.write(tmp_path, "run.json", records.training(80.0))
    records.write(tmp_path, "p.json", program(records.training(80.0), bits=bits, program="0123456789abcdef"))
    row, = csv_rows(make_tables(tmp_path)["evaluations.csv"])
    assert (row["network"], row["options"], row["bits"], row["bit-true"]) == (
        "prog.npz, program 0123456789", options, "", "60.0000")


NETWORKS = {
    "model_digest": ["sha256:" + "a" * 64, "sha256:" + "b" * 64], "model": ["runs/a/ckpt.pt", "runs/b/ckpt.pt"],
    "program": ["a" * 64, "b" * 64], "trained_precision": [{"inner": 2, "boundary": 8, "skip": 8},
                                                           {"inner": 3, "boundary": 8, "skip": 8}]}


@pytest.mark.parametrize("key", NETWORKS)
def test_evaluations__of_different_networks_are_different_rows(key, tmp_path):
    training = records.training(80.0, seed=5)
    for number, value in enumerate(NETWORKS[key]):
        records.write(tmp_path, f"{number}.json", records.evaluation(training, 60.0 + number, requant="tflite_single")
                      | {key: value})
    tables = make_tables(tmp_path)
    assert [row["bit-true"] for row in csv_rows(tables["evaluations.csv"])] == ["60.0000", "61.0000"]
    assert len({(row["network"], row["options"]) for row in csv_rows(tables["evaluations.csv"])}) == 2


def test_evaluation__of_one_digest_under_two_paths_is_of_one_network_and_the_older_is_named(tmp_path, capsys):
    from training.tables import main

    training = records.training(80.0, seed=5)
    for name, isa, hour in (("a", "vnni", 1), ("b", "avx2", 2)):
        records.write(tmp_path / "r", f"{name}.json", records.evaluation(
            training, 60.0, requant="tflite_single", model=f"{name}/ckpt.pt", date=f"2026-11-22T0{hour}:00:00+00:00")
            | {"model_digest": "sha256:" + "a" * 64, "isa": isa})
    main([tmp_path / "r"], out=tmp_path / "out")
    assert len(csv_rows((tmp_path / "out/evaluations.csv").read_text())) == 1
    error = capsys.readouterr().err
    assert "a.json: the same evaluation again on vnni kernels, the tables have" in error
    assert "b.json on avx2 kernels" in error


def test_limited_evaluation__is_labelled_and_a_full_one_is_preferred(tmp_path, capsys):
    """As filed: --limit 50 passed as the accuracy on 360 test images."""
    from training.tables import main

    training = records.training(80.0)
    records.write(tmp_path / "r", "run.json", training)
    records.write(tmp_path / "r", "eval.json", records.evaluation(training, 90.0, images=50))
    row, = rows_of(make_tables(tmp_path / "r")["schemes.md"])
    assert (row["bit-true %"], row["options"]) == ("90.00", "bit-true on 50 of 360 test images")
    records.write(tmp_path / "r", "full.json", records.evaluation(training, 80.0))
    main([tmp_path / "r"], out=tmp_path / "out")
    row, = rows_of((tmp_path / "out/schemes.md").read_text())
    assert (row["bit-true %"], row["options"]) == ("80.00", "")
    assert "eval.json: another evaluation of a run's student, on 50 images" in capsys.readouterr().err


def test_limited_evaluations__are_not_what_comparisons_compare(tmp_path):
    for seed in (0, 1):
        records.write_run(tmp_path, f"a{seed}", records.training(90.0 + seed, seed=seed), images=50, accuracy=10.0)
        records.write_run(tmp_path, f"b{seed}", records.training(80.0, seed=seed, scheme="individual", path=[2]), images=50,
                          accuracy=60.0)
    rows = csv_rows(make_tables(tmp_path)["comparisons.csv"])
    assert sorted((row["accuracy"], row["difference"]) for row in rows) == [("FQ", "-10.5000"), ("FQ", "10.5000")]


def test_limited_evaluation__of_one_seed_does_not_join_the_others(tmp_path):
    for seed, images in ((0, 360), (1, 50)):
        records.write_run(tmp_path, f"a{seed}", records.training(90.0, seed=seed), images=images)
    rows = rows_of(make_tables(tmp_path)["schemes.md"])
    assert sorted((row["n"], row["options"]) for row in rows) == [("1", ""), ("1", "bit-true on 50 of 360 test images")]
