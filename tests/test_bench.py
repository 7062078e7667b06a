"""Benchmarks against peers: everyone does the same job, a missing peer is a row, ratios are what they say."""

import importlib
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from torch import nn

from bench.cases import (
    BIT_WIDTHS,
    CASES,
    MEASURES,
    ConvCase,
    NetworkCase,
    case_from_json,
    random_pixels,
    random_spec,
    resnet20_spec,
)
from bench.impls import CONVOLUTIONS, Peer, peers, torch_float
from bench.impls import bittrue as ours
from bench.impls.fresh_process import _peak_bytes
from bench.impls.numpy_matmul import BUILD as NUMPY
from bench.layers import TimedMachine, by_kind, profile
from bench.peers import Contest, measure, select, show
from bench.ratios import SUMMARIES, Figures, add_ratios, geometric_mean, summarize
from bench.worker import Session, describe
from sim.accumulator import Accumulator
from sim.command import new_console
from sim.lowering import lower
from sim.machine import Machine
from sim.network import Conv
from tests.cli import assert_one_line, run
from training import products
from training.plots import _means
from training.tables import make_tables, write_tables

TINY = ConvCase("tiny", images=2, side=5, depth=4, channels=6, kernel=3, stride=2)
PEERS = (Peer("bittrue W8A8", "bittrue", ("conv",), "portable"), Peer("numpy float32 matmul", "numpy_matmul", ("conv",)))


def row(what, case, impl, value, isa=""):
    return {"what": what, "case": case, "impl": impl, "isa": isa, "value": value, "unit": MEASURES[what].unit}


@pytest.fixture
def break_package(tmp_path, monkeypatch):
    """Put a package in front of an installed one, in the workers only."""
    def shadow(name, code):
        (tmp_path / f"{name}.py").write_text(code)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    return shadow


@pytest.mark.exhaustive
def test_measure__gives_a_row_to_each_in_its_own_process():
    rows = measure([Contest("conv", TINY, PEERS)], 2)
    assert [(r["what"], r["case"], r["impl"], r["unit"]) for r in rows] == [
        ("conv", "tiny", peer.impl, "GMAC/s") for peer in PEERS]
    assert rows[0]["isa"] == "portable"
    for r in rows:
        assert 0.0 < r["spread"][0] <= r["value"] <= r["spread"][1]
        assert r["rounds"] == 2
    json.dumps(rows, allow_nan=False)


def test_measure__a_peer_that_is_not_installed_is_a_row_that_says_so(break_package):
    break_package("onnx", "raise ModuleNotFoundError(\"No module named 'onnx'\", name='onnx')")
    missing, present = measure([Contest("conv", TINY, (Peer("onnxruntime QLinearConv", "onnx_runtime", ("conv",)),
                                                       PEERS[1]))], 1)
    assert missing["value"] is None
    assert missing["spread"] is None
    assert missing["missing"] == "onnx is not installed: pip install -c constraints.txt -e '.[peers]'"
    assert present["value"] > 0.0


def test_measure__a_peer_that_crashes_is_a_row_that_says_so(break_package):
    break_package("onnx", "import os, sys; print('out of luck', file=sys.stderr, flush=True); os._exit(3)")
    (missing,) = measure([Contest("conv", TINY, (Peer("onnxruntime QLinearConv", "onnx_runtime", ("conv",)),))], 2)
    assert missing["missing"] == "its process ended with status 3: out of luck"


def test_describe__is_one_line():
    assert describe(ValueError("one\ntwo")) == "ValueError: one"
    assert describe(KeyError()) == "KeyError: no message"


@pytest.mark.parametrize("case", [TINY, ConvCase("1x1", False, 0, (), 1, 4, 3, 5, kernel=1)])
def test_convolutions__of_numpy_and_ours_give_the_same_codes(case):
    expected = NUMPY["numpy float32 matmul"]["conv"](case).call()
    assert (ours.BUILD["bittrue W8A8"]["conv"](case).call() == expected).all()
    assert 0 < np.count_nonzero(expected) < expected.size  # the scale is one at which codes differ


