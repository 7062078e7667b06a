"""Machines and programs as Python values, what they refuse, and the examples in sim's docstrings."""

import copy
import doctest
import importlib
import pickle
import pkgutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import sim
from sim.accumulator import Accumulator, AccumulatorError
from sim.checkpoint import load_checkpoint
from sim.formats import FormatError, IntFormat
from sim.hardware import HardwareError, HardwareSpec
from sim.inputs import InputError
from sim.kernels.isa import PLAIN, runnable
from sim.lowering import LowerError, lower
from sim.machine import Machine
from sim.network import NetworkSpec
from sim.program import Program
from tests.examples import examples
from tests.strategies import programs

CHECKPOINT = Path(__file__).parent / "data" / "takd-digits-2bit.pt"
NEEDS_MORE = {"sim.eval", "sim.sweep.__main__", "sim.widths.__main__"}  # commands: their examples are in the README


@pytest.fixture(scope="module")
def machine():
    return Machine(lower(load_checkpoint(CHECKPOINT).spec))


@given(st.data())
@examples(20)
def test_program__compares_hashes_and_pickles_by_content(data):
    program = data.draw(programs())
    for twin in (pickle.loads(pickle.dumps(program)), copy.deepcopy(program), Program(tuple(program.ops))):
        assert twin == program
        assert hash(twin) == hash(program)
        assert twin.digest() == program.digest()
    conv = program.convolutions[-1]
    other = copy.deepcopy(program)
    other.convolutions[-1].requant.arrays()[next(iter(conv.requant.arrays()))].flat[0] += 1
    assert other != program
    assert {program: 1}.get(other) is None
    assert program != "a program"
    for op, twin in zip(program.ops, copy.deepcopy(program).ops, strict=True):
        assert op == twin
        assert hash(op) == hash(twin)


def test_machine__compares_hashes_and_pickles(machine):
    twin = pickle.loads(pickle.dumps(machine))
    assert twin == machine
    assert hash(twin) == hash(machine)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 1)).astype(np.uint8)
    np.testing.assert_array_equal(twin.run(pixels), machine.run(pixels))
    assert machine != Machine(machine.program, PLAIN) or machine.isa == PLAIN
    assert machine != machine.program
    limited = lower(load_checkpoint(CHECKPOINT).spec, HardwareSpec(Accumulator(8)))
    assert Machine(limited) != machine


def test_machine__of_another_processor_takes_what_is_here(machine, monkeypatch):
    content = pickle.dumps(Machine(machine.program, PLAIN))
    monkeypatch.setattr("sim.kernels.isa.is_runnable", lambda isa: isa != PLAIN)
    assert pickle.loads(content).isa != PLAIN or runnable() == (PLAIN,)


def test_spec__compares_hashes_and_pickles():
    spec = load_checkpoint(CHECKPOINT).spec
    twin = pickle.loads(pickle.dumps(spec))
    assert isinstance(twin, NetworkSpec)
    assert twin == spec
    assert hash(twin) == hash(spec)
    twin.arrays["stem.weight"].flat[0] += 1
    assert twin != spec


def test_repr__is_short_and_shows_shapes_and_bits(machine):
    assert repr(machine.program) == (
        "<Program: 8x8x1 u8 pixels -> 10 logits, 33 operations, 631,616 MACs, weights 2/8 bits, codes 2/8 bits, fp32>")
    assert repr(machine) == f"<Machine {machine.isa}: {repr(machine.program)[1:-1]}>"
    for op in machine.program.ops:
        assert len(repr(op)) < 200
        assert op.name in repr(op)
    assert repr(machine.program.convolutions[0]) == (
        "<ConvOp stem: image -> 8x8x8 u8, s8 x s9, kernel 3x3x1, stride 1, padding 1, unlimited, fp32>")
    assert len(repr(load_checkpoint(CHECKPOINT).spec)) < 200


def test_program__takes_paths_as_text(machine, tmp_path):
    machine.program.save(str(tmp_path / "program.npz"))
    assert Program.load(str(tmp_path / "program.npz")) == machine.program


GOOD = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1)).astype(np.uint8)


@pytest.mark.parametrize(("pixels", "given", "hint"), [
    (GOOD / 255, "float64 [3, 8, 8, 1] of 0", "multiply by 255"),
    ((GOOD / 255).astype(np.float16), "float16 [3, 8, 8, 1]", "multiply by 255"),
    (GOOD.astype(np.float32), "float32 [3, 8, 8, 1]", ""), (GOOD.astype(np.int64), "int64", "astype(np.uint8)"),
    (GOOD.astype(np.int16) - 99, "int16", ""), (GOOD > 9, "bool", ""), (GOOD.astype(object), "object", ""),
    (GOOD.tolist(), "not a list", "np.array(pixels, np.uint8)"), (None, "not a NoneType", ""),
    (torch.from_numpy(GOOD), "torch.Tensor", "numpy()"), (np.ma.masked_array(GOOD), "masked array", "filled"),
    (GOOD.transpose(0, 3, 1, 2), "[3, 1, 8, 8]", "transpose(0, 2, 3, 1)"), (GOOD[0], "[8, 8, 1]", "pixels[None]"),
    (GOOD[..., 0], "[3, 8, 8]", "pixels[..., None]"), (GOOD[:0], "no pixel", ""), (GOOD[:, :7], "[3, 7, 8, 1]", ""),
    (np.full((1, 8, 8, 1), np.nan), "nan", ""),
])
def test_run__refuses_other_pixels_by_name(machine, pixels, given, hint):
    with pytest.raises(InputError, match=r"^pixels: uint8 0 .. 255 \[N, 8, 8, 1\] are wanted") as error:
        machine.run(pixels)
    message = str(error.value)
    assert "\n" not in message
    assert given in message
    assert hint in message


