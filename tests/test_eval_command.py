"""sim.eval as a user meets it: whose data these are, what a wrong file is, nothing destroyed, nothing cut, exit statuses."""

import dataclasses
import hashlib
import io
import json
import os
import pty
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from sim.checkpoint import Checkpoint, save_checkpoint
from sim.network import Activation, AvgPool, Conv, Graph, Input, Precision, Requantize
from sim.program import Program
from sim.records import read_record
from sim.requantizers.tflite_single import TfliteSingle
from sim.text import printable
from training.data import load_dataset
from training.network import QuantNetwork

ROOT = Path(__file__).resolve().parent.parent
CHECKPOINT = Path(__file__).parent / "data" / "takd-digits-2bit.pt"
NOTES = {"scheme": "takd", "path": [32, 2], "model": "resnet8", "seed": 0}


@pytest.fixture
def evaluate(monkeypatch, capsys):
    """(exit status, stdout, stderr) of the command, in this process."""
    def run(*options):
        monkeypatch.setattr("sys.argv", ["sim/eval.py", *map(str, options)])
        sys.modules.pop("sim.eval", None)  # a module that runs as a command is not imported before
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            runpy.run_module("sim.eval", run_name="__main__")
        return end.value.code, *capsys.readouterr()

    return run


def assert_refused(result, *words):
    status, _, stderr = result
    assert len(lines := stderr.strip().splitlines()) == 1, stderr
    assert lines[0].startswith("error: ")
    for word in words:
        assert word in lines[0]
    assert status == 2


def small_network(classes=3):
    torch.manual_seed(0)
    graph = Graph((
        Input("image", "", 4, 4, 1, (0.5,), (0.5,)),
        Conv("stem", "image", 4, 3, 1, 1, role="boundary", activation=Activation("skip", 2.0)),
        Requantize("narrow", "stem", Activation("inner")),
        Conv("middle", "narrow", 4, 3, 1, 1, activation=Activation("inner")),
        AvgPool("pool", "middle", 4, 4),
        Conv("classifier", "pool", classes, 1, role="boundary", norm=False)))
    return QuantNetwork(graph, Precision(2)).spec()


def write_data(path, seed=0, shift=0):
    """40 images for training and 20 for the test, of 3 classes."""
    draw = np.random.default_rng(seed)
    x_train, x_test = (draw.integers(0, 256, (count, 4, 4, 1), np.uint8) for count in (40, 20))
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, x_train=x_train, y_train=np.arange(40) % 3, x_test=x_test, y_test=(np.arange(20) + shift) % 3)
    return path


@pytest.fixture
def run_folder(tmp_path, monkeypatch):
    """A finished run on data/set.npz, named by a relative path, with the digest in run.json as runs record it."""
    monkeypatch.chdir(tmp_path)
    data = write_data(Path("data/set.npz"))
    Path("run").mkdir()
    dataset = {"name": "npz", "path": str(data), "label": "set"}
    save_checkpoint(Path("run/ckpt.pt"), Checkpoint(small_network(), dataset, NOTES))
    record = {"kind": "training", "config": NOTES, "data_digest": load_dataset("npz", data).digest()}
    Path("run/run.json").write_text(json.dumps(record))
    return tmp_path / "run"


def test_eval__data_of_the_checkpoint_are_checked_and_the_record_names_them(evaluate, run_folder):
    status, stdout, _ = evaluate("--model", "run/ckpt.pt", "--json", "e.json")
    assert status == 0
    assert "warning" not in stdout
    assert "cannot be checked" not in stdout
    digest = load_dataset("npz", Path("data/set.npz")).digest()
    assert json.loads(Path("e.json").read_text())["data"] == {
        "name": "npz", "path": "data/set.npz", "digest": digest, "trained_digest": digest, "is_as_trained": True}


@pytest.mark.parametrize("change", [{"seed": 1}, {"shift": 1}], ids=["other pixels", "other labels"])
def test_eval__other_data_in_the_place_that_the_checkpoint_names_are_refused(evaluate, run_folder, monkeypatch, change):
    elsewhere = run_folder.parent / "elsewhere"
    write_data(elsewhere / "data" / "set.npz", **change)
    monkeypatch.chdir(elsewhere)
    result = evaluate("--model", run_folder / "ckpt.pt", "--json", "e.json")
    assert_refused(result, "other data than the network was trained on", "--data", str(elsewhere / "data" / "set.npz"))
    assert not Path("e.json").exists()
    assert_refused(evaluate("--model", run_folder / "ckpt.pt", "--dataset", "npz"), "other data")  # the file is the note's


