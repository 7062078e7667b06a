"""A sweep never replaces the records of other code or configurations, and its children are this package's."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from tests import records
from tests.cli import processes_in
from training import sweep
from training.sweeps.grid import GridError, find_grid
from training.sweeps.work import Crew, SweepError

KEPT = "results/records/digits/individual-2-seed0.train.json"
GRID = """
[settings]
dataset = "digits"
[jobs]
individual-2 = { scheme = "individual", path = [2] }
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory with a committed record, and a grid of one job."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits.toml").write_text(GRID)
    (tmp_path / KEPT).parent.mkdir(parents=True)
    shutil.copyfile(records.ROOT / KEPT, tmp_path / KEPT)
    return tmp_path


@pytest.fixture
def called(monkeypatch):
    """The commands that were run, none of which does anything."""
    calls = []
    monkeypatch.setattr(Crew, "call", lambda self, *options: calls.append(options))
    return calls


def finished(here, text=None, **changes):
    """The folder of the finished job; its record, byte for byte."""
    out = here / "runs/digits/individual-2-seed0"
    out.mkdir(parents=True)
    (out / "ckpt.pt").touch()
    record = json.loads((records.ROOT / KEPT).read_text()) | changes
    text = text or json.dumps(record, indent=3)
    (out / "run.json").write_text(text)
    evaluation = records.evaluation(record)
    (out / "eval.json").write_text(json.dumps(evaluation, indent=2))
    return text


def start(*options):
    return CliRunner().invoke(sweep.app, ["digits.toml", *options])


def test_sweep__never_replaces_a_record_of_other_code(here):
    """As filed: digits --seeds 1, as the README said, overwrote the committed records."""
    finished(here, commit="f" * 40)
    before = (here / KEPT).read_bytes()
    result = start("--seeds", "1")
    assert isinstance(result.exception, SweepError)
    assert KEPT in str(result.exception)
    assert "--replace" in str(result.exception)
    assert (here / KEPT).read_bytes() == before


def test_sweep__of_other_code_stops_before_it_trains(here, called):
    assert isinstance(start().exception, SweepError)
    assert not called


def test_sweep__writes_where_it_is_told_byte_for_byte(here):
    text = finished(here, commit="f" * 40)
    result = start("--results", "mine")
    assert result.exception is None, result.exception
    kept = here / KEPT.replace("results", "mine")
    assert kept.read_text() == text
    assert "python -m training.tables --results mine" in result.output
    assert (here / KEPT).read_bytes() == (records.ROOT / KEPT).read_bytes()


@pytest.mark.parametrize(("changes", "options"), [
    ({"commit": "f" * 40}, ["--replace"]), ({"date": "2026-11-23T00:00:00+00:00"}, []), ({}, [])])
def test_sweep__replaces_what_it_may(here, changes, options):
    """What the same code made of the same configuration, or what it is told to."""
    text = finished(here, **changes)
    assert start(*options).exception is None
    assert (here / KEPT).read_text() == text


def test_sweep__from_another_first_seed_evaluates_that(here, monkeypatch):
    """As filed: the evaluations took seed 0 and failed after all the work."""
    with (here / "digits.toml").open("a") as file:
        file.write('[[evaluations]]\njob = "individual-2"\nname = "agreement-x"\nbits = 2\n')
    finished(here)
    config = json.loads((records.ROOT / KEPT).read_text())["config"]
    shutil.rmtree(here / "runs")
    finished(here, config={**config, "seed": 3})
    (here / "runs/digits/individual-2-seed0").rename(here / "runs/digits/individual-2-seed3")
    called = []

    def call(self, *options):
        called.append(options[options.index("--model") + 1])
        records.write(here, options[-1], records.evaluation(records.training(80.0, seed=3)))

    monkeypatch.setattr(Crew, "call", call)
    result = start("--first-seed", "3", "--results", "mine")
    assert result.exception is None, result.exception
    assert called == ["runs/digits/individual-2-seed3/ckpt.pt"]
    assert (here / "mine/records/digits/agreement-x.eval.json").exists()


def test_sweep__takes_no_other_configuration_for_its_job(here, called):
    """A grid that has changed since must not find its old numbers."""
    config = json.loads((records.ROOT / KEPT).read_text())["config"]
    finished(here, config={**config, "lr": 0.2})
    error = start("--results", "mine").exception
    assert isinstance(error, GridError)
    assert "job individual-2: runs/digits/individual-2-seed0 holds another run (lr 0.2 there, 0.05 now)" in str(error)
    assert not called


def test_sweep__replaces_no_record_of_another_configuration(here):
    finished(here)
    kept = json.loads((here / KEPT).read_text())
    kept["config"]["lr"] = 0.2
    (here / KEPT).write_text(json.dumps(kept))
    assert isinstance(start().exception, SweepError)


@pytest.mark.parametrize("changes", [
    {"status": "running", "note": '"status": "finished"'}, {"status": "diverged"}])
def test_sweep__believes_what_a_record_says_and_no_substring(here, changes, called):
    finished(here, **changes)
    result = start()
    assert called[0][0] == "training.run"
    assert isinstance(result.exception, SweepError)  # a command that does nothing has not done it


@pytest.mark.parametrize("text", ["", "{", '{"status": "finished"}', '"status": "finished"'])
def test_sweep__names_a_damaged_record(here, text):
    finished(here, text or " ")
    error = start("--results", "mine").exception
    assert "run.json" in str(error)
    assert "\n" not in str(error)


def test_children__are_of_this_package_whatever_lies_in_the_working_directory(tmp_path, monkeypatch):
    for name in ("sim.py", "training.py", "json.py"):
        (tmp_path / name).write_text("raise SystemExit('the wrong module')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    Crew().call("sim.eval", "--help")


def test_child__that_fails_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SweepError) as error:
        Crew().call("sim.eval", "--model", "missing\n.pt")
    assert "missing" in str(error.value)
    assert "\n" not in str(error.value)
    assert "error:" not in str(error.value)


def _take_interrupts():
    """Who runs the tests in the background of a shell ignores them, and so would a child."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.mark.exhaustive
def test_interrupted_sweep__ends_its_run_and_is_one_line(tmp_path):
    (tmp_path / "long.toml").write_text(GRID.replace("[jobs]", "epochs = 999\n[jobs]"))
    process = subprocess.Popen([sys.executable, "-m", "training.sweep", "long.toml", "--results", "mine"], cwd=tmp_path,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env={**os.environ, "PYTHONPATH": str(records.ROOT), "OMP_WAIT_POLICY": "passive"},
                               preexec_fn=_take_interrupts)  # noqa: PLW1509 - it takes no lock
    try:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob("runs/long/*/run.json")) and time.monotonic() < deadline:
            time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    finally:
        left = processes_in(tmp_path)
        for number in left:  # 999 epochs would keep a core from all tests that follow
            os.kill(number, signal.SIGKILL)
    assert process.returncode == 130
    assert errors == "error: interrupted; the same command goes on where it was\n"
    assert not left


def test_sweeps__name_the_augmentation_that_is_no_default():
    """That of own data is none, and these records were made with crops and flips."""
    assert find_grid("cifar10-q75").settings["augment"] == "crop-flip"