@pytest.mark.parametrize("make", [
    lambda x: x[:, ::-1], np.asfortranarray, lambda x: np.repeat(x, 2, 2)[:, :, ::2],
    lambda x: np.broadcast_to(x[:1], x.shape), lambda x: np.frombuffer(x.tobytes(), np.uint8).reshape(x.shape),
    lambda x: np.concatenate([x, x], 3)[..., :1],
])
def test_run__takes_any_memory_order(machine, make):
    pixels = make(GOOD)
    np.testing.assert_array_equal(machine.run(pixels), machine.run(np.array(pixels, order="C")))


def test_apply_and_sums__refuse_codes_that_are_none(machine):
    op = machine.program.convolutions[1]
    source = next(op2 for op2 in machine.program.ops if op2.name == op.source)
    codes = np.zeros((1, *source.shape), source.format.dtype)
    assert machine.sums(op, codes).shape == (1, *op.shape)
    for wrong, message in ((codes[:, :-1], "expected [N, "), (codes + source.format.dtype.type(200), "200 .. 200"),
                           (codes[0], "expected [N, "), (codes[:0], "at least 1"), (codes.tolist(), "not a list"),
                           (codes.astype(np.int64), "int64, expected uint8")):
        with pytest.raises(InputError, match=op.name) as error:
            machine.sums(op, wrong)
        assert message in str(error.value)
        with pytest.raises(InputError, match=op.name):
            machine.apply(op, GOOD, {op.source: wrong, op.skip: wrong})
    with pytest.raises(InputError, match="not a NoneType"):
        machine.apply(op, GOOD, {})
    with pytest.raises(InputError, match="no operation of this program"):
        machine.apply(lower(load_checkpoint(CHECKPOINT).spec, HardwareSpec(Accumulator(9))).convolutions[3], GOOD, {})


@pytest.mark.parametrize(("make", "error", "message"), [
    (lambda: Accumulator(1), AccumulatorError, "1 bits"), (lambda: Accumulator("8"), AccumulatorError, "'8' bits"),
    (lambda: Accumulator(8.0), AccumulatorError, "8.0 bits"), (lambda: Accumulator(True), AccumulatorError, "True bits"),
    (lambda: Accumulator(8, "clip"), AccumulatorError, "'clip'"),
    (lambda: Accumulator(8, tile="end"), AccumulatorError, "tile: 'end'"),
    (lambda: Accumulator(tile=True), AccumulatorError, "tile: True"),
    (lambda: HardwareSpec(8), HardwareError, "accumulator: an Accumulator"),
    (lambda: HardwareSpec(requant="none"), HardwareError, "fp32"), (lambda: HardwareSpec(requant=[]), HardwareError, "fp32"),
    (lambda: IntFormat(0, True), FormatError, "1 to 63"), (lambda: IntFormat(2.5, True), FormatError, "2.5"),
    (lambda: lower(load_checkpoint(CHECKPOINT)), LowerError, "take its .spec"),
    (lambda: lower(load_checkpoint(CHECKPOINT).spec, Accumulator(8)), LowerError, "a HardwareSpec is wanted"),
    (lambda: Machine(lower(load_checkpoint(CHECKPOINT).spec), "neon"), ValueError, "isa: 'neon' is not available"),
    (lambda: Machine(CHECKPOINT), TypeError, "a Program is wanted"),
])
def test_wrong_arguments__are_named(make, error, message):
    assert issubclass(error, ValueError | TypeError)
    with pytest.raises(error) as caught:
        make()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_package__is_light_and_has_its_names():
    code = ("import sys, sim; heavy = {'numba', 'torch', 'numpy', 'llvmlite'}\n"
            "print(heavy & {*sys.modules}, {*sim.__all__} - {*dir(sim)})\n"
            "from sim import lower, Machine, Program, HardwareSpec, Accumulator; "
            "print(callable(lower), 'torch' in sys.modules)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          cwd=Path(__file__).parents[1])
    assert done.stdout.splitlines() == ["set() set()", "True False"]
    assert sim.load_checkpoint is load_checkpoint
    with pytest.raises(AttributeError, match="no attribute 'machines'"):
        _ = sim.machines


@pytest.mark.parametrize("name", sorted(
    module.name for module in pkgutil.walk_packages(sim.__path__, "sim.") if module.name not in NEEDS_MORE))
def test_examples__in_docstrings_are_true(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


@pytest.mark.parametrize("name", ["sim.machine", "sim.lowering", "sim.accumulator", "sim.hardware", "sim.formats"])
def test_examples__are_there(name):
    assert doctest.testmod(importlib.import_module(name)).attempted > 0
