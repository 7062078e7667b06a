"""Records of runs are true: commands run again, sessions, two runs in one folder, moved data, more epochs, damage."""

import dataclasses
import fcntl
import json
import os
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest

import training
from sim.checkpoint import load_checkpoint
from sim.records import RecordError, write_record
from tests.test_run_killed import content, plain
from training import record as record_module
from training.config import ConfigError
from training.folder import held
from training.models import MODELS
from training.runner import Runner
from training.schemes import SCHEMES

SMALL = {"model": "resnet8", "width": 4, "train_limit": 64, "batch": 32}


def record_of(folder):
    return json.loads((folder / "run.json").read_text())


def data_file(path, seed=0, labels=3):
    rng = np.random.default_rng(seed)
    np.savez(path, x_train=rng.integers(0, 256, (60, 8, 8, 1)).astype(np.uint8), y_train=np.arange(60) % labels,
             x_test=rng.integers(0, 256, (9, 8, 8, 1)).astype(np.uint8), y_test=np.arange(9) % labels)
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("finished") / "a run[final]"
    training.train("individual", epochs=2, out=out, **SMALL)
    return out


@pytest.fixture
def copy(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "copy")


def test_command__recorded_from_python_runs_again_in_a_shell_and_records_itself(finished, tmp_path):
    command = record_of(finished)["command"]
    assert shlex.split(command)[:3] == ["python", "-m", "training.run"]
    shutil.copytree(finished, tmp_path / "kept")
    shutil.rmtree(finished)
    done = subprocess.run(command.replace("python", sys.executable, 1), shell=True, capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stderr
    assert content(finished) == content(tmp_path / "kept")
    assert plain(record_of(finished)) == plain(record_of(tmp_path / "kept"))
    assert record_of(finished)["command"] == command


def test_command__is_not_that_of_whoever_calls(tmp_path, monkeypatch):
    from training.run import main

    monkeypatch.setattr(sys, "argv", ["notebook.py", "--wrong"])
    main(scheme="individual", epochs=1, out=str(tmp_path / "o"), phases=None, fixed_teacher=False, quiet=True, **SMALL)
    assert record_of(tmp_path / "o")["command"] == shlex.join(
        ["python", "-m", "training.run", "--scheme", "individual", "--train-limit", "64", "--model", "resnet8", "--width",
         "4", "--epochs", "1", "--batch", "32", "--out", str(tmp_path / "o")])


def test_resume__of_a_finished_run_changes_nothing(copy):
    (copy / "resume.pt").write_bytes(b"left by a kill after the last word of the record")
    (copy / ".bittrue-0123456789abcdef.tmp").write_bytes(b"half a file")
    before = (copy / "run.json").read_bytes()
    result = training.train("individual", epochs=2, out=copy, resume=True, **SMALL)
    assert (copy / "run.json").read_bytes() == before
    assert result.record == record_of(copy)
    assert sorted(path.name for path in copy.iterdir()) == ["2bit.pt", "ckpt.pt", "curves.svg", "run.json"]


class StopError(Exception):
    pass


def stopped_after(monkeypatch, noted, *args, **options):
    """A run that ends when so many epochs are noted."""
    note = Runner._note

    def stops(self, step, state):
        note(self, step, state)
        if state.epoch == noted:
            raise StopError

    monkeypatch.setattr(Runner, "_note", stops)
    with pytest.raises(StopError):
        training.train(*args, **options)
    monkeypatch.setattr(Runner, "_note", note)


def test_sessions__say_who_did_which_epochs_and_the_first_stays_on_top(tmp_path, monkeypatch):
    stopped_after(monkeypatch, 2, "individual", epochs=3, out=tmp_path / "o", **SMALL)
    first = record_of(tmp_path / "o")
    monkeypatch.setattr(record_module, "commit", lambda: "another")
    training.train("individual", epochs=3, out=tmp_path / "o", resume=True, **SMALL)
    record = record_of(tmp_path / "o")
    assert {key: record[key] for key in ("command", "commit", "date")} == {
        key: first[key] for key in ("command", "commit", "date")}
    one, two = record["sessions"]
    assert (one["commit"], one["epochs"]) == (first["commit"], {"2bit": [1, 2]})
    assert (two["commit"], two["epochs"]) == ("another", {"2bit": [3, 3]})
    assert two["command"].endswith(" --resume")
    assert {"versions", "hardware", "date", "python"} <= two.keys()
    assert [entry["session"] for entry in record["steps"]["2bit"]["epochs"]] == [0, 0, 1]


def test_folder__is_held_by_one_run_and_released_when_it_is_killed(tmp_path):
    with held(tmp_path / "o"), pytest.raises(ConfigError, match="another run is going on in this folder"):
        training.train("individual", epochs=1, out=tmp_path / "o", resume=True, **SMALL)
    assert not list((tmp_path / "o").iterdir())
    script = "import sys, time; from training.folder import held\nwith held(__import__('pathlib').Path(sys.argv[1])):\n" \
             " print('held', flush=True); time.sleep(600)"
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "o")], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    with pytest.raises(ConfigError, match="another run is going on"), held(tmp_path / "o"):
        pass
    process.kill()
    process.wait()
    process.stdout.close()
    with held(tmp_path / "o"):
        pass


