"""Registers that start with a number (bias first) in sweeps: loading it is an addition (equation A3), in plain integers."""

import hashlib
import json
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim import plain_registers
from sim.accumulator import Accumulator
from sim.arithmetic import Arithmetic
from sim.buffers import Padded
from sim.evaluation import Source
from sim.formats import IntFormat
from sim.kernels.isa import available
from sim.ops.codes_input import CodesInputOp
from sim.program import ConvOp, Program
from sim.requantizers.fp32 import Fp32
from sim.steps.counting import teller
from sim.steps.staged import convolution
from sim.sweep import job, state, sweep
from sim.sweep.configurations import configurations
from sim.sweep.plan import Runs
from sim.sweep.track import Track
from sim.widths.assignment import Trials
from tests.examples import examples
from tests.strategies import accumulators, codes, generators, staged


def bias_first(form, weights, start, rows=1):
    """Codes through one convolution of one tap whose registers start with a number, to logits that are the sums."""
    depth, channels = weights.shape
    wide = IntFormat(8, signed=True)
    requant = Fp32(np.ones(channels, np.float32), np.zeros(channels, np.float32), np.zeros(1, np.float32))
    op = ConvOp("y", "x", (rows, 1, channels), None, skip="", weights=weights[None, None].astype(np.int32), stride=1,
                padding=0, groups=1, operand=form, weight_format=wide, weight_bits=8, accumulator=Accumulator(),
                requant=requant, start=start.astype(np.int64))
    return Program((CodesInputOp("x", "", (rows, 1, depth), form), op))


@st.composite
def biased(draw):
    """Such a program, of starts as large as its sums, and images for it."""
    depth, channels = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    form = IntFormat(4, signed=draw(st.booleans()))
    weights, start = (codes(draw, shape, IntFormat(bits, signed=True)) for shape, bits in
                      (((depth, channels), 5), ((channels,), 9)))
    return bias_first(form, weights, start, rows=2), codes(draw, (4, 2, 1, depth), form).astype(form.dtype)


def by_plain_integers(op, given, register):
    """What the last registers hold, overflows by channel, persistent and transient outputs of all stages (A1 to A6)."""
    held, overflows, told = np.zeros((len(given), *op.shape), np.int64), np.zeros(op.shape[2], np.int64), []
    stages, order = register.plain
    for image, row, channel in np.ndindex(len(given), op.shape[0], op.shape[2]):
        products = [int(x) * int(w) for x, w in zip(given[image, row, 0], op.weights[0, 0, :, channel], strict=True)]
        ordered = plain_registers.in_order(products, order, (1, 1, len(products)))
        start = 0 if op.start is None else int(op.start[channel])
        held[image, row, 0, channel], over, each = plain_registers.accumulate(ordered, stages, start)
        overflows[channel] += over
        told.append([(persistent, transient) for persistent, transient, _ in each])
    return held, overflows, np.sum(told, axis=0)


@given(biased(), st.one_of(accumulators(), staged()), st.integers(5, 10), st.sampled_from(["wrap", "saturate"]),
       st.sampled_from([0, 1, 2, 4, 5]))
@examples(150)
def test_track__registers_that_start_with_a_number_are_those_of_plain_integers(drawn, other, bits, rule, tile):
    """Loading it is an addition (A3), which may clip, and counts, though the whole sum fits."""
    (program, pixels), (_, op) = drawn, drawn[0].ops
    track = Track(program, {"y"}, len(pixels), available()[-1])
    track.begin(pixels)
    for register in (*(Accumulator(bits + more, rule, tile) for more in range(3)), other):
        held, overflows, told = by_plain_integers(op, pixels, register)
        found = track.run(Runs(program).of({"y": register}).registers)
        np.testing.assert_array_equal(found.logits, op.requant.logits(held).reshape(found.logits.shape))
        np.testing.assert_array_equal(found.overflows.get("y", np.zeros_like(overflows)), overflows)
        counted = track.run(Runs(program, counters=True).of({"y": register}).registers, counters=True)
        np.testing.assert_array_equal(counted.logits, found.logits)
        np.testing.assert_array_equal(counted.counters.get("y", np.zeros_like(told)), told)


@given(generators, st.integers(1, 40), st.integers(1, 70), st.booleans(), st.one_of(accumulators(), staged()),
       st.integers(1, 12))
@examples(100)
def test_kernels__of_registers_that_start_with_a_number_are_plain_integers(rng, depth, channels, signed, register, reach):
    """Sums, overflows and what is told of the registers, on every instruction set; some starts fit them and some do not."""
    form = IntFormat(4, signed=signed)
    weights = rng.integers(-15, 16, (depth, channels)) * (rng.random(channels) < 0.7)
    _, op = bias_first(form, weights, rng.integers(-(1 << reach), 1 << reach, channels), rows=2).ops
    op = replace(op, accumulator=register)
    pixels = rng.integers(form.min, form.max + 1, (3, 2, 1, depth)).astype(form.dtype)
    held, overflows, told = by_plain_integers(op, pixels, register)
    for isa in available():
        sums, found = convolution(op, isa).registers([Padded(pixels, 0)])
        np.testing.assert_array_equal(sums, held, isa)
        np.testing.assert_array_equal(overflows if found is None else found, overflows, isa)
        if register.is_limited:
            persistent, transient = teller(op, isa).counters([Padded(pixels, 0)])
            np.testing.assert_array_equal([persistent.sum(), transient.sum()], told.sum(0), isa)


