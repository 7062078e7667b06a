"""A run that is killed inside an epoch goes on there, to the same bits."""

import json
import time

import numpy as np
import pytest
import torch

from sim.checkpoint import CheckpointError
from tests.test_training import Silent, Stops, arrays, small_config
from training import within as within_module
from training.checkpoint import ResumeState
from training.config import ConfigError
from training.data import load_dataset
from training.display import RunDisplay, console
from training.runner import Runner
from training.schemes import SCHEMES

CPU = torch.device("cpu")
ADAMW = {"optimizer": "adamw", "clip": 1.0, "accumulate": 2, "schedule": "linear", "lr": 1e-3}
KINDS = {
    "speq on vit, adamw": ({"scheme": "speq", "model": "vit", "width": 8, "path": (32, 3), **ADAMW}, 3),
    "apprentice-a on resnet8, momentum": ({"scheme": "apprentice-a", "path": (32, 2)}, 2),
    "individual on resnet8, nesterov": ({"scheme": "individual", "path": (2,), "optimizer": "nesterov"}, 5),
}
"""Draws of the step's own, batch norms, a partner, each optimizer; and after how many batches it dies first."""


def config_of(options):
    found = SCHEMES[options["scheme"]]
    return small_config(**{**found.defaults, "epochs": 2, "batch": 16, "train_limit": 90, **options})


def run(config, out, display=None, minutes=0.0):
    record = json.loads((out / "run.json").read_text()) if (out / "run.json").exists() else {}
    runner = Runner(config, load_dataset("digits"), out, CPU, display or Silent(), record, save_minutes=minutes)
    runner.run()
    return runner


def timeless(record):
    """The epochs of all steps without what depends on when and how fast."""
    left = ("seconds", "images_per_second", "session")
    return {name: [{key: value for key, value in entry.items() if key not in left} for entry in step["epochs"]]
            for name, step in record["steps"].items()}


@pytest.mark.parametrize("kind", [
    pytest.param(kind, marks=pytest.mark.exhaustive if "vit" in kind else ()) for kind in KINDS])
def test_resume__inside_an_epoch_ends_with_the_same_bits(tmp_path, kind):
    options, first = KINDS[kind]
    config = config_of(options)
    whole = run(config, tmp_path / "whole", minutes=1e6)
    out, died, batches = tmp_path / "killed", 0, first
    while True:
        try:
            killed = run(config, out, Stops(batches))
            break
        except KeyboardInterrupt:
            died += 1
            batches = 4  # more than a step of the optimizer, so that every start gets on
    assert died > 2
    for name in [*whole.record["steps"], "ckpt"]:
        mine, theirs = arrays(out / f"{name}.pt"), arrays(tmp_path / "whole" / f"{name}.pt")
        assert all(np.array_equal(mine[key], theirs[key]) for key in theirs), name
    assert timeless(killed.record) == timeless(whole.record)
    assert killed.record["test"] == whole.record["test"]
    assert not (out / "resume.pt").exists()


def test_state__inside_an_epoch_says_how_far_it_is_and_how_long_it_took(tmp_path):
    config = config_of({"scheme": "individual", "path": (2,)})
    with pytest.raises(KeyboardInterrupt):
        run(config, tmp_path, Stops(4))
    state = ResumeState.load(tmp_path / "resume.pt")
    assert (state.epoch, state.history, state.best["epoch"]) == (0, [], 0)
    assert (state.within["batches"], state.within["examples"]) == (3, 48)  # the fourth died before it was kept
    before = state.within["seconds"]
    assert before > 0.0
    started = time.perf_counter()
    killed = run(config, tmp_path)
    first = killed.record["steps"]["2bit"]["epochs"][0]["seconds"]
    assert before < first < before + time.perf_counter() - started


def test_state__is_kept_after_so_many_minutes_only(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(within_module.time, "perf_counter", lambda: now[0])

    class Clock(Silent):
        def advance(self, *_):
            now[0] += 61.0
            written.append((tmp_path / "resume.pt").exists())

    written = []
    run(config_of({"scheme": "individual", "path": (2,), "epochs": 1}), tmp_path, Clock(), minutes=3.0)
    assert written == [False, False, False, True, True, True]


def test_generators__that_are_damaged_are_one_line(tmp_path):
    config = config_of({"scheme": "individual", "path": (2,)})
    with pytest.raises(KeyboardInterrupt):
        run(config, tmp_path, Stops(3))
    state = ResumeState.load(tmp_path / "resume.pt")
    state.within["lesson"] = state.within["lesson"][:9]
    state.save(tmp_path / "resume.pt")
    with pytest.raises(CheckpointError, match=r"resume\.pt: its generators are damaged; delete it"):
        run(config, tmp_path)


def test_save_minutes__that_are_none_are_refused(tmp_path):
    import training

    with pytest.raises(ConfigError, match=r"save-minutes: -1\.0 is not allowed"):
        training.train("individual", save_minutes=-1.0, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_display__says_within_an_epoch_how_far_it_is_and_how_long_it_will_take(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr("training.display.time.monotonic", lambda: now[0])
    monkeypatch.setattr(console, "_file", None)  # `file` would be set back to what pytest closes
    with RunDisplay() as display:
        display.begin("32bit", 2, 1000, 0.5, "texts")
        for _ in range(4):
            now[0] += 100.0
            display.advance(50, 1.25)
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines() if "left" in line]
    assert lines == ["32bit epoch 0.65/2 0.5 texts/s loss 1.250 0:45:00 left"]
