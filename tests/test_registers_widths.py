"""How wide registers have to be: bounds against plain integers and the papers' formulas; widths that keep the accuracy."""

import dataclasses
import itertools
import json
import math
import re
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sim
from sim.accumulator import Accumulator
from sim.arithmetic import Arithmetic
from sim.formats import IntFormat
from sim.kernels.isa import available
from sim.machine import Machine
from sim.ops.conv import ConvOp
from sim.ops.matmul import MatMulOp
from sim.records import read_record
from sim.requantizers.fp32 import Fp32
from sim.sweep.plan import narrow_subject
from sim.testset import stored_examples
from sim.widths.assignment import Trials, assign
from sim.widths.bounds import bounds_of, data_type_bits, l1_bits, zero_centered_bits
from sim.widths.observed import observe
from sim.widths.outcome import Z95, lower_bound
from tests import cli
from tests.examples import examples
from training.report.catalog import Report

CHECKPOINT = Path(__file__).parent / "data" / "takd-digits-2bit.pt"


def fits(bits, *sums):
    """Whether a two's complement register of so many bits holds all of them."""
    return all(-2 ** (bits - 1) <= total <= 2 ** (bits - 1) - 1 for total in sums)


def plain(channels):
    """A requantizer that changes nothing."""
    return Fp32(np.ones(channels, np.float32), np.zeros(channels, np.float32), np.zeros(1, np.float32))


def layer(weights, operand):
    """One output of one channel: the weights as a kernel of one pixel."""
    array = np.array(weights, np.int32).reshape(1, 1, -1, 1)
    bits = max(2, *(int(abs(weight)).bit_length() + 1 for weight in weights))
    return ConvOp("conv", "image", (1, 1, 1), IntFormat(8, signed=False), skip="", weights=array, stride=1, padding=0,
                  groups=1, operand=operand, weight_format=IntFormat(bits, signed=True), weight_bits=bits,
                  accumulator=Accumulator(), requant=plain(1))


@given(st.lists(st.integers(-7, 7), min_size=1, max_size=4), st.integers(1, 3), st.booleans())
@examples(100)
def test_exact__is_reached_by_some_input_and_passed_by_none(weights, bits, signed):
    """All inputs, all prefixes of all orders, in plain integers."""
    operand = IntFormat(bits, signed=signed)
    sums = set()
    for codes in itertools.product(range(operand.min, operand.max + 1), repeat=len(weights)):
        for order in itertools.permutations([weight * code for weight, code in zip(weights, codes, strict=True)]):
            sums |= set(itertools.accumulate(order, initial=0))
    found = bounds_of(layer(weights, operand))
    (exact,), (low,), (high,) = found.exact, found.low, found.high
    assert (low, high) == (min(sums), max(sums))
    assert fits(exact, *sums)
    assert exact == 2 or not fits(exact - 1, *sums)
    assert exact <= found.l1[0] <= found.data_type[0]
    assert found.is_centered[0] == (sum(weights) == 0)
    if sum(weights) == 0:
        assert exact <= found.zero_centered[0] <= found.l1[0]


@given(st.integers(1, 5000), st.integers(1, 8), st.booleans(), st.integers(2, 8))
@examples(100)
def test_bounds__are_those_of_the_papers(products, bits, signed, weight_bits):
    """A2Q's logarithms, where these are exact enough to be believed; A2Q+'s inequality in whole numbers."""
    operand = IntFormat(bits, signed=signed)
    alpha = math.log2(products) + bits + weight_bits - 1 - signed
    wanted = alpha + math.log2(1 + 2**-alpha) + 1
    if abs(wanted - round(wanted)) > 1e-6:
        assert data_type_bits(products, operand, weight_bits) == max(2, math.ceil(wanted))
    beta = math.log2(products) + bits - signed
    wanted = beta + math.log2(1 + 2**-beta) + 1
    if abs(wanted - round(wanted)) > 1e-6:
        assert l1_bits(products, operand) == max(2, math.ceil(wanted))
    norm, taps = products, 7  # spread = K ||w - mean||
    found = zero_centered_bits(norm * taps, taps, operand)
    assert norm * (2**bits - 1) <= 2**found - 2
    assert found == 2 or norm * (2**bits - 1) > 2 ** (found - 1) - 2


def test_bounds__of_a_product_of_activations_and_of_a_bias_first():
    biased = dataclasses.replace(layer([3, -2], IntFormat(4, signed=False)), start=np.array([100], np.int64))
    found = bounds_of(biased)
    assert (found.low[0], found.high[0], found.exact[0], found.l1[0]) == (70, 145, 9, 8)
    op = MatMulOp("qk", "q", (1, 2, 2), IntFormat(8, signed=True), "k", IntFormat(2, signed=False),
                  IntFormat(3, signed=True), 5, True, Accumulator(), plain(2))
    found = bounds_of(op)
    assert (found.l1, found.zero_centered, found.is_centered) == (None, None, None)
    assert found.exact.tolist() == [7, 7]  # -4 * 3 * 5 = -60, 3 * 3 * 5 = 45
    assert found.data_type.tolist() == [8, 8]  # 4 * 4 * 5 = 80


@pytest.fixture(scope="module")
def subject():
    return narrow_subject(CHECKPOINT, Arithmetic())


