"""Training: losses by hand, data, resume bit for bit, divergence, plans of schemes."""

import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sim.checkpoint import load_checkpoint
from sim.network import Graph, Input, Precision
from tests.examples import examples
from tests.strategies import BITS
from training.data import DataError, crop_and_flip, load_dataset, shuffled_batches
from training.layers import Codes, ConvLayer
from training.loop import DivergedError, evaluate, learning_rate
from training.losses import distillation_kl, hinton_loss
from training.models import MODELS
from training.network import QuantNetwork
from training.presets import PRESETS
from training.quantizers import QUANTIZERS
from training.runner import Runner
from training.schemes import SCHEMES, SchemeError, find_scheme, objectives

SMALL = ["--model", "resnet8", "--width", "4", "--train-limit", "200", "--epochs", "3", "--batch", "32"]


def command(*options: str) -> list[str]:
    return [sys.executable, "-m", "training.run", *options]


def arrays(path):
    return load_checkpoint(path).spec.arrays


# losses

def test_distillation_kl__by_hand():
    student, teacher = torch.tensor([[0.0, 2.0]]), torch.tensor([[2.0, 0.0]])
    p = [math.exp(1) / (math.exp(1) + 1), 1 / (math.exp(1) + 1)]  # T = 2
    q = [p[1], p[0]]
    expected = 4 * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    assert distillation_kl(student, teacher, 2.0).item() == pytest.approx(expected, rel=1e-6)
    assert distillation_kl(student, teacher, 2.0, "classes").item() == pytest.approx(expected / 2, rel=1e-6)


def test_hinton_loss__weighs_both_terms_and_leaves_the_teacher_alone():
    student = torch.tensor([[1.0, -1.0]], requires_grad=True)
    teacher = torch.tensor([[0.5, 0.2]], requires_grad=True)
    labels = torch.tensor([0])
    loss = hinton_loss(student, teacher, labels, weight=0.25, temperature=5.0)
    hard = math.log(1 + math.exp(-2))
    assert loss.item() == pytest.approx(0.75 * hard + 0.25 * distillation_kl(student, teacher, 5.0).item(), rel=1e-6)
    loss.backward()
    assert teacher.grad is None
    assert hinton_loss(student, None, labels, weight=0.25, temperature=5.0).item() == pytest.approx(hard, rel=1e-6)


# schemes

@pytest.mark.parametrize(("scheme", "bits", "path"), [
    ("individual", 2, (2,)), ("individual", 32, (32,)),
    ("single-level", 1, (2, 1)), ("single-level", 4, (8, 4)), ("single-level", 8, (16, 8)), ("single-level", 16, (32, 16)),
    ("skip-level", 2, (32, 2)), ("takd", 2, (32, 8, 4, 2)), ("takd", 3, (32, 8, 4, 3)), ("takd", 1, (32, 8, 4, 2, 1)),
])
def test_default_path__is_the_method(scheme, bits, path):
    assert find_scheme(scheme).default_path(bits) == path
    steps = find_scheme(scheme).plan(path)
    assert [step.bits for step in steps] == list(path)
    assert [step.teacher for step in steps] == [None, *(step.name for step in steps[:-1])]


@pytest.mark.parametrize(("scheme", "path", "message"), [
    ("takd", (2, 8), "go down"), ("takd", (8, 8), "go down"), ("takd", (), "go down"), ("takd", (2,), "teacher and a"),
    ("individual", (32, 2), "no ladder"), ("single-level", (32, 2), "twice"), ("skip-level", (4, 2), "more than"),
    ("skip-level", (32, 8, 2), "one step"),
])
def test_path__that_is_not_the_method_is_refused(scheme, path, message):
    with pytest.raises(SchemeError, match=message):
        find_scheme(scheme).plan(path)


def test_unknown_scheme__names_the_near_match():
    with pytest.raises(SchemeError, match="did you mean takd"):
        find_scheme("tadk")


def test_takd_of_two__is_the_plan_of_skip_level_and_single_level():
    assert SCHEMES["takd"].plan((32, 2)) == SCHEMES["skip-level"].plan((32, 2))
    assert SCHEMES["takd"].plan((4, 2)) == SCHEMES["single-level"].plan((4, 2))


def rates(**changes):
    return dataclasses.replace(PRESETS["quick"], **{"lr": 1.0, **changes})


