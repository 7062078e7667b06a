"""Optimizers: steps by hand, what decays, gradients that are clipped and added up."""

import dataclasses
import math

import pytest
import torch

from sim.network import Graph, Precision
from tests.test_training import rates, small_config
from training.data import load_dataset
from training.loop import Pace, Passed, train_epoch
from training.models import MODELS
from training.network import QuantNetwork
from training.optimizers import clip_gradients, optimizer_of
from training.presets import PRESETS
from training.schemes.objectives import Lesson, labels_only


def vit() -> Graph:
    return MODELS["vit"](load_dataset("digits").first_row(), 10, 8)


def recipe(**changes):
    return dataclasses.replace(PRESETS["squad"], **changes)


def test_adamw__steps_are_those_of_the_paper(monkeypatch):
    """Loshchilov and Hutter 2019, algorithm 2, in plain Python."""
    weight = torch.nn.Parameter(torch.tensor([[0.5, -2.0]]))
    network = torch.nn.Module()
    network.weight, network.quantizer = weight, "dorefa"
    network.learned_parameters = dict
    optimizer = optimizer_of([network], recipe(momentum=0.8, weight_decay=0.1))
    rate, value, first, second = 0.01, [0.5, -2.0], [0.0, 0.0], [0.0, 0.0]
    for step, gradient in enumerate(([1.0, -3.0], [0.5, 0.25], [-2.0, 1e-3]), 1):
        optimizer.param_groups[0]["lr"] = rate
        weight.grad = torch.tensor([gradient])
        optimizer.step()
        for i, g in enumerate(gradient):
            first[i] = 0.8 * first[i] + 0.2 * g
            second[i] = 0.999 * second[i] + 0.001 * g * g
            mean, spread = first[i] / (1 - 0.8**step), math.sqrt(second[i] / (1 - 0.999**step))
            value[i] = value[i] - rate * 0.1 * value[i] - rate * mean / (spread + 1e-8)
        assert weight.tolist()[0] == pytest.approx(value, rel=1e-5)


def test_adamw__decays_matrices_alone_and_sgd_everything():
    network = QuantNetwork(vit(), Precision.of(4), "interval")
    for name, whole in (("adamw", False), ("sgd", True)):
        decays = {id(p): group["weight_decay"] for group in optimizer_of([network], recipe(optimizer=name)).param_groups
                  for p in group["params"]}
        learned = {id(p) for p in network.learned_parameters().values()}
        assert len(decays) == len(list(network.parameters()))
        for parameter in network.parameters():
            decayed = decays[id(parameter)] == 0.01
            assert decayed == (id(parameter) not in learned and (whole or parameter.ndim > 1))


def test_clip__scales_all_gradients_together_and_0_leaves_them():
    one, two = (torch.nn.Parameter(torch.zeros(n)) for n in (1, 2))
    for most, factor in ((0.0, 1.0), (13.0, 1.0), (2.6, 0.2)):
        one.grad, two.grad = torch.tensor([3.0]), torch.tensor([4.0, 12.0])
        clip_gradients([one, two], most)
        assert [*one.grad.tolist(), *two.grad.tolist()] == pytest.approx([3 * factor, 4 * factor, 12 * factor], rel=1e-5)


@pytest.mark.parametrize("optimizer", ["sgd", "nesterov"])  # adamw makes large steps of gradients that are 0 but for noise
def test_accumulated__gradients_are_those_of_one_large_batch(optimizer):
    """Also of a last group of fewer and smaller batches; a network without batch norm."""
    images, results = load_dataset("digits").train.first(22), []
    for size, accumulate in ((16, 1), (4, 4)):
        torch.manual_seed(0)
        network = QuantNetwork(vit(), Precision.of(32))
        config = small_config(model="vit", width=8, path=(32,), optimizer=optimizer, accumulate=accumulate, clip=0.5)
        lesson = Lesson(config, network, None, None, None, torch.Generator())
        told: list[int] = []
        pace = Pace(lambda batch: 0.01, lambda batch: 0.0, lambda count, loss, told=told: told.append(count))
        loss = train_epoch(lesson, labels_only, images.batches(size), optimizer_of([network], config), pace, Passed())
        results.append((loss, network.state_dict()))
        assert told == ([16, 6] if size == 16 else [4, 4, 4, 4, 4, 2])
    (first, mine), (second, theirs) = results
    assert first == pytest.approx(second, rel=1e-3)
    for name, value in mine.items():
        torch.testing.assert_close(value, theirs[name], rtol=1e-3, atol=2e-4, msg=name)


def test_squad_preset__is_the_line_of_bert():
    preset = PRESETS["squad"]
    assert (preset.optimizer, preset.schedule, preset.warmup, preset.weight_decay, preset.clip) == (
        "adamw", "linear", 0.1, 0.01, 1.0)
    assert rates().optimizer == "sgd"
