"""Schemes: losses and gradients by hand, who is touched by whom, equal methods give equal networks, all are bit-true."""

import json
import math

import numpy as np
import pytest
import torch

from sim.checkpoint import load_checkpoint
from sim.hardware import HardwareSpec
from sim.lowering import lower
from sim.machine import Machine
from sim.network import Precision
from sim.testing import ALIKE
from tests.test_agreement import fq_codes
from tests.test_training import Silent, Stops, arrays, small_config, small_graph
from training import runner as runner_module
from training.config import ConfigError, RunConfig
from training.data import load_dataset
from training.layers import ConvLayer
from training.loop import DivergedError
from training.losses import distillation_cosine, distillation_kl, weighted_cross_entropy
from training.network import QuantNetwork
from training.quantizers import QUANTIZERS
from training.runner import Runner
from training.schemes import SCHEMES, SchemeError, SchemeOptions
from training.schemes.objectives import Lesson, co_studied, hinton, joint, labels_only
from training.schemes.speq import draw_precisions, self_taught, stochastic_teacher

CPU = torch.device("cpu")


def config_of(scheme: str, bits: int = 2, **changes) -> RunConfig:
    """The scheme with its own defaults, as the command makes it."""
    found = SCHEMES[scheme]
    return small_config(**{"scheme": scheme, "path": found.default_path(bits), "epochs": 2, **found.defaults, **changes})


def run(config: RunConfig, out, display=None) -> Runner:
    record = json.loads((out / "run.json").read_text()) if (out / "run.json").exists() else {}
    runner = Runner(config, load_dataset("digits", None), out, CPU, display or Silent(), record)
    runner.run()
    return runner


# losses

def test_cosine_loss__by_hand():
    student, teacher = torch.tensor([[0.0, 2.0], [1.0, 1.0]]), torch.tensor([[2.0, 0.0], [3.0, 3.0]])
    a, b = math.e / (math.e + 1), 1 / (math.e + 1)  # T = 2
    first = 1 - 2 * a * b / (a * a + b * b)
    assert distillation_cosine(student, teacher, 2.0).item() == pytest.approx(4 * (first + 0) / 2, rel=1e-6)


def test_cosine_loss__has_the_gradient_of_its_formula_and_spares_the_teacher():
    torch.manual_seed(0)
    student = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: distillation_cosine(z, teacher, 3.0), student)
    distillation_cosine(student, teacher, 3.0).backward()
    assert teacher.grad is None


def test_weighted_cross_entropy__scales_weights_to_mean_one():
    logits, labels = torch.tensor([[0.0, 0.0], [0.0, math.log(3)]]), torch.tensor([0, 0])
    each = [math.log(2), math.log(4)]
    assert weighted_cross_entropy(logits, labels, torch.tensor([2.0, 6.0])).item() == pytest.approx(
        0.5 * (0.5 * each[0] + 1.5 * each[1]), rel=1e-6)
    assert weighted_cross_entropy(logits, labels, None).item() == pytest.approx(sum(each) / 2, rel=1e-6)


def test_smoothed_labels__share_a_part_among_all_classes():
    logits, labels = torch.tensor([[0.0, math.log(3)]]), torch.tensor([1])
    plain, even = math.log(4 / 3), (math.log(4) + math.log(4 / 3)) / 2
    for weights in (None, torch.tensor([2.0])):
        loss = weighted_cross_entropy(logits, labels, weights, smoothing=0.2).item()
        assert loss == pytest.approx(0.8 * plain + 0.2 * even, rel=1e-6)


def test_smoothed_labels__are_those_of_partners_too():
    config = config_of("qkd", label_smoothing=0.2, kd_weight=0.0)
    mine, theirs, labels = Fixed(0.3, -0.2), Fixed(1.0, 0.5), torch.tensor([0])
    loss = co_studied(lesson(config, mine, partner=theirs), torch.zeros(1), labels).item()
    ce = torch.nn.functional.cross_entropy
    assert loss == pytest.approx(sum(ce(net.logits, labels, label_smoothing=0.2).item() for net in (mine, theirs)), rel=1e-6)


