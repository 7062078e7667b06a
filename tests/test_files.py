"""Checkpoints and programs: what is written is read back, what is damaged or hostile is refused in one line."""

import dataclasses
import hashlib
import json
import os
import pickle
import zipfile
from pathlib import Path

import numba
import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from sim.accumulator import Accumulator
from sim.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from sim.files import write_atomically
from sim.formats import IntFormat
from sim.hardware import HardwareSpec
from sim.kernels.isa import PLAIN
from sim.lowering import lower
from sim.machine import Machine
from sim.network import Graph, NetworkError, Precision
from sim.program import Program, ProgramError
from tests.examples import examples, instruction_sets
from tests.strategies import graphs, programs
from training.data import load_dataset

DATA = Path(__file__).parent / "data"
CHECKPOINT = DATA / "takd-digits-2bit.pt"
GOLDEN = DATA / "golden.json"


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("files")


@given(data=st.data())
@examples(25)
def test_program__save_and_load_keep_digest_and_results(scratch, data):
    program = data.draw(programs())
    program.save(scratch / "program.npz")
    loaded = Program.load(scratch / "program.npz")
    assert loaded.digest() == program.digest()
    pixels = np.full((1, *program.ops[0].shape), 200, np.uint8)
    np.testing.assert_array_equal(Machine(loaded).run(pixels), Machine(program).run(pixels))


@given(data=st.data())
@examples(25)
def test_digest__changes_with_every_constant(data):
    program = data.draw(programs())
    index = data.draw(st.sampled_from([i for i, op in enumerate(program.ops) if op.kind == "conv"]))
    op = program.ops[index]
    weights = op.weights.copy()
    weights.flat[data.draw(st.integers(0, weights.size - 1))] ^= 1
    changed = list(program.ops)
    changed[index] = dataclasses.replace(op, weights=weights)
    try:
        other = Program(tuple(changed))
    except ProgramError:  # the changed weights pass the bound that the requantizer was drawn for
        assume(False)
    assert other.digest() != program.digest()


@given(graph=graphs())
def test_graph__survives_json(graph):
    assert Graph.from_json(json.loads(json.dumps(graph.to_json()))) == graph


def golden_digests() -> dict[str, dict[str, str]]:
    """Digests of the programs and of the logits of the checkpoint beside this file; `python -m tests.test_files` prints."""
    import hashlib

    spec = load_checkpoint(CHECKPOINT).spec
    pixels = load_dataset("digits", None).test.pixels[:4].permute(0, 2, 3, 1).contiguous().numpy()
    digests = {}
    for requant in ("fp32", "tflite_single"):
        for bits in (1, 2, 3, 4, 8, 16):
            program = lower(spec.at(Precision(bits)), HardwareSpec(requant=requant))
            logits = Machine(program).run(pixels)
            digests[f"{requant}-{bits}"] = {
                "program": program.digest(), "logits": hashlib.sha256(np.ascontiguousarray(logits).tobytes()).hexdigest()}
    return digests


def test_golden_digests__are_unchanged():
    assert golden_digests() == json.loads(GOLDEN.read_text())


def test_checkpoint__survives_saving(scratch):
    checkpoint = load_checkpoint(CHECKPOINT)
    save_checkpoint(scratch / "copy.pt", checkpoint)
    copy = load_checkpoint(scratch / "copy.pt")
    assert copy.spec.graph == checkpoint.spec.graph
    assert copy.dataset == checkpoint.dataset
    for name, array in checkpoint.spec.arrays.items():
        np.testing.assert_array_equal(copy.spec.arrays[name], array)


def payload() -> dict:
    return torch.load(CHECKPOINT, weights_only=True)


class Bomb:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("legacy", [False, True])
def test_checkpoint__never_executes_what_a_file_says(scratch, legacy):
    target, file = scratch / f"executed-{legacy}", scratch / "bomb.pt"
    torch.save({**payload(), "training": Bomb(target)}, file, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CheckpointError, match="nothing in it was executed"):
        load_checkpoint(file)
    assert not target.exists()


def test_checkpoint__never_executes_a_plain_pickle(scratch):
    target, file = scratch / "executed-pickle", scratch / "bomb.pkl"
    file.write_bytes(pickle.dumps(Bomb(target)))
    with pytest.raises(CheckpointError):
        load_checkpoint(file)
    assert not target.exists()


