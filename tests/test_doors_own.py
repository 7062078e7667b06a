"""Own networks, schemes, quantizers and requantizers, from files outside the package, as a user meets them."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sim.checkpoint import CheckpointError, load_checkpoint
from sim.network import Activation, AvgPool, Conv, Graph, Input, NetworkError
from sim.program import Program, ProgramError
from sim.registry import RegistryError
from sim.requantizers import REQUANTIZERS
from training.models import MODELS
from training.quantizers import QUANTIZERS
from training.schemes import SCHEMES, SchemeError

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
CHECKPOINT = ROOT / "tests" / "data" / "takd-digits-2bit.pt"
SMALL = ["--width", "4", "--train-limit", "100", "--epochs", "1"]


def run(folder, module, *options, **variables):
    """The command in another folder than the project's, which stays importable behind it."""
    program = [sys.executable, "-m", module, *map(str, options)]
    return subprocess.run(program, capture_output=True, text=True, check=False, cwd=folder,
                          env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(Path.home()), **variables})


def assert_one_line(result, *words):
    assert result.returncode not in (0, 1) or "error" in result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    for word in words:
        assert word in lines[0], lines[0]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with copies of the examples and a run that uses three of them."""
    folder = tmp_path_factory.mktemp("own folder")
    for file in EXAMPLES.glob("my_*.py"):
        shutil.copy(file, folder)
    result = run(folder, "training.run", "--scheme", "my_scheme.py:BORN_AGAIN", "--model", "my_vgg.py:build",
                 "--quantizer", "my_quantizer.py:ABSMAX", "--bits", "3", *SMALL)
    assert result.returncode == 0, result.stderr
    return folder, result.stdout


OUT = "runs/my_scheme-BORN_AGAIN-digits-my_vgg-build-3bit-seed0"


@pytest.mark.exhaustive
def test_own_parts__train_a_student_that_is_bit_true(trained):
    folder, _ = trained
    result = run(folder, "sim.eval", "--model", f"{OUT}/ckpt.pt", "--quantizer", "my_quantizer.py:ABSMAX", "--verify",
                 "--limit", 50)
    assert result.returncode == 0, result.stderr
    assert " 0 of " in result.stdout


def test_own_parts__are_named_in_the_checkpoint_as_they_were_given(trained):
    folder, _ = trained
    QUANTIZERS.find(f"{folder}/my_quantizer.py:ABSMAX")
    training = load_checkpoint(folder / OUT / "ckpt.pt", f"{folder}/my_quantizer.py:ABSMAX").training
    assert (training["scheme"], training["model"], training["quantizer"]) == (
        "my_scheme.py:BORN_AGAIN", "my_vgg.py:build", "my_quantizer.py:ABSMAX")
    assert {key: origin["name"] for key, origin in training["own_code"].items()} == {
        "model": "my_vgg.py:build", "scheme": "my_scheme.py:BORN_AGAIN", "quantizer": "my_quantizer.py:ABSMAX"}
    config = json.loads((folder / OUT / "run.json").read_text())["config"]
    assert config["quantizer"] == "my_quantizer.py:ABSMAX"


def test_own_quantizer__is_in_the_next_command_that_a_run_prints(trained):
    _, printed = trained
    assert "--quantizer my_quantizer.py:ABSMAX" in printed


def test_own_quantizer__is_never_loaded_because_a_checkpoint_says_so(trained):
    folder, _ = trained
    result = run(folder, "sim.eval", "--model", f"{OUT}/ckpt.pt")
    assert_one_line(result, "'my_quantizer.py:ABSMAX' is code of your own", "--quantizer 'my_quantizer.py:ABSMAX'")


def test_own_quantizer__of_another_folder_is_the_same_by_another_path(trained, tmp_path):
    folder, _ = trained
    result = run(tmp_path, "sim.eval", "--model", folder / OUT / "ckpt.pt", "--limit", 10,
                 "--quantizer", f"{folder}/my_quantizer.py:ABSMAX")
    assert result.returncode == 0, result.stderr
    assert "has changed" not in result.stdout


def test_own_quantizer__that_has_changed_since_is_told(trained, tmp_path):
    folder, _ = trained
    (tmp_path / "my_quantizer.py").write_text((folder / "my_quantizer.py").read_text() + "\n# changed\n")
    result = run(tmp_path, "sim.eval", "--model", folder / OUT / "ckpt.pt", "--limit", 10,
                 "--quantizer", "my_quantizer.py:ABSMAX")
    assert result.returncode == 0
    assert "has changed since this network was trained" in result.stdout


@pytest.mark.parametrize("other", ["dorefa", pytest.param("my_quantizer.py:Absmax.twin", marks=pytest.mark.exhaustive)])
def test_own_quantizer__is_not_replaced_by_another(trained, other):
    folder, _ = trained
    result = run(folder, "sim.eval", "--model", f"{OUT}/ckpt.pt", "--quantizer", other)
    expected = "'my_quantizer.py:ABSMAX'" if other == "dorefa" else "derived from training.quantizers.Quantizer"
    assert_one_line(result, expected)


def test_built_in_quantizer__is_not_replaced_by_an_own_one(trained):
    folder, _ = trained
    assert_one_line(run(folder, "sim.eval", "--model", CHECKPOINT, "--quantizer", "my_quantizer.py:ABSMAX"),
                    "its quantizer is 'dorefa', not 'my_quantizer.py:ABSMAX'")


@pytest.mark.exhaustive
def test_own_network__runs_without_its_code(trained, tmp_path):
    folder, _ = trained
    (tmp_path / "nets").mkdir()
    shutil.copy(folder / "my_vgg.py", tmp_path / "nets" / "vgg.py")
    (tmp_path / "nets" / "__init__.py").write_text("")
    assert run(tmp_path, "training.run", "--scheme", "individual", "--model", "nets.vgg:build", "--out", "run",
               *SMALL).returncode == 0
    shutil.rmtree(tmp_path / "nets")
    result = run(tmp_path, "sim.eval", "--model", "run/ckpt.pt", "--limit", 10, "--verify")
    assert result.returncode == 0, result.stderr


@pytest.mark.exhaustive
def test_own_requantizer__evaluates_and_its_program_wants_it_named(trained, tmp_path):
    folder, _ = trained
    # the plain loops: kernels that end in a rule of one's own are compiled for each, and are test_own_kernels' to test
    result = run(folder, "sim.eval", "--model", CHECKPOINT, "--requant", "my_requantizer.py:FixedPoint", "--limit", 20,
                 "--verify", "--save-program", tmp_path / "program.npz", BITTRUE_ISA="plain")
    assert result.returncode == 0, result.stderr
    assert "fixed_point requantizer" in result.stdout
    assert " codes differ" in result.stdout
    load = "from pathlib import Path; from sim.program import Program; Program.load(Path('program.npz'))"
    result = run(tmp_path, "timeit", "-n1", "-r1", load)
    assert "requantizer 'fixed_point' is none of fp32, tflite_single" in result.stderr
    assert "--requant FILE.py:CLASS" in result.stderr
    REQUANTIZERS.find(f"{folder}/my_requantizer.py:FixedPoint")
    assert Program.load(tmp_path / "program.npz").convolutions[0].requant.name == "fixed_point"


def test_own_kernels__are_those_of_the_file_as_it_is_now(trained, tmp_path):
    """Compiled code of an older version must not run: the file's codes are one less after the edit."""
    folder, _ = trained
    source = (folder / "my_requantizer.py").read_text()
    program = ("import numpy as np, training; from sim.requantizers import REQUANTIZERS, Affine; "
               "from sim.formats import IntFormat; form = IntFormat(8, False); "
               "kind = REQUANTIZERS.find('mine.py:FixedPoint'); "
               "built = kind.build(Affine(np.ones(1), np.zeros(1), None, (0, 9)), form); "
               "print(built.codes(np.full((1, 1, 1, 1), 7), None, form).item())")
    found = []
    for text in (source, source.replace(") >> whole[3, c]", ") // (1 << whole[3, c]) - 1")):
        (tmp_path / "mine.py").write_text(text)
        result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=tmp_path,
                                env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(Path.home())})
        assert result.returncode == 0, result.stderr
        found.append(result.stdout.strip())
    assert found == ["7", "6"]