@pytest.mark.parametrize(("progress", "expected"), [(0.0, 0.0), (0.5, 0.5), (1.0, 0.975528), (5.0, 0.5), (10.0, 0.0)])
def test_cosine__warms_up_and_ends_at_zero(progress, expected):
    assert learning_rate(rates(schedule="cosine"), (), progress, 10) == pytest.approx(expected, abs=1e-6)


def test_multistep__is_a_tenth_from_each_milestone_on():
    found = [learning_rate(rates(schedule="multistep"), (2, 4), epoch, 6) for epoch in (0, 1.9, 2, 3.9, 4)]
    assert found == pytest.approx([1, 1, 0.1, 0.1, 0.01])


@pytest.mark.parametrize(("schedule", "warmup", "expected"), [
    ("cosine", 0.0, [1, 0.5, 0]), ("linear", 0.0, [1, 0.5, 0]), ("linear", 0.2, [0, 0.625, 0]), ("linear", 0.5, [0, 1, 0])])
def test_warm_up__is_a_line_to_the_peak(schedule, warmup, expected):
    found = [learning_rate(rates(schedule=schedule, warmup=warmup), (), progress, 10) for progress in (0, 5, 10)]
    assert found == pytest.approx(expected, abs=1e-6)


# data

def test_digits__split_once_and_for_all():
    data = load_dataset("digits", None)
    assert [len(split) for split in (data.train, data.validation, data.test)] == [1294, 143, 360]
    seen = {split.pixels[i].numpy().tobytes() for split in (data.train, data.validation) for i in range(len(split))}
    assert data.classes == 10
    assert len(seen) > 1400
    assert data.mean == pytest.approx([data.train.pixels.double().mean().item() / 255])
    assert data.std == pytest.approx([data.train.pixels.double().std(correction=0).item() / 255])


@given(st.integers(0, 2**32), st.integers(0, 3), st.booleans(), st.integers(1, 3))
def test_crop_and_flip__moves_each_image_on_its_own(seed, padding, flip, channels):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(1, 256, (6, channels, 4, 5), dtype=torch.uint8, generator=generator)
    result = crop_and_flip(images, padding, flip, generator)
    padded = torch.nn.functional.pad(images, (padding,) * 4)
    for original, got in zip(padded, result, strict=True):
        crops = [original[:, i : i + 4, j : j + 5] for i in range(2 * padding + 1) for j in range(2 * padding + 1)]
        candidates = crops + ([crop.flip(2) for crop in crops] if flip else [])
        assert any(torch.equal(got, candidate) for candidate in candidates)


def test_crop_and_flip__differs_between_images_of_a_batch():
    image = torch.arange(64, dtype=torch.uint8).view(1, 1, 8, 8).expand(64, 1, 8, 8)
    result = crop_and_flip(image, 1, True, torch.Generator().manual_seed(0))
    assert len({crop.numpy().tobytes() for crop in result}) > 10


def test_shuffled_batches__see_every_image_once_and_repeat_for_a_seed():
    images = load_dataset("digits", None).validation
    def epoch(seed):
        return list(shuffled_batches(images, 32, augment="crop", seed=seed))

    labels = torch.cat([batch.labels for batch in epoch(1)])
    assert torch.equal(labels.sort().values, images.labels.sort().values)
    for first, second in zip(epoch(1), epoch(1), strict=True):
        assert torch.equal(first.pixels, second.pixels)
    assert not torch.equal(labels, torch.cat([batch.labels for batch in epoch(2)]))


GOOD = {"x_train": np.zeros((9, 4, 4, 3), np.uint8), "y_train": np.arange(9) % 3,
        "x_test": np.zeros((3, 4, 4, 3), np.uint8), "y_test": np.arange(3)}


@pytest.mark.parametrize(("change", "message"), [
    ({"x_train": None}, "x_train is missing"),
    ({"x_train": np.zeros((9, 4, 4, 3))}, "float64 and x_test uint8"),
    ({"x_train": np.zeros((9, 48), np.uint8)}, "must be uint8"),
    ({"y_test": np.arange(4)}, "3 whole numbers"),
    ({"y_test": np.array([0.0, 1.0, 2.0])}, "whole numbers"),
    ({"y_train": np.arange(9) - 1}, "label -1"),
    ({"y_test": np.array([0, 1, 7])}, "label 7, which no training image has"),
    ({"x_test": np.zeros((3, 5, 4, 3), np.uint8)}, "x_test"),
    ({"y_train": np.array([object()] * 9)}, "not a readable"),
])
def test_npz__that_is_wrong_is_refused(tmp_path, change, message):
    content = {key: value for key, value in {**GOOD, **change}.items() if value is not None}
    np.savez(tmp_path / "data.npz", **content)
    with pytest.raises(DataError, match=message):
        load_dataset("npz", tmp_path / "data.npz")


