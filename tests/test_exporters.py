"""Exported programs in ONNX Runtime, onnx.reference and QONNX's executor: equal sums, equal codes, equal logits."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

onnx = pytest.importorskip("onnx", reason="ONNX files are written with the package onnx")
pytest.importorskip("onnxruntime", reason="ONNX Runtime is the oracle")

from sim import testing  # noqa: E402
from sim.accumulator import Accumulator  # noqa: E402
from sim.checkpoint import load_checkpoint  # noqa: E402
from sim.exporters import FORMS, ExportError, export  # noqa: E402
from sim.exporters.qonnx import levels_of  # noqa: E402
from sim.hardware import HardwareSpec  # noqa: E402
from sim.importers import ImporterError, load_model  # noqa: E402
from sim.lowering import lower  # noqa: E402
from sim.machine import Machine  # noqa: E402
from sim.network import Conv, Graph, Input, NetworkSpec, Pad, Precision  # noqa: E402
from sim.ops.row import Activation  # noqa: E402
from sim.profiles import profile  # noqa: E402
from sim.program import Program  # noqa: E402
from tests.examples import examples  # noqa: E402
from tests.onnx_oracle import runtime  # noqa: E402

CHECKPOINT = Path(__file__).parent / "data" / "takd-digits-2bit.pt"


def _checkpoint(requant: str) -> Program:
    return lower(load_checkpoint(CHECKPOINT).spec, HardwareSpec(requant=requant))


def _pixels(program: Program, count: int = 6) -> np.ndarray:
    pixels = np.random.default_rng(0).integers(0, 256, (count, *program.ops[0].shape)).astype(np.uint8)
    pixels[0], pixels[1] = 0, 255
    return pixels


def _theirs(model: Any, pixels: np.ndarray, names: list[str], by: str) -> dict[str, np.ndarray]:
    """Tensors [N, channels, height, width] by name, of a runtime."""
    given_pixels = {model.graph.input[0].name: np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))}
    if by == "onnxruntime":
        return runtime(model, given_pixels, names)
    if by == "reference":
        whole = onnx.ModelProto()
        whole.CopyFrom(model)
        del whole.graph.output[:]
        for name in names:
            whole.graph.output.append(onnx.ValueInfoProto(name=name))
        from onnx.reference import ReferenceEvaluator

        return dict(zip(names, ReferenceEvaluator(whole).run(names, given_pixels), strict=True))
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx
    from qonnx.transformation.infer_shapes import InferShapes

    wrapped = ModelWrapper(model).transform(InferShapes())
    (name, whole_batch), = given_pixels.items()
    each = [execute_onnx(wrapped, {name: image[None].astype(np.float32)}, True) for image in whole_batch]
    return {tensor: np.concatenate([found[tensor] for found in each]) for tensor in names}


def _check(program: Program, form: str, by: str, pixels: np.ndarray) -> int:
    """Every code, every logit and, where the file has them, every sum; how many were compared."""
    model = export(program, form)
    running, trace = Machine(program), {}
    running.run(pixels, trace)
    names = [op.name for op in program.ops]
    written = {name for node in model.graph.node for name in node.output}
    sums = {op.name: f"{op.name}/sums" for op in program.accumulating if f"{op.name}/sums" in written}
    theirs = _theirs(model, pixels, [*names, *sums.values()], by)
    compared = 0
    for name in names:
        mine = trace[name].transpose(0, 3, 1, 2)
        np.testing.assert_array_equal(theirs[name].astype(np.float64), mine.astype(np.float64), err_msg=name)
        compared += mine.size
    for op in program.accumulating:
        if op.name in sums:
            mine = running.sums(op, *(trace[name] for name in op.sources()[: 1 if op.kind == "conv" else 2]))
            np.testing.assert_array_equal(theirs[sums[op.name]].astype(np.int64), mine.transpose(0, 3, 1, 2),
                                          err_msg=op.name)
            compared += mine.size
    return compared


@pytest.mark.parametrize("requant", ["fp32", "tflite_single", "thresholds"])
@pytest.mark.parametrize("by", ["onnxruntime", "reference"])
def test_integer__a_checkpoint_has_equal_sums_codes_and_logits(requant: str, by: str) -> None:
    program = _checkpoint(requant)
    assert _check(program, "integer", by, _pixels(program, 6 if by == "onnxruntime" else 2)) > 20_000


@pytest.mark.filterwarnings("ignore")
def test_qonnx__a_checkpoint_has_equal_sums_codes_and_logits() -> None:
    pytest.importorskip("qonnx", reason="QONNX's executor is the oracle")
    program = _checkpoint("fp32")
    assert _check(program, "qonnx", "qonnx", _pixels(program, 3)) > 20_000


def _plain(bits: int, channels: int = 4) -> NetworkSpec:
    """Convolutions without residuals, a padding, strides, groups: what QLinear operators express."""
    code, signed = Activation(), Activation(function="none")
    graph = Graph((Input("image", "", 9, 8, 3, (0.5,) * 3, (0.25,) * 3),
                   Conv("stem", "image", channels=channels, kernel=3, padding=1, role="boundary", activation=code),
                   Pad("around", "stem", (1, 0, 0, 2)),
                   Conv("deep", "around", channels=channels, kernel=3, stride=2, groups=channels, activation=signed),
                   Conv("wide", "deep", channels=8, kernel=1, activation=signed),
                   Conv("classifier", "wide", channels=5, kernel=4, role="boundary", norm=False, bias=True)))
    arrays = testing.arrays_for(graph, np.random.default_rng(4), False, "interval")
    return NetworkSpec(graph, arrays, Precision(bits, 8), "interval")


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("by", ["onnxruntime", "reference"])
def test_qoperator__codes_are_those_of_requantizer_ort(bits: int, by: str) -> None:
    program = lower(_plain(bits), HardwareSpec(requant="ort"))
    model = export(program, "qoperator")
    assert [node.op_type for node in model.graph.node].count("QLinearConv") == 3
    assert _check(program, "qoperator", by, _pixels(program, 20)) > 1000


@examples(30)
@given(testing.networks(wild=False), st.sampled_from(["fp32", "tflite_single", "thresholds", "ort", "xnnpack"]), st.data())
def test_integer__random_networks_are_equal_or_refused_by_name(spec: NetworkSpec, requant: str, data: st.DataObject) -> None:
    program = testing.lowered(spec, requant)
    pixels = testing.pixels_for(data.draw, spec.graph)
    try:
        _check(program, "integer", "onnxruntime", pixels)
    except ExportError as error:
        assert "\n" not in str(error)
        assert any(op.name in str(error) for op in program.ops)


@pytest.mark.filterwarnings("ignore")
@examples(10)
@given(testing.networks(wild=False), st.sampled_from(["fp32", "thresholds", "tflite_single"]), st.data())
def test_qonnx__random_networks_are_equal_or_refused_by_name(spec: NetworkSpec, requant: str, data: st.DataObject) -> None:
    pytest.importorskip("qonnx", reason="QONNX's executor is the oracle")
    program = testing.lowered(spec, requant)
    try:
        _check(program, "qonnx", "qonnx", testing.pixels_for(data.draw, spec.graph, 1))
    except ExportError as error:
        assert any(op.name in str(error) for op in program.ops)


@given(st.lists(st.integers(-20, 20), min_size=1, max_size=30), st.integers(-50, 50), st.integers(1, 100))
def test_levels__count_every_rising_function(jumps: list[int], low: int, length: int) -> None:
    high = low + length
    table = np.cumsum([abs(jumps[i % len(jumps)]) % 3 for i in range(length + 1)])[None] - 7
    levels, base = levels_of(lambda x: np.take_along_axis(table, x - low, 1), 1, low, high, "f")
    every = np.arange(low, high + 1)
    np.testing.assert_array_equal((every[:, None] >= levels).sum(1) + base, table[0])


def test_refusals__say_what_cannot_be_expressed() -> None:
    fp32, plain = _checkpoint("fp32"), lower(_plain(8), HardwareSpec(requant="fp32"))
    limited = lower(_plain(8), HardwareSpec(Accumulator(10), requant="ort"))
    for program, form, match in (
            (plain, "qoperator", "stem: QLinear operators round as requantizer ort, not fp32"),
            (fp32, "qoperator", "weights of s9 do not fit 8 bits"), (limited, "qoperator",
                                                                     "a register of 10 bits that can overflow"),
            (limited, "integer", "a register of 10 bits"), (limited, "qonnx", "a register of 10 bits"),
            (_checkpoint("tflite_single"), "qonnx", "with a residual is no threshold of a sum"), (fp32, "tflite",
                                                                                                  "choose one of")):
        with pytest.raises(ExportError, match=match):
            export(program, form)


def test_the_way_back__is_what_the_page_says(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    plain, quantized = lower(_plain(4), HardwareSpec(requant="fp32")), lower(_plain(8), HardwareSpec(requant="ort"))
    for program, form, rules in ((plain, "qonnx", "qonnx"), (_checkpoint("fp32"), "qonnx", "qonnx"),
                                 (plain, "integer", "onnxruntime"), (quantized, "qoperator", "onnxruntime")):
        onnx.save(export(program, form), path)
        if program is plain and form == "qonnx":
            load_model(path, profile(rules))
        else:
            with pytest.raises(ImporterError):
                load_model(path, profile(rules))


def test_command__writes_a_file_or_one_line(tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "sim.export", "--model", str(CHECKPOINT), *arguments], text=True,
                              capture_output=True, check=False)

    for form in FORMS:
        out = tmp_path / f"{form}.onnx"
        done = run("--format", form, "--out", str(out))
        if form == "qoperator":
            assert done.returncode == 2
            assert done.stderr.count("\n") == 1
            assert not out.exists()
        else:
            assert done.returncode == 0, done.stderr
            onnx.load(out)
    # an ONNX file may be written anew
    assert run("--format", "qonnx", "--out", str(tmp_path / "qonnx.onnx")).returncode == 0
    assert run("--format", "nothing", "--out",
               str(tmp_path / "x.onnx")).stderr.startswith("error: format: 'nothing' is unknown")
    assert not list(tmp_path.glob("*.tmp"))
