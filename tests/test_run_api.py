"""The Python face of training, and who watches a run: doctests, objects of one's own, logs, curves, TensorBoard."""

import dataclasses
import doctest
import importlib
import json
import pkgutil
import subprocess
import sys
import threading
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import training
from sim.checkpoint import load_checkpoint, save_checkpoint
from sim.network import NetworkError
from sim.registry import RegistryError
from training import api, curves
from training.config import ConfigError
from training.models import MODELS
from training.quantizers import QUANTIZERS
from training.schemes import SCHEMES

CHECKPOINT = Path(__file__).parent / "data" / "takd-digits-2bit.pt"
SMALL = {"model": "resnet8", "width": 4, "train_limit": 64, "batch": 32, "epochs": 1}


def my_network(image, classes, width):
    """A network of one's own, here a known one of another width."""
    return MODELS["resnet8"](image, classes, width + 1)


def modules_with_examples():
    names = [module.name for module in pkgutil.walk_packages(training.__path__, "training.")]
    return [name for name in names if ">>>" in (importlib.util.find_spec(name).loader.get_source(name) or "")]


@pytest.mark.parametrize("name", modules_with_examples())
def test_examples__in_docstrings_give_what_they_say(name):
    found = doctest.testmod(importlib.import_module(name))
    assert found.failed == 0
    assert found.attempted


def test_face__is_light_until_it_is_used():
    script = "import sys, training; assert 'torch' not in sys.modules; training.train; assert 'torch' in sys.modules\n" \
             "assert {'train', 'load', 'load_dataset', 'from_arrays'} <= set(dir(training))"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = training.trian


def test_train__gives_values_and_leaves_the_callers_random_numbers_alone(tmp_path, capsys):
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    result = training.train("takd", path=(32, 2), out=tmp_path / "o", **{**SMALL, "epochs": 2})
    assert torch.equal(torch.rand(1), expected)
    assert capsys.readouterr().out == ""
    assert isinstance(result.history, pd.DataFrame)
    assert result.history[["step", "bits", "epoch"]].values.tolist() == [
        ["32bit", 32, 1], ["32bit", 32, 2], ["2bit", 2, 1], ["2bit", 2, 2]]
    assert result.record == json.loads((tmp_path / "o" / "run.json").read_text())
    assert repr(result) == f"TrainResult(takd 32-2 resnet8, {result.accuracy:.2f} % on test, {str(tmp_path / 'o')!r})"
    data = training.load_dataset("digits")
    network = training.load(str(result.checkpoint))
    assert not network.training
    with torch.no_grad():
        right = (network(data.test.pixels.float()).argmax(1) == data.test.labels).double().mean()
    assert result.accuracy == pytest.approx(100 * float(right))


def test_train__takes_arrays_functions_and_schemes_and_says_that_they_were_from_python(tmp_path):
    rng = np.random.default_rng(0)
    data = training.from_arrays(rng.integers(0, 256, (60, 8, 8)).astype(np.uint8), np.arange(60) % 3,
                                rng.integers(0, 256, (9, 8, 8)).astype(np.uint8), np.arange(9) % 3, name="mine")
    result = training.train(SCHEMES["individual"], dataset=data, **{**SMALL, "model": my_network}, out=tmp_path / "o")
    assert result.record["config"]["model"].endswith(":my_network")
    assert result.record["own_code"]["model"]["name"] == result.record["config"]["model"]
    assert result.record["data"]["label"] == "mine"
    assert result.record["command"].startswith("training.train(scheme='individual'")
    assert "from Python" in result.record["command"]
    assert "dataset=mine" in result.record["command"]
    again = training.train(SCHEMES["individual"], dataset=data, resume=True, out=tmp_path / "o",
                           **{**SMALL, "model": my_network})
    assert again.record == result.record


def test_train__refuses_objects_by_name(tmp_path):
    with pytest.raises(RegistryError, match="model"):
        training.train("individual", model=lambda image, classes, width: None, out=tmp_path / "o")
    with pytest.raises((RegistryError, NetworkError), match="scheme"):
        training.train("tadk", out=tmp_path / "o")
    with pytest.raises(ConfigError, match="data: the dataset is given as an object"):
        training.train("individual", dataset=training.load_dataset("digits"), data="x.npz", out=tmp_path / "o")
    assert not (tmp_path / "o").exists()