class Fixed(torch.nn.Module):
    """A network that says the same logits whatever it sees."""

    def __init__(self, *logits: float) -> None:
        super().__init__()
        self.logits = torch.nn.Parameter(torch.tensor([logits]))

    def forward(self, pixels):
        return self.logits.expand(len(pixels), -1)


def lesson(config, student, **others) -> Lesson:
    rest = {"teacher": None, "partner": None, "individual": None, **others}
    return Lesson(config, student, generator=torch.Generator(), **rest)


def test_co_studying__is_both_losses_and_no_gradient_crosses():
    """L_S = CE + T^2 KL(p_T || p_S), L_T = CE + T^2 KL(p_S || p_T): each network sees only the gradient of its own."""
    config = config_of("qkd")
    mine, theirs, labels, pixels = Fixed(0.3, -0.2), Fixed(1.0, 0.5), torch.tensor([0]), torch.zeros(1)
    loss = co_studied(lesson(config, mine, partner=theirs), pixels, labels)
    loss.backward()
    ce = torch.nn.functional.cross_entropy
    alone = [ce(a.logits, labels) + distillation_kl(a.logits, b.logits.detach(), 2.0)
             for a, b in ((mine, theirs), (theirs, mine))]
    assert loss.item() == pytest.approx(sum(term.item() for term in alone), rel=1e-6)
    for network, term in zip((mine, theirs), alone, strict=True):
        expected = torch.autograd.grad(term, network.logits)[0]
        torch.testing.assert_close(network.logits.grad, expected)


def test_joint_training__teaches_without_the_teacher_noticing():
    mine, theirs, labels = Fixed(0.3, -0.2), Fixed(1.0, 0.5), torch.tensor([1])
    joint(lesson(config_of("apprentice-a"), mine, partner=theirs), torch.zeros(1), labels).backward()
    expected = torch.autograd.grad(torch.nn.functional.cross_entropy(theirs.logits, labels), theirs.logits)[0]
    torch.testing.assert_close(theirs.logits.grad, expected)


def test_drop_kd_after__leaves_labels_only():
    config = config_of("kd", drop_kd_after=0.5)
    given = lesson(config, Fixed(0.3, -0.2), teacher=Fixed(5.0, 1.0))
    alone = labels_only(given, torch.zeros(2), torch.tensor([0, 1])).item()
    given.progress = 0.49
    assert hinton(given, torch.zeros(2), torch.tensor([0, 1])).item() != pytest.approx(alone, rel=1e-3)
    given.progress = 0.5
    assert hinton(given, torch.zeros(2), torch.tensor([0, 1])).item() == alone


def test_hard_examples__weigh_more_for_each_network_that_is_wrong():
    given = lesson(config_of("kd", hard_example_weight=2.0), Fixed(0.0, 0.0), teacher=Fixed(1.0, 0.0),
                   individual=Fixed(0.0, 1.0))
    pixels, labels = torch.zeros(2), torch.tensor([0, 1])
    assert given.weights(pixels, labels, given.soft_labels(pixels)).tolist() == [3.0, 3.0]
    given.individual = None
    assert given.weights(pixels, labels, given.soft_labels(pixels)).tolist() == [1.0, 3.0]


# SPEQ's teacher

