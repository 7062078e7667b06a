"""Options of a run: what nothing reads is refused in one line, what is accepted has an effect, presets fit the epochs."""

import dataclasses
import itertools

import pytest
import torch

import training
from sim.quantizers import QUANTIZERS as TWINS
from tests.test_schemes import Fixed, config_of, lesson
from tests.test_training import small_graph
from training.api import execute
from training.config import ConfigError, options_of, resolve
from training.network import QuantNetwork
from training.options import OPTIONS, read_options, shown_options
from training.quantizers import QUANTIZERS
from training.schemes import SCHEMES, SchemeError
from training.schemes.objectives import LOSS_OPTIONS, options_read
from training.watch import Silent

SMALL = {"model": "resnet8", "width": 4, "train_limit": 100, "epochs": 1}
MULTISTEP = {"schedule": "multistep", "epochs": 20}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return training.train("individual", bits=32, out=tmp_path_factory.mktemp("teacher") / "run", **SMALL).checkpoint


def refused(tmp_path, message, scheme, **options):
    with pytest.raises((ConfigError, SchemeError), match=message) as error:
        training.train(scheme, out=tmp_path / "out", **options)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("scheme", "options", "message"), [
    ("takd", {"milestones": "5"}, "milestones: a cosine schedule has none"),
    ("takd", {"milestones": (5,), "preset": "report", "schedule": "cosine"}, "milestones: a cosine schedule has none"),
    ("takd", {"milestones": "-5,10", **MULTISTEP}, "milestones: -5,10 .* after 0 and before --epochs 20"),
    ("takd", {"milestones": "0,10", **MULTISTEP}, "milestones: 0,10"),
    ("takd", {"milestones": "10,5", **MULTISTEP}, "milestones: 10,5 .* rising"),
    ("takd", {"milestones": "10,10", **MULTISTEP}, "milestones: 10,10 .* rising"),
    ("takd", {"milestones": "10,20", **MULTISTEP}, "milestones: 10,20 .* before --epochs 20"),
    ("takd", {"milestones": "300", "preset": "report"}, "milestones: 300"),
    ("takd", MULTISTEP, "schedule: .* add --milestones"),
    ("takd", {"warmup": 0.2, "preset": "report"}, "warmup: a multistep schedule begins at its first rate"),
    ("takd", {"warmup": 1.0}, "warmup: 1.0 is not allowed"), ("takd", {"optimizer": "adam"}, "choose one of sgd, nesterov"),
    ("takd", {"optimizer": "nesterov", "momentum": 0.0}, "nesterov needs a momentum"),
    ("takd", {"schedule": "linear", "milestones": "5"}, "milestones: a linear schedule has none"),
    ("takd", {"label_smoothing": -0.1}, "label-smoothing: -0.1 is not allowed"),
    *((scheme, {option: value}, f"{option.replace('_', '-')}: no loss of this run of scheme {scheme}")
      for scheme in ("individual", "ptq")
      for option, value in (("temperature", 3.0), ("kd_weight", 0.5), ("kl_reduction", "classes"))),
    ("speq", {"kl_reduction": "classes"}, "kl-reduction: no loss"),
    ("qkd", {"phases": "ss", "temperature": 3.0}, "temperature: no loss"),
    ("qkd", {"phases": "ss", "teacher_width": 32}, "teacher-width: no step"),
    ("qkd", {"phases": "ss", "hard_example_weight": 1.0}, "hard-example-weight: no loss"),
    ("kd", {"kd_weight": 0.0, "temperature": 3.0}, "temperature: no loss"),
    ("kd", {"kd_weight": 1.0, "hard_example_weight": 1.0}, "hard-example-weight: no loss"),
    ("kd", {"drop_kd_after": 0.0, "kd_weight": 0.3}, "kd-weight: no loss"),
    ("speq", {"bits": 8, "u": 0.3}, "u: no loss"),
    ("speq", {"candidates": "uniform", "high_bits": 8}, "high-bits: no loss"),
    ("speq", {"u": 0.0, "high_bits": 7}, "high-bits: no loss"),
    ("kd", {"kd_weight": 0.0, "teacher_width": 8}, "teacher-width: no loss of this run asks a teacher"),
    ("apprentice-a", {"drop_kd_after": 0.0, "teacher_width": 8}, "teacher-width: no loss of this run asks a teacher"),
    ("takd", {"lr": 0.0, "weight_decay": 0.1}, "weight-decay: at a learning rate of 0"),
    ("takd", {"lr": 0.0, "milestones": "5", **MULTISTEP}, "at a learning rate of 0"),
    ("takd", {"u": 0.5}, "u: scheme takd has no such option"),
    ("individual", {"teacher": __file__}, "teacher: scheme individual trains nothing before its student"),
    ("apprentice-a", {"teacher": __file__}, "teacher: scheme apprentice-a trains nothing before its student"),
    ("takd", {"calibration": "mse"}, "calibration: quantizer dorefa has no learned intervals"),
    ("individual", {"bits": 32, "quantizer": "lsq", "calibration": "mse"}, "calibration: no network of this run"),
    ("individual", {"bits": 32, "skip_bits": 4}, "skip-bits: no network of this run is quantized"),
    ("individual", {"bits": 32, "boundary_bits": "4"}, "boundary-bits: no network of this run is quantized"),
    ("takd", {"layer_bits": "stage1_block1_conv1=2"}, "layer-bits: stage1_block1_conv1 has 2 bits anyway"),
    ("takd", {"layer_bits": {"stage1_block1_conv1": 2}}, "layer-bits: stage1_block1_conv1 has 2 bits anyway"),
    ("kd", {"teacher_model": "resnet20"}, "teacher-model, teacher-width: resnet20 of width 16 is the student's own"),
    ("kd", {"teacher_width": 16}, "teacher-model, teacher-width: resnet20 of width 16 is the student's own"),
    *((scheme, {"kd_weight": 1.5}, "kd-weight: 1.5 would give the labels a negative weight")
      for scheme in ("kd", "takd", "skip-level", "apprentice-a", "apprentice-b", "apprentice-c", "sqakd")),
    ("takd", {"epoch": 3}, "no option 'epoch', did you mean epochs"),
    ("takd", {"epochs": "3"}, "epochs: '3' is not allowed, give a whole number"),
    ("takd", {"epochs": True}, "epochs: True"), ("takd", {"epochs": 2.5}, "epochs: 2.5"),
    ("takd", {"lr": "fast"}, "lr: 'fast' is not allowed, give a number"),
    ("takd", {"model": 3.5}, "model"), ("takd", {"resume": 1}, "resume: 1"), ("takd", {"path": "32,x"}, "path: '32,x'"),
    ("takd", {"path": (32, 2.5)}, "path"), ("takd", {"boundary_bits": "²"}, "boundary-bits: '²'"),
])
def test_option__that_would_change_nothing_or_makes_no_sense_is_one_line(tmp_path, scheme, options, message):
    if "model" in options:
        with pytest.raises(ValueError, match=message):
            training.train(scheme, out=tmp_path / "out", **options)
        return
    refused(tmp_path, message, scheme, **options)