@pytest.mark.parametrize(("option", "value", "words"), [
    ("--model", "none.py:build", ["model: ", "none.py': no such file"]),
    ("--model", "mine.py:raises", ["'mine.py:raises', line 7: ZeroDivisionError: division by zero"]),
    ("--scheme", "mine.py:number", ["expected a training.schemes.Scheme"]),
    ("--quantizer", "dorefaa", ["quantizer: 'dorefaa' is unknown, did you mean dorefa?"]),
    *(pytest.param(*case, marks=pytest.mark.exhaustive) for case in (
        ("--model", "mine.py:biuld", ["'mine.py' has no 'biuld', did you mean build?"]),
        ("--model", "mine.py:number", ["expected a function (image, classes, width) -> sim.network.Graph"]),
        ("--model", "mine.py:build", ["'mine.py:build' returns NoneType, expected a function"]),
        ("--model", "mine.py:ends", ["'mine.py:ends', line 9: SystemExit: 0"]),
        ("--teacher-model", "mine.py:ends", ["'mine.py:ends', line 9: SystemExit: 0"]),
        ("--model", "bad.py:build", ["bad.py', line 2: NameError: name 'nothing' is not defined"]),
        ("--teacher-model", "mine.py:biuld", ["teacher-model: 'mine.py' has no 'biuld'"]),
        ("--scheme", "no.such.module:X", ["scheme: there is no module 'no'"]),
        ("--quantizer", "mine.py:number", ["expected an object of a class derived from training.quantizers.Quantizer"]),
        ("--quantizer", "mine.py:twinless", ["has no `twin`"]))),
])
def test_own_parts__that_are_not_what_is_wanted_are_refused_in_one_line(tmp_path, option, value, words):
    (tmp_path / "mine.py").write_text(
        "from training.quantizers import Quantizer\nnumber = 3\ntwinless = Quantizer()\ndef build(image, classes, width):\n"
        "    pass\ndef raises(image, classes, width):\n    return 1 / 0\n"
        "def ends(image, classes, width):\n    raise SystemExit(0)\n")
    (tmp_path / "bad.py").write_text("a = 1\nb = nothing\n")
    options = {"--scheme": "kd", "--bits": "2", option: value}
    assert_one_line(run(tmp_path, "training.run", *(part for pair in options.items() for part in pair), *SMALL), *words)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("code", [3, *(pytest.param(more, marks=pytest.mark.exhaustive) for more in (0, "'done'", ""))])