def test_log__gets_a_line_of_every_epoch_and_goes_on_at_resume(tmp_path):
    log = tmp_path / "logs" / "l.txt"
    options = {**SMALL, "out": tmp_path / "o", "log": log}
    training.train("individual", **options)
    training.train("individual", **{**options, "epochs": 2}, resume=True)
    lines = log.read_text().splitlines()
    assert [line.split("  ")[0] for line in lines] == ["2bit epoch 1/1", "2bit epoch 2/2"]


@pytest.fixture
def places(tmp_path, monkeypatch):
    """A folder of what a run might read or have written before, to be found unchanged."""
    monkeypatch.chdir(tmp_path)
    save_checkpoint("ckpt.pt", load_checkpoint(CHECKPOINT))
    np.savez("set.npz", x_train=np.zeros(1))
    for name, text in {"net.py": "def build(image, classes, width): pass\n", "helper.py": "x = 1\n", "t.csv": "a,b\n1,2\n",
                       "run.json": '{"kind": "training"}', "other.json": "{}", "curves.svg": "<?xml version='1.0'?><svg/>",
                       "notes.md": "# notes\n"}.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "photo.png").write_bytes(b"\x89PNG\r\n\x1a\n\0")
    (tmp_path / "link.txt").symlink_to("ckpt.pt")
    (tmp_path / "later.txt").symlink_to("o/ckpt.pt")
    return tmp_path


@pytest.mark.parametrize(("log", "options", "words"), [
    ("ckpt.pt", {"teacher": "ckpt.pt"}, "the file of --teacher"), ("link.txt", {"init_from": "ckpt.pt"}, "of --init-from"),
    ("link.txt", {}, "a checkpoint"), ("set.npz", {"dataset": "npz", "data": "set.npz"}, "of --data"),
    ("net.py", {"model": "net.py:build"}, "of --model"), ("net.py", {"model": "net:build"}, "of --model"),
    ("helper.py", {}, "a Python file"), ("run.json", {}, "the record of a training run"), ("other.json", {}, "no log"),
    ("curves.svg", {}, "no log"), ("t.csv", {}, "no log"), ("notes.md", {}, "no log"), ("photo.png", {}, "an image"),
    *((f"o/{name}", {}, "of the run itself") for name in ("run.json", "ckpt.pt", "resume.pt", "2bit.pt", "curves.svg")),
    ("later.txt", {}, "a file of the run itself"), ("o", {}, "the folder of the run"), (".", {}, "is a folder"),
    ("o/", {}, "names a folder"), ("t.csv/log", {}, "a folder of it is a file"), ("n" * 300, {}, "File name too long"),
])
def test_log__that_would_spoil_a_file_is_refused_before_any_work(places, monkeypatch, log, options, words):
    monkeypatch.setattr(api, "load_dataset", None)
    before = {path: path.read_bytes() for path in places.rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match=r"^log: ") as error:
        training.train("takd", out="o", log=log, **{**SMALL, **options})
    assert words in str(error.value)
    assert before == {path: path.read_bytes() for path in places.rglob("*") if path.is_file()}
    assert not (places / "o").exists()


def test_log__of_a_full_disk_ends_no_training_and_says_so_once(tmp_path, capsys):
    result = training.train("individual", out=tmp_path / "o", log="/dev/full", **{**SMALL, "epochs": 2})
    assert result.record["status"] == "finished"
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["warning: log: cannot write /dev/full: No space left on device; the training goes on"]


def test_quiet__prints_nothing(tmp_path, capsys):
    from training.run import app

    assert not app(["--scheme", "individual", "--model", "resnet8", "--width", "4", "--train-limit", "64", "--epochs", "1",
                    "--out", str(tmp_path / "o"), "--quiet"], standalone_mode=False)
    assert capsys.readouterr().out == ""
    assert (tmp_path / "o" / "ckpt.pt").exists()


def test_tensorboard__that_is_not_installed_is_one_line_before_anything_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="the package tensorboard is not installed"):
        training.train("individual", tensorboard=True, out=tmp_path / "o", **SMALL)
    assert not (tmp_path / "o").exists()