@pytest.mark.parametrize("change", [{"seed": 1}, {"shift": 1}], ids=["other pixels", "other labels"])
def test_eval__other_data_that_the_user_names_are_said_and_recorded(evaluate, run_folder, change):
    other = write_data(Path("other.npz"), **change)
    status, stdout, _ = evaluate("--model", "run/ckpt.pt", "--data", other, "--json", "e.json")
    assert status == 0
    assert re.search(r"^warning: other \(.*other\.npz\): these are other data than the network was trained on", stdout, re.M)
    record = json.loads(Path("e.json").read_text())
    assert record["data"]["is_as_trained"] is False
    assert record["data"]["digest"] == load_dataset("npz", other).digest() != record["data"]["trained_digest"]


def test_eval__the_same_data_in_another_place_are_no_other_data(evaluate, run_folder):
    Path("moved.npz").write_bytes(Path("data/set.npz").read_bytes())
    Path("data/set.npz").unlink()
    assert_refused(evaluate("--model", "run/ckpt.pt"), "data/set.npz", "--data")
    status, stdout, _ = evaluate("--model", "run/ckpt.pt", "--data", "moved.npz")
    assert (status, "warning" in stdout) == (0, False)


@pytest.mark.parametrize("record", [
    None, "{", '{"config": {"scheme": "kd"}, "data_digest": "0"}', '{"config": [], "data_digest": 3}', "[]",
    json.dumps({"config": NOTES, "data_digest": "0", "digest": "sha256:0"})])
def test_eval__a_checkpoint_without_a_digest_says_that_its_data_cannot_be_checked(evaluate, run_folder, record):
    """Without a record beside it, or with a damaged one, or with one of another run."""
    (run_folder / "run.json").unlink()
    if record is not None:
        (run_folder / "run.json").write_text(record)
    status, stdout, _ = evaluate("--model", "run/ckpt.pt", "--json", "e.json")
    assert status == 0
    assert "this checkpoint names no digest of its data, so they cannot be checked" in stdout
    assert json.loads(Path("e.json").read_text())["data"]["is_as_trained"] is None


@pytest.mark.parametrize(("options", "words"), [
    (["--data", "x.npz"], ["digits takes no --data", "--dataset npz"]),
    (["--dataset", "digits", "--data", "x.npz"], ["digits takes no --data", "--dataset npz"]),
    (["--overflow", "wrap"], ["overflow, tile", "add --accumulator"]),
    (["--tile", "1"], ["overflow, tile", "add --accumulator"]),
])
def test_eval__an_option_without_effect_is_refused(evaluate, options, words):
    assert_refused(evaluate("--model", CHECKPOINT, *options), *words)


def test_eval__an_option_with_little_effect_is_named(evaluate):
    status, stdout, _ = evaluate("--model", CHECKPOINT, "--limit", 500, "--batch", 400, "--accumulator", 8, "--tile", 16)
    assert status == 0
    assert "limit: 500 is more than the 360 images" in stdout
    assert "batch: 400 is more than the 360 images" in stdout
    assert "tile: has no effect on a register that wraps" in stdout


def test_eval__an_accumulator_of_layers_that_are_not_there_is_refused(evaluate, tmp_path):
    graph = Graph((Input("image", "", 1, 1, 1, (0.5,), (0.5,)), Conv("classifier", "image", 2, role="boundary", norm=False)))
    save_checkpoint(tmp_path / "c.pt", Checkpoint(QuantNetwork(graph, Precision(2)).spec(),
                                                  {"name": "npz", "path": "x.npz", "label": "x"}))
    assert_refused(evaluate("--model", tmp_path / "c.pt", "--accumulator", 8), "no inner layers", "--boundary-accumulator")


@pytest.fixture
def program(evaluate, tmp_path):
    file = tmp_path / "program.npz"
    assert evaluate("--model", CHECKPOINT, "--save-program", file, "--limit", 1)[0] == 0
    return file