def test_own_code__that_exits_is_an_error_wherever_it_is_called(tmp_path, code):
    """Also where it is used, not loaded."""
    (tmp_path / "mine.py").write_text(
        "from sim.requantizers.fp32 import Fp32\nclass Exits(Fp32):\n    name = 'exits'\n"
        f"    @classmethod\n    def build(cls, affine, target):\n        raise SystemExit({code})\n")
    result = run(tmp_path, "sim.eval", "--model", CHECKPOINT, "--requant", "mine.py:Exits", "--limit", "1")
    assert_one_line(result, "something called exit before the work was done, line 6 of mine.py: SystemExit")
    assert result.returncode == 2


@pytest.mark.exhaustive
def test_own_requantizer__that_is_none_is_refused_in_one_line(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from sim.requantizers import Requantizer\nnumber = 3\nclass Nameless(Requantizer): pass\n"
        "class Taken(Requantizer):\n    name = 'fp32'\n")
    for name, words in (("mine.py:number", "expected a class derived from sim.requantizers.Requantizer"),
                        ("mine.py:Nameless", "has no `name`"), ("mine.py:Taken", "the name 'fp32' is taken"),
                        ("fp23", "requant: 'fp23' is unknown, did you mean fp32?")):
        assert_one_line(run(tmp_path, "sim.eval", "--model", CHECKPOINT, "--requant", name), words)


IMAGE = Input("image", "", 8, 8, 1, (0.5,), (0.5,))


def tail(source, classes, kernel=8):
    return Conv("classifier", source, classes, kernel, role="boundary", norm=False)