@pytest.mark.parametrize("statistics", ["batch", "running", "shared"])
def test_speq_teacher__leaves_everything_untouched_but_what_is_documented(statistics):
    config = config_of("speq", teacher_statistics=statistics)
    torch.manual_seed(0)
    student = QuantNetwork(small_graph(), Precision(2), "pact").train()
    before = {key: value.clone() for key, value in student.state_dict().items()}
    pixels = torch.randint(0, 256, (8, 1, 8, 8)).float()
    logits = stochastic_teacher(lesson(config, student), pixels)
    assert not logits.requires_grad
    assert student.training
    assert {name: activate.bits for name, activate in student.activations().items()} == {
        name: student.precision.activation_bits(activate.role, name) for name, activate in student.activations().items()}
    changed = {key for key, value in student.state_dict().items() if not torch.equal(value, before[key])}
    assert all("running" in key for key in changed)
    assert bool(changed) == (statistics == "shared")
    assert all(parameter.grad is None for parameter in student.parameters())


def test_speq__with_u_0_teaches_what_the_student_knows():
    config = config_of("speq", u=0.0)
    torch.manual_seed(0)
    student = QuantNetwork(small_graph(), Precision(2), "pact").train()
    pixels = torch.randint(0, 256, (8, 1, 8, 8)).float()
    given = lesson(config, student)
    torch.testing.assert_close(stochastic_teacher(given, pixels), student(pixels), rtol=0, atol=0)
    labels = torch.arange(8) % 10
    hard = torch.nn.functional.cross_entropy(student(pixels), labels).item()
    assert self_taught(given, pixels, labels).item() == pytest.approx(hard, abs=1e-5)


def test_speq__draws_every_inner_layer_on_its_own():
    student = QuantNetwork(small_graph(), Precision(2), "pact")
    generator = torch.Generator().manual_seed(0)
    draws = [draw_precisions(student, SchemeOptions(u=0.3), generator) for _ in range(400)]
    inner = {name for name, activate in student.activations().items() if activate.role == "inner"}
    assert inner
    for name in inner:
        share = np.mean([draw[name] == 8 for draw in draws])
        assert 0.2 < share < 0.4
        assert {draw[name] for draw in draws} == {2, 8}
    uniform = [draw_precisions(student, SchemeOptions(candidates="uniform"), generator) for _ in range(200)]
    assert {width for draw in uniform for width in draw.values()} == set(range(2, 9))


# plans

def test_qkd_plan__has_its_phases_shares_and_teachers():
    steps = SCHEMES["qkd"].plan((32, 2))
    assert [(step.name, step.start, step.teacher, step.partner) for step in steps] == [
        ("32bit", None, None, None), ("2bit-ss", "32bit", None, None), ("2bit-cs", "2bit-ss", None, "32bit"),
        ("2bit-tu", "2bit-cs", "2bit-cs-teacher", None)]
    assert [step.share for step in steps[1:]] == [0.15, 0.5, 0.35]
    fixed = SCHEMES["qkd"].plan((32, 2), SchemeOptions(fixed_teacher=True, teacher_width=32))
    assert [(step.name, step.teacher, step.partner) for step in fixed[1:]] == [
        ("teacher", None, None), ("2bit-ss", None, None), ("2bit-cs", "teacher", None), ("2bit-tu", "teacher", None)]


def test_qad_plan__is_that_of_sqakd_with_another_teacher():
    assert SCHEMES["qad"].plan((32, 2)) == SCHEMES["sqakd"].plan((32, 2))
    steps = SCHEMES["qad"].plan((32, 2), SchemeOptions(teacher_width=32))
    assert [(step.name, step.network, step.start, step.teacher) for step in steps] == [
        ("32bit", "student", None, None), ("teacher", "teacher", None, None), ("2bit", "student", "32bit", "teacher")]
    assert (config_of("qad").kd_weight, config_of("qad").temperature) == (1.0, 4.0)


@pytest.mark.parametrize(("scheme", "options", "message"), [
    ("takd", {"u": 0.1}, "u: scheme takd has no such option"), ("qkd", {"phases": ("tu", "ss")}, "in order"),
    ("qkd", {"phases": ()}, "phases"), ("speq", {"candidates": "all"}, "pair, uniform"), ("speq", {"u": 1.5}, "0.0 to 1.0"),
    ("kd", {"individual": "x.pt"}, "hard-example-weight"), ("sqakd", {"teacher_width": 3}, "no such option"),
])
def test_options__that_make_no_sense_are_refused(scheme, options, message):
    with pytest.raises(SchemeError, match=message):
        SCHEMES[scheme].plan((32, 8, 2) if scheme == "takd" else (32, 2), SchemeOptions(**options))


