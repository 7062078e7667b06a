"""The line that says what to run next: one line at any width, and it works, whatever was trained."""

import shlex

import pytest

import sim.eval
import training
from training import run
from training.options import OPTIONS
from training.quantizers import QUANTIZERS
from training.schemes import SCHEMES

SMALL = {"model": "resnet8", "width": 4, "train_limit": 100, "epochs": 1}
MODULES = {"sim.eval": sim.eval.app, "training.run": run.app}


def works(result, monkeypatch, folder):
    """Run the command that is named, and the one that it names in turn, in a folder of its own."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr("builtins.print", lambda *_, **__: None)
    _, command = run.next_command(result)
    python, dash_m, module, *options = shlex.split(command)
    assert (python, dash_m) == ("python", "-m")
    assert "\n" not in command
    if module == "training.run":
        said = []
        monkeypatch.setattr(run, "_say", said.append)
        assert not run.app(options, standalone_mode=False)
        module, *options = shlex.split(said[-1].splitlines()[-1])[2:]
    assert module == "sim.eval"
    assert not MODULES[module]([*options, "--limit", "40"], standalone_mode=False)


@pytest.mark.parametrize("scheme", sorted(SCHEMES))
def test_next_command__works_for_every_scheme(tmp_path, monkeypatch, scheme):
    works(training.train(scheme, bits=4, out=tmp_path / "a [run]", **SMALL), monkeypatch, tmp_path)


@pytest.mark.exhaustive
@pytest.mark.parametrize("bits", [3, 32])
@pytest.mark.parametrize("quantizer", sorted(QUANTIZERS))
def test_next_command__works_for_every_quantizer(tmp_path, monkeypatch, quantizer, bits):
    works(training.train("individual", bits=bits, quantizer=quantizer, out=tmp_path / "o", **SMALL), monkeypatch, tmp_path)


def test_next_command__works_where_first_and_last_layer_are_float(tmp_path, monkeypatch):
    works(training.train("individual", boundary_bits="float", out=tmp_path / "o", **SMALL), monkeypatch, tmp_path)


def test_next_command__is_printed_on_a_line_of_its_own_at_any_width(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "40")
    out = tmp_path / "a folder with a name [final] of more than forty characters"
    result = run.main(**{name: None for name in OPTIONS} | {"scheme": "individual", "out": str(out)} | SMALL)
    lines = capsys.readouterr().out.splitlines()
    assert f"    python -m sim.eval --model {shlex.quote(str(out / 'ckpt.pt'))} --bits 2 --verify" in lines
    assert f"{result.checkpoint}" in "\n".join(lines)
