"""Hidden states and attention scores as soft labels: which rows they are, their distance by hand, who learns from them."""

import dataclasses

import pytest
import torch

import training
from sim.network import Precision, TokenInput
from tests.test_run_options import SMALL, refused
from tests.test_schemes import lesson
from tests.test_training import small_config, small_graph
from training.effects import Run
from training.models import MODELS
from training.models.encoder import bert, encoder
from training.network import QuantNetwork
from training.schemes.objectives import hinton, options_read, tutored
from training.schemes.states import attention_rows, hidden_rows, states_distance, watched_rows
from training.tasks import TASKS

IDS = TokenInput("ids", 6, 30, 3)
TINY = bert(IDS, 2, 8, layers=2, depth=4)


def test_states__are_the_last_row_of_every_block_and_its_scores():
    assert hidden_rows(TINY) == ["layer0_norm2", "layer1_norm2"]
    assert attention_rows(TINY) == ["layer0_scores", "layer1_scores"]
    first = encoder(2, 2, 8, tokens=4, vocabulary=9, norm_first=True)
    assert hidden_rows(first) == ["layer0_sum2", "layer1_sum2"]
    assert hidden_rows(small_graph()) == attention_rows(small_graph()) == []


def test_watched_rows__are_those_with_a_weight():
    config = small_config()
    for hidden, attention, count in ((0.0, 0.0, 0), (1.0, 0.0, 2), (0.0, 2.0, 2), (1.0, 1.0, 4)):
        found = watched_rows(dataclasses.replace(config, hidden_weight=hidden, attention_weight=attention), TINY)
        assert len(found) == count


def test_distance__by_hand_without_padding():
    """One text of 3 tokens, the last padding; 2 features; 1 head."""
    config = small_config(hidden_weight=3.0, attention_weight=5.0)
    mine = {"layer0_norm2": torch.tensor([[[[1.0], [2.0], [9.0]], [[0.0], [4.0], [9.0]]]], requires_grad=True),
            "layer0_scores": torch.arange(9.0).view(1, 3, 1, 3).requires_grad_()}
    theirs = {name: torch.zeros_like(value) for name, value in mine.items()}
    real = torch.tensor([[True, True, False]])
    hidden = (1 + 4 + 0 + 16) / 4
    scores = (0 + 1 + 9 + 16) / 4  # keys 0 and 1 of queries 0 and 1: 0, 1, 3, 4
    found = states_distance(config, mine, theirs, real)
    assert found.item() == pytest.approx(3 * hidden + 5 * scores, rel=1e-6)
    found.backward()
    assert not mine["layer0_norm2"].grad[0, :, 2].any()
    assert not mine["layer0_scores"].grad[0, 2].any()
    assert not mine["layer0_scores"].grad[0, :, :, 2].any()
    whole = states_distance(config, {"layer0_norm2": mine["layer0_norm2"]}, theirs, None)
    assert whole.item() == pytest.approx(3 * (1 + 4 + 0 + 16 + 81 + 81) / 6, rel=1e-6)


def networks(bits):
    torch.manual_seed(0)
    teacher = QuantNetwork(TINY, Precision.of(32), "interval").eval()
    student = QuantNetwork(TINY, Precision.of(bits), "interval")
    student.load_state_dict(teacher.state_dict())
    return student.train(), teacher


@pytest.mark.parametrize("objective", [hinton, tutored])
def test_objective__adds_the_distance_and_leaves_the_teacher_alone(objective):
    ids, labels = torch.tensor([[1, 5, 3, 7, 0, 0], [1, 9, 3, 4, 8, 3]]), torch.tensor([1, 3, 0, 2])
    student, teacher = networks(4)
    losses, plain = [], small_config(scheme="sqakd", path=(32, 4), kd_weight=0.5, temperature=2.0)
    for config in (plain, dataclasses.replace(plain, hidden_weight=1.0), dataclasses.replace(plain, attention_weight=1.0)):
        given = dataclasses.replace(lesson(config, student, teacher=teacher), task=TASKS["spans"])
        losses.append(objective(given, ids, labels))
    assert losses[1].item() > losses[0].item()
    assert losses[2].item() > losses[0].item()
    losses[1].backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert student.layers["layer0_down"].weight.grad.any()


def test_states__of_equal_networks_have_no_distance():
    student, teacher = networks(32)
    config = small_config(scheme="sqakd", path=(32, 4), kd_weight=1.0, hidden_weight=1.0, attention_weight=1.0)
    given = dataclasses.replace(lesson(config, student.eval(), teacher=teacher), task=TASKS["spans"])
    ids = torch.tensor([[1, 5, 3, 7, 0, 0]])
    assert given.taught(ids)[2].item() == 0.0


def test_kept__are_the_real_numbers_of_codes():
    student, _ = networks(4)
    trace, kept = {}, {"layer0_norm2": None, "layer1_scores": None}
    student.eval()(torch.tensor([[1, 5, 3, 7, 0, 0]]), trace, kept)
    for name, value in kept.items():
        step = student.layers[name].activate.step()
        torch.testing.assert_close(value, trace[name] * step.float(), rtol=0, atol=0)


def test_objectives__declare_that_they_read_states_and_ask_a_teacher_for_them_alone():
    config = small_config(scheme="kd", path=(32, 4), kd_weight=0.0, hidden_weight=1.0)
    step = config.plan()[-1]
    assert {"hidden_weight", "attention_weight"} <= options_read(hinton, config, True)
    assert Run(config, TINY, config.plan(), config.plan()).asks(step)
    without = dataclasses.replace(config, hidden_weight=0.0)
    assert not Run(without, TINY, without.plan(), without.plan()).asks(step)


@pytest.mark.parametrize(("scheme", "options", "message"), [
    ("sqakd", {"hidden_weight": 1.0, **SMALL}, "hidden-weight: resnet8 has no attention"),
    ("individual", {"attention_weight": 1.0, "model": "vit"}, "attention-weight: no loss of this run"),
    ("kd", {"hidden_weight": 1.0, "model": "vit", "teacher_width": 32}, "hidden-weight: the teacher's own architecture"),
    ("speq", {"teacher_statistics": "running", "model": "vit"}, "teacher-statistics: vit has no batch norm"),
    ("sqakd", {"hidden_weight": -1.0, "model": "vit"}, r"hidden-weight: -1\.0 is not allowed"),
])
def test_weight__of_what_is_not_there_is_refused(tmp_path, scheme, options, message):
    refused(tmp_path, message, scheme, **options)


def test_run__learns_from_states_of_a_vision_transformer(tmp_path):
    small = {"model": "vit", "width": 8, "bits": 4, "epochs": 1, "train_limit": 64, "quantizer": "interval"}
    plain = training.train("sqakd", out=tmp_path / "plain", **small)
    taught = training.train("sqakd", out=tmp_path / "taught", teacher=tmp_path / "plain/32bit.pt", hidden_weight=1.0,
                            attention_weight=1.0, **small)
    assert MODELS["vit"]
    losses = [result.history["loss"].iloc[-1] for result in (plain, taught)]
    assert losses[1] > losses[0]