def test_eval__runs_a_program_that_it_saved(evaluate, program, tmp_path):
    """Which names no data, so that the user does."""
    file = tmp_path / "e.json"
    status, stdout, stderr = evaluate("--model", program, "--dataset", "digits", "--json", file)
    assert (status, stderr) == (0, "")
    record = read_record(file, "evaluation")
    assert f"accuracy {record['result']['accuracy']:.2f} % on 360 test images of digits" in stdout
    assert record["result"]["accuracy"] == pytest.approx(100 * 348 / 360)
    assert record["program"] == Program.load(program).digest()
    assert record["model_digest"] == "sha256:" + hashlib.sha256(program.read_bytes()).hexdigest()
    assert not {"precision", "trained_precision", "hardware_spec"} & record.keys()


@pytest.mark.parametrize("option", [
    ["--bits", 2], ["--boundary-bits", 8], ["--accumulator", 9], ["--boundary-accumulator", 20], ["--overflow", "wrap"],
    ["--tile", 1], ["--requant", "fp32"], ["--verify"]], ids=lambda option: option[0])
def test_eval__what_is_built_into_a_program_is_no_option(evaluate, program, option):
    assert_refused(evaluate("--model", program, "--dataset", "digits", *option), option[0][2:], "checkpoint")


def test_eval__a_program_needs_data_that_fit(evaluate, program, tmp_path):
    assert_refused(evaluate("--model", program), "dataset: ", "--data")
    assert_refused(evaluate("--model", program, "--data", tmp_path), "dataset: ", "folder")
    assert_refused(evaluate("--model", program, "--data", write_data(tmp_path / "d.npz")), "8x8x1", "4x4x1")
    x, y = np.zeros((20, 8, 8, 1), np.uint8), np.arange(20)
    np.savez(tmp_path / "d.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    assert_refused(evaluate("--model", program, "--data", tmp_path / "d.npz"), "label 19", "0 to 9")


def onnx_bytes():
    """ModelProto: ir_version 8, producer_name, an empty graph."""
    return b"\x08\x08\x12\x07pytorch:\x00" + b"\x00" * 20


def safetensors_bytes():
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    return len(header).to_bytes(8, "little") + header + b"\x00" * 4


def saved(value, **options):
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def scripted():
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), buffer)
    return buffer.getvalue()


def arrays(**named):
    buffer = io.BytesIO()
    np.savez(buffer, **named)
    return buffer.getvalue()


