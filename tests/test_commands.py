"""The commands as a user meets them: one clear line for what is wrong, nothing half-written, exact next steps."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from sim.checkpoint import load_checkpoint
from sim.command import new_app, run_app
from sim.interrupts import is_own
from tests.cli import assert_one_line, run

ROOT = Path(__file__).resolve().parent.parent
CHECKPOINT = Path(__file__).parent / "data" / "takd-digits-2bit.pt"
SMALL = ["--model", "resnet8", "--width", "4", "--train-limit", "100", "--epochs", "1"]


def test_eval__of_float_layers_of_which_nothing_was_learned_is_refused(tmp_path):
    assert run("training.run", "--scheme", "ptq", "--bits", "4", *SMALL, "--out", tmp_path / "run").returncode == 0
    assert_one_line(run("sim.eval", "--model", tmp_path / "run" / "32bit.pt", "--bits", "8"), "interval_channel", "ptq")
    assert run("sim.eval", "--model", tmp_path / "run" / "ckpt.pt", "--bits", "8").returncode == 0


@pytest.mark.parametrize(("options", "words"), [
    (["--scheme", "tadk"], ["'tadk'", "did you mean takd?"]),
    (["--scheme", "xyz"], ["choose one of individual"]),
    (["--scheme", "takd", "--bits", "0"], ["bits: 0", "1 to 8, 16 or 32"]),
    (["--scheme", "takd", "--bits", "9"], ["bits: 9"]),
    (["--scheme", "takd", "--path", "32,9,2"], ["bits: 9"]),
    (["--scheme", "takd", "--path", "2,8"], ["must go down"]),
    (["--scheme", "takd", "--path", "32,two"], ["'32,two'", "whole numbers"]),
    (["--scheme", "takd", "--path", "32,2", "--bits", "4"], ["ends at 2 bits"]),
    (["--scheme", "individual", "--path", "32,2"], ["no ladder"]),
    (["--scheme", "takd", "--boundary-bits", "1"], ["boundary bits: 1"]),
    (["--scheme", "takd", "--boundary-bits", "eight"], ["'eight'"]),
    (["--scheme", "takd", "--skip-bits", "32"], ["skip bits"]),
    (["--scheme", "takd", "--preset", "slow"], ["'slow'", "quick"]),
    (["--scheme", "takd", "--model", "vgg"], ["'vgg'", "vgg16"]),
    (["--scheme", "takd", "--epochs", "0"], ["epochs: 0"]),
    (["--scheme", "takd", "--epochs", "many"], ["--epochs"]),
    (["--scheme", "takd", "--lr", "nan"], ["lr: nan"]),
    (["--scheme", "takd", "--batch", "1"], ["batch: 1"]),
    (["--scheme", "takd", "--width", "0"], ["width: 0"]),
    (["--scheme", "takd", "--gradients", "float16"], ["gradients: 'float16'", "float32, bfloat16"]),
    (["--scheme", "takd", "--device", "tpu"], ["'tpu'"]),
    (["--scheme", "takd", "--dataset", "npz", "--data", "nowhere.npz"], ["nowhere.npz", "no such file"]),
    (["--scheme", "takd", "--dataset", "imagenet"], ["'imagenet'", "digits"]),
    (["--scheme", "takd", "--teacher", "nowhere.pt"], ["nowhere.pt"]),
    (["--scheme", "takd", "--unknown", "1"], ["--unknown"]),
    (["--scheme", "takd", "--u", "0.3"], ["u: scheme takd has no such option"]),
    (["--scheme", "qkd", "--bits", "1"], ["interval has no levels at 1 bit"]),
    (["--scheme", "speq", "--bits", "3", "--quantizer", "sawb", "--boundary-bits", "5"], ["sawb", "2, 3, 4, 8"]),
    (["--scheme", "speq", "--u", "0.3", "--candidates", "uniform"], ["u, high-bits", "candidates pair"]),
    (["--scheme", "qkd", "--phases", "tu,ss"], ["phases", "in order"]),
    (["--scheme", "kd", "--teacher-model", "vgg"], ["teacher-model: 'vgg'", "vgg16"]),
    (["--scheme", "takd", "--layer-bits", "stem"], ["layer-bits: 'stem'"]),
    (["--scheme", "individual", "--layer-bits", "stem=4", "--epochs", "1"], ["'stem' is no inner row", "stage1_block1_in"]),
    (["--scheme", "kd", "--init-from", "nowhere.pt"], ["nowhere.pt"]),
    ([], ["--scheme"]),
])
def test_training__wrong_option_is_one_line_and_leaves_nothing(tmp_path, options, words):
    result = run("training.run", *options, "--out", tmp_path / "out")
    assert_one_line(result, *words)
    assert not list((tmp_path / "out").glob("*.pt"))


def test_training__teacher_off_the_path_is_refused(tmp_path):
    result = run("training.run", "--scheme", "takd", "--width", "8", "--path", "32,8,4", "--teacher", CHECKPOINT,
                 "--out", tmp_path / "out")
    assert_one_line(result, "has 2 bits and the path is 32,8,4")


def test_training__teacher_of_another_network_is_refused(tmp_path):
    result = run("training.run", "--scheme", "takd", "--path", "2,1", "--teacher", CHECKPOINT, "--out", tmp_path / "out")
    assert_one_line(result, "another network")


def test_training__a_folder_with_a_run_needs_resume_and_the_same_options(tmp_path):
    options = ["--scheme", "individual", *SMALL, "--out", tmp_path / "out"]
    assert run("training.run", *options).returncode == 0
    before = (tmp_path / "out" / "ckpt.pt").read_bytes()
    assert_one_line(run("training.run", *options), "--resume")
    assert_one_line(run("training.run", *options, "--resume", "--seed", "1"), "seed 0 there, 1 now")
    again = run("training.run", *options, "--resume")
    assert again.returncode == 0
    assert (tmp_path / "out" / "ckpt.pt").read_bytes() == before


def test_training__says_the_exact_next_command_and_it_works(tmp_path):
    out = tmp_path / "a run"
    result = run("training.run", "--scheme", "takd", "--path", "32,3", *SMALL, "--out", out)
    assert result.returncode == 0, result.stderr
    line = next(line for line in result.stdout.splitlines() if "python -m sim.eval" in line)
    module, *options = shlex.split(line)[2:]
    evaluation = run(module, *options)
    assert evaluation.returncode == 0, evaluation.stderr
    assert re.search(r" 0 of [\d,]+ codes differ", evaluation.stdout)
    accuracy = json.loads((out / "run.json").read_text())["test"]["accuracy"]
    assert re.search(rf"takd 32-3 resnet8 +W3A3 +digits +{accuracy:.2f} +{accuracy:.2f} ", evaluation.stdout)
    assert f"accuracy {accuracy:.2f} % on 360 test images of digits" in evaluation.stdout


def test_training__float_boundary_is_quantized_on_request(tmp_path):
    out = tmp_path / "out"
    result = run("training.run", "--scheme", "individual", "--boundary-bits", "float", *SMALL, "--out", out)
    assert result.returncode == 0, result.stderr
    assert "--boundary-bits 8" in result.stdout
    assert_one_line(run("sim.eval", "--model", out / "ckpt.pt"), "add --boundary-bits 8")
    evaluation = run("sim.eval", "--model", out / "ckpt.pt", "--boundary-bits", 8, "--verify")
    assert evaluation.returncode == 0
    assert "requantized" in evaluation.stdout


@pytest.mark.parametrize("limit", [2000, pytest.param(20000, marks=pytest.mark.exhaustive)])
def test_training__a_disk_that_refuses_the_write_is_one_line(tmp_path, limit):
    result = run("training.run", "--scheme", "individual", *SMALL, "--out", tmp_path / "out", limit=limit)
    # kernels that were not kept before cannot be kept now, either, which is said and stops nothing
    lines = [line for line in result.stderr.splitlines(keepends=True) if "cache of compiled kernels" not in line]
    result.stderr = "".join(lines)
    assert_one_line(result, "cannot write", "too large")
    assert not [path.name for path in (tmp_path / "out").iterdir() if path.name.endswith(".tmp")]
    assert not (tmp_path / "out" / "ckpt.pt").exists()


def test_training__an_out_that_is_a_file_is_one_line(tmp_path):
    (tmp_path / "out").write_text("")
    assert_one_line(run("training.run", "--scheme", "individual", *SMALL, "--out", tmp_path / "out"), "out")


@pytest.mark.parametrize(("options", "words"), [
    (["--model", "nowhere.pt"], ["nowhere.pt"]),
    (["--model", __file__], ["test_commands.py"]),
    (["--model", CHECKPOINT, "--bits", "0"], ["bits: 0"]),
    (["--model", CHECKPOINT, "--bits", "9"], ["bits: 9"]),
    (["--model", CHECKPOINT, "--bits", "32"], ["--bits"]),
    (["--model", CHECKPOINT, "--boundary-bits", "1"], ["boundary bits: 1"]),
    (["--model", CHECKPOINT, "--accumulator", "0"], ["accumulator: 0 bits", "2 to 63"]),
    (["--model", CHECKPOINT, "--overflow", "explode"], ["'explode'", "saturate"]),
    (["--model", CHECKPOINT, "--tile", "0"], ["tile: '0'", "end"]),
    (["--model", CHECKPOINT, "--tile", "half"], ["tile: 'half'"]),
    (["--model", CHECKPOINT, "--requant", "fp64"], ["'fp64'", "fp32"]),
    (["--model", CHECKPOINT, "--limit", "0"], ["limit: 0"]),
    (["--model", CHECKPOINT, "--batch", "-1"], ["batch: -1"]),
    (["--model", CHECKPOINT, "--dataset", "npz"], ["--data"]),
    (["--model", CHECKPOINT, "--accumulator", "6", "--overflow", "error"], ["stage1_block1_conv1", "6-bit"]),
    ([], ["--model"]),
])
def test_eval__wrong_option_is_one_line_and_leaves_nothing(tmp_path, options, words):
    result = run("sim.eval", *options, "--json", tmp_path / "out.json")
    assert_one_line(result, *words)
    assert not list(tmp_path.iterdir())


def test_eval__unknown_instruction_set_is_one_line(monkeypatch):
    monkeypatch.setenv("BITTRUE_ISA", "mmx")
    assert_one_line(run("sim.eval", "--model", CHECKPOINT), "'mmx'", "portable")


def test_eval__images_of_another_shape_are_refused(tmp_path):
    np.savez(tmp_path / "d.npz", x_train=np.zeros((4, 9, 9, 1), np.uint8), y_train=np.arange(4),
             x_test=np.zeros((4, 9, 9, 1), np.uint8), y_test=np.arange(4))
    result = run("sim.eval", "--model", CHECKPOINT, "--dataset", "npz", "--data", tmp_path / "d.npz")
    assert_one_line(result, "8x8x1", "9x9x1")


def test_eval__labels_that_the_network_does_not_know_are_refused(tmp_path):
    np.savez(tmp_path / "d.npz", x_train=np.zeros((4, 8, 8, 1), np.uint8), y_train=np.arange(4) * 5,
             x_test=np.zeros((4, 8, 8, 1), np.uint8), y_test=np.arange(4) * 5)
    result = run("sim.eval", "--model", CHECKPOINT, "--dataset", "npz", "--data", tmp_path / "d.npz")
    assert_one_line(result, "label 15")


def test_eval__json_holds_what_is_printed_and_where_it_came_from(tmp_path):
    file = tmp_path / "e.json"
    result = run("sim.eval", "--model", CHECKPOINT, "--bits", 3, "--accumulator", 9, "--overflow", "saturate",
                 "--limit", 100, "--json", file, "--save-program", tmp_path / "p.npz")
    assert result.returncode == 0, result.stderr
    record = json.loads(file.read_text())
    assert f"accuracy {record['result']['accuracy']:.2f} %" in result.stdout
    assert record["precision"] == {"inner": 3, "boundary": 8, "skip": 8}
    assert record["hardware_spec"]["accumulator"] == {"bits": 9, "overflow": "saturate", "tile": 1}
    assert record["hardware_spec"]["boundary_accumulator"]["bits"] is None
    assert sum(layer["overflows"] for layer in record["layers"]) > 0
    assert {"command", "commit", "date", "versions", "hardware"} <= record.keys()
    assert (tmp_path / "p.npz").exists()


def test_eval__verify_fails_under_fp32_where_the_accumulator_is_too_narrow():
    result = run("sim.eval", "--model", CHECKPOINT, "--accumulator", 6, "--limit", 20, "--verify")
    assert result.returncode == 1
    assert "overflows make codes differ" in result.stdout
    assert result.stderr == ""


def test_eval__verify_under_integers_reports_at_most_one_code():
    result = run("sim.eval", "--model", CHECKPOINT, "--requant", "tflite_single", "--limit", 20, "--verify")
    assert result.returncode == 0
    assert "codes differ, by at most 1" in result.stdout


def test_eval__verify_notices_wrong_arithmetic():
    """A guard that cannot fail is none: bend the machine's arithmetic by one bias and --verify must exit with 1."""
    bent = """
import sys
from sim.requantizers.fp32 import Fp32
import dataclasses, numpy as np
good = Fp32.build.__func__
def bad(cls, affine, target):
    built = good(cls, affine, target)
    return dataclasses.replace(built, offset=np.nextafter(built.offset + np.float32(0.02), np.float32(9)))
Fp32.build = classmethod(bad)
import runpy
sys.argv = sys.argv[1:]
runpy.run_module("sim.eval", run_name="__main__", alter_sys=True)
"""
    result = subprocess.run([sys.executable, "-c", bent, "sim.eval", "--model", str(CHECKPOINT), "--verify"],
                            capture_output=True, text=True, check=False)
    assert result.returncode == 1, result.stderr
    differing, compared = re.search(r"([\d,]+) of ([\d,]+) codes differ", result.stdout).groups()
    assert 0 < int(differing.replace(",", "")) < int(compared.replace(",", ""))