def test_npz__loads(tmp_path):
    np.savez(tmp_path / "data.npz", **GOOD)
    data = load_dataset("npz", tmp_path / "data.npz")
    assert (data.label, data.classes, len(data.test)) == ("data", 3, 3)


@pytest.mark.parametrize(("name", "path", "message"), [
    ("npz", None, "needs --data"), ("npz", "nowhere.npz", "no such file"), ("digit", None, "did you mean digits"),
])
def test_data__that_is_not_there_is_refused(tmp_path, name, path, message):
    with pytest.raises(DataError, match=message):
        load_dataset(name, None if path is None else tmp_path / path)


def test_torchvision__imports_beside_a_cpu_build():
    from training.torchvision_cpu import prepare_torchvision

    prepare_torchvision()
    prepare_torchvision()
    from torchvision import datasets

    assert datasets.CIFAR10.base_folder == "cifar-10-batches-py"


# the quantized network

def small_graph(bits_role: str = "inner") -> Graph:
    return MODELS["resnet8"](Input("image", "", 8, 8, 1, (0.3,), (0.4,)), 10, 4)


@given(BITS)
@examples(9)
def test_training_forward__equals_the_folded_one_where_statistics_are_the_batch(bits):
    """Batch statistics and the folded affine are the same function, up to a rounding that lands on the other side."""
    torch.manual_seed(0)
    model = QuantNetwork(small_graph(), Precision(bits))
    layer = next(module for module in model.modules() if isinstance(module, ConvLayer) and module.norm)
    x = Codes(torch.randint(-127, 128, (64, 1, 8, 8)).float(), 0.01, 127)
    layer.train()
    for _ in range(300):  # running statistics converge to those of the one batch
        trained = layer(x)
    sums = layer.sums(x, layer.weight_codes()[0]) * (x.scale * float(layer.weight_codes()[1]))
    layer.norm.running_var.copy_(sums.var((0, 2, 3), correction=0))
    layer.eval()
    folded = layer(x)
    difference = (trained.values - folded.values).abs()
    assert difference.max() <= 1
    assert (difference > 0).float().mean() < (0.001 if bits < 16 else 0.2)


