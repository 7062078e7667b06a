"""Profiles: what comes with the package, what a file may say, and that an evaluation does it."""

import json
from pathlib import Path

import pytest

import sim
from sim.accumulator import Accumulator
from sim.arithmetic import Arithmetic, hardware_of, profile_of
from sim.hardware import HardwareError, HardwareSpec
from sim.outputs import EvalError
from sim.profiles import KINDS, ProfileError, profile, profiles
from sim.requantizers import REQUANTIZERS
from tests.cli import run

CHECKPOINT = Path(__file__).parent / "data" / "takd-digits-2bit.pt"
ABOUT = 'source = "read in a manual"\nversion = "1"\n'
CONV = '[conv]\nrequant = "double"\naccumulator = { bits = 24, overflow = "saturate", tile = 4 }\n'
NAMES = ("avx2_maddubs", "avx512_vnni", "cmsis_nn_smlad", "deeploy_pulp", "dory_nemo", "ethos_u", "fbgemm_acc16", "finn",
         "gemmini", "litert_reference", "litert_ruy", "litert_xnnpack", "mac16_array", "onnxruntime", "popcount", "qonnx",
         "tflite_micro_cmsis_nn", "tosa_1_0")


def test_profiles__are_those_that_were_promised():
    assert profiles() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_profile__says_who_which_and_how(name):
    found = profile(name)
    assert found.name == name
    assert found.source
    assert found.version
    for kind in ("conv", "depthwise", "fully_connected", "add", "average"):
        assert kind in KINDS
        rule = found.rule(kind)
        assert rule.requant in REQUANTIZERS or (kind == "average" and not rule.requant)


@pytest.mark.parametrize(("name", "kind", "requant"), [
    ("litert_reference", "conv", "double"), ("litert_reference", "fully_connected", "single"), ("litert_ruy", "conv", "ruy"),
    ("litert_xnnpack", "depthwise", "xnnpack"), ("litert_xnnpack", "add", "xnnpack_add"), ("onnxruntime", "add", "mlas_add"),
    ("tflite_micro_cmsis_nn", "fully_connected", "double"), ("deeploy_pulp", "conv", "mul_add_shift"),
    ("dory_nemo", "conv", "mul_add_shift_floor"), ("finn", "conv", "thresholds"), ("qonnx", "conv", "fp32"),
])
def test_profile__has_the_rules_of_the_table_in_arithmetic(name, kind, requant):
    assert profile(name).rule(kind).requant == requant


def test_convolutions_of_groups__have_the_register_that_an_evaluation_asks_for():
    for named in (profile(name) for name in NAMES):
        if "grouped" in dict(named.rules):
            assert named.with_(Accumulator(16)).rule("grouped").accumulator == Accumulator(16)


@pytest.mark.parametrize(("name", "text"), [
    ("avx2_maddubs", "2:16:saturate,end:32:wrap"), ("avx512_vnni", "end:32:wrap"), ("cmsis_nn_smlad", "end:32:wrap"),
    ("fbgemm_acc16", "2:16:saturate,256:16:saturate,end:32:wrap"), ("mac16_array", "16:16:wrap,end:32:wrap"),
    ("gemmini", "16:20:wrap,end:32:wrap"), ("popcount", "64:unlimited,end:16:wrap"), ("ethos_u", "end:32:wrap"),
    ("finn", "unlimited")])
def test_profile__has_the_registers_of_its_design(name, text):
    assert profile(name).rule("conv").accumulator.text == text
    assert hardware_of(Arithmetic(hardware=name)).accumulator.text == text
    assert profile("ethos_u").rule("conv").accumulator_64 == Accumulator(40)


def test_own_file__may_give_layers_their_own_registers(tmp_path):
    file, own = tmp_path / "mine.toml", tmp_path / "own.toml"
    file.write_text(ABOUT + CONV + '[layers]\na = "2:9:saturate,end:16:wrap"\nb = { bits = 9 }\n')
    own.write_text('[layers]\nb = "end:7:wrap"\n')
    layers = hardware_of(Arithmetic(hardware=str(file), registers=str(own))).layers
    assert {name: register.text for name, register in layers.items()} == {
        "a": "2:9:saturate,end:16:wrap", "b": "end:7:wrap"}
    assert hardware_of(Arithmetic(hardware=str(file), accumulator=8)).layers == {}
    assert profile(file).with_(Accumulator(8)).layers == ()
    file.write_text(ABOUT + CONV + "[layers]\na = 3\n")
    with pytest.raises(ProfileError, match=r"layers\.a is a table of bits"):
        profile(file)