# runs

@pytest.mark.parametrize("scheme", sorted(SCHEMES))
def test_every_scheme__trains_a_student_that_is_bit_true(tmp_path, scheme):
    run(config_of(scheme), tmp_path)
    assert_bit_true(tmp_path)


@pytest.mark.parametrize("quantizer", [
    pytest.param(name, marks=pytest.mark.exhaustive) if name in ALIKE else name for name in sorted(QUANTIZERS)])
def test_every_quantizer__trains_a_student_that_is_bit_true(tmp_path, quantizer):
    run(config_of("skip-level", 3, quantizer=quantizer), tmp_path)
    assert_bit_true(tmp_path)


@pytest.mark.exhaustive
@pytest.mark.parametrize("has_loops", [True, False])
@pytest.mark.parametrize("scheme", ["qkd", "speq", "apprentice-a"])
def test_bfloat16_gradients__train_a_student_that_is_bit_true_with_and_without_fused_loops(
        tmp_path, monkeypatch, scheme, has_loops):
    if not has_loops:
        monkeypatch.setattr("training.kernels.is_available", lambda: False)
    run(config_of(scheme, gradients="bfloat16"), tmp_path)
    assert_bit_true(tmp_path)


def test_qad__from_given_weights_trains_no_twin_for_them(tmp_path):
    """The student is the one that begins with a twin of its own, whose weights these are."""
    run(config_of("qad", teacher_width=8), tmp_path / "whole")
    whole, start = tmp_path / "whole", str(tmp_path / "whole/32bit.pt")
    given = config_of("qad", teacher_width=8, init_from=start, teacher=str(whole / "teacher.pt"))
    assert [step.name for step in given.plan()] == ["teacher", "2bit"]
    found = run(given, tmp_path / "given")
    assert list(found.record["steps"]) == ["teacher", "2bit"]
    assert not found.record["steps"]["teacher"]["epochs"]
    assert_bit_true(tmp_path / "given")
    begun = found._new(found.steps[-1])
    twin = QuantNetwork.from_spec(load_checkpoint(whole / "32bit.pt").spec)
    names = [name for name in begun.state_dict() if "running" not in name]
    assert all(torch.equal(begun.state_dict()[name], twin.state_dict()[name]) for name in names)


def test_layer_bits__are_the_students_exceptions_in_training_checkpoint_and_simulator(tmp_path):
    run(config_of("skip-level", layer_bits="stage1_block1_conv1=4,stage2_block1_in=3"), tmp_path)
    assert_bit_true(tmp_path)
    spec = load_checkpoint(tmp_path / "ckpt.pt").spec
    assert spec.precision == Precision(2, layers=(("stage1_block1_conv1", 4), ("stage2_block1_in", 3)))
    ops = {op.name: op for op in lower(spec, HardwareSpec()).ops}
    assert ops["stage1_block1_conv1"].weight_bits == ops["stage1_block1_conv1"].format.bits == 4
    assert ops["stage2_block1_in"].format.bits == 3
    assert ops["stage1_block1_conv2"].weight_bits == 2
    assert load_checkpoint(tmp_path / "32bit.pt").spec.precision.is_float


def assert_bit_true(out) -> None:
    spec = load_checkpoint(out / "ckpt.pt").spec
    pixels = load_dataset("digits", None).test.pixels[:30].permute(0, 2, 3, 1).contiguous().numpy()
    trace: dict[str, np.ndarray] = {}
    Machine(lower(spec, HardwareSpec())).run(pixels, trace)
    expected = fq_codes(spec, pixels)
    for name, codes in trace.items():
        np.testing.assert_array_equal(codes, expected[name], err_msg=name)