@pytest.mark.parametrize(("module", "impl"), [("onednn", "oneDNN int8"), ("onnx_runtime", "onnxruntime QLinearConv")])
def test_convolutions__of_peers_do_the_same_job(module, impl):
    pytest.importorskip({"onednn": "torch", "onnx_runtime": "onnxruntime"}[module])
    if not products.has_dot_product():
        pytest.skip("no 8-bit dot product on this processor: both add pairs in 16 bits that saturate")
    expected = NUMPY["numpy float32 matmul"]["conv"](TINY).call().astype(int)
    result = importlib.import_module(f"bench.impls.{module}").BUILD[impl]["conv"](TINY).call()
    codes = result.int_repr().permute(0, 2, 3, 1).numpy() if module == "onednn" else result
    assert codes.shape == expected.shape
    assert np.abs(codes - expected).max() <= 1  # their own rounding of the scale


def test_peers__every_family_is_a_file_that_builds_what_its_rows_promise():
    pytest.importorskip("brevitas")
    pytest.importorskip("qonnx")
    pytest.importorskip("ai_edge_litert")
    for peer in peers():
        module = importlib.import_module(f"bench.impls.{peer.family}")
        assert set(peer.what) <= module.BUILD[peer.impl].keys(), peer
        assert isinstance(module.isa(), str)


def test_cases__survive_the_way_to_a_worker():
    for what, cases in CASES.items():
        assert len({case.name for case in cases}) == len(cases)
        assert any(case.quick for case in cases) or what in ("memory", "imagenet", "encoder")
        for case in cases:
            assert case_from_json(json.loads(json.dumps(case.to_json()))) == case


def test_gmacs__by_hand():
    assert TINY.out_side == 3
    assert TINY.gmacs == pytest.approx(2 * 3 * 3 * 6 * 9 * 4 / 1e9)
    depthwise = ConvCase("", images=1, side=4, depth=8, channels=8, groups=8)
    assert depthwise.gmacs == pytest.approx(4 * 4 * 8 * 9 / 1e9)
    assert depthwise.weights(3).shape == (3, 3, 1, 8)
    assert set(np.unique(depthwise.weights(3))) <= {-7, -5, -3, -1, 1, 3, 5, 7}


def test_spec__is_a_network_that_can_be_lowered():
    spec = resnet20_spec(3)
    weights = [spec.array(r, "weight") for r in spec.graph.rows if isinstance(r, Conv)]
    assert sum(w.size for w in weights) == 268_336  # as many as the paper's 0.27 M


@pytest.mark.exhaustive
@pytest.mark.parametrize("model", ["mobilenetv2", "efficientnet_b0", "resnet18"])
def test_random_spec__uses_the_range_of_codes(model):
    spec = random_spec(model, 32, 8)
    pixels, codes = random_pixels(2, 32), {}
    Machine(lower(spec)).run(pixels, codes)
    for row in spec.graph.rows:
        if isinstance(row, Conv) and row.norm:
            assert len(np.unique(codes[row.name])) > 16, row.name


@pytest.mark.parametrize("model", ["resnet8", pytest.param("mobilenetv2", marks=pytest.mark.exhaustive)])
def test_profile__gives_seconds_to_every_operation_and_names_what_runs_it(model):
    machine = TimedMachine(lower(random_spec(model, 32, 8)))
    seconds = profile(machine, random_pixels(2, 32), 2)
    assert list(seconds) == [op.name for op in machine.program.ops]
    assert all(value > 0.0 for value in seconds.values())
    kinds = by_kind(machine, seconds)
    assert sum(kinds.values()) == pytest.approx(sum(seconds.values()))
    assert {"input", "pool"} <= kinds.keys()
    assert not [kind for kind in kinds if kind.endswith("plain")]


def test_layers_command__lists_the_costliest():
    result = run("bench.layers", "--model", "resnet8", "--size", 32, "--batch", 1, "--rounds", 1, "--most", 2)
    assert result.returncode == 0, result.stderr
    assert "resnet8, 1 x 32x32, W8A8" in result.stdout
    assert "share" in result.stdout
    assert_one_line(run("bench.layers", "--batch", 0), "batch: 0")
    assert_one_line(run("bench.layers", "--model", "nobody"), "nobody")