def test_observe__is_the_range_of_the_machines_sums(subject):
    base, pixels = subject.program, stored_examples(subject, None, None).pixels[:9]
    found = observe(base, pixels, available()[-1], 1)
    machine, trace = Machine(base), {}
    machine.run(pixels, trace)
    for op in base.accumulating:
        sums = machine.sums(op, trace[op.source])
        np.testing.assert_array_equal(found[op.name][0], sums.min((0, 1, 2)))
        np.testing.assert_array_equal(found[op.name][1], sums.max((0, 1, 2)))


@pytest.mark.parametrize("memory", [512, 1], ids=["all images at once", "anew each time"])
def test_assign__no_layer_can_lose_another_bit(subject, memory):
    base = subject.program
    few = stored_examples(subject, None, None, "validation").first(40)
    register, loss = Accumulator(2, "saturate", 4), 5.0
    trials = Trials(base, few, register, available()[-1], memory)
    found = assign(trials, base, 40, loss)
    assert found.free - found.right <= 2
    assert trials.right(found.widths) == found.right == evaluated(base, few, register, found.widths)
    for name, bits in found.widths.items():
        if bits > 2:
            narrower = {**found.widths, name: bits - 1}
            assert found.free - trials.right(narrower) > 2, name
    assert evaluated(base, few, register, {**found.widths, "stem": found.widths["stem"] - 1}) == trials.right(
        {**found.widths, "stem": found.widths["stem"] - 1})


def evaluated(base, given_examples, register, widths):
    """Images that are right in an evaluation of its own."""
    program = dataclasses.replace(base, ops=tuple(
        dataclasses.replace(op, accumulator=dataclasses.replace(register, bits=widths[op.name])) if op.name in widths else op
        for op in base.ops))
    return sim.evaluate(program, given_examples.pixels, given_examples.labels).right


def test_command__writes_a_file_that_eval_takes(tmp_path):
    out, record, csv = (tmp_path / name for name in ("widths.toml", "widths.json", "channels.csv"))
    result = cli.run("sim.widths", "--model", CHECKPOINT, "--out", out, "--overflow", "saturate", "--tile", "end", "--limit",
                     40, "--json", record, "--csv", csv, "--loss", "2.5")
    assert result.returncode == 0, result.stderr
    told = read_record(record, "widths")
    chosen = {row["layer"]: row["chosen"] for row in told["layers"]}
    assert tomllib.loads(out.read_text())["layers"] == {name: f"end:{bits}:saturate:end" for name, bits in chosen.items()}
    found = sim.evaluate(CHECKPOINT, registers=str(out), limit=40)
    assert found.accuracy == told["chosen"]["test"]["accuracy"]
    assert told["chosen"]["accuracy_without_limits"] - told["chosen"]["accuracy"] <= 2.5
    note, = [line for line in result.stdout.splitlines() if line.startswith("note: ")]
    assert re.fullmatch(r"note: 40 validation images tell an accuracy to [0-9.]+ points only .*lose more than 2.5", note)
    channels = pd.read_csv(csv)
    widest = channels.groupby("layer", sort=False)["exact"].max().to_dict()
    assert widest == {row["layer"]: row["exact"] for row in told["layers"]} == {
        op.name: op.safe_bits for op in sim.lower(sim.load_checkpoint(CHECKPOINT).spec).accumulating}
    with pytest.raises(ValueError, match="no records"):
        Report.of([tmp_path])  # it is a record, of which there is no table


@given(st.integers(1, 3000), st.fractions(0, 1))
def test_lower_bound__is_the_share_of_which_what_was_seen_is_two_deviations_away(count, share):
    right = int(share * count)
    low = lower_bound(right, count)
    assert 0.0 <= low <= right / count
    assert (right / count - low) ** 2 == pytest.approx(Z95**2 * low * (1.0 - low) / count, rel=1e-6, abs=1e-12)


def test_command__says_nothing_where_images_are_certain_enough(tmp_path):
    result = cli.run("sim.widths", "--model", CHECKPOINT, "--out", tmp_path / "w.toml", "--limit", 40, "--loss", 60)
    assert "note: " not in result.stdout
    assert "40 validation images" in result.stdout


def test_command__shows_bounds_without_images(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    result = cli.run("sim.widths", "--model", CHECKPOINT)
    assert result.returncode == 0, result.stderr
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert "products  type  L1  A2Q+  exact" in result.stdout
    assert "seen" not in result.stdout


@pytest.mark.parametrize(("options", "words"), [
    (("--loss", "1"), ("loss: has no effect", "add --out")),
    (("--out", "w.toml", "--loss", "-1"), ("loss: -1.0", "0 to 100 points")),
    (("--out", "w.toml", "--overflow", "error"), ("overflow: 'error'",)),
    (("--out", "w.toml", "--tile", "1,end"), ("one of each",)),
    (("--out", "w.toml", "--choose-on", "training"), ("choose-on: 'training'", "validation,test")),
    (("--limit", "0"), ("limit: 0",)),
    (("--memory", "0"), ("memory: 0",)),
    (("--out", CHECKPOINT), ("out: ", "is the file of --model")),
])
def test_command__refuses_in_one_line(options, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cli.assert_one_line(cli.run("sim.widths", "--model", CHECKPOINT, *options), *words, status=2)
    assert list(tmp_path.iterdir()) == []


def test_record__is_json_of_plain_values(tmp_path):
    result = cli.run("sim.widths", "--model", CHECKPOINT, "--json", "-")
    told = json.loads(result.stdout)
    assert told["kind"] == "widths"
    assert all(row["observed"] is None for row in told["layers"])
    assert len(told["layers"][0]["by_channel"]["exact"]) == told["layers"][0]["channels"]