@given(data=st.data())
@examples(40)
def test_checkpoint__truncated_or_damaged_is_refused_or_whole(scratch, data):
    content = bytearray(CHECKPOINT.read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.one_of(st.integers(0, 6000), st.integers(0, len(content) - 1)))] ^= data.draw(
                st.integers(1, 255))
    file = scratch / "damaged.pt"
    file.write_bytes(content)
    try:
        load_checkpoint(file)
    except CheckpointError as error:
        assert "\n" not in str(error)
        assert str(file) in str(error)


@pytest.mark.parametrize(("change", "message"), [
    ({"format": "other"}, "not a bittrue-checkpoint"),
    ({"version": 3}, "version 3"),
    ({"surplus": 1}, "surplus"),
    ({"graph": "rows"}, "list of rows"),
    ({"graph": []}, "begins with its input"),
    ({"precision": {"inner": 9, "boundary": 8, "skip": 8}}, "inner bits: 9"),
    ({"precision": {"inner": True, "boundary": 8, "skip": 8}}, "inner bits: True"),
    ({"precision": {}}, "precision must name"),
    ({"arrays": {}}, "is missing"),
    ({"quantizer": 3}, "quantizer"),
    ({"dataset": {"name": 1}}, "dataset"),
    ({"training": []}, "training"),
    ({"training": {"loss": float("nan")}}, "malformed"),
    ({"version": torch.ones(2)}, "version"),
    ({"graph": [{"kind": "input", "name": "image", "mean": 1}]}, "image"),
])
def test_checkpoint__with_a_wrong_entry_is_refused(scratch, change, message):
    torch.save({**payload(), **change}, scratch / "wrong.pt")
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(scratch / "wrong.pt")


@pytest.mark.parametrize(("array", "message"), [
    (torch.zeros(8, 1, 3, 3, dtype=torch.float64), "float32"),
    (torch.zeros(8, 1, 3, 2), "expected float32"),
    (torch.full((8, 1, 3, 3), float("nan")), "not finite"),
    (torch.zeros(1).expand(8, 1, 3, 3), "not a plain"),
    (torch.zeros(8, 1, 3, 3).to_sparse(), "not a plain|refused|damaged"),
    ("weights", "not a plain"),
])
def test_checkpoint__with_a_wrong_array_is_refused(scratch, array, message):
    content = payload()
    content["arrays"]["stem.weight"] = array
    torch.save(content, scratch / "wrong.pt")
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(scratch / "wrong.pt")


@pytest.mark.parametrize(("row", "change", "message"), [
    (0, {"height": 1 << 40}, "height"), (0, {"std": [0.0]}, "std"), (0, {"mean": [float("inf")]}, "finite"),
    (1, {"kernel": 0}, "kernel"), (1, {"source": "nowhere"}, "nowhere"), (1, {"role": "outer"}, "outer"),
    (1, {"kind": "lstm"}, "unknown kind"), (1, {"dilation": 0}, "dilation"), (1, {"bend": 2}, "bend"),
    (1, {"paddings": [1, 2]}, "four numbers"), (1, {"paddings": 3.0}, "list of numbers"),
    (1, {"paddings": [1, 2, 0, 0], "padding": 5}, "set one of them"),
    (1, {"paddings": "2222"}, "list of numbers"), (1, {"paddings": None}, "list of numbers"),
    (1, {"paddings": [1, 2, 3, True]}, "list of numbers"), (1, {"paddings": [1, 2, 3, 0.5]}, "padding"),
    (1, {"eps": 0.0}, "eps"), (1, {"groups": 3}, "groups"),
    (1, {"name": "../x"}, "row name"), (1, {"activation": {"role": "skip", "limit": -1.0}}, "limit"),
    (1, {"activation": None}, "stem: has no activation"), (1, {"norm": "yes"}, "norm"),
    (1, {"skip": "image"}, "residual image is"),
    (1, {"activation": {"role": "skip", "limit": 5e-324}}, "limit"),
    (1, {"kind": ["conv"]}, "unknown kind"),
    (2, {"name": "stem"}, "two rows"),
])
def test_graph__with_a_wrong_row_is_refused(row, change, message):
    rows = payload()["graph"]
    rows[row] = {**rows[row], **change}
    with pytest.raises(NetworkError, match=message):
        Graph.from_json(rows)