@pytest.mark.exhaustive
@pytest.mark.parametrize("model", ["mobilenetv2", "efficientnet_b0", "resnet18"])
def test_networks__of_peers_are_the_same_as_ours(model):
    onnx_network = pytest.importorskip("bench.impls.onnx_network", exc_type=ImportError)
    case = NetworkCase("", images=2, batch=1, model=model, side=64)
    spec = case.spec(8)
    nodes = [node.op_type for node in onnx_network.float_model(spec).graph.node]
    modules = torch_float.imagenet_module(case).modules()
    layers = [part for part in modules if isinstance(part, nn.Conv2d | nn.Linear)]
    convolutions = [spec.array(r, "weight") for r in spec.graph.rows if isinstance(r, Conv)]
    assert nodes.count("Conv") == len(layers) == len(convolutions)
    assert sum(layer.weight.numel() for layer in layers) == sum(weights.size for weights in convolutions)
    logits = onnx_network.network(case).call()
    assert logits.shape[:2] == (2, 1000)
    assert np.ptp(logits) > 0.0
    assert set(ours.BUILD["bittrue W8A8"]["imagenet"](case).extra) == {"logits"}


@pytest.mark.exhaustive
def test_narrowest__is_the_last_width_with_few_outputs():
    for share in (ours.flagged_share, ours._clipped_share):
        width = ours.narrowest(TINY, 3, share)
        assert share(TINY, 3, width) < 0.01 <= share(TINY, 3, width - 1)
    assert ours.flagged_share(TINY, 3, 8) >= ours._clipped_share(TINY, 3, 8)  # the screen never misses one


def test_limited__says_its_register_and_shares():
    extra = ours.BUILD["bittrue W3A3, saturate, all flagged"]["accumulator"](TINY).extra
    assert extra["accumulator"] == "saturate 6, tile 1"
    assert extra["overflowed"] == ours.overflowed_share(TINY, 3, Accumulator(6, "saturate"))
    assert extra["overflowed"] <= extra["flagged"] <= 1.0


def test_session__a_turn_of_a_fixed_number_of_calls():
    session = Session("numpy_matmul")
    session.prepare("numpy float32 matmul", "conv", TINY.to_json())
    assert session.turn("numpy float32 matmul", "conv")["value"] > 0.0
    session.release()
    assert not session.works


def test_select__short_run_and_long_run():
    quick, full = (select(MEASURES, peers(), flag) for flag in (True, False))
    assert len(quick) <= 11 < len(full)
    assert {contest.what for contest in quick} == MEASURES.keys() - {"memory", "imagenet", "encoder"}
    networks = [contest for contest in full if contest.what == "imagenet"]
    assert [contest.case.model for contest in networks] == ["mobilenetv2", "efficientnet_b0", "resnet18"]
    for contest in networks:
        assert [peer.impl for peer in contest.peers] == ["bittrue W8A8", "torch float32 channels-last", "onnxruntime int8"]
    assert len([contest for contest in full if contest.what == "conv"]) == 18
    assert len([contest for contest in full if contest.what == "depthwise"]) == 10
    many = next(contest for contest in full if "10,000" in contest.case.name and contest.what == "network")
    assert [peer.impl for peer in many.peers if "W1" not in peer.impl and "W2" not in peer.impl] == [
        "bittrue W3A3, fp32", "torch float32 channels-last", "Brevitas W3A3"]
    for contest in full:
        if contest.what == "planes":
            assert len(contest.peers) in (0, 2 * len(BIT_WIDTHS))  # none without AVX2
            continue
        assert contest.peers
        if contest.what in CONVOLUTIONS:
            assert "oneDNN int8" in {peer.impl for peer in contest.peers}


def test_geometric_mean():
    assert geometric_mean([2.0, 8.0]) == pytest.approx(4.0)
    assert geometric_mean([3.0]) == pytest.approx(3.0)
    assert geometric_mean([]) is None


def test_add_ratios__refer_to_the_base_of_the_same_case_and_of_ours_on_the_same_kernels():
    torch = "torch float32 channels-last"
    rows = [row("conv", "a", torch, 50.0), row("conv", "a", "x", 100.0), row("conv", "b", "x", 7.0),
            row("accumulator", "a", "bittrue W3A3, unlimited", 10.0, "portable"),
            row("accumulator", "a", "bittrue W3A3, unlimited", 200.0, "vnni"),
            row("accumulator", "a", "bittrue W3A3, wrap 12", 100.0, "vnni"), row("conv", "a", "broken", None)]
    add_ratios(rows)
    assert [r.get("ratio") for r in rows] == [1.0, 2.0, None, 1.0, 1.0, 0.5, None]
    assert rows[1]["ratio to"] == torch