@pytest.mark.parametrize(("build", "message"), [
    (lambda image, classes, width: Graph((image, tail("image", classes + 1))), "knows 11 classes"),
    (lambda image, classes, width: Graph((Input("other", "", 8, 8, 1, (0.5,), (0.5,)), tail("other", classes))),
     "its first row must be the one it is given"),
    (lambda image, classes: None, "expected a function"),
    (lambda image, classes, width: [image], "returns list"),
])
def test_model__that_would_fail_later_is_refused_at_once(build, message):
    with pytest.raises(RegistryError, match=message):
        MODELS.add(f"test {message}", build)(IMAGE, 10, 4)


def test_model__errors_of_the_network_are_the_networks():
    found = MODELS.add("test error", lambda image, classes, width: Graph((image, tail("nowhere", classes))))
    with pytest.raises(NetworkError, match="test error: classifier: reads 'nowhere'"):
        found(IMAGE, 10, 4)


def test_model__is_made_of_plain_numbers_so_that_a_checkpoint_can_hold_it():
    numpy = pytest.importorskip("numpy")
    graph = MODELS.add("test numpy", lambda image, classes, width: Graph((
        image, Conv("stem", "image", 4, 1, role="boundary", activation=Activation("inner", numpy.float64(2.0))),
        AvgPool("pool", "stem", 8, activation=Activation("boundary")), tail("pool", classes, 1))))(IMAGE, 10, 4)
    assert type(graph.rows[1].activation.limit) is float


STEPS = """
from training.schemes import Scheme, Step
from training.schemes.objectives import labels_only
def make(*steps):
    return Scheme("mine", "", lambda bits: (bits,), lambda path: None, lambda path, options: list(steps))
forward = make(Step("a", 2, "b", labels_only), Step("b", 2, None, labels_only))
start = make(Step("a", 2, None, labels_only, start="aa"))
twice = make(Step("a", 2, None, labels_only), Step("a", 2, None, labels_only))
folder = make(Step("a/b", 2, None, labels_only))
final = make(Step("ckpt", 2, None, labels_only))
width = make(Step("a", 4, None, labels_only))
nothing = make()
text = make("a")
good = make(Step("a", 2, None, labels_only), Step("b", 2, "a", labels_only, start="a"))
"""


@pytest.mark.parametrize(("name", "message"), [
    ("forward", "teacher 'b' of step a is no step before it"), ("start", "start 'aa'"), ("twice", "cannot be called 'a'"),
    ("folder", "cannot be called 'a/b'"), ("final", "cannot be called 'ckpt'"), ("width", "has 4 bits, the student 2"),
    ("nothing", "not a list"), ("text", "not a list")])
def test_scheme__whose_plan_cannot_be_carried_out_is_refused_before_anything_is_trained(tmp_path, name, message):
    (tmp_path / "mine.py").write_text(STEPS)
    scheme = SCHEMES.find(f"{tmp_path}/mine.py:{name}")
    with pytest.raises(SchemeError, match=message):
        scheme.plan((2,))
    assert [step.name for step in SCHEMES.find(f"{tmp_path}/mine.py:good").plan((2,))] == ["a", "b"]


def test_checkpoint__of_an_unknown_quantizer_is_refused_with_its_name(tmp_path):
    checkpoint = load_checkpoint(CHECKPOINT)
    payload = torch.load(CHECKPOINT, weights_only=True)
    for name, words in (("dorfa", "did you mean dorefa"), ("\x1b[31m.py:X", r"'\\x1b\[31m.py:X' is code of your own")):
        torch.save({**payload, "quantizer": name}, tmp_path / "other.pt")
        with pytest.raises(CheckpointError, match=words):
            load_checkpoint(tmp_path / "other.pt")
    assert checkpoint.spec.quantizer == "dorefa"


def test_program__of_a_requantizer_that_nobody_named_is_refused(tmp_path):
    from sim.hardware import HardwareSpec
    from sim.lowering import lower

    program = lower(load_checkpoint(CHECKPOINT).spec, HardwareSpec())
    kind = type(program.convolutions[0].requant)
    before, kind.name = kind.name, "somebodys"
    try:
        program.save(tmp_path / "program.npz")
    finally:
        kind.name = before
    with pytest.raises(ProgramError, match="requantizer 'somebodys' is none of fp32, tflite_single"):
        Program.load(tmp_path / "program.npz")
