"""Every scheme trains networks of signed activations and of tokens; simulator and model agree in every code afterwards."""

import dataclasses
import json

import numpy as np
import pytest

import sim
import training
from training.data import load_dataset
from training.loop import evaluate
from training.network import QuantNetwork
from training.schemes import SCHEMES
from training.verify import Comparison

QUICK = {("speq", "mobilenetv2"), ("skip-level", "vit")}
OTHERS = ("kd", "qkd", "apprentice-a", "apprentice-b")
"""Schemes whose teacher may be another architecture."""


def verified(result):
    """(codes that were compared, codes that differ) on 40 images of the test set."""
    checkpoint = sim.load_checkpoint(result.checkpoint)
    machine = sim.Machine(sim.lower(checkpoint.spec))
    comparison, trace = Comparison(machine, training.load(result.checkpoint)), {}
    test = load_dataset("digits").test
    pixels = np.ascontiguousarray(test.pixels[:40].permute(0, 2, 3, 1).numpy().astype(np.uint8))
    machine.run(pixels, trace)
    comparison.add(pixels, test.labels[:40].numpy(), trace)
    return comparison.compared, sum(comparison.differing.values())


@pytest.mark.parametrize(("scheme", "model"), [
    pytest.param(scheme, model, marks=() if (scheme, model) in QUICK else pytest.mark.exhaustive)
    for scheme in SCHEMES for model in ("mobilenetv2", "vit")])
def test_scheme__trains_a_network_that_verifies(tmp_path, scheme, model):
    result = training.train(scheme, model=model, width=8, bits=4, epochs=1, train_limit=120, out=tmp_path / "run")
    compared, differing = verified(result)
    assert compared > 40_000
    assert differing == 0


@pytest.mark.exhaustive
@pytest.mark.parametrize("scheme", OTHERS)
def test_teacher__may_be_another_architecture(tmp_path, scheme):
    result = training.train(scheme, model="mobilenetv2", width=8, teacher_model="resnet8", bits=4, epochs=1, train_limit=120,
                            out=tmp_path / "run")
    assert verified(result)[1] == 0


@pytest.mark.parametrize("bits", [2, 8])
def test_ptq__takes_the_statistics_that_validation_images_like_better(tmp_path, bits):
    result = training.train("ptq", model="resnet8", width=8, bits=bits, epochs=2, train_limit=300, out=tmp_path / "run")
    chosen = json.loads((tmp_path / "run/run.json").read_text())["steps"][f"{bits}bit"]
    student, before = (sim.load_checkpoint(path).spec for path in (result.checkpoint, tmp_path / "run/32bit.pt"))
    names = [name for name in student.arrays if ".running_" in name]
    kept = {name: before.arrays[name] for name in names}
    is_kept = all(np.array_equal(student.arrays[name], kept[name]) for name in names)
    assert chosen["statistics"] == ("kept" if is_kept else "gathered")
    validation, losses = load_dataset("digits").validation, {}
    for name, arrays in (("own", {}), ("kept", kept)):
        model = QuantNetwork.from_spec(dataclasses.replace(student, arrays={**student.arrays, **arrays}))
        losses[name] = evaluate(model, validation)[1]
    assert losses["own"] == min(losses.values()) == chosen["best"]["loss"]