def test_add_ratios__of_bit_planes_refer_to_bytes_of_the_same_widths():
    rows = [row("planes", case, f"bittrue {widths}, {method}", value, "vnni") for case, widths, method, value in (
        ("3x3, 16", "W1A1", "bytes", 10.0), ("3x3, 16", "W1A1", "planes", 30.0), ("3x3, 32", "W1A1", "bytes", 10.0),
        ("3x3, 32", "W1A1", "planes", 40.0), ("3x3, 32", "W2A2", "bytes", 10.0), ("3x3, 32", "W2A2", "planes", 12.0))]
    rows += [row("network", "ResNet-20, 10,000 images", f"bittrue {impl}", value, "vnni") for impl, value in (
        ("W1A1", 30.0), ("W1A1, bytes", 10.0))]
    add_ratios(rows)
    assert [r.get("ratio") for r in rows] == [1.0, 3.0, 1.0, 4.0, 1.0, 1.2, None, None]
    found = [entry["value"] for entry in summarize(rows, "vnni") if entry["value"] is not None]
    assert found == pytest.approx([4.0, 1.2, 3.0])  # of the wide ones, and of the network


def test_summarize__has_tables_of_bytes_where_bits_cannot_be_counted():
    rows = [row("planes", case, f"bittrue W1A1, {method}", value, "portable") for case, method, value in (
        ("3x3, 16", "bytes", 10.0), ("3x3, 16", "tables", 20.0), ("3x3, 32", "bytes", 10.0), ("3x3, 32", "tables", 30.0))]
    add_ratios(rows)
    assert [r.get("ratio") for r in rows] == [1.0, 2.0, 1.0, 3.0]
    found = {entry["measure"]: entry["value"] for entry in summarize(rows, "portable") if entry["value"] is not None}
    assert ["tables of bytes" in measure for measure in found] == [True]
    assert list(found.values()) == pytest.approx([3.0])


def test_summarize__by_hand():
    rows = [
        row("peak", "registers only", "vpdpbusd", 500.0, "vnni"),
        *(row("conv", case, "bittrue W8A8", value, isa) for case, value, isa in (
            ("a", 100.0, "vnni"), ("b", 400.0, "vnni"), ("c", 900.0, "vnni"), ("a", 10.0, "portable"),
            ("b", 10.0, "portable"))),
        row("conv", "a", "oneDNN int8", 200.0), row("conv", "b", "oneDNN int8", 200.0),
        row("conv", "c", "oneDNN int8", None),
        row("conv", "a", "torch float32 channels-last", 20.0), row("conv", "b", "torch float32 channels-last", 5.0),
        row("train_step", "a", "bittrue W2A2", 90.0), row("train_step", "a", "bittrue float32", 100.0),
        row("startup", "second start", "import torch", 1.5),
        row("startup", "second start", "bittrue sim.eval on digits", 4.0),
        row("memory", "sim.eval on 1,000 images of 32x32x3", "bittrue sim.eval", 300.0),
        row("memory", "sim.eval on 10,000 images of 32x32x3", "bittrue sim.eval", 330.0),
    ]
    found = {index: (entry["value"], entry["cases"]) for index, entry in enumerate(summarize(rows, "vnni"))
             if entry["value"] is not None}
    names = [measure for measure, _, _ in SUMMARIES]
    index = {text: next(i for i, name in enumerate(names) if text in name) for text in (
        "oneDNN", "BITTRUE_ISA=vnni", "BITTRUE_ISA=portable", "float step", "second start", "memory")}
    assert found.pop(index["oneDNN"]) == (pytest.approx(1.0), 2)  # sqrt(0.5 * 2)
    assert found.pop(index["oneDNN"] + 1) == (pytest.approx(20.0), 2)  # sqrt(5 * 80)
    assert found.pop(index["BITTRUE_ISA=vnni"]) == (pytest.approx((0.2 * 0.8 * 1.8) ** (1 / 3)), 3)
    assert found.pop(index["BITTRUE_ISA=portable"]) == (pytest.approx(1.0), 2)  # sqrt(0.5 * 2)
    assert found.pop(index["float step"]) == (pytest.approx(0.9), 1)
    assert found.pop(index["second start"]) == (pytest.approx(2.5), 1)
    assert found.pop(index["memory"]) == (pytest.approx(1.1), 1)
    assert not found


