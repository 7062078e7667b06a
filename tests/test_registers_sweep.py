"""Sweeps of registers: every number is that of an evaluation, whatever was not run again; what is done is kept."""

import dataclasses
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sim
from sim.accumulator import Accumulator
from sim.arithmetic import Arithmetic
from sim.evaluation import Source
from sim.kernels.isa import available
from sim.machine import Machine
from sim.outputs import EvalError
from sim.records import read_record
from sim.subject import Subject
from sim.sweep import job, sweep
from sim.sweep.configurations import configurations, widths
from sim.sweep.plan import Runs, plan
from sim.sweep.track import Track, bytes_of, without_limits
from tests import cli
from tests.examples import examples
from tests.strategies import accumulators, given_to, programs
from tests.tflite_models import Node, Value, model
from training.report import registers
from training.report.catalog import Report
from training.tables import make_tables

CHECKPOINT = Path(__file__).parent / "data" / "takd-digits-2bit.pt"
OPTIONS = ("--model", CHECKPOINT, "--accumulator", "6:8", "--overflow", "wrap,saturate", "--limit", 30)


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A sweep by the command, into a folder that tests copy before they change it."""
    folder = tmp_path_factory.mktemp("swept") / "out"
    result = cli.run("sim.sweep", *OPTIONS, "--out", folder)
    assert result.returncode == 0, result.stderr
    return folder, result.stdout


# --------------------------------------------------------------------------------------------- equal to the machine

@given(st.data())
@examples(60)
def test_track__is_the_machine_on_any_registers(data):
    """Random programs of every operation, registers of every layer, each some bits wider than the one before."""
    program = data.draw(programs())
    base = without_limits(program)
    registers = {op.name: data.draw(accumulators()) for op in base.accumulating}
    (pixels,) = given_to(data.draw, program, 5).values()
    track = Track(base, list(registers), 5, available()[-1])
    free = Machine(base).run(pixels)
    np.testing.assert_array_equal(track.begin(pixels).logits, free)
    for wider in (0, 1, data.draw(st.integers(2, 6)), 0):
        wanted = {name: widened(each, wider) for name, each in registers.items()}
        check(track, base, wanted, pixels)
    check_counters(track, base, registers, pixels)


def widened(register, more):
    """The same, every limited register some bits wider."""
    return Accumulator.of([stage if stage.bits is None else dataclasses.replace(stage, bits=stage.bits + more)
                           for stage in register.stages], register.order)


def check(track, base, registers, pixels):
    """Logits and counts of a track are those of a machine on the same registers."""
    machine = Machine(dataclasses.replace(base, ops=tuple(
        dataclasses.replace(op, accumulator=registers[op.name]) if op.name in registers else op for op in base.ops)))
    wanted, found = machine.run(pixels), track.run(Runs(base).of(registers).registers)
    np.testing.assert_array_equal(found.logits, wanted)
    for name, counts in machine.overflows.items():
        np.testing.assert_array_equal(found.overflows.get(name, np.zeros_like(counts)), counts, err_msg=name)


def check_counters(track, base, registers, pixels):
    """So are persistent and transient outputs of every stage."""
    machine, counted = Machine(dataclasses.replace(base, ops=tuple(
        dataclasses.replace(op, accumulator=registers[op.name]) if op.name in registers else op for op in base.ops))), {}
    wanted = machine.run(pixels, counters=counted)
    told = track.run(Runs(base, counters=True).of(registers).registers, counters=True)
    np.testing.assert_array_equal(told.logits, wanted)
    for name, counters in counted.items():
        both = np.stack([counters.persistent.sum((1, 2)), counters.transient.sum((1, 2))], axis=1)
        np.testing.assert_array_equal(told.counters.get(name, np.zeros_like(both)), both, err_msg=name)


def test_track__starts_again_with_other_images_and_fewer():
    program = sim.lower(sim.load_checkpoint(CHECKPOINT).spec)
    rng = np.random.default_rng(3)
    registers = {op.name: Accumulator(7, "saturate") for op in program.accumulating[1:-1]}
    track = Track(program, registers, 6, available()[-1])
    for count in (6, 2, 5):
        pixels = rng.integers(0, 256, (count, *program.input_shape)).astype(np.uint8)
        track.begin(pixels)
        other = track.another()
        other.begin(pixels[::-1])
        for bits in (7, 9, 8):
            wanted = {name: dataclasses.replace(each, bits=bits) for name, each in registers.items()}
            check(track, program, wanted, pixels)
            check(other, program, wanted, pixels[::-1])


def test_track__runs_nothing_that_is_known(monkeypatch):
    """Layers whose registers hold every sum that these images have, and all before and behind them."""
    program = sim.lower(sim.load_checkpoint(CHECKPOINT).spec)
    rng = np.random.default_rng(4)
    pixels = rng.integers(0, 256, (20, *program.input_shape)).astype(np.uint8)
    names = [op.name for op in program.accumulating[1:-1]]
    track = Track(program, names, 20, available()[-1])
    track.begin(pixels)
    ran = []
    step = Track._step

    def counted(self, op, register):
        ran.append(op.name)
        return step(self, op, register)

    monkeypatch.setattr(Track, "_step", counted)
    ops = {op.name: op for op in program.ops}
    tight = {}  # a bit less than what is safe, and enough for these images
    for name in names:
        sums = track.sums(ops[name])
        low, high = int(sums.min()), int(sums.max())
        bits = max(high.bit_length(), (-low - 1).bit_length() if low < 0 else 0) + 1
        if bits < ops[name].safe_bits:
            tight[name] = Accumulator(bits, "wrap")
    ran.clear()
    assert tight
    assert track.run(tight).overflows == {}
    assert ran == []
    last = list(tight)[-1]
    track.run({last: dataclasses.replace(tight[last], bits=tight[last].bits - 1)})
    assert last in ran
    assert not {op.name for op in program.ops[: program.ops.index(ops[last])]} & set(ran)


def evaluated(configuration, **options):
    """The same register in an evaluation of its own: right images, overflows and counters by layer."""
    register = {"accumulator": configuration["bits"], "overflow": configuration["overflow"], "tile": configuration["tile"]}
    if configuration["stages"]:
        register = {"accumulator": configuration["stages"].replace(":B:", f":{configuration['bits']}:")}
    found = sim.evaluate(CHECKPOINT, requant=configuration["requant"], **register, **options)
    overflows = {name: int(counts.sum()) for name, counts in found.overflows.items()}
    return found.right, overflows, {name: counters.total() for name, counters in found.counters.items()}


@pytest.mark.parametrize(("options", "own"), [
    ({"overflow": "wrap,saturate", "tile": "1,9,end"}, {}),
    ({"overflow": "wrap,saturate", "tile": "9", "counters": True}, {"counters": True}),
    ({"requant": "fp32,tflite_single", "boundary_accumulator": "12"}, {"boundary_accumulator": 12}),
    ({"bits": 3, "boundary_accumulator": "same"}, {"bits": 3}),
    ({"overflow": "wrap,saturate", "stages": ["9:B:R,end:9:saturate", "single"], "order": "channels"},
     {"order": "channels"}),
], ids=["rules and tiles", "counters", "requantizers", "another width of codes", "stages"])
def test_sweep__every_number_is_that_of_an_evaluation(options, own):
    found = sweep(CHECKPOINT, "5,8,10", limit=25, **options)
    limited = [row for row in found.rows if row["bits"] is not None]
    assert len(limited) == 3 * len(options.get("stages", "-")) * np.prod(
        [len(options.get(name, "-").split(",")) for name in ("overflow", "tile", "requant")])
    for row in limited[:: 1 if len(limited) < 8 else 4]:
        more = {"boundary_accumulator": row["bits"]} if options.get("boundary_accumulator") == "same" else {}
        right, overflows, counters = evaluated(row, limit=25, **own, **more)
        assert row["right"] == right, row
        assert {layer["layer"]: layer["overflows"] for layer in row["layers"]} == overflows
        for layer in row["layers"] if "counters" in options else ():
            assert layer["stages"] == counters.get(layer["layer"], layer["stages"])
            assert (layer["layer"] in counters) == (layer["register"] != "unlimited")
    unlimited = [row for row in found.rows if row["bits"] is None]
    for row in unlimited:
        free = sim.evaluate(CHECKPOINT, limit=25, requant=row["requant"], bits=options.get("bits"))
        assert (row["right"], row["overflows"], row["changed"]) == (free.right, 0, 0)


def test_sweep__batches_and_memory_change_nothing():
    wide, narrow = (sweep(CHECKPOINT, "6:9", overflow="saturate", limit=23, memory=memory) for memory in (512, 1))
    base = sim.lower(sim.load_checkpoint(CHECKPOINT).spec)
    assert (1 << 20) // bytes_of(base) < 23
    assert wide.rows == narrow.rows


def test_sweep__of_a_program_and_of_arrays(tmp_path):
    program = sim.lower(sim.load_checkpoint(CHECKPOINT).spec)
    program.save(tmp_path / "program.npz")
    rng = np.random.default_rng(1)
    pixels, labels = rng.integers(0, 256, (12, *program.input_shape)).astype(np.uint8), rng.integers(0, 10, 12)
    rows = sweep(tmp_path / "program.npz", "7", pixels, labels, overflow="saturate").rows
    inner = {op.name for op in program.accumulating[1:-1]}
    limited = dataclasses.replace(program, ops=tuple(
        dataclasses.replace(op, accumulator=Accumulator(7, "saturate")) if op.name in inner else op for op in program.ops))
    wanted = sim.evaluate(limited, pixels, labels)
    assert [row["right"] for row in rows] == [sim.evaluate(program, pixels, labels).right, wanted.right]
    assert rows[1]["overflows"] == wanted.overflowed > 0
    assert sweep(program, "7", pixels, labels, overflow="saturate").rows == rows
    with pytest.raises(EvalError, match="requant: a program has its requantizer built in"):
        sweep(program, "7", pixels, labels, requant="double")
    with pytest.raises(EvalError, match="bits: a program has its widths"):
        sweep(program, "7", pixels, labels, bits=3)


def two_layers():
    """Pixels through two convolutions and a fully connected layer, all with biases and zero points."""
    rng = np.random.default_rng(5)
    tensors = [Value((1, 8, 8, 3), "int8", 1 / 255, -128)]
    nodes = []
    for index, (rows, depth, channels) in enumerate(((3, 3, 4), (3, 4, 4), (6, 4, 3)), 1):
        shape = channels, rows, rows, depth
        tensors += [Value(shape, "int8", np.full(channels, 0.01), 0, rng.integers(-127, 128, shape)),
                    Value((channels,), "int32", 0.0004, 0, rng.integers(-900, 900, channels)),
                    Value((1, *((6, 6) if index == 1 else (6, 6) if index == 2 else (1, 1)), channels), "int8", 0.05, -3)]
        fields = {"Padding": 0 if index == 2 else 1, "StrideH": 1, "StrideW": 1}
        nodes.append(Node("CONV_2D", [3 * index - 3, 3 * index - 2, 3 * index - 1], [3 * index], "Conv2DOptions", fields, 5))
    return model(tensors, nodes, [0], [9])


@pytest.mark.parametrize("hardware", ["litert_xnnpack", "tflite_micro_cmsis_nn"])
def test_sweep__of_a_model_of_anothers_is_its_evaluation(hardware, tmp_path):
    pytest.importorskip("tflite", reason="the package tflite is not installed (extra `import`)")
    file, rng = tmp_path / "two.tflite", np.random.default_rng(6)
    file.write_bytes(two_layers())
    pixels, labels = rng.integers(0, 256, (20, 8, 8, 3)).astype(np.uint8), rng.integers(0, 3, 20)
    for boundary in (None, "same"):
        rows = sweep(file, "10,13,17,20", pixels, labels, overflow="wrap,saturate", boundary_accumulator=boundary,
                         hardware=hardware).rows
        for row in rows[1:]:
            wanted = sim.evaluate(file, pixels, labels, accumulator=row["bits"], overflow=row["overflow"], hardware=hardware,
                                  tile=row["tile"], boundary_accumulator=row["bits"] if boundary else None)
            assert row["right"] == wanted.right
            assert {layer["layer"]: layer["overflows"] for layer in row["layers"]} == {
                name: int(counts.sum()) for name, counts in wanted.overflows.items()}, row
        assert any(row["overflows"] for row in rows)


# ---------------------------------------------------------------------------------------- one run for the same registers

def test_plan__registers_that_do_the_same_are_one_run():
    (group,) = plan(CHECKPOINT, configurations("8,40:42", "wrap,saturate", "1,100000,end"), Arithmetic())
    assert len(group.runs) == 4 * 6
    # at 8 bits wrap is one run however sums come, and so is saturate of whole sums; 40 bits hold everything
    assert len(group.different) == 1 + 1 + 2
    assert group.different[0] == group.free


def test_plan__a_layer_that_cannot_overflow_has_no_register():
    (group,) = plan(CHECKPOINT, configurations("9"), Arithmetic())
    (run,) = group.runs.values()
    safe = {op.name: op.safe_bits for op in group.base.accumulating}
    assert {name for name, bits in safe.items() if bits > 9} - set(run.registers) == {
        group.base.accumulating[0].name, group.base.accumulating[-1].name}
    assert all(safe[name] > 9 for name in run.registers)


# --------------------------------------------------------------------------------------------------- kept, and gone on

def prepared(out, widths="6:8", **options):
    return job.prepare(CHECKPOINT, configurations(widths, "wrap,saturate"), Arithmetic(), Source(limit=30), out, memory=1,
                       **options)


def test_sweep__goes_on_where_it_was_interrupted_or_killed(tmp_path):
    whole = prepared(tmp_path / "whole").run().rows

    class StopError(KeyboardInterrupt):
        pass

    def stop_at(share, killed=None):
        def tell(done, work):
            if done >= share * work:
                if killed is not None and (tmp_path / "stopped").exists():
                    shutil.copytree(tmp_path / "stopped", killed)  # what a kill leaves, as nothing is written any more
                raise StopError
        return tell

    for share in (0.4, 0.7):
        with pytest.raises(StopError):
            prepared(tmp_path / "stopped").run(stop_at(share, tmp_path / f"killed{share}"))
        done, work = prepared(tmp_path / "stopped").work
        assert share * work <= done < work
    left, _ = prepared(tmp_path / "killed0.7").work
    assert left >= 0.4 * work
    for folder in ("stopped", "killed0.4", "killed0.7"):
        assert prepared(tmp_path / folder).run().rows == whole


def test_sweep__more_widths_run_what_is_new_alone(tmp_path):
    prepared(tmp_path, "6:7").run()
    ran = []
    more = prepared(tmp_path, "6:9")
    done, work = more.work
    assert 0 < done < work
    rows = more.run(lambda done, work: ran.append(done)).rows
    assert len(ran) == len({done for done in ran})
    assert rows == prepared(tmp_path / "other", "6:9").run().rows
    assert prepared(tmp_path, "6:9").run(ran.append).rows == rows  # nothing was left: nobody was told


# ------------------------------------------------------------------------------------------------------- the command

def test_command__writes_tables_plots_and_a_record(swept):
    folder, stdout = swept
    assert {path.name for path in folder.iterdir()} == {"sweep.json", "sweep.csv", "sweep.md", "sweep.svg", "layers.csv",
                                                        "layers.md", "layers.svg", "state.npz"}
    assert "6 configurations, 7 different runs on 30 test images of digits" in stdout
    assert max(map(len, stdout.splitlines())) <= 80 + len(str(folder))
    record = read_record(folder / "sweep.json", "registers")
    assert record["command"].startswith("python -m sim.sweep --model ")
    assert record["model_digest"].startswith("sha256:")
    table = pd.read_csv(folder / "sweep.csv")
    for row in record["configurations"][1:]:
        right, overflows, _ = evaluated(row, limit=30)
        assert row["right"] == right
        (line,) = table[(table["accumulator"] == row["bits"]) & (table["overflow"] == row["overflow"])].to_dict("records")
        assert line["bit-true"] == float(f"{100 * right / 30:.6g}")
        assert f"{100 * right / 30:.2f} (" in stdout
        assert row["overflows"] == sum(overflows.values())
    layers = pd.read_csv(folder / "layers.csv")
    assert layers["overflows"].sum() == sum(row["overflows"] for row in record["configurations"])
    for name in ("sweep.svg", "layers.svg"):
        assert (folder / name).read_text().startswith("<?xml")


def test_command__goes_on_and_refuses_another_sweep(swept, tmp_path):
    folder = shutil.copytree(swept[0], tmp_path / "out")
    before = read_record(folder / "sweep.json")["configurations"]
    again = cli.run("sim.sweep", *OPTIONS, "--out", folder)
    assert "100 % is done already" in again.stdout
    assert read_record(folder / "sweep.json")["configurations"] == before
    cli.assert_one_line(cli.run("sim.sweep", *OPTIONS[:-1], 20, "--out", folder), "holds another sweep, of another images",
                        status=2)
    cli.assert_one_line(cli.run("sim.sweep", *OPTIONS, "--bits", 3, "--out", folder), "of another options", status=2)
    (folder / "state.npz").write_bytes((folder / "state.npz").read_bytes()[:200])
    cli.assert_one_line(cli.run("sim.sweep", *OPTIONS, "--out", folder), "state.npz", "damaged", status=2)
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("years")
    cli.assert_one_line(cli.run("sim.sweep", *OPTIONS, "--out", other), "holds other files", status=2)
    assert {path.name for path in other.iterdir()} == {"thesis.txt"}


def test_command__says_what_an_interrupt_leaves(monkeypatch, tmp_path):
    monkeypatch.setattr(job.Job, "_run_batch", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    result = cli.run("sim.sweep", *OPTIONS, "--out", tmp_path / "out")
    cli.assert_one_line(result, "interrupted; 0 % is done and kept in", "the same command goes on", status=130)


@pytest.mark.parametrize(("options", "words"), [
    (("--accumulator", "8:"), ("accumulator: '8:'", "8:24")),
    (("--accumulator", "1:8"), ("accumulator: '1:8'", "2 to 63")),
    (("--accumulator", "12:8"), ("accumulator: '12:8'",)),
    (("--accumulator", "8:12:0"), ("accumulator: '8:12:0'",)),
    (("--overflow", "wrap,clip"), ("overflow: 'clip'", "wrap,saturate")),
    (("--overflow", "error"), ("overflow: 'error'", "no accuracy")),
    (("--tile", "0"), ("tile: '0'", "or end")),
    (("--boundary-accumulator", "wide"), ("boundary-accumulator: 'wide'", "same")),
    (("--requant", "fp32,floating"), ("floating",)),
    (("--memory", "0"), ("memory: 0",)),
    (("--limit", "0"), ("limit: 0",)),
    (("--accumulator", "2:63", "--tile", ",".join(map(str, range(1, 300)))), ("more than 10,000 configurations",)),
    (("--stages", "2:16:saturate,end:32:wrap"), ("stages: ", "has no B")),
    (("--stages", "2:B:clip,end:32:wrap"), ("stages: ", "2:32:clip", "wrap, saturate, error")),
    (("--order", "columns"), ("order: 'columns'", "tile map")),
])
def test_command__refuses_in_one_line(options, words, tmp_path):
    result = cli.run("sim.sweep", "--model", CHECKPOINT, *options, "--out", tmp_path / "out")
    cli.assert_one_line(result, *words, status=2)
    assert not (tmp_path / "out").exists()


def test_widths__are_lists_and_ranges():
    assert widths("accumulator", "8:24") == tuple(range(8, 25))
    assert widths("accumulator", "24,8:12:2, 10") == (8, 10, 12, 24)


# ------------------------------------------------------------------------------------------------------------ tables

def test_tables__are_made_of_records(swept, tmp_path):
    shutil.copy(swept[0] / "sweep.json", tmp_path / "one.json")
    texts = make_tables(tmp_path)
    assert {"register-sweeps.md", "register-sweeps.csv", "register-layers.md", "register-layers.csv"} <= set(texts)
    assert re.search(r"^\| +bits \| +saturate, 1 \| +wrap, 1 \|$", texts["register-sweeps.md"], re.M)
    assert "Without limits" in texts["register-sweeps.md"]
    record = read_record(tmp_path / "one.json")
    record["configurations"][1]["accuracy"] = 101.0
    (tmp_path / "one.json").write_text(json.dumps({key: value for key, value in record.items()
                                                   if key not in ("schema", "digest")}))
    with pytest.raises(ValueError, match="damaged record"):
        Report.of([tmp_path])


def test_tables__tell_persistent_and_transient_outputs_of_all(tmp_path):
    """Plain counting beside the cells, whose two digits never make all of nearly all."""
    found = sweep(CHECKPOINT, accumulator="5:8", overflow="saturate", tile="1", counters=True, limit=4, requant="fp32")
    found.save(tmp_path / "one.json", "python -m sim.sweep")
    uncounted = sweep(CHECKPOINT, accumulator="5:8", overflow="wrap", tile="1", limit=4, requant="fp32")
    uncounted.save(tmp_path / "two.json", "python -m sim.sweep")  # of the same network and images: it has no cells there
    text = make_tables(tmp_path)["register-sweeps.md"]
    (part,) = re.findall(r"persistent \+ transient$.*", text, re.M | re.S)
    for row in found.rows[1:]:
        outputs = sum(layer["outputs"] for layer in row["layers"] if layer["register"] != "unlimited")
        wanted = [100 * sum(layer[kind] for layer in row["layers"]) / outputs for kind in ("persistent", "transient")]
        (cells,) = re.findall(rf"^\| +{row['bits']} \| +(\S+) \+ (\S+) \|$", part, re.M)
        assert list(map(float, cells)) == pytest.approx(wanted, rel=0.05)


@pytest.mark.parametrize(("percent", "cell"), [(0.0, "0"), (1e-9, "1e-09"), (12.34, "12"), (99.4, "99"), (99.6, "> 99"),
                                               (100.0 - 1e-9, "> 99"), (100.0, "100")])
def test_share__tells_all_from_nearly_all(percent, cell):
    assert registers.share_cell(percent) == cell


def test_subject__is_the_one_that_was_asked_for():
    (group,) = plan(CHECKPOINT, configurations("12"), Arithmetic())
    assert isinstance(group.subject, Subject)
    assert group.base == sim.lower(sim.load_checkpoint(CHECKPOINT).spec)