def test_norm__keeps_statistics_in_real_units():
    model = QuantNetwork(small_graph(), Precision(2))
    layer = next(module for module in model.modules() if isinstance(module, ConvLayer) and module.norm)
    x = Codes(torch.randint(-127, 128, (32, 1, 8, 8)).float(), 0.01, 127)
    layer.train()(x)
    codes, scale = layer.weight_codes()
    real = torch.nn.functional.conv2d(x.values * x.scale, codes * scale, None, 1, 1)
    torch.testing.assert_close(layer.norm.running_mean, 0.1 * real.mean((0, 2, 3)), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(layer.norm.running_var, 0.9 + 0.1 * real.var((0, 2, 3)), rtol=1e-4, atol=1e-6)


def test_gradient__of_a_layer_equals_that_of_the_real_valued_formula():
    """Codes and scales kept apart, and batch norm with a scaled eps, must not change what training sees."""
    torch.manual_seed(1)
    model = QuantNetwork(small_graph(), Precision(3))
    layer = next(module for module in model.modules() if isinstance(module, ConvLayer) and module.norm)
    x = Codes(torch.randint(-127, 128, (16, 1, 8, 8)).float(), 0.01, 127)
    layer.train()
    out = layer(x)
    weights = torch.randn_like(out.values)
    (out.values * out.scale * weights).sum().backward()
    mine = layer.weight.grad.clone()
    layer.weight.grad = None
    codes, scale = QUANTIZERS["dorefa"].weight(layer.weight, layer.bits, {})
    real = torch.nn.functional.conv2d(x.values * x.scale, codes * scale, None, 1, 1)
    normed = torch.nn.functional.batch_norm(real, None, None, layer.norm.weight, layer.norm.bias, True, 0.1, 1e-5)
    clipped = normed / out.scale
    codes_out = QUANTIZERS["dorefa"].activation(clipped, layer.activate.bits, 1.0)
    (codes_out * out.scale * weights).sum().backward()
    torch.testing.assert_close(mine, layer.weight.grad, rtol=1e-3, atol=1e-4)


def test_wide_sums__use_float64_and_narrow_ones_do_not():
    layer = next(m for m in QuantNetwork(small_graph(), Precision(16, boundary=16)).modules() if isinstance(m, ConvLayer))
    x = Codes(torch.full((1, 1, 8, 8), 32767.0), 1.0, 32767)
    assert layer.sums(x, torch.full_like(layer.weight, 65535.0)).dtype == torch.float64
    assert layer.sums(x._replace(bound=1), layer.weight_codes()[0]).dtype == torch.float32


def test_start_from__copies_weights_but_not_statistics():
    teacher, student = (QuantNetwork(small_graph(), Precision.of(bits)) for bits in (32, 2))
    teacher.train()(torch.randint(0, 256, (8, 1, 8, 8)))
    student.start_from(teacher)
    for name, value in student.state_dict().items():
        if "running_mean" in name:
            assert not value.any()
        elif "running_var" in name:
            assert (value == 1).all()
        else:
            assert torch.equal(value, teacher.state_dict()[name])


# runs

@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "whole"
    subprocess.run(command("--scheme", "takd", "--path", "32,2", *SMALL, "--out", str(out)), check=True,
                   capture_output=True, text=True)
    return out


def test_run__leaves_a_checkpoint_of_every_step_and_a_record(whole_run):
    record = json.loads((whole_run / "run.json").read_text())
    assert record["status"] == "finished"
    assert record["config"]["path"] == [32, 2]
    assert [entry["epoch"] for entry in record["steps"]["2bit"]["epochs"]] == [1, 2, 3]
    assert {"commit", "command", "versions", "hardware", "date", "python"} <= record.keys()
    assert load_checkpoint(whole_run / "32bit.pt").spec.precision.is_float
    student = load_checkpoint(whole_run / "ckpt.pt")
    assert student.spec.precision == Precision(2)
    accuracy, _ = evaluate(QuantNetwork.from_spec(student.spec), load_dataset("digits", None).test)
    assert record["test"]["accuracy"] == accuracy
    best = max(entry["validation_accuracy"] for entry in record["steps"]["2bit"]["epochs"])
    assert record["steps"]["2bit"]["best"]["accuracy"] == best


@pytest.mark.exhaustive
@pytest.mark.parametrize("moment", ["first", "second"])
def test_resume__after_kill_9_ends_with_the_same_bits(whole_run, tmp_path, moment):
    out = tmp_path / "killed"
    options = command("--scheme", "takd", "--path", "32,2", *SMALL, "--out", str(out), "--resume")
    awaited = out / ("resume.pt" if moment == "first" else "32bit.pt")
    process = subprocess.Popen(options, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not awaited.exists() and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() in (-signal.SIGKILL, 0)
    subprocess.run(options, check=True, capture_output=True)
    for name in ("32bit.pt", "2bit.pt", "ckpt.pt"):
        mine, theirs = arrays(out / name), arrays(whole_run / name)
        assert all(np.array_equal(mine[key], theirs[key]) for key in theirs)
    first, second = (json.loads((folder / "run.json").read_text()) for folder in (out, whole_run))
    assert first["test"] == second["test"]
    assert not (out / "resume.pt").exists()


def test_teacher__stands_in_for_its_step(whole_run, tmp_path):
    out = tmp_path / "taught"
    subprocess.run(command("--scheme", "takd", "--path", "32,2", *SMALL, "--out", str(out),
                           "--teacher", str(whole_run / "32bit.pt")), check=True, capture_output=True)
    mine, theirs = arrays(out / "ckpt.pt"), arrays(whole_run / "ckpt.pt")
    assert all(np.array_equal(mine[key], theirs[key]) for key in theirs)


class Silent:
    def begin(self, *_): ...
    def advance(self, *_): ...
    def epoch(self, *_): ...


def small_config(**changes):
    from training.config import RunConfig

    recipe = {**vars(PRESETS["quick"]), "epochs": 3, "batch": 32}
    return RunConfig(**{"scheme": "individual", "dataset": "digits", "data": "", "model": "resnet8", "width": 4,
                        "path": (2,), "preset": "quick", "skip_bits": 8, "quantizer": "dorefa", "seed": 0,
                        "train_limit": 200, **recipe, **changes})


class Stops(Silent):
    """Dies where a killed process would: after so many calls of `advance`, or at the end of an epoch."""

    def __init__(self, batches):
        self.batches = batches

    def advance(self, *_):
        self.batches -= 1
        if not self.batches:
            raise KeyboardInterrupt


def test_resume__of_a_run_with_a_teacher_that_died_in_its_first_epoch(whole_run, tmp_path):
    config = small_config(scheme="takd", path=(32, 2), teacher=str(whole_run / "32bit.pt"))
    data, cpu = load_dataset("digits", None), torch.device("cpu")
    with pytest.raises(KeyboardInterrupt):
        Runner(config, data, tmp_path, cpu, Stops(2)).run()
    record = json.loads((tmp_path / "run.json").read_text())
    Runner(config, data, tmp_path, cpu, Silent(), record).run()
    mine, theirs = arrays(tmp_path / "ckpt.pt"), arrays(whole_run / "ckpt.pt")
    assert all(np.array_equal(mine[key], theirs[key]) for key in theirs)
    assert record["steps"]["32bit"]["precision"] == "float"


def test_resume__of_a_run_that_died_before_it_noted_its_last_epoch(tmp_path, monkeypatch):
    data, cpu, config = load_dataset("digits", None), torch.device("cpu"), small_config(epochs=2)
    note = Runner._note

    def dies(self, step, state):
        if state.epoch == 2:
            raise KeyboardInterrupt
        note(self, step, state)

    monkeypatch.setattr(Runner, "_note", dies)
    with pytest.raises(KeyboardInterrupt):
        Runner(config, data, tmp_path, cpu, Silent()).run()
    monkeypatch.setattr(Runner, "_note", note)
    record = json.loads((tmp_path / "run.json").read_text())
    Runner(config, data, tmp_path, cpu, Silent(), record).run()
    assert [entry["epoch"] for entry in record["steps"]["2bit"]["epochs"]] == [1, 2]


def test_divergence__stops_names_step_and_layer_and_keeps_the_last_good_state(tmp_path, monkeypatch):
    calls = []

    def turns_nan(student, labels, weights, smoothing):
        calls.append(1)
        return torch.nn.functional.cross_entropy(student, labels) * (float("nan") if len(calls) > 9 else 1)

    monkeypatch.setattr(objectives, "weighted_cross_entropy", turns_nan)
    run = Runner(small_config(), load_dataset("digits", None), tmp_path, torch.device("cpu"), Silent())
    with pytest.raises(DivergedError, match=r"2bit, epoch 2: loss became nan at step 3 .*keeps epoch 1"):
        run.run()
    assert json.loads((tmp_path / "run.json").read_text())["status"] == "diverged"
    kept = torch.load(tmp_path / "resume.pt", weights_only=True)
    assert kept["epoch"] == 1
    assert all(torch.isfinite(value).all() for value in kept["model"].values())
    assert not (tmp_path / "ckpt.pt").exists()


def test_divergence__names_the_layer(tmp_path):
    run = Runner(small_config(lr=1e6, path=(32,)), load_dataset("digits", None), tmp_path, torch.device("cpu"), Silent())
    with pytest.raises(DivergedError, match=r"32bit, epoch 1: loss became (nan|inf) .* first in (layer|the weights) \w+"):
        run.run()


def test_seeds__give_different_networks_and_equal_ones_equal(tmp_path):
    data = load_dataset("digits", None)
    results = []
    for number, seed in enumerate((0, 0, 1)):
        run = Runner(small_config(seed=seed, epochs=1), data, tmp_path / str(number), torch.device("cpu"), Silent())
        results.append(run.run().state_dict())
    assert all(torch.equal(results[0][key], results[1][key]) for key in results[0])
    assert any(not torch.equal(results[0][key], results[2][key]) for key in results[0])


def test_environment__is_plain():
    assert os.environ.get("TORCH_FORCE_WEIGHTS_ONLY_LOAD") is None  # the tests above would prove less
