"""Damaged and malicious .tflite files: one clear line, or a program; never anything else."""

import random
import time
import tracemalloc

import numpy as np
import pytest

from sim.importers import ImporterError, load_model
from sim.importers.tflite import file as tflite_file
from sim.machine import Machine
from sim.profiles import profile
from sim.program import ProgramError
from tests.examples import scaled
from tests.golden import vectors
from tests.tflite_models import Node, Value, model

pytest.importorskip("tflite", reason="the package tflite is not installed (extra `import`)")

MUTANTS = 250
MOST_SECONDS, MOST_MEMORY = 10.0, 1 << 30
NAMES = ("micro_speech_int8", "mlperf_kws_int8", "mlperf_resnet8_int8")


def mutated(content, rng, other):
    """One to a few faults: bits, bytes, numbers of the structure, a cut, a splice of another file or of itself."""
    data = bytearray(content)
    kind = rng.choice(("bits", "bytes", "extreme", "cut", "splice", "twist"))
    structure = range(len(data) - 12000, len(data)) if rng.random() < 0.7 else range(len(data))  # tables lie at the end
    for _ in range(rng.randint(1, 12)):
        at = rng.choice(structure)
        if kind == "bits":
            data[at] ^= 1 << rng.randrange(8)
        elif kind == "bytes":
            data[at] = rng.randrange(256)
        elif kind == "extreme":
            data[at // 4 * 4 : at // 4 * 4 + 4] = rng.choice(
                (b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\0\0\0\0", b"\1\0\0\0")
            )
        elif kind == "twist":
            size, start = rng.randint(1, 64), rng.choice(structure)
            data[at : at + size] = data[start : start + size]
    if kind == "cut":
        data = data[: rng.randrange(len(data))]
    elif kind == "splice":
        place = rng.randrange(len(data))
        data = data[:place] + other[rng.randrange(len(other)) :]
    return bytes(data)


@pytest.mark.parametrize("name", NAMES)
def test_mutated_files_are_refused_in_one_line_or_are_programs(name, tmp_path):
    rng = random.Random(name)
    content, other = (vectors(f"tflite/{each}.tflite").read_bytes() for each in (name, NAMES[NAMES.index(name) - 1]))
    hardware, path, read, slowest, most = profile("litert_xnnpack"), tmp_path / "mutant.tflite", 0, 0.0, 0
    for index in range(max(1, scaled(MUTANTS) // len(NAMES) + 1)):
        path.write_bytes(mutated(content, rng, other))
        tracemalloc.start()
        started = time.perf_counter()
        try:
            load_model(path, hardware)
            read += 1
        except (ImporterError, ProgramError) as error:
            assert "\n" not in str(error), f"mutant {index}: {error}"
            assert str(error).startswith(str(path)), f"mutant {index}: {error}"
        finally:
            most = max(most, tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        slowest = max(slowest, time.perf_counter() - started)
    print(f"{name}: {read} of {index + 1} mutants are programs, slowest {slowest:.2f} s, most memory {most >> 20} MiB")
    assert slowest < MOST_SECONDS
    assert most < MOST_MEMORY


def relu(**changes):
    """A model of one operator."""
    given = {"shape": (1, 4), "type": "int8", "scale": 0.5, "zero": 3}
    return [Value(**given | changes), Value(**given)], [Node("RELU", [0], [1])], [0], [1]


def refused(content, tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    with pytest.raises((ImporterError, ProgramError)) as caught:
        load_model(path, profile("litert_xnnpack"))
    (line,) = str(caught.value).splitlines()
    return line.removeprefix(f"{path}: ")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"shape": (1, 1 << 30)}, "tensor 0 (tensor0): its shape [1, 1073741824] is not supported"),
        ({"shape": (1, -4)}, "tensor 0 (tensor0): its shape [1, -4] is not supported"),
        ({"shape": (1,) * 9}, "up to 8 known sides"),
        ({"scale": 0.0}, "tensor 0 (tensor0): its scales must be positive and finite"),
        ({"scale": float("nan")}, "tensor 0 (tensor0): its scales must be positive and finite"),
        ({"scale": [0.5, 0.5]}, "tensor 0 (tensor0) has 2 scales, activations have one"),
        ({"scale": None}, "tensor 0 (tensor0) is INT8 without a scale, supported are quantized INT8 and INT16"),
        ({"zero": 128}, "tensor 0 (tensor0) has the zero points [128], an activation has one that is a code"),
        ({"type": "uint8"}, "tensor 0 (tensor0) is UINT8, supported are quantized INT8 and INT16"),
        ({"data": np.zeros(3, np.int8)}, "tensor 0 (tensor0): 3 bytes of data, its type and shape [1, 4] ask for 4"),
    ],
)
def test_an_impossible_tensor_is_named(changes, told, tmp_path):
    assert told in refused(model(*relu(**changes)), tmp_path)


def test_an_unknown_operator_is_named_with_what_is_supported(tmp_path):
    tensors, _, inputs, outputs = relu()
    line = refused(model(tensors, [Node("SVDF", [0], [1])], inputs, outputs), tmp_path)
    assert line.startswith("node 0 (SVDF): this operator is not supported; supported are ABS, ADD, AVERAGE_POOL_2D")


def test_an_operator_reads_what_was_written_before(tmp_path):
    tensors, nodes, _, outputs = relu()
    tensors.append(Value((1, 4), "int8", 0.5, 3))
    assert (
        refused(model(tensors, nodes, [2], outputs), tmp_path)
        == "node 0 (RELU): reads tensor 0 (tensor0), which nothing writes before it"
    )


def test_constants_that_share_a_buffer_take_no_more_memory_than_allowed(tmp_path, monkeypatch):
    monkeypatch.setattr(tflite_file, "SHARED", 0)
    size = 2 << 20
    tensors = [
        Value((1, 4), "int8", 0.5, 3),
        Value((1, 4), "int8", 0.5, 3),
        Value((size,), "int8", data=np.zeros(size, np.int8)),
    ]
    assert "constants of more than 0 times the file's size share its buffers" in refused(
        model(tensors, [Node("RELU", [0], [1])], [0], [1]), tmp_path
    )


def test_what_is_read_runs(tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(model(*relu()))
    program = load_model(path, profile("litert_xnnpack")).program
    codes = np.array([[-128, 2, 4, 127]], np.int8).reshape(1, 1, 1, 4)
    assert Machine(program).run(codes).tolist() == [[3, 3, 4, 127]]