def test_sim__runs_without_torch():
    """Every module of sim but the checkpoint reader and the commands works where torch cannot be imported."""
    script = """
import sys, pkgutil, importlib
for name in ("torch", "training"):
    sys.modules[name] = None
import sim
for module in pkgutil.walk_packages(sim.__path__, "sim."):
    if module.name not in ("sim.checkpoint", "sim.diff", "sim.eval", "sim.export", "sim.trace", "sim.sweep.__main__",
                           "sim.widths.__main__"):
        importlib.import_module(module.name)
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=False)
    assert result.returncode == 0, result.stderr


def test_training__imports_only_descriptions_and_files_of_sim():
    """training -> sim: the graph, the file formats, how a command fails and how loops are compiled; never the arithmetic.

    But for verify.py and testing.py, where both halves meet to be compared, the table that own quantizers join, what is one
    definition for both by contract (C10), functions of basic operations, integer definitions and what a task measures, what
    a sweep must know of the evaluations that it is about to ask for, and training for a register, whose forward pass is the
    simulator's own.
    """
    allowed = {"sim.network", "sim.checkpoint", "sim.files", "sim.records", "sim.text", "sim.command", "sim.kernels.jit",
               "sim.registry", "sim.version", "sim.lazy", "sim.outputs",
               "sim.recognize", "sim.functions", "sim.definitions", "sim.formats", "sim.values", "sim.accumulator",
               "sim.trained", "sim.tasks", "sim.tasks.answers", "sim.tasks.questions", "sim.tasks.task"}
    names = ("verify.py", "testing.py", "quantizers/__init__.py", "quantizers/quantizer.py", "quantizers/a2q.py",
             "sweeps/hardware.py", "registers.py", "layers/register.py")
    meeting = {ROOT / "training" / name for name in names}
    for path in set((ROOT / "training").rglob("*.py")) - meeting:
        for line in path.read_text().splitlines():
            if line.startswith(("from sim", "import sim")):
                assert line.split()[1] in allowed, f"{path}: {line}"


def test_checkpoint_for_tests__is_small():
    assert CHECKPOINT.stat().st_size < 2**20
    assert load_checkpoint(CHECKPOINT).training["scheme"] == "takd"
    assert torch.load(CHECKPOINT, weights_only=True)["version"] == 1


@pytest.mark.parametrize(("more", "line"), [
    ({}, "error: interrupted"), ({"go_on": "so it does"}, "error: interrupted; so it does")])
def test_interrupted_command__says_how_to_go_on_if_there_is_a_way(more, line, monkeypatch, capsys):
    app = new_app()

    @app.command()
    def main() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sys.argv", ["command"])
    with pytest.raises(SystemExit) as status:
        run_app(app, **more)
    assert status.value.code == 130
    assert capsys.readouterr().err.strip() == line


@pytest.mark.parametrize("module", ["sim.eval", "sim.sweep", "sim.widths", "training.run", "bittrue"])
def test_interrupted_command__that_has_not_begun_is_one_line(module, tmp_path):
    """While Python imports, which takes seconds: what comes first of that is interrupted here."""
    for name in ("numpy", "torch", "typer"):
        (tmp_path / f"{name}.py").write_text("raise KeyboardInterrupt")
    options = ["eval"] if module == "bittrue" else []
    result = subprocess.run([sys.executable, "-m", module, *options], cwd=ROOT, capture_output=True, text=True, check=False,
                            env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert_one_line(result, "interrupted", status=130)


def test_interrupt__of_a_program_that_imports_the_package_is_left_to_python():
    assert not is_own(["-m"], ["python", "-m", "theirs", "-m", "sim.eval"])
    assert not is_own(["theirs.py", "-m", "sim.eval"], ["python", "theirs.py", "-m", "sim.eval"])
    assert not is_own(["-c"], ["python", "-c", "import sim"])
    assert is_own(["-m"], ["python", "-X", "dev", "-m", "training.run", "-m"])


@pytest.mark.parametrize("options", [
    ["digits", "--seeds", "0"], ["ablations", "--seeds", "-1"], ["digits", "--first-seed", "-1"]])
def test_sweep__of_no_seeds_is_one_line(options):
    assert_one_line(run("training.sweep", *options), "seeds")


@pytest.mark.parametrize("option", [["--overflow", "saturate"], ["--tile", "4"]])
def test_eval__a_register_without_bits_is_one_line(option):
    assert_one_line(run("sim.eval", "--model", CHECKPOINT, *option), "add --accumulator")


def test_training__a_wrong_layer_is_refused_before_anything_is_trained(tmp_path):
    result = run("training.run", "--scheme", "takd", "--layer-bits", "stage9=4", "--epochs", "1", "--out", tmp_path / "out")
    assert_one_line(result, "'stage9' is no inner row")
    assert not (tmp_path / "out").exists()