def test_own_file__is_read_and_overridden(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(ABOUT + CONV + '[average]\ndivisor = "window"\nrounding = "floor"\n')
    found = profile(file)
    assert found.name == "mine"
    assert found.rule("conv").accumulator == Accumulator(24, "saturate", 4)
    assert (found.rule("average").divisor, found.rule("average").rounding) == ("window", "floor")
    with pytest.raises(ProfileError, match="mine says nothing of add"):
        found.rule("add")
    with pytest.raises(ProfileError, match="none of conv, depthwise"):
        found.rule("pool")
    other = found.with_(Accumulator(16), "ruy")
    assert (other.rule("conv").accumulator, other.rule("conv").requant) == (Accumulator(16), "ruy")
    assert other.rule("average") == found.rule("average")
    assert found.with_() == found


WRONG = [
    ("", "source is missing: a text is wanted"),
    ('source = "x"\nversion = ""\n', "version is missing"),
    (ABOUT + "[convolution]\n", "convolution is no key of a profile, which has source, version, conv"),
    (ABOUT + "conv = 3\n", "conv is a table of requant"),
    (ABOUT + "[conv]\n", "conv.requant is missing"),
    (ABOUT + '[conv]\nrequant = "doubel"\n', "conv.requant: 'doubel' is unknown, did you mean double"),
    (ABOUT + '[conv]\nrequant = 1\n', "conv.requant is a text, not 1"),
    (ABOUT + '[conv]\nrequant = "mine.py:X"\n', "code of your own"),
    (ABOUT + '[conv]\nrequant = "tflite_add"\n', "conv.requant tflite_add adds two tensors, only add.requant may be"),
    (ABOUT + '[conv]\nrequant = "double"\nround = "up"\n', "conv.round is no key, conv has requant"),
    (ABOUT + '[conv]\nrequant = "double"\nbias = "behind"\n', "conv.bias 'behind' is unknown, choose one of first, last"),
    (ABOUT + '[conv]\nrequant = "double"\nzero_point = "first"\n', "choose one of products, behind"),
    (ABOUT + '[matmul]\nrequant = "double"\nbias = "first"\n', "matmul.bias is no key"),
    (ABOUT + '[conv]\nrequant = "double"\naccumulator = 32\n', "conv.accumulator is a table of bits, overflow, tile"),
    (ABOUT + '[conv]\nrequant = "double"\naccumulator = { overflow = "wrap" }\n', "accumulator.bits is missing: only"),
    (ABOUT + '[conv]\nrequant = "double"\naccumulator = { bits = 1 }\n', "1 bits are not allowed, choose 2 to 63"),
    (ABOUT + '[conv]\nrequant = "double"\naccumulator = { width = 1 }\n', "accumulator.width is no key, a register has"),
    (ABOUT + '[average]\nrequant = "ort"\nrounding = "floor"\n', "average.requant and average.rounding cannot both be"),
    (ABOUT + '[average]\ndivisor = "valid"\n', "average.requant is missing, or average.rounding"),
    (ABOUT + '[average]\ndivisor = "all"\nrounding = "floor"\n', "choose one of valid, window"),
    (ABOUT + '[mean]\nrounding = "up"\n', "choose one of half_away, half_up, half_even, floor, trunc"),
    (ABOUT + '[softmax]\nsoftmax = "soft"\n', "softmax.softmax: 'soft' is unknown"),
    (ABOUT + '[softmax]\nrequant = "double"\n', "softmax.requant is no key, softmax has softmax"),
    ("source = ", "no TOML"),
    ("# " + "x" * 70_000, "are no profile"),
]


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_file__that_is_wrong_names_the_key_and_what_is_allowed(text, message, tmp_path):
    file = tmp_path / "wrong.toml"
    file.write_text(text)
    with pytest.raises(ProfileError) as caught:
        profile(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_name__that_is_none_lists_those_that_are():
    with pytest.raises(ProfileError, match="litert is unknown, choose one of avx2_maddubs, "):
        profile("litert")


def test_hardware__takes_what_the_profile_says_unless_an_option_does():
    spec = hardware_of(Arithmetic(hardware="litert_xnnpack"))
    others = {"add": "xnnpack_add", "matmul": "double", "concat": "double"}
    assert spec == HardwareSpec(Accumulator(32), Accumulator(32), "xnnpack", others)
    assert (spec.requant_of("add"), spec.requant_of("conv")) == ("xnnpack_add", "xnnpack")
    narrow = hardware_of(Arithmetic(hardware="litert_xnnpack", accumulator=16, overflow="saturate", tile="end"))
    assert narrow.accumulator == Accumulator(16, "saturate", 0)
    assert narrow.boundary_accumulator == Accumulator(32, "saturate", 0)
    other = hardware_of(Arithmetic(hardware="litert_xnnpack", requant="ruy", boundary_accumulator=20))
    assert other == HardwareSpec(Accumulator(32), Accumulator(20), "ruy")
    assert hash(other) == hash(hardware_of(Arithmetic(hardware="litert_xnnpack", requant="ruy", boundary_accumulator=20)))
    assert profile_of(Arithmetic(hardware="finn", accumulator=12)).rule("depthwise").accumulator == Accumulator(12)
    assert profile_of(Arithmetic()) is None


@pytest.mark.parametrize(("options", "message"), [
    ({"hardware": "tpu"}, "hardware: profile tpu is unknown"),
    ({"hardware": "finn", "overflow": "saturate"}, "only a limited register has them"),
    ({"hardware": "onnxruntime", "tile": 0}, "tile: 0 is not allowed"),
    ({"hardware": "onnxruntime", "accumulator": 1}, "accumulator: 1 bits are not allowed"),
])
def test_hardware__that_cannot_be_is_refused_by_name(options, message):
    with pytest.raises(EvalError, match=message):
        hardware_of(Arithmetic(**options))


def test_hardware__of_own_profile_without_convolutions_is_refused(tmp_path):
    file = tmp_path / "adds.toml"
    file.write_text(ABOUT + '[add]\nrequant = "exact_add"\n')
    with pytest.raises(EvalError, match="hardware: profile adds says nothing of conv"):
        hardware_of(Arithmetic(hardware=str(file)))


@pytest.mark.parametrize(("others", "message"), [
    ({"add": "nothing"}, "nothing"), ({"add": 3}, "3 is no name"), (3, "others")])
def test_hardware_spec__refuses_others_that_are_none(others, message):
    with pytest.raises(HardwareError, match=message):
        HardwareSpec(others=others)


def long(names, but):
    """All, of which most compile too much for those who wait."""
    return [name if name in but else pytest.param(name, marks=pytest.mark.exhaustive) for name in names]


NARROW = ("avx2_maddubs", "fbgemm_acc16", "mac16_array", "popcount")
"""Profiles with registers of 16 bits, which are too few for a first layer of 8-bit codes."""


@pytest.mark.parametrize("name", long(NAMES, ("finn", "litert_xnnpack")))
def test_evaluate__runs_our_own_checkpoint_on_every_profile(name):
    exact = sim.evaluate(CHECKPOINT, limit=20)
    result = sim.evaluate(CHECKPOINT, hardware=name, limit=20)
    assert result.program.requantizer == profile(name).rule("conv").requant
    assert not result.overflowed or name in NARROW
    if name not in NARROW:
        assert result.accuracy >= exact.accuracy - (50.0 if name == "dory_nemo" else 10.0)  # floor costs at 2 bits
    if name in ("finn", "qonnx"):
        assert (result.logits == exact.logits).all()


def test_evaluate__takes_the_path_of_a_file(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(ABOUT + CONV)
    result = sim.evaluate(CHECKPOINT, hardware=file, accumulator=7, limit=20)
    registers = {op.accumulator for op in result.program.accumulating}
    assert registers == {Accumulator(7, "saturate", 4), Accumulator(24, "saturate", 4)}
    assert result.overflowed > 0


def test_command__evaluates_on_a_profile_and_records_it(tmp_path):
    result = run("sim.eval", "--model", CHECKPOINT, "--hardware", "onnxruntime", "--accumulator", 12, "--limit", 20,
                 "--json", tmp_path / "e.json")
    assert result.returncode == 0, result.stderr
    assert "ort requantizer" in result.stdout
    record = json.loads((tmp_path / "e.json").read_text())
    assert record["hardware_spec"]["requant"] == "ort"
    assert record["hardware_spec"]["accumulator"]["bits"] == 12
    assert "--hardware onnxruntime" in record["command"]
    refused = run("sim.eval", "--model", CHECKPOINT, "--hardware", "tpu")
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: hardware: profile tpu is unknown")


REQUANTS = ["double", "single", "ruy", "xnnpack", "ort", "int16", "tosa_single", "tosa_double", "mul_add_shift",
            "mul_add_shift_floor", "mul_add_divide", "rshift_floor", "power_of_two", "thresholds", "double_16", "ruy_12"]


@pytest.mark.parametrize("name", long(REQUANTS, ("double", "mul_add_shift")))
def test_requant__of_every_name_runs_our_own_checkpoint(name, tmp_path):
    result = sim.evaluate(CHECKPOINT, requant=name, limit=20)
    assert result.accuracy >= (20.0 if "floor" in name or name in ("mul_add_divide", "power_of_two") else 85.0)
    result.program.save(tmp_path / "program.npz")
    again = sim.Program.load(tmp_path / "program.npz")
    assert again.digest() == result.program.digest()
    assert {type(op.requant) for op in again.accumulating} == {type(op.requant) for op in result.program.accumulating}


@pytest.mark.parametrize("name", ["tflite_add", "xnnpack_add", "ort_add", "exact_add"])
def test_requant__of_an_addition_is_nothing_for_a_network(name):
    with pytest.raises(sim.lowering.LowerError, match=name):
        sim.evaluate(CHECKPOINT, requant=name, limit=1)
