"""Models of TensorFlow Lite on their own arithmetic: every tensor equals what runtimes computed, code by code."""

import numpy as np
import pytest

from sim.formats import IntFormat
from sim.importers import load_model
from sim.importers.tflite.file import read_file
from sim.machine import Machine
from sim.ops.conv import ConvOp
from sim.profiles import profile
from sim.requantizers.tflite_single import TfliteSingle
from tests.examples import scaled
from tests.golden import arrays, vectors
from tests.runtimes import LITERT, TFLM, inputs_of, runtime_of, written_tensors
from tests.tflite_models import Node, Value, model

pytest.importorskip("tflite", reason="the package tflite is not installed (extra `import`)")

TRACES = [
    ("mlperf_resnet8_int8", "resnet8_ref_trace", "litert_reference"),
    ("mlperf_kws_int8", "kws_ref_trace", "litert_reference"),
    ("mlperf_vww_int8", "vww_ref_trace", "litert_reference"),
    ("micro_speech_int8", "micro_speech_ref_trace", "litert_reference"),
    ("mlperf_resnet8_int8", "tflm_resnet8", TFLM),
    ("mlperf_kws_int8", "tflm_kws", TFLM),
    ("mlperf_vww_int8", "tflm_vww", TFLM),
    ("micro_speech_int8", "tflm_micro_speech", TFLM),
    ("person_detect", "tflm_person_detect", TFLM),
]
MODELS = (
    "mlperf_resnet8_int8",
    "mlperf_kws_int8",
    "mlperf_vww_int8",
    "micro_speech_int8",
    "person_detect",
    "mobilenet_v2_int8",
)
LIVE = [(model, name) for model in MODELS for name in (*LITERT, TFLM)]
INPUTS = 100
WIDE = IntFormat(16, signed=True)


def codes_of(given):
    """A tensor of a trace by its number."""
    return {key.split("_")[0]: value for key, value in given.items() if key[0] == "t"}


def differing(found, expected):
    """How many codes differ; a tensor of another size differs everywhere."""
    if found.size != expected.size:
        return expected.size
    return int((found.reshape(-1).astype(np.int64) != expected.reshape(-1).astype(np.int64)).sum())


def machine_of(path, name):
    imported = load_model(path, profile(name))
    return imported, Machine(imported.program)


def as_given(imported, codes):
    """An input of the file as the program reads it."""
    (shape,) = (op.shape for op in imported.program.ops if op.is_input)
    return codes.reshape(1, *shape)


@pytest.mark.parametrize(("model", "trace", "name"), TRACES)
def test_every_tensor_equals_the_saved_trace(model, trace, name):
    given = arrays(vectors(f"tflite/{trace}.npz"))
    imported, machine = machine_of(vectors(f"tflite/{model}.tflite"), name)
    found = {}
    machine.run(as_given(imported, given["in0" if "in0" in given else "in"]), found)
    expected = codes_of(given)
    assert expected.keys() <= imported.tensors.keys()
    wrong = {key: differing(found[imported.tensors[key]], codes) for key, codes in expected.items()}
    codes = sum(each.size for each in expected.values())
    print(f"{model} {name}: {len(expected)} tensors, {codes:,} codes, {sum(wrong.values())} differ")
    assert not any(wrong.values()), {key: count for key, count in wrong.items() if count}


@pytest.mark.exhaustive
@pytest.mark.parametrize(("model", "name"), LIVE)
def test_every_tensor_equals_the_live_runtime(model, name):
    path = vectors(f"tflite/{model}.tflite")
    runtime = runtime_of(path.read_bytes(), name)
    imported, machine = machine_of(path, name)
    numbers = [number for number in written_tensors(read_file(path)) if f"t{number}" in imported.tensors]
    assert len(numbers) == len(written_tensors(read_file(path)))
    compared, wrong = 0, {}
    for (codes,) in inputs_of(path, scaled(INPUTS)):
        runtime.run(codes)
        found = {}
        machine.run(as_given(imported, codes), found)
        for number in numbers:
            expected = runtime.tensor(number)
            compared += expected.size
            if count := differing(found[imported.tensors[f"t{number}"]], expected):
                wrong[number] = wrong.get(number, 0) + count
    print(f"{model} {name}: {len(numbers)} tensors, {compared:,} codes, {sum(wrong.values())} differ")
    assert not wrong


def test_the_old_rule_rounds_halves_otherwise_than_xnnpack(tmp_path):
    """On ResNet-8 it happens to give XNNPACK's codes: only exact halves tell a float product half to even from half up."""
    path = tmp_path / "halves.tflite"
    weights, bias = Value((1, 16), "int8", 0.5, 0, np.eye(1, 16)), Value((1,), "int32", 0.5, 0, [0])
    tensors = [Value((1, 16), "int8", 1.0, 0), weights, bias, Value((1, 1), "int8", 1.0, 0)]
    path.write_bytes(model(tensors, [Node("FULLY_CONNECTED", [0, 1, 2], [3], "FullyConnectedOptions", {}, 4)], [0], [3]))
    codes = np.zeros((256, 1, 1, 16), np.int8)
    codes[:, 0, 0, 0] = np.arange(-128, 128)
    true, old = (Machine(load_model(path, each).program).run(codes).reshape(-1)
                 for each in (profile("litert_xnnpack"), profile("litert_xnnpack").with_(requant="single")))
    assert differing(old, true) == 64
    runtime = runtime_of(path.read_bytes(), "litert_xnnpack")
    for one, wanted in zip(codes, true, strict=True):
        runtime.run(one.reshape(1, 16))
        assert runtime.tensor(3).item() == wanted


@pytest.mark.parametrize("name", ["litert_reference", "litert_ruy", TFLM])
def test_the_old_rule_is_nobody_s_convolution(name):
    """Each layer given the codes of the true one: `tflite_single` with the same constants has others somewhere."""
    path = vectors("tflite/mlperf_resnet8_int8.tflite")
    imported, machine = machine_of(path, name)
    reference = load_model(path, profile("tflite_micro_cmsis_nn"))
    constants = {op.name: op.requant for op in reference.program.ops if isinstance(op, ConvOp)}
    wrong = 0
    for (codes,) in inputs_of(path, 10):
        found = {}
        machine.run(as_given(imported, codes), found)
        for op in imported.program.ops:
            if isinstance(op, ConvOp):
                rule = constants[op.name]
                old = TfliteSingle(
                    np.zeros_like(rule.bias),
                    rule.bias,
                    rule.multiplier,
                    31 - rule.exponent,
                    np.zeros(1, np.int64),
                    np.ones(1, np.int64),
                )
                sums = machine.sums(op, found[op.source]) - op.correction
                wrong += differing(_clamped(op, old.codes(sums, None, WIDE)), found[op.name])
    print(f"tflite_single beside {name}: {wrong:,} codes differ")
    assert wrong


def _clamped(op, codes):
    low, high = op.limits or (op.format.min, op.format.max)
    return (codes.astype(np.int64) + op.zero_point).clip(low, high)