@pytest.mark.parametrize("option", [
    {"epochs": 3}, {"lr": 0.1}, {"schedule": "cosine"}, {"weight_decay": 0.1}, {"momentum": 0.5}, {"augment": "none"},
    {"gradients": "bfloat16"}])
def test_ptq__of_a_given_network_trains_nothing_and_says_so(tmp_path, teacher, option):
    small = {key: value for key, value in SMALL.items() if key != "epochs"}
    name = next(iter(option)).replace("_", "-")
    refused(tmp_path, f"{name}: this run trains nothing", "ptq", teacher=teacher, **small, **option)


def test_teacher__of_the_students_own_width_is_told_apart_from_one_off_the_path(tmp_path, teacher):
    student = training.train("individual", bits=2, out=tmp_path / "student", **SMALL).checkpoint
    refused(tmp_path, r"has 2 bits, as the student: a teacher is a network before it on the path 32,8,4,2", "takd",
            teacher=student, **SMALL)


@pytest.mark.parametrize("out", ["", "\0"])
def test_out__that_names_nothing_is_refused(tmp_path, monkeypatch, out):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="out: "):
        training.train("individual", out=out, **SMALL)
    assert not list(tmp_path.iterdir())


def test_out__that_is_a_file_or_inside_one_is_refused_and_foreign_files_stay(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigError, match="is no folder"):
        training.train("individual", out=tmp_path / "file", **SMALL)
    with pytest.raises(OSError, match="Not a directory"):
        training.train("individual", out="/dev/null/run", **SMALL)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "curves.svg").write_text("mine")
    with pytest.raises(ConfigError, match=r"holds curves.svg but no run.json"):
        training.train("individual", out=folder, **SMALL)
    assert (folder / "curves.svg").read_text() == (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(("options", "expected"), [
    ({"preset": "report"}, (45, 90, 135)), ({"preset": "report", "epochs": 20}, (5, 10, 15)),
    ({"preset": "report", "epochs": 1}, (0.25, 0.5, 0.75)), ({"preset": "code", "epochs": 3}, (2.25,)),
    ({"preset": "report", "schedule": "cosine"}, ()), ({"preset": "report", "milestones": (3,)}, (3,)), ({}, ()),
])
def test_presets__milestones_fall_within_the_epochs(options, expected):
    config, notes = resolve({"scheme": "takd", **options})
    assert config.milestones == expected
    assert bool(notes) == ("epochs" in options)


@pytest.mark.parametrize("scheme", ["qkd", "speq"])
def test_kd_weight__of_a_sum_may_pass_1(scheme):
    assert resolve({"scheme": scheme, "kd_weight": 2.0})[0].kd_weight == 2.0


CHANGED = {"label_smoothing": 0.3, "kd_weight": 0.9, "temperature": 7.0, "kl_reduction": "classes", "drop_kd_after": 0.25,
           "hard_example_weight": 2.0,
           "u": 0.9, "high_bits": 5, "candidates": "uniform", "teacher_statistics": "running", "self_distillation": "kl"}
VARIANTS = [{}, {"kd_weight": 0.0}, {"kd_weight": 1.0}, {"drop_kd_after": 0.0}, {"drop_kd_after": 0.75}]


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
@pytest.mark.parametrize("scheme", sorted(SCHEMES))
def test_loss__depends_on_what_its_objective_declares_and_on_nothing_else(scheme, variant):
    """At the start of a step and late in it; every network is wrong on some example and right on another."""
    found = SCHEMES[scheme]
    if any(option not in found.uses for option in variant if option != "kd_weight"):
        pytest.skip("the scheme has no such option")
    config = config_of(scheme, 3, **variant)
    read = found.uses | {"kd_weight", "temperature", "kl_reduction", "label_smoothing"}
    for step, (option, value) in itertools.product(config.plan(), CHANGED.items()):
        if option not in read or getattr(config, option) == value:
            continue
        others = {"individual": "x.pt"} if option == "hard_example_weight" and scheme == "individual" else {}
        changed = dataclasses.replace(config, **{option: value}, **others)
        declared = options_read(step.objective, changed if others else config, config.is_student(step))
        differs = losses(step, changed) != losses(step, config)
        assert differs == (option in declared), (step.name, option)


def losses(step, config):
    torch.manual_seed(0)
    pixels, labels = torch.randint(0, 256, (6, 1, 8, 8)).float(), torch.tensor([0, 1, 2, 0, 1, 0])
    if step.objective.__name__ == "self_taught":
        student = QuantNetwork(small_graph(), config.precision(step.bits), "pact").train()
        given = lesson(config, student)
    else:
        given = lesson(config, Fixed(0.3, -0.2, 0.1), teacher=Fixed(1.0, 0.5, 0.0), partner=Fixed(0.1, 0.9, 0.2),
                       individual=Fixed(0.0, 0.1, 0.2) if config.individual and config.is_student(step) else None)
    values = []
    for progress in (0.0, 0.5, 0.9):
        given.progress = progress
        given.generator.manual_seed(1)
        values.append(step.objective(given, pixels, labels).item())
    return values


def test_options__of_a_configuration_make_it_again():
    for given in ({"scheme": "qkd", "phases": ("ss", "cs"), "bits": 3}, {"scheme": "takd", "preset": "report", "epochs": 9},
                  {"scheme": "kd", "preset": "report", "milestones": (3,), "teacher_width": 8}, {"scheme": "ptq"},
                  {"scheme": "speq", "schedule": "multistep", "milestones": (2, 5), "u": 0.1}, {"scheme": "individual"}):
        config = resolve(given)[0]
        assert resolve(options_of(config.to_json()))[0] == config


def test_shown_options__are_read_back():
    read = read_options({"scheme": "takd", "path": [32, 8, 2], "boundary_bits": "float", "phases": "ss,cs", "resume": True,
                         "milestones": None, "fixed_teacher": False, "layer_bits": {"a": 3, "b": 4}})
    assert read == {"scheme": "takd", "path": (32, 8, 2), "boundary_bits": 32, "phases": ("ss", "cs"), "resume": True,
                    "layer_bits": "a=3,b=4"}
    assert read_options(shown_options(read)) == read


def test_loss_options__are_options():
    assert set(OPTIONS) >= LOSS_OPTIONS


@pytest.mark.parametrize("option", [{"kd_weight": 0.0}, {"drop_kd_after": 0.0}])
def test_teacher__that_no_loss_asks_is_refused(tmp_path, teacher, option):
    refused(tmp_path, "teacher: no loss of this run asks a teacher", "kd", teacher=teacher, **option, **SMALL)


def test_seed__of_a_run_that_draws_nothing_is_named_in_a_note(tmp_path, teacher):
    said = []
    small = {key: value for key, value in SMALL.items() if key != "epochs"}
    given = {"scheme": "ptq", "teacher": str(teacher), "seed": 1, "out": str(tmp_path / "o"), **small}
    execute(given, Silent(), say=said.append)
    assert "seed: this run trains nothing and draws nothing, every seed gives the same network" in said


def test_load__finds_the_quantizer_of_a_checkpoint_that_is_not_the_students(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "their_q.py").write_text("from sim.quantizers.dorefa import DoReFa as Twin\n"
                                         "from training.quantizers.dorefa import DoReFa\n\n\n"
                                         "class Mine(DoReFa):\n    twin = Twin()\n\n\nMINE = Mine()\n")
    name = "their_q.py:MINE"
    teacher = training.train("individual", bits=4, quantizer=name, out=tmp_path / "t", **SMALL).checkpoint
    for table in (QUANTIZERS, TWINS):
        for known in (table._found, table._objects, table._origins):  # unknown to a new process
            known.pop(name, None)
    options = {"scheme": "takd", "path": "4,2", "teacher": teacher, "out": tmp_path / "o", **SMALL}
    with pytest.raises(ValueError, match=r"their_q.py:MINE"):
        training.train(**options)
    result = training.train(**options, load=name)
    assert "--load their_q.py:MINE" in result.record["command"]