def test_plot__draws_means_over_the_cases_that_most_have():
    rows = pd.DataFrame([row("conv", case, impl, value, "vnni") for case, impl, value in (
        ("a", "bittrue", 2.0), ("b", "bittrue", 8.0), ("a", "x", 1.0), ("b", "x", 9.0), ("a", "slow", 0.5),
        ("c", "x", 1e6))])
    assert _means(rows).round(9).to_dict() == {"slow (1 of 2 cases)": 0.5, "x": 3.0, "bittrue [vnni]": 4.0}


def test_figures__without_a_case_there_is_none():
    assert Figures([], "vnni").one("conv", "anyone") is None


def test_network_case__covers_all_images():
    assert list(NetworkCase("", images=250, batch=100).starts()) == [0, 100, 200]


def test_command__writes_rows_tables_and_a_plot(tmp_path):
    file = tmp_path / "records" / "p.json"
    result = run("bench.peers", "--only", "peak", "--rounds", 1, "--json", file)
    assert result.returncode == 0, result.stderr
    record = json.loads(file.read_text())
    assert {"command", "commit", "date", "versions", "hardware", "ratios"} <= record.keys()
    assert [found["impl"] for found in record["rows"]] == ["vpdpbusd", "vdpbf16ps", "vfmadd float32"]
    for found in record["rows"]:
        assert (found["what"], found["unit"]) == ("peak", "GMAC/s")
        assert (found["value"] is None) == ("missing" in found)
        assert found["missing"] in (tmp_path / "p.md").read_text() if "missing" in found else (tmp_path / "p.svg").exists()
        assert found["impl"] in (tmp_path / "p.csv").read_text()
    assert str(tmp_path) not in (tmp_path / "p.csv").read_text().replace(record["command"], "")


def test_tables__of_a_run_in_which_nothing_was_measured(tmp_path):
    file = tmp_path / "p.json"
    origin = {"command": "c", "commit": "0" * 40, "date": "2026-01-01", "hardware": {"cpu": "x", "threads": 1, "cores": 1}}
    missing = {**row("conv", "a", "x", None), "spread": None, "missing": "x is not installed"}
    file.write_text(json.dumps({"rows": [missing], "ratios": summarize([missing], "vnni"), **origin}))
    assert {path.suffix for path in write_tables("performance", file)} == {".csv", ".md", ".svg"}
    assert "x is not installed" in (tmp_path / "p.md").read_text()


def _record(file, date, model, rows):
    hardware = {"cpu": "AMD EPYC", "family": 26, "model": model, "threads": 2, "cores": 2}
    content = {"command": f"{file.stem}'s", "commit": "0" * 40, "date": date, "hardware": hardware,
               "rows": [{**each, "spread": [each["value"], each["value"]]} for each in rows]}
    file.write_text(json.dumps({**content, "ratios": summarize(rows, "vnni")}))