@pytest.mark.parametrize(("change", "message"), [
    ({"name": ""}, "without a name"), ({"format": IntFormat(33, signed=True)}, "1 to 32 bits"),
    ({"stride": True}, "stride"),
    ({"weight_bits": 999}, "weight bits"), ({"unit": float("nan")}, "unit"), ({"source": "nowhere"}, "nowhere"),
    ({"skip": "image"}, "another shape"), ({"padding": 2}, "its shape"), ({"operand": IntFormat(3, signed=True)}, "operand"),
    ({"weight_format": IntFormat(2, signed=True)}, "do not fit"),
    ({"weights": np.full((3, 3, 1, 8), 2**31 - 1, np.int32), "weight_format": IntFormat(63, signed=True)}, "53 bits"),
])
def test_program__with_a_wrong_operation_is_refused(change, message):
    ops = list(lower(load_checkpoint(CHECKPOINT).spec, HardwareSpec()).ops)
    ops[1] = dataclasses.replace(ops[1], **change)
    with pytest.raises(ProgramError, match=message):
        Program(tuple(ops))


@given(data=st.data())
@examples(40)
def test_program__damaged_is_refused(scratch, data):
    file = scratch / "damaged.npz"
    if not (scratch / "good.npz").exists():
        lower(load_checkpoint(CHECKPOINT).spec, HardwareSpec()).save(scratch / "good.npz")
    content = bytearray((scratch / "good.npz").read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    file.write_bytes(content)
    try:
        loaded = Program.load(file)
    except ProgramError as error:
        assert str(file) in str(error)
    else:  # a byte that carries no content, such as a time stamp of the archive
        assert loaded.digest() == Program.load(scratch / "good.npz").digest()


def test_program__with_a_changed_constant_is_refused(scratch):
    lower(load_checkpoint(CHECKPOINT).spec, HardwareSpec()).save(scratch / "p.npz")
    with np.load(scratch / "p.npz") as file:
        arrays = dict(file)
    key = next(k for k in arrays if k.endswith("weights"))
    arrays[key] = arrays[key].copy()
    arrays[key].flat[0] *= -1
    np.savez(scratch / "q.npz", **arrays)
    with pytest.raises(ProgramError, match="digest"):
        Program.load(scratch / "q.npz")


def test_program__with_a_pickle_inside_is_refused(scratch):
    target = scratch / "executed-npz"
    np.savez(scratch / "bomb.npz", header=np.array([Bomb(target)], dtype=object))
    with pytest.raises(ProgramError, match="not a program"):
        Program.load(scratch / "bomb.npz")
    assert not target.exists()
    with zipfile.ZipFile(scratch / "bomb.npz") as archive:
        assert archive.namelist() == ["header.npy"]


def test_write_atomically__leaves_the_old_file_when_writing_fails(tmp_path):
    file = tmp_path / "x"
    file.write_text("old")

    def fail(handle):
        handle.write(b"new")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match=r"cannot write .*x: No space left"):
        write_atomically(file, fail)
    assert file.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


@given(st.data())
@examples(10)
def test_machine__gives_the_same_for_any_batch_and_thread_count(data):
    program = data.draw(programs())
    spec_pixels = np.random.default_rng(0).integers(0, 256, (5, *program.ops[0].shape)).astype(np.uint8)
    whole = Machine(program).run(spec_pixels)
    threads = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        parts = [Machine(program).run(spec_pixels[i : i + 1]) for i in range(5)]
    finally:
        numba.set_num_threads(threads)
    np.testing.assert_array_equal(np.concatenate(parts), whole)



@pytest.mark.parametrize("hardware", [
    HardwareSpec(), HardwareSpec(requant="tflite_single"), HardwareSpec(Accumulator(8, "wrap")),
    HardwareSpec(Accumulator(8, "saturate"))])
def test_trained_network__has_one_digest_on_every_instruction_set_and_thread_count(hardware):
    program = lower(load_checkpoint(CHECKPOINT).spec, hardware)
    pixels = load_dataset("digits", None).test.pixels[:40].permute(0, 2, 3, 1).contiguous().numpy()
    digests = set()
    for isa in (PLAIN, *instruction_sets()):
        for threads in range(1, numba.config.NUMBA_NUM_THREADS + 1):
            numba.set_num_threads(threads)
            machine = Machine(program, isa)
            logits = machine.run(pixels)
            counts = b"".join(count.tobytes() for count in machine.overflows.values())
            digests.add(hashlib.sha256(logits.tobytes() + counts).hexdigest())
    assert len(digests) == 1


if __name__ == "__main__":
    print(json.dumps(golden_digests(), indent=1))


def test_graph__of_logits_with_several_pixels_is_no_classifier():
    rows = payload()["graph"]
    rows[-1] = {**rows[-1], "kernel": 1, "padding": 1}
    with pytest.raises(NetworkError, match="logits must be 1x1"):
        Graph.from_json(rows).check_classifier()
    Graph.from_json(payload()["graph"]).check_classifier()