@pytest.mark.parametrize("rule", ["wrap", "saturate"])
@pytest.mark.parametrize(("weight", "start", "code"), [(2, -200, 90), (2, 90, 50), (-1, 200, 90), (1, 1000, 0)])
@pytest.mark.parametrize("order", ["channels", "rows"])
def test_counters__of_one_register_begin_with_its_number_in_any_order_of_products(rule, weight, start, code, order):
    """One channel of many can leave its range: such are looked at alone."""
    weights = np.zeros((1, 300), int)
    weights[0, 0] = weight
    _, op = bias_first(IntFormat(8, signed=False), weights, np.where(np.arange(300) == 0, start, 0)).ops
    register = Accumulator(8, rule, 1, order=order)
    pixels = np.full((1, 1, 1, 1), code, np.uint8)
    held, overflows, told = by_plain_integers(op, pixels, register)
    for isa in available():
        step, tells = convolution(replace(op, accumulator=register), isa), teller(replace(op, accumulator=register), isa)
        for mine, expected in zip(step.registers([Padded(pixels, 0)]), (held, overflows), strict=True):
            np.testing.assert_array_equal(mine, expected)
        assert [int(each.sum()) for each in tells.counters([Padded(pixels, 0)])] == told[0].tolist()


@pytest.mark.parametrize(("rule", "changed", "overflows", "transient"), [("saturate", 1, 1, 1), ("wrap", 0, 0, 1)])
@pytest.mark.parametrize("tile", ["end", "5"])
def test_sweep__a_start_that_does_not_fit_is_clipped_as_it_is_loaded(rule, changed, overflows, transient, tile):
    """200 - 90 fits 8 bits, 200 does not: 127 - 90 = 37 is the smaller of the two sums then."""
    program = bias_first(IntFormat(8, signed=False), np.array([[-1, 1]]), np.array([200, 0]))
    found = sweep(program, "8", np.full((1, 1, 1, 1), 90, np.uint8), np.array([0]), overflow=rule, tile=tile,
                  boundary_accumulator="same", counters=True)
    trials = Trials(program, found.examples, Accumulator(8, rule, 0 if tile == "end" else int(tile)), available()[-1], 1)
    row = found.rows[-1]
    assert (trials.free - trials.right({"y": 8}), found.rows[0]["right"] - row["right"]) == (changed, changed)
    assert (row["changed"], row["overflows"], row["persistent"], row["transient"]) == (changed, overflows, 0, transient)


# -------------------------------------------------------------------------------------------------------- what is kept

def tiny(out):
    """A sweep of two images, one after the other, on three registers, of which some overflow."""
    program = bias_first(IntFormat(8, signed=False), np.array([[-1, 1]]), np.array([200, 0]))
    wanted = configurations("8:10", "saturate", "end", boundary="same")
    pixels = np.array([90, 250], np.uint8).reshape(2, 1, 1, 1)
    return job.prepare(program, wanted, Arithmetic(), Source(pixels, np.array([0, 1])), out, counters=True)


def test_sweep__counts_a_batch_once_wherever_it_is_interrupted(tmp_path, monkeypatch):
    """At every line that is run between one batch and the next, until there is no further one."""
    monkeypatch.setattr(job, "MOST_IMAGES", 1)
    whole, lines = tiny(tmp_path / "whole").run().rows, 0

    def stop(frame, event, _):
        nonlocal lines
        if frame.f_code.co_filename != state.__file__ or frame.f_code.co_name in ("save", "of", "_read", "__init__"):
            return None
        lines -= event == "line"
        if not lines:
            raise KeyboardInterrupt
        return stop

    for number in range(1, 500):
        lines, traced, kept = number, sys.gettrace(), tiny(tmp_path / str(number))
        sys.settrace(stop)
        try:
            kept.run()
        except KeyboardInterrupt:
            assert tiny(tmp_path / str(number)).run().rows == whole, number
        finally:
            sys.settrace(traced)
        if lines > 0:
            break
    assert number > 10


def test_sweep__runs_anew_what_was_counted_without_the_loading(tmp_path):
    """States of before that mend hold wrong numbers under the keys of before, of registers that start with a number."""
    kept = tiny(tmp_path)
    (group,) = kept.groups
    for run in group.different[1:]:
        told = json.dumps([group.base.digest(), True, {name: own.to_json() for name, own in run.registers.items()}])
        kept.state.add(hashlib.sha256(told.encode()).hexdigest()[:32], state.Tally(2, 2))
    kept.state.save()
    assert tiny(tmp_path).work == (0, 2 * len(group.different))
    assert tiny(tmp_path).run().rows == tiny(None).run().rows