def test_tensorboard__gets_every_number_of_an_epoch(tmp_path):
    pytest.importorskip("tensorboard")
    training.train("individual", tensorboard=True, out=tmp_path / "o", **SMALL)
    assert list((tmp_path / "o").glob("events.out.tfevents*"))


RECORD = {"config": {"scheme": "$x_{y", "model": "a$b", "seed": 0, "dataset": "d"}, "data": {"label": "$\\frac{1}$ <&>\n"},
          "steps": {"$2^bit": {"epochs": [{"epoch": 1, "loss": 1.0, "validation_accuracy": 50.0},
                                          {"epoch": 2, "loss": 0.5, "validation_accuracy": 60.0}]},
                    "taken over": {"epochs": []}}}


def test_curves__take_names_as_text_and_are_the_same_bytes_each_time(tmp_path):
    curves.draw_curves(RECORD, tmp_path / "a.svg")
    curves.draw_curves(RECORD, tmp_path / "b.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    import xml.etree.ElementTree as ET

    assert ET.parse(tmp_path / "a.svg").getroot().tag.endswith("svg")


def test_curves__that_cannot_be_drawn_end_no_run(tmp_path, monkeypatch):
    def breaks(*_):
        raise RuntimeError("no ink")

    monkeypatch.setattr(api, "draw_curves", breaks)
    result = training.train("individual", out=tmp_path / "o", **SMALL)
    assert result.record["status"] == "finished"
    assert not (tmp_path / "o" / "curves.svg").exists()
    monkeypatch.undo()
    training.train("individual", out=tmp_path / "o", resume=True, **SMALL)
    assert (tmp_path / "o" / "curves.svg").exists()


def test_train__in_several_threads_gives_the_weights_of_each_run_alone(tmp_path):
    def codes(folder, seed):
        result = training.train("apprentice-a", bits=4, seed=seed, out=folder / str(seed), **SMALL)
        return {key: array.tobytes() for key, array in load_checkpoint(result.checkpoint).spec.arrays.items()}

    alone = {seed: codes(tmp_path / "alone", seed) for seed in range(3)}
    torch.manual_seed(1)
    before, done = torch.get_rng_state(), threading.Event()

    def draw():  # whatever else a program does
        while not done.is_set():
            torch.rand(3)

    other = threading.Thread(target=draw)
    other.start()
    with ThreadPoolExecutor(3) as pool:
        together = dict(zip(range(3), pool.map(lambda seed: codes(tmp_path / "together", seed), range(3)), strict=True))
    done.set()
    other.join()
    assert together == alone
    torch.set_rng_state(before)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda seed: codes(tmp_path / "again", seed), range(2)))
    assert torch.equal(torch.get_rng_state(), before)


def test_train__takes_a_network_and_a_quantizer_that_are_defined_again(tmp_path, monkeypatch):
    module = types.ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", module)
    text = ("from training.models import MODELS\nfrom training.quantizers.dorefa import DoReFa\n"
            "from sim.quantizers.dorefa import DoReFa as Twin\n"
            "class Mine(DoReFa):\n    twin = Twin()\nmine = Mine()\n"
            "def build(image, classes, width):\n    return MODELS['resnet8'](image, classes, width + {})\n")
    for more in (1, 2):
        exec(text.format(more), vars(module))
        result = training.train("individual", out=tmp_path / str(more),
                                **{**SMALL, "model": module.build, "quantizer": module.mine})
        assert max(map(len, training.load(result.checkpoint).spec().arrays.values())) == 4 * (4 + more)
        assert QUANTIZERS["__main__:mine"] is module.mine
        assert "from Python" in result.record["command"]


def test_record__of_an_own_scheme_has_its_defaults(tmp_path, monkeypatch):
    mine = dataclasses.replace(SCHEMES["individual"], name="mine", defaults={"quantizer": "pact", "milestones": ()})
    monkeypatch.setattr(sys.modules[__name__], "MINE", mine, raising=False)
    result = training.train(mine, out=tmp_path / "o", **SMALL)
    wanted = {"quantizer": "pact", "milestones": []}
    assert result.record["own_code"]["scheme"]["defaults"] == wanted
    assert load_checkpoint(result.checkpoint).training["own_code"]["scheme"]["defaults"] == wanted