LINEAR = torch.nn.Linear(2, 2)
FOREIGN = {
    "model.onnx": (onnx_bytes, []),  # read by sim.importers, which says what is wrong with it
    "model.tflite": (lambda: b"\x1c\x00\x00\x00TFL3" + b"\x00" * 40, ["tflite"]),
    "model.h5": (lambda: b"\x89HDF\r\n\x1a\n" + b"\x00" * 40, ["an HDF5 file", "Keras"]),
    "model.safetensors": (safetensors_bytes, ["a safetensors file"]),
    "model.gguf": (lambda: b"GGUF\x03\x00\x00\x00", ["a GGUF file"]),
    "state.pt": (lambda: saved(LINEAR.state_dict()), ["state_dict", "what network"]),
    "old-state.pt": (lambda: saved(LINEAR.state_dict(), _use_new_zipfile_serialization=False), ["state_dict"]),
    "epoch.pth": (lambda: saved({"state_dict": LINEAR.state_dict(), "epoch": 3}), ["state_dict"]),
    "module.pt": (lambda: saved(LINEAR), ["a pickled Python object (torch.nn.modules.linear.Linear)", "never opened"]),
    "old-module.pt": (lambda: saved(LINEAR, _use_new_zipfile_serialization=False), ["torch.nn.modules.linear.Linear"]),
    "scripted.pt": (scripted, ["a TorchScript module"]),
    "resume.pt": (lambda: saved({"format": "bittrue-resume-2", "epoch": 1}), ["unfinished run", "--resume"]),
    "run.json": (lambda: b'{"kind": "training"}', ["the record of a training run", "ckpt.pt"]),
    "eval.json": (lambda: b'{"kind": "evaluation"}', ["the record of an evaluation"]),
    "some.json": (lambda: b"[1, 2]", ["a JSON file"]),
    "data.npz": (lambda: arrays(x_train=np.zeros(1)), ["a data set", "--data"]),
    "arrays.npz": (lambda: arrays(a=np.zeros(1)), ["an .npz of 1 arrays"]),
    "array.npy": (lambda: b"\x93NUMPY\x01\x00", ["a single array"]),
    "empty.pt": (lambda: b"", ["an empty file"]),
    "text.pt": ("naïve notes\n".encode, ["a text file"]),
    "broken.pt": (lambda: CHECKPOINT.read_bytes()[:5000], ["the beginning of a zip file"]),
    "photo.png": (lambda: b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", ["an image"]),
    "photo.jpg": (lambda: b"\xff\xd8\xff\xe0\0\x10JFIF", ["an image"]),
    "paper.pdf": (lambda: b"%PDF-1.7\n\xff\xff", ["a PDF document"]),
    "net.py": (lambda: b"import torch\n", ["a Python file"]),
    "curves.svg": (lambda: b"<?xml version='1.0'?><svg/>", ["an XML file"]),
    "performance.json": (lambda: b'{"rows": [], "ratios": []}', ["a record of bench.peers"]),
    "model.pt.gz": (lambda: b"\x1f\x8b\x08\x00", ["a gzip file", "unpack"]),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("name", FOREIGN)
def test_eval__a_file_of_another_kind_is_called_by_its_name(evaluate, tmp_path, name):
    content, words = FOREIGN[name]
    (tmp_path / name).write_bytes(content())
    assert_refused(evaluate("--model", tmp_path / name), name, *words)


def test_eval__a_folder_is_called_by_its_name(evaluate, run_folder):
    assert_refused(evaluate("--model", run_folder), "the folder of a run", "give the file ckpt.pt")
    (run_folder / "ckpt.pt").unlink()
    assert_refused(evaluate("--model", run_folder), "without ckpt.pt", "--resume")
    assert_refused(evaluate("--model", run_folder.parent / "data"), "a folder")
    assert_refused(evaluate("--model", ""), "a folder")


def test_eval__a_pickle_is_not_opened_to_see_what_it_is(evaluate, tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    for name, options in (("new.pt", {}), ("old.pt", {"_use_new_zipfile_serialization": False})):
        (tmp_path / name).write_bytes(saved(Bomb(), **options))
        assert_refused(evaluate("--model", tmp_path / name), "mkdir", "never opened")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("option", ["--save-program", "--json", "--predictions"])
@pytest.mark.parametrize("target", ["run/ckpt.pt", "./run/../run/ckpt.pt", "soft.npz", "hard.npz", "data/set.npz",
                                    "run/run.json", "other.pt", "run"])
def test_eval__an_output_never_destroys_what_is_read_or_other_work(evaluate, run_folder, option, target):
    Path("soft.npz").symlink_to("run/ckpt.pt")
    Path("hard.npz").hardlink_to("run/ckpt.pt")
    Path("other.pt").write_bytes(CHECKPOINT.read_bytes())
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    assert_refused(evaluate("--model", "run/ckpt.pt", "--data", "data/set.npz", option, target), option[2:])
    assert before == {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}


@pytest.mark.parametrize("option", ["--save-program", "--json", "--predictions"])
@pytest.mark.parametrize(("named", "target"), [
    (["--requant", "rq.py:X"], "rq.py"), (["--requant", "rq:X"], "rq.py"), (["--quantizer", "./rq.py:X"], "link"),
    ([], "helper.py"), ([], "bench.json")])
def test_eval__an_output_never_destroys_code_or_a_record_of_another_kind(evaluate, run_folder, option, named, target):
    for name in ("rq.py", "helper.py"):
        Path(name).write_text("X = 3\n")
    Path("link").symlink_to("rq.py")
    Path("bench.json").write_text('{"rows": [], "ratios": []}')
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    result = evaluate("--model", "run/ckpt.pt", *named, option, target)
    assert_refused(result, f"{option[2:]}: {target} is ", "which it would destroy")
    assert before == {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}


def test_eval__a_record_is_renewed_by_a_record_only(evaluate, run_folder):
    assert evaluate("--model", "run/ckpt.pt", "--json", "e.json")[0] == 0
    before = Path("e.json").read_bytes()
    for option in ("--predictions", "--save-program"):
        assert_refused(evaluate("--model", "run/ckpt.pt", option, "e.json"), "the record of an evaluation")
    assert Path("e.json").read_bytes() == before
    assert evaluate("--model", "run/ckpt.pt", "--json", "e.json", "--limit", 3)[0] == 0
    assert read_record("e.json")["result"]["images"] == 3


@pytest.mark.parametrize("option", ["--save-program", "--json", "--predictions"])
@pytest.mark.parametrize(("target", "words"), [
    ("locked", ["locked: the file is write-protected"]), ("locked/x", ["locked/x: a folder of it is a file"]),
    ("new/", ["'new/' names a folder"]), ("", ["names a folder"]), ("n" * 300, ["File name too long"])])
def test_eval__what_cannot_be_written_is_refused_before_the_work(evaluate, run_folder, monkeypatch, option, target, words):
    Path("locked").write_text("mine")
    Path("locked").chmod(0o444)
    monkeypatch.setattr("sim.evaluation.prepare", None)
    assert_refused(evaluate("--model", "run/ckpt.pt", option, target), option[2:], *words)
    assert not Path("new").exists()


def test_eval__a_program_is_not_saved_over_its_source_or_another_output(evaluate, program, tmp_path):
    before = program.read_bytes()
    assert_refused(evaluate("--model", program, "--dataset", "digits", "--save-program", program), "save-program")
    assert_refused(evaluate("--model", CHECKPOINT, "--json", program), "json", "an integer program")
    twice = evaluate("--model", CHECKPOINT, "--json", tmp_path / "x", "--save-program", tmp_path / "x")
    assert_refused(twice, "json", "the file of --save-program")
    assert program.read_bytes() == before
    assert not (tmp_path / "x").exists()
    assert evaluate("--model", CHECKPOINT, "--save-program", program, "--limit", 1)[0] == 0  # its own kind may be renewed


def bend(monkeypatch, codes):
    """An integer requantizer that adds so many codes too much."""
    build = TfliteSingle.build.__func__

    def bent(cls, affine, target):
        return build(cls, dataclasses.replace(affine, offset=affine.offset + codes), target)

    monkeypatch.setattr(TfliteSingle, "build", classmethod(bent))


@pytest.mark.parametrize("boundary", [8, 16])
def test_eval__an_integer_requantizer_within_one_code_is_a_0(evaluate, boundary, tmp_path):
    """At 16 bits the logits differ by more, because float32, in which the model scales them, is not certain there."""
    status, stdout, _ = evaluate("--model", CHECKPOINT, "--requant", "tflite_single", "--boundary-bits", boundary,
                                 "--verify", "--limit", 100, "--json", tmp_path / "e.json")
    assert status == 0, stdout
    result = json.loads((tmp_path / "e.json").read_text())["result"]
    assert result["beyond"] == 0
    assert (result["largest_difference"] > 1) == ("not certain to a quarter" in stdout) == (boundary == 16)


def test_eval__an_integer_requantizer_off_by_more_than_one_code_is_a_1(evaluate, monkeypatch, tmp_path):
    bend(monkeypatch, 2.0)
    status, stdout, _ = evaluate("--model", CHECKPOINT, "--requant", "tflite_single", "--boundary-bits", 8, "--verify",
                                 "--limit", 20, "--json", tmp_path / "e.json")
    assert status == 1
    assert "contract C5" in stdout
    assert json.loads((tmp_path / "e.json").read_text())["result"]["beyond"] > 0


def test_eval__accuracy_of_each_class_is_shown_and_recorded(evaluate, tmp_path):
    status, stdout, _ = evaluate("--model", CHECKPOINT, "--per-class", "--json", tmp_path / "e.json")
    assert status == 0
    result = json.loads((tmp_path / "e.json").read_text())["result"]
    assert [row["images"] for row in result["per_class"]] == np.bincount(load_dataset("digits", None).test.labels).tolist()
    assert sum(row["right"] for row in result["per_class"]) == round(result["accuracy"] * 3.6)
    for row in result["per_class"]:
        assert re.search(rf"^ +{row['class']} +{row['name']} +{row['images']} +{row['right']} +{row['accuracy']:.2f} *$",
                         stdout, re.M)


def test_eval__predictions_are_a_table_that_numpy_reads(evaluate, tmp_path):
    file = tmp_path / "new" / "p.csv"
    status, stdout, _ = evaluate("--model", CHECKPOINT, "--predictions", file, "--limit", 50)
    assert status == 0
    index, labels, predictions, *logits = np.loadtxt(file, delimiter=",", skiprows=1, unpack=True)
    np.testing.assert_array_equal(index, np.arange(50))
    np.testing.assert_array_equal(labels, load_dataset("digits", None).test.labels[:50])
    np.testing.assert_array_equal(predictions, np.argmax(logits, 0))
    assert f"accuracy {100 * (labels == predictions).mean():.2f} %" in stdout
    assert file.read_text().split(",")[:4] == ["index", "label", "prediction", "logit_0"]


def test_eval__what_users_named_is_printed_as_text(evaluate, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = "mnist[small] :smile: [/b]\x1b[31m"
    data = write_data(tmp_path / "x" / f"{name.replace('/', '|')}.npz")
    notes = {"scheme": name, "model": "[bold]", "path": [2]}
    save_checkpoint(Path("c.pt"), Checkpoint(small_network(), {"name": "npz", "path": str(data), "label": name}, notes))
    status, stdout, stderr = evaluate("--model", "c.pt", "--verify", "--per-class", "--json", "r[/b].json")
    assert (status, stderr) == (0, "")
    assert "mnist[small] :smile: [/b]\\x1b[31m 2 [bold]" in stdout
    assert "test images of mnist[small] :smile: [|b]\\x1b[31m," in stdout
    assert "\x1b" not in stdout
    assert json.loads(Path("r[/b].json").read_text())["dataset"] == printable(data.stem)


def test_eval__numbers_are_whole_in_a_terminal_of_40_columns():
    """The verdict keeps its count, the table its digits."""
    control, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "sim.eval", "--model", str(CHECKPOINT), "--verify", "--limit", "20"], stdout=terminal,
        cwd=ROOT, env={**os.environ, "COLUMNS": "40", "LINES": "30", "TERM": "xterm"})
    os.close(terminal)
    shown = b""
    while True:
        try:
            part = os.read(control, 4096)
        except OSError:  # what Linux says at the end
            break
        shown += part
        if not part:
            break
    os.close(control)
    assert process.wait() == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    assert "…" not in text
    assert "0 of 189,000 codes differ" in text
    assert re.search(r"MACs +36\.9k", text)


def test_eval__called_from_python_records_a_command_that_runs_again(tmp_path, monkeypatch, evaluate):
    from sim.eval import main

    monkeypatch.setattr("sys.argv", ["notebook", "--caller's", "options"])
    file, again = tmp_path / "a b.json", tmp_path / "it's.json"
    main(model=CHECKPOINT, bits=3, limit=10, json_file=file)
    command = json.loads(file.read_text())["command"]
    module, *options = shlex.split(command)[2:]
    assert (module, command[:19]) == ("sim.eval", "python -m sim.eval ")
    assert evaluate(*[str(again) if option == str(file) else option for option in options])[0] == 0
    first, second = (json.loads(path.read_text()) for path in (file, again))
    assert first["program"] == second["program"]
    assert first["result"]["accuracy"] == second["result"]["accuracy"]


def test_eval__record_names_the_file_that_was_evaluated(evaluate, tmp_path):
    assert evaluate("--model", CHECKPOINT, "--limit", 1, "--json", tmp_path / "e.json")[0] == 0
    digest = hashlib.sha256(CHECKPOINT.read_bytes()).hexdigest()
    assert read_record(tmp_path / "e.json", "evaluation")["model_digest"] == f"sha256:{digest}"


def test_eval__a_record_on_stdout_stands_there_alone(evaluate):
    status, stdout, stderr = evaluate("--model", CHECKPOINT, "--limit", 1, "--json", "-")
    assert status == 0
    assert json.loads(stdout)["result"]["images"] == 1
    assert "accuracy" in stderr
