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


def trained_for(way, bits, seed, accuracy, folder, **options):
    """A run and its evaluation on the register that it was trained for."""
    config = {"accumulator_bits": bits, "accumulator_training": way, "overflow": "wrap", "tile": "1", **options}
    training = records.training(accuracy, seed=seed, quantizer=way if way.startswith("a2q") else "dorefa", **config)
    rule = config["overflow"] if way == "overflow" else "saturate"
    name = f"{way}-{bits}-{rule}-{seed}"
    records.write(folder, f"{name}.train.json", training)
    found = records.evaluation(training, accuracy, accumulator=bits, overflow=rule, model=f"runs/{name}/ckpt.pt")
    for layer in found["layers"]:
        layer |= {"overflows": 3 if way == "overflow" and layer["role"] != "boundary" else 0,
                  "safe_bits": 20 if layer["role"] == "boundary" else min(bits, 11) if way.startswith("a2q") else 15}
    records.write(folder, f"accumulator-{name}.eval.json", found)


def test_register_training__has_every_way_beside_each_other(tmp_path):
    for seed in (0, 1):
        plain = records.training(90.0 + seed, seed=seed)
        records.write_run(tmp_path, f"plain-{seed}", plain)
        for rule, accuracy in (("saturate", 50.0), ("wrap", 20.0)):
            records.write(tmp_path, f"plain-{rule}-{seed}.json", records.evaluation(
                plain, accuracy + seed, accumulator=10, overflow=rule, model=f"runs/plain-{seed}/ckpt.pt"))
        trained_for("a2q", 10, seed, 80.0 + seed, tmp_path)
        trained_for("a2q+", 10, seed, 84.0 + seed, tmp_path)
        trained_for("overflow", 10, seed, 70.0 + seed, tmp_path, overflow="saturate")
    other = records.training(77.0, scheme="kd")  # nothing like it was trained for a register
    records.write_run(tmp_path, "kd", other)
    job = {"name": "g/a2qplus-8-seed0", "job": "a2qplus-8", "seed": 0, "scheme": "skip-level", "path": [32, 2], "error": "",
           "model": "resnet20", "preset": "quick", "dataset": "digits", "data": "", "epochs": 20, "status": "not run",
           "accumulator_bits": 8, "accumulator_training": "a2q+", "overflow": "wrap"}
    records.write(tmp_path, "grid.json", {key: plain[key] for key in ("command", "commit", "date", "hardware")} | {
        "kind": "grid", "grid": "g", "title": "t", "why": "", "equal_compute": {"words": "", "epochs": 0}, "hours": 0,
        "left_out": [], "jobs": [job]})
    tables = make_tables(tmp_path)
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in
             tables["register_training.md"].splitlines() if line.startswith("|")]
    assert lines[2:] == [
        ["unlimited", "-", "90.50 ± 0.71", "-", "-", "-", "2"],
        ["10 bit", "saturate", "50.50 ± 0.71", "80.50 ± 0.71", "84.50 ± 0.71", "70.50 ± 0.71", "2"],
        ["8 bit", "saturate", "-", "-", "not run", "-", "-"],
        ["10 bit", "wrap", "20.50 ± 0.71", "80.50 ± 0.71", "84.50 ± 0.71", "-", "2"],
        ["8 bit", "wrap", "-", "-", "not run", "-", "-"],
        ["trained", "register", "n", "bits needed at most", "overflows"], lines[8],
        ["a2q", "10 bit", "2", "10", f"0 of {lines[9][-1].split()[-1]}"],
        ["a2q+", "10 bit", "2", "10", f"0 of {lines[10][-1].split()[-1]}"], ["plain", "-", "2", lines[11][3], "-"]]
    assert len(csv_rows(tables["register_training.csv"])) == 6 + 6 + 1
    assert "a2q" not in tables["accumulators.md"]
    records.write_run(tmp_path / "alone", "kd", other)
    assert "register_training.md" not in make_tables(tmp_path / "alone")


@pytest.mark.parametrize("names", [("parent", "child"), ("3bit", "2bit"), ("2bit-ss", "2bit-tu"), ("8bit", "wide"),
                                   ("x", "")])
def test_student__is_what_the_last_step_left_whatever_it_is_called(names, tmp_path):
    """As filed: "-" for own schemes whose last step is not called after its width."""
    run = records.training(80.0)
    last, = run["steps"].values()
    run["steps"] = {name or "2bit": last for name in names}
    records.write(tmp_path, "run.json", run)
    for number, name in enumerate(names):  # of equal widths: nothing but the step tells them apart
        found = records.evaluation(run, 70.0 + number)
        records.write(tmp_path, f"{number}.json", found | {"training": {**found["training"], "step": name}})
    tables = make_tables(tmp_path)
    assert rows_of(tables["schemes.md"])[0]["bit-true %"] == "71.00"
    assert [row["bit-true"] for row in csv_rows(tables["evaluations.csv"])] == ["70.0000"]


def test_register_training__has_no_wider_step_of_a_ladder(tmp_path):
    """Its checkpoint says how the student was trained, and it was not: it has a row among the accumulators."""
    for seed in (0, 1):
        plain = records.training(90.0, seed=seed, path=[32, 4, 2])
        records.write_run(tmp_path, f"plain-{seed}", plain)
        trained_for("a2q", 10, seed, 80.0, tmp_path, path=[32, 4, 2])
        narrow = {"accumulator_training": "a2q", "accumulator_bits": 10, "quantizer": "a2q"}
        for way, config in (("a2q", narrow), ("plain", {})):
            wider = records.evaluation(plain, 33.0, accumulator=10, overflow="saturate", model=f"runs/{way}-{seed}/4bit.pt",
                                       **config)
            wider["precision"] = wider["trained_precision"] = {**wider["precision"], "inner": 4}
            wider["training"]["step"] = "4bit"
            records.write(tmp_path, f"{way}-{seed}-4bit.json", wider)
    tables = make_tables(tmp_path)
    assert {row["bit-true"] for row in csv_rows(tables["register_training.csv"])} == {"90.0000", "80.0000"}
    assert [row["bit-true"] for row in csv_rows(tables["accumulators.csv"])].count("33.0000") == 4