def test_folder__without_locks_is_no_reason_to_stop(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with held(tmp_path / "o"):
        assert (tmp_path / "o").is_dir()


@pytest.mark.parametrize("option", ["data", "init_from"])
def test_resume__takes_what_has_moved_and_not_what_has_changed(tmp_path, monkeypatch, finished, option):
    old = data_file(tmp_path / "old.npz") if option == "data" else tmp_path / "old.pt"
    if option == "init_from":
        shutil.copyfile(finished / "ckpt.pt", old)
    options = {**SMALL, "epochs": 2, "out": tmp_path / "o", **({"dataset": "npz"} if option == "data" else {})}
    stopped_after(monkeypatch, 1, "individual", **{option: old}, **options)
    new = tmp_path / f"new{old.suffix}"
    old.rename(new)
    with pytest.raises((ValueError, OSError), match="old"):
        training.train("individual", **{option: old}, resume=True, **options)
    if option == "data":
        data_file(old, seed=1)
    else:
        shutil.copyfile(finished / "ckpt.pt", old)
        old.write_bytes(old.read_bytes() + b"\0")
    with pytest.raises(ValueError, match=r"another --init-from|other data|damaged"):
        training.train("individual", **{option: old}, resume=True, **options)
    result = training.train("individual", **{option: new}, resume=True, **options)
    assert result.record["sessions"][1]["moved"] == {option: {"from": str(old), "to": str(new)}}
    assert result.record["config"][option] == str(new)
    if option == "data":
        assert load_checkpoint(result.checkpoint).dataset["path"] == str(new)


def test_more_epochs__of_an_unfinished_run_go_on_from_its_state(tmp_path, monkeypatch):
    stopped_after(monkeypatch, 1, "individual", epochs=2, out=tmp_path / "o", **SMALL)
    with pytest.raises(ConfigError, match="a run of 2 epochs, fewer are not possible"):
        training.train("individual", epochs=1, out=tmp_path / "o", resume=True, **SMALL)
    record = training.train("individual", epochs=4, out=tmp_path / "o", resume=True, **SMALL).record
    assert [entry["epoch"] for entry in record["steps"]["2bit"]["epochs"]] == [1, 2, 3, 4]
    assert record["extended"] == [{"from": 2, "to": 4, "of": "running", "session": 1}]
    assert (record["config"]["epochs"], record["steps"]["2bit"]["planned"]) == (4, 4)


@pytest.mark.parametrize(("scheme", "last"), [("individual", "2bit"), ("apprentice-a", "2bit")])
def test_more_epochs__of_a_finished_run_go_on_from_its_checkpoint_also_killed(tmp_path, monkeypatch, scheme, last):
    options = {**SMALL, "bits": 2}
    whole = training.train(scheme, epochs=2, out=tmp_path / "whole", **options)
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    before = whole.record["test"]
    whole = training.train(scheme, epochs=4, out=tmp_path / "whole", resume=True, **options)
    record = whole.record
    assert record["extended"] == [{"from": 2, "to": 4, "of": "finished", "session": 1, "test": before}]
    assert [entry["epoch"] for entry in record["steps"][last]["epochs"]] == [1, 2, 3, 4]
    assert record["sessions"][1]["epochs"] == {last: [3, 4]}
    assert load_checkpoint(whole.checkpoint).training["extended"] == record["extended"]
    stopped_after(monkeypatch, 3, scheme, epochs=4, out=tmp_path / "cut", resume=True, **options)
    again = training.train(scheme, epochs=4, out=tmp_path / "cut", resume=True, **options)
    assert content(tmp_path / "cut") == content(tmp_path / "whole")
    assert plain(again.record["steps"]) == plain(record["steps"])


def test_more_epochs__of_a_step_that_trains_nothing_are_refused(tmp_path):
    options = {**SMALL, "bits": 4, "out": tmp_path / "o"}
    training.train("ptq", epochs=1, **options)
    with pytest.raises(ConfigError, match="its last step has no more than it had"):
        training.train("ptq", epochs=2, resume=True, **options)


def test_damaged_record__is_one_line_and_never_a_traceback(copy):
    good = (copy / "run.json").read_bytes()
    rng = np.random.default_rng(0)
    variants = [good[:cut] for cut in (0, 1, 100, len(good) - 3)]
    for _ in range(60):
        flipped = bytearray(good)
        flipped[rng.integers(len(good))] ^= 1 << rng.integers(8)
        variants.append(bytes(flipped))
    for variant in variants:
        (copy / "run.json").write_bytes(variant)
        with pytest.raises((RecordError, ConfigError)) as error:
            training.train("individual", epochs=2, out=copy, resume=True, **SMALL)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("change", [
    {"steps": {}}, {"steps": {"2bit": {"bits": 2, "epochs": []}}}, {"config": {}}, {"sessions": 3}, {"extended": 1},
    {"digests": []}, {"status": 5}, {"test": None}, {"sessions": [1]}])
def test_record_from_before__of_another_shape_is_one_line(copy, change):
    record = {key: value for key, value in record_of(copy).items() if key not in ("schema", "digest")}
    (copy / "run.json").write_text(json.dumps({**record, **change}))
    with pytest.raises((RecordError, ConfigError)) as error:
        training.train("individual", epochs=3, out=copy, resume=True, **SMALL)
    assert "\n" not in str(error.value)


def test_record_from_before__there_were_augmentations_sessions_and_digests_goes_on(tmp_path, monkeypatch):
    stopped_after(monkeypatch, 1, "individual", epochs=2, out=tmp_path / "o", **SMALL)
    record = record_of(tmp_path / "o")
    for key in ("schema", "digest", "sessions", "digests", "data"):
        del record[key]
    for key in ("augment", "size", "gradients"):
        del record["config"][key]
    (tmp_path / "o" / "run.json").write_text(json.dumps(record))
    result = training.train("individual", epochs=2, out=tmp_path / "o", resume=True, **SMALL)
    assert [session["epochs"] for session in result.record["sessions"]] == [{"2bit": [1, 1]}, {"2bit": [2, 2]}]


def test_config__repeats_a_run_with_what_is_asked_otherwise(finished, tmp_path):
    again = training.train(None, config=finished / "run.json", out=tmp_path / "again")
    assert content(tmp_path / "again") == content(finished)
    assert again.record["config"] == record_of(finished)["config"]
    other = training.train("individual", config=finished / "run.json", out=tmp_path / "other", bits=3, epochs=1)
    assert (other.record["config"]["path"], other.record["config"]["epochs"]) == ([3], 1)
    write_record(tmp_path / "no.json", {"kind": "other"})
    with pytest.raises(RecordError, match="kind training is wanted"):
        training.train(None, config=tmp_path / "no.json", out=tmp_path / "no")


def test_record__tells_of_the_data(tmp_path):
    file = data_file(tmp_path / "d.npz")
    result = training.train("individual", dataset="npz", data=file, epochs=1, out=tmp_path / "o", augment="none", **SMALL)
    data = result.record["data"]
    assert (data["label"], data["classes"], data["class_names"], data["images"]) == ("d", 3, ["0", "1", "2"], [54, 6, 9])
    assert result.record["config"]["augment"] == "none"
    saved = load_checkpoint(result.checkpoint).dataset
    assert saved["digest"] == data["digest"] == result.record["data_digest"]
    assert os.path.samefile(saved["path"], file)


@pytest.mark.parametrize("change", ["none", "replaced", "name"])
def test_command__of_a_changed_data_set_is_no_command(tmp_path, monkeypatch, change):
    monkeypatch.setattr(Runner, "run", lambda self: self._write_record("running"))
    monkeypatch.setattr("training.api.draw_curves", lambda *_: None)
    data = training.load_dataset("digits")
    if change == "replaced":
        data = dataclasses.replace(data, train=data.train.first(90))
    elif change == "name":
        file = np.load(data_file(tmp_path / "set.npz"))
        data = training.from_arrays(**file, name="a:b")
    training.train(SCHEMES["individual"], dataset=data, epochs=1, out=tmp_path / "o", **SMALL)
    command = record_of(tmp_path / "o")["command"]
    assert command.startswith("python -m training.run" if change == "none" else "training.train(")
    assert ("# from Python" in command) is (change != "none")


NET = ("from training.models import MODELS\n\n\n"
       "def build(image, classes, width):\n    return MODELS['resnet8'](image, classes, {})\n")


def forget(name):
    """What another process would not know."""
    for known in (MODELS._found, MODELS._objects):
        known.pop(name, None)
    for key in [key for key in sys.modules if key.startswith("own_")]:
        del sys.modules[key]


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    forget("net.py:build")  # another test's
    (tmp_path / "net.py").write_text(NET.format("width"))
    yield {**SMALL, "model": "net.py:build", "epochs": 1, "out": tmp_path / "o"}
    forget("net.py:build")


@pytest.mark.parametrize("width", ["width + 0", "width + 1"])
def test_resume__with_own_code_that_changed_is_refused_and_loses_nothing(tmp_path, own, width):
    training.train("individual", **own)
    before = content(tmp_path / "o")
    forget("net.py:build")
    (tmp_path / "net.py").write_text(NET.format(width))
    with pytest.raises(ConfigError, match=r"model: the file of net.py:build has changed since"):
        training.train("individual", **{**own, "epochs": 2}, resume=True)
    assert content(tmp_path / "o") == before
    assert training.train("individual", **own, resume=True).record["status"] == "finished"  # nothing is left to train


def test_resume__with_a_network_that_no_file_fits_is_one_line_and_loses_nothing(tmp_path, own):
    training.train("individual", **own)
    before = content(tmp_path / "o")
    forget("net.py:build")
    (tmp_path / "net.py").write_text(NET.format("width + 1"))
    record = record_of(tmp_path / "o")
    del record["own_code"]  # as in records of before
    write_record(tmp_path / "o" / "run.json", record)
    with pytest.raises(ConfigError, match=r"2bit.pt: its network is another one than net.py:build"):
        training.train("individual", **{**own, "epochs": 2}, resume=True)
    assert record_of(tmp_path / "o")["status"] == "finished"
    assert {k: v for k, v in content(tmp_path / "o").items() if k != "run.json"} == {
        k: v for k, v in before.items() if k != "run.json"}


def test_resume__takes_the_same_code_from_another_folder(tmp_path, own):
    training.train("individual", **own)
    name = f"{tmp_path / 'net.py'}:build"
    result = training.train("individual", **{**own, "epochs": 2, "model": name}, resume=True)
    assert result.record["sessions"][-1]["moved"]["model"] == {"from": "net.py:build", "to": name}
    forget(name)


def test_init_from__that_does_not_fit_leaves_no_record(tmp_path):
    other = training.train("individual", epochs=1, out=tmp_path / "other", **{**SMALL, "width": 3}).checkpoint
    with pytest.raises(ConfigError, match="no layer of it fits"):
        training.train("individual", epochs=1, init_from=other, out=tmp_path / "o", **SMALL)
    assert not (tmp_path / "o" / "run.json").exists()


def test_resume__of_a_finished_run_without_its_checkpoint_makes_it_anew(copy):
    before = content(copy)
    (copy / "ckpt.pt").unlink()
    training.train("individual", epochs=2, out=copy, resume=True, **SMALL)
    assert content(copy) == before
    (copy / "ckpt.pt").unlink()
    (copy / "2bit.pt").unlink()
    for epochs, message in ((2, "ckpt.pt and 2bit.pt are gone"), (3, "2bit.pt, which more epochs would go on from, is ")):
        with pytest.raises(ConfigError, match=message):
            training.train("individual", epochs=epochs, out=copy, resume=True, **SMALL)
    assert record_of(copy)["status"] == "finished"


def test_config__of_an_extended_run_says_that_it_is_another_run(copy, tmp_path):
    from training.api import execute
    from training.watch import Silent

    training.train("individual", epochs=3, out=copy, resume=True, **SMALL)
    said = []
    execute({"config": str(copy / "run.json"), "out": str(tmp_path / "again")}, Silent(), say=said.append)
    assert any("was extended from 2 to 3 epochs; this one has all of its epochs from the start" in line for line in said)
    said.clear()
    execute({"config": str(copy / "run.json"), "out": str(tmp_path / "again"), "resume": True, "log": str(tmp_path / "l")},
            Silent(), say=said.append)
    assert any(line.startswith("log: the run in ") and "nothing is written" in line for line in said)
    assert not (tmp_path / "l").exists()
