"""Weights and activations of different widths: described, trained, lowered, evaluated."""

import pytest

from sim.network import NetworkError, Precision
from tests import cli


@pytest.mark.parametrize(("precision", "text", "stored"), [
    (Precision(4, activations=8), "W4A8, first and last 8, residual 8",
     {"inner": 4, "boundary": 8, "skip": 8, "activations": 8}),
    (Precision(4, activations=4), "W4A4, first and last 8, residual 8", {"inner": 4, "boundary": 8, "skip": 8}),
    (Precision(2, layers=(("a", 3), ("b", 4, 8))), "W2A2, first and last 8, residual 8, a 3, b 4/8",
     {"inner": 2, "boundary": 8, "skip": 8, "layers": [["a", 3], ["b", 4, 8]]}),
])
def test_precision__is_told_and_stored(precision, text, stored):
    assert str(precision) == text
    assert precision.to_json() == stored
    assert Precision.from_json(stored) == precision


def test_precision__asks_per_operand_and_row():
    precision = Precision(2, 8, 6, (("a", 3), ("b", 4, 8)), activations=5)
    assert [precision.weight_bits("inner", row) for row in "abc"] == [3, 4, 2]
    assert [precision.activation_bits("inner", row) for row in "abc"] == [3, 8, 5]
    assert (precision.weight_bits("boundary", "a"), precision.activation_bits("skip", "b")) == (8, 6)


@pytest.mark.parametrize("activations", [9, 32, -1, True, 2.0])
def test_precision__of_no_width_is_refused(activations):
    with pytest.raises(NetworkError, match="activation bits"):
        Precision(4, activations=activations)


def test_precision__of_a_float_network_has_no_activations():
    with pytest.raises(NetworkError, match="a float network has none"):
        Precision(32, 32, 32, activations=8)


def test_command__trains_and_evaluates_other_activations(tmp_path):
    trained = cli.run("training.run", "--scheme", "individual", "--bits", 2, "--activation-bits", 4, "--dataset", "digits",
                      "--epochs", 1, "--model", "resnet8", "--width", 4, "--out", tmp_path / "run")
    assert trained.returncode == 0, trained.stderr
    shown = cli.run("sim.eval", "--model", tmp_path / "run/ckpt.pt", "--bits", 2, "--verify", "--limit", 50)
    assert "W2A4" in shown.stdout
    assert "0 of" in shown.stdout
    wide = cli.run("sim.eval", "--model", tmp_path / "run/ckpt.pt", "--activation-bits", 8, "--limit", 50)
    assert "W2A8" in wide.stdout