def test_qkd__without_cs_and_tu_is_individual_from_the_same_float_start(tmp_path, monkeypatch):
    """But for the share of epochs, and for the randomness of the step, which here is made the same."""
    seed = runner_module._seed

    def without_step(*parts):
        return seed(parts[0], *parts[2:]) if len(parts) == 3 else seed(*parts)

    monkeypatch.setattr(runner_module, "_seed", without_step)
    run(config_of("qkd", phases=("ss",), epochs=20), tmp_path / "qkd")
    start = tmp_path / "qkd" / "32bit.pt"
    run(config_of("individual", quantizer="interval", init_from=str(start), epochs=3), tmp_path / "individual")
    mine, theirs = arrays(tmp_path / "qkd" / "ckpt.pt"), arrays(tmp_path / "individual" / "ckpt.pt")
    assert all(np.array_equal(mine[key], theirs[key]) for key in theirs)


@pytest.mark.parametrize("batches", [16, *(pytest.param(n, marks=pytest.mark.exhaustive) for n in (23, 30))])
def test_qkd__resumes_inside_any_phase_to_the_same_bits(tmp_path, batches):
    """200 images are 7 batches an epoch: 14 of the float network, then 7 of each phase."""
    config = config_of("qkd")
    run(config, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(config, tmp_path / "cut", Stops(batches))
    run(config, tmp_path / "cut")
    for name in ("2bit-ss.pt", "2bit-cs.pt", "2bit-cs-teacher.pt", "ckpt.pt"):
        mine, theirs = arrays(tmp_path / "cut" / name), arrays(tmp_path / "whole" / name)
        assert all(np.array_equal(mine[key], theirs[key]) for key in theirs)


def test_qkd__keeps_the_best_co_studied_teacher(tmp_path):
    record = run(config_of("qkd", epochs=8), tmp_path).record
    phase = record["steps"]["2bit-cs"]
    assert phase["teacher_best"]["accuracy"] == max(entry["teacher_validation_accuracy"] for entry in phase["epochs"])
    assert record["steps"]["2bit-tu"]["teacher"] == "2bit-cs-teacher"


def test_init_from__begins_with_the_weights_of_another_data_set_and_a_new_head(tmp_path):
    run(config_of("individual", width=4), tmp_path / "source")
    source = load_checkpoint(tmp_path / "source" / "ckpt.pt")
    model = QuantNetwork(source.spec.graph, Precision(2))
    few = {name: array[:5] if name.startswith("classifier") else array for name, array in source.spec.arrays.items()}
    assert model.adapt_from(few) == ["classifier.bias", "classifier.weight"]
    assert np.array_equal(model.spec().arrays["stem.weight"], source.spec.arrays["stem.weight"])
    record = run(config_of("kd", init_from=str(tmp_path / "source" / "ckpt.pt")), tmp_path / "target").record
    assert record["transferred"] == {"from": str(tmp_path / "source" / "ckpt.pt"), "new_layers": []}


def test_init_from__a_network_of_which_nothing_fits_is_refused(tmp_path):
    run(config_of("individual", width=8), tmp_path / "source")
    with pytest.raises(ConfigError, match="no layer of it fits"):
        run(config_of("individual", init_from=str(tmp_path / "source" / "ckpt.pt")), tmp_path / "target")


def test_init_from__is_refused_where_every_step_begins_with_weights_of_its_own(tmp_path):
    run(config_of("individual", bits=32), tmp_path / "float")
    given = str(tmp_path / "float" / "ckpt.pt")
    with pytest.raises(ConfigError, match="no step of this run begins with random weights"):
        run(config_of("skip-level", path=(32, 2), teacher=given, init_from=given), tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_individual__of_other_images_or_classes_is_refused(tmp_path):
    rng = np.random.default_rng(0)
    file = tmp_path / "other.npz"
    np.savez(file, x_train=rng.integers(0, 256, (60, 12, 12, 1)).astype(np.uint8), y_train=np.arange(60) % 3,
             x_test=rng.integers(0, 256, (9, 12, 12, 1)).astype(np.uint8), y_test=np.arange(9) % 3)
    other = small_config(dataset="npz", data=str(file), epochs=1)
    Runner(other, load_dataset("npz", file), tmp_path / "other", CPU, Silent()).run()
    with pytest.raises(ConfigError, match="other data"):
        run(config_of("skip-level", hard_example_weight=1.0, individual=str(tmp_path / "other" / "ckpt.pt")),
            tmp_path / "run")


def test_divergence__on_validation_images_keeps_nothing_of_the_epoch(tmp_path, monkeypatch):
    measure = runner_module.measure
    calls = []

    def breaks(model, images, task):
        calls.append(1)
        return ({"accuracy": 12.0}, float("nan")) if len(calls) == 2 else measure(model, images, task)

    monkeypatch.setattr(runner_module, "measure", breaks)
    with pytest.raises(DivergedError, match=r"2bit, epoch 2: the validation loss became nan; .*keeps epoch 1"):
        run(config_of("individual", epochs=3), tmp_path)
    monkeypatch.setattr(runner_module, "measure", measure)
    assert run(config_of("individual", epochs=3), tmp_path).record["status"] == "finished"


def test_teacher__of_another_architecture_stands_in_for_its_own_step_only(tmp_path):
    run(config_of("qkd", phases=("ss", "cs"), teacher_width=6), tmp_path / "first")
    assert (tmp_path / "first" / "teacher.pt").exists()
    second = run(config_of("qkd", phases=("ss", "cs"), teacher_width=6, teacher=str(tmp_path / "first" / "teacher.pt")),
                 tmp_path / "second")
    assert "from" in second.record["steps"]["teacher"]
    assert "epochs" in second.record["steps"]["32bit"]
    mine, theirs = arrays(tmp_path / "second" / "ckpt.pt"), arrays(tmp_path / "first" / "ckpt.pt")
    assert all(np.array_equal(mine[key], theirs[key]) for key in theirs)


@pytest.mark.parametrize(("changes", "message"), [
    ({"scheme": "speq", "quantizer": "lsq"}, "no finer"), ({"scheme": "qkd", "boundary_bits": 32}, "boundary-bits"),
    ({"scheme": "individual", "hard_example_weight": 1.0}, "--individual"),
    ({"scheme": "qkd", "phases": ("ss",), "fixed_teacher": True}, "fixed-teacher"),
])
def test_combinations__without_meaning_are_refused(changes, message):
    with pytest.raises((ConfigError, SchemeError), match=message):
        config_of(changes.pop("scheme"), **changes)


def test_learned_ranges__stay_at_another_width(tmp_path):
    run(config_of("skip-level", 4, quantizer="lsq", epochs=4), tmp_path)
    spec = load_checkpoint(tmp_path / "ckpt.pt").spec
    wider = spec.at(Precision(8))
    key = "stage1_block1_conv1.activate.activation_step"
    assert wider.arrays[key] * 255 == pytest.approx(spec.arrays[key] * 15, rel=1e-6)
    assert wider.arrays["stage1_block1_conv1.weight_step"] * 127 == pytest.approx(
        spec.arrays["stage1_block1_conv1.weight_step"] * 7, rel=1e-6)
    assert wider.arrays["stem.weight_step"] is spec.arrays["stem.weight_step"]


def test_zero_weights__train_on_as_a_constant():
    model = QuantNetwork(small_graph(), Precision(1)).train()
    layer = next(module for module in model.modules() if isinstance(module, ConvLayer) and module.bits == 1)
    with torch.no_grad():
        layer.weight.zero_()
    assert torch.isfinite(model(torch.randint(0, 256, (8, 1, 8, 8)))).all()