def test_tables__hold_the_newest_run_of_each_measure_on_each_processor(tmp_path):
    ours, theirs = "bittrue W8A8", "torch float32 channels-last"
    imagenet = [row("imagenet", "x", ours, 6.0, "vnni"), row("imagenet", "x", theirs, 2.0)]
    _record(tmp_path / "first.json", "2026-01-01", 2, [row("peak", "x", "vpdpbusd", 3.0), *imagenet])
    _record(tmp_path / "later.json", "2026-01-02", 2, [row("peak", "x", "vpdpbusd", 5.0)])
    _record(tmp_path / "other.json", "2026-01-03", 17, [row("peak", "x", "vpdpbusd", 7.0)])
    files = make_tables(tmp_path)
    table = pd.read_csv(io.StringIO(files["performance.csv"]))
    summary = table[table["what"] == "summary"].set_index(["hardware", "case"])["value"].dropna()
    shown = table[table["what"] != "summary"]
    new, old = (f"AMD EPYC (family 26, model {model}), 2 of 2 cores" for model in (2, 17))
    assert shown[["hardware", "what", "impl", "value", "command"]].to_numpy().tolist() == [
        [old, "peak", "vpdpbusd", 7.0, "other's"], [new, "peak", "vpdpbusd", 5.0, "later's"],
        [new, "imagenet", ours, 6.0, "first's"], [new, "imagenet", theirs, 2.0, "first's"]]
    assert summary.to_dict() == {(new, "the same against torch float32 channels-last eval"): 3.0}
    headings = [line for line in files["performance.md"].splitlines() if line.startswith("## ")]
    assert headings == [f"## {old}: summary", f"## {old}: peak", f"## {new}: summary", f"## {new}: peak",
                        f"## {new}: imagenet"]


@pytest.mark.parametrize(("options", "words"), [
    (["--json", "x.json", "--only", "conf"], ["'conf'", "depthwise"]),
    (["--json", "x.json", "--rounds", "-1"], ["rounds: -1"]),
    (["--json", "x.json", "--rounds", "0"], ["rounds: 0"]),
    ([], ["--json"]),
])
def test_command__wrong_option_is_one_line(tmp_path, options, words):
    assert_one_line(run("bench.peers", *options), *words)


@pytest.mark.parametrize(("name", "words"), [
    ("x.md", "has the name of a table"), ("x.csv", "has the name of a table"), ("x.svg", "has the name of a table"),
    ("ckpt.pt", "a checkpoint"), ("e.json", "the record of an evaluation"), ("folder", "is a folder"), ("-", "is no file"),
    ("/dev/null", "is no file"), ("locked.json", "write-protected"), ("ckpt.pt/x.json", "a folder of it is a file"),
    ("taken.json", ".csv: taken.csv is a folder"), ("n" * 256, "File name too long"), ("n" * 255, "File name too long")])
def test_command__a_record_that_cannot_be_written_or_would_be_lost_is_refused_before_the_work(tmp_path, monkeypatch, name,
                                                                                              words):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("bench.pool.Pool", None)
    shutil.copy(Path(__file__).parent / "data" / "takd-digits-2bit.pt", "ckpt.pt")
    Path("e.json").write_text('{"kind": "evaluation"}')
    Path("locked.json").write_text("{}")
    Path("locked.json").chmod(0o444)
    for folder in ("folder", "taken.csv"):
        Path(folder).mkdir()
    before = {path: path.is_file() and path.read_bytes() for path in Path().rglob("*")}
    assert_one_line(run("bench.peers", "--only", "peak", "--rounds", 1, "--json", name), words, status=2)
    assert before == {path: path.is_file() and path.read_bytes() for path in Path().rglob("*")}


@pytest.mark.parametrize("columns", [40, 60, 80])
def test_show__cuts_nothing_in_a_narrow_terminal(monkeypatch, capsys, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    long = "a case with a name of many words, 64 x 64 x 3 x 3"
    rows = [row("conv", long, "an implementation with a long name", 123.4) | {"spread": [1.0, 2.0]},
            {**row("conv", long, "another [bold]one", None), "spread": None, "missing": "some-package is not installed"}]
    ratio = {"measure": "a measure of many words", "target": "1.25 of the other one", "value": None, "cases": 0}
    show(new_console(), rows, [ratio])
    shown = capsys.readouterr().out
    for text in (long, "an implementation with a long name", "another [bold]one", "some-package is not installed",
                 "a measure of many words", "1.25 of the other one"):
        assert text in shown


def test_peak_bytes__are_those_of_the_child_alone():
    ballast = np.ones(300 * 2**20, np.uint8)  # what this process holds must not count
    small, large = (_peak_bytes(("-c", f"x = b'x' * {size}")) for size in (1, 200 * 2**20))
    assert small < 100 * 2**20 < ballast.nbytes
    assert large - small == pytest.approx(200 * 2**20, rel=0.05)
    with pytest.raises(RuntimeError, match="exit status"):
        _peak_bytes(("-c", "raise SystemExit(3)"))
