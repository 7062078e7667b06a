"""The command that runs other people's golden data: what it finds, counts, prints and refuses, on data made here."""

import io
import json
import zipfile

import numpy as np
import pytest

from sim.conformance.case import Case, Golden, UnsupportedError
from sim.conformance.check import check, is_small
from sim.conformance.cmsis_nn import find
from sim.conformance.cmsis_nn.layers import unpacked
from sim.conformance.families import FAMILIES
from sim.conformance.folder import Folder, read_archive
from sim.conformance.summary import Summary
from tests.cli import assert_one_line, run
from training.tables import make_tables, write_tables

MULTIPLIER, EXPONENT = 1342580370, -9
X = [[100, -128, 127, 3], [-7, 0, 55, -90]]
WEIGHTS = [[127, -1, 64, -128], [-127, 127, 3, 5], [1, 2, -3, 4]]
BIAS = [-7000, 5, 8192]
INPUT_ZERO, OUTPUT_ZERO, LOW, HIGH = -5, 11, -100, 90


def doubled(total):
    """gemmlowp's two roundings in plain integers, written apart from everything in sim."""
    high = (total * MULTIPLIER + 2**30) // 2**31
    right = -EXPONENT
    return (abs(high) * 2 + 2**right) // 2 ** (right + 1) * (1 if high >= 0 else -1)


def outputs():
    sums = [[sum((x - INPUT_ZERO) * w for x, w in zip(row, weights, strict=True)) + bias
             for weights, bias in zip(WEIGHTS, BIAS, strict=True)] for row in X]
    return [min(max(doubled(total) + OUTPUT_ZERO, LOW), HIGH) for row in sums for total in row]


NUMBERS = {"OUT_CH": 3, "IN_CH": 4, "INPUT_W": 1, "INPUT_H": 1, "DST_SIZE": 6, "INPUT_SIZE": 4, "INPUT_BATCHES": 2,
           "OUT_ACTIVATION_MIN": LOW, "OUT_ACTIVATION_MAX": HIGH, "OUTPUT_MULTIPLIER": MULTIPLIER, "OUTPUT_SHIFT": EXPONENT,
           "ACCUMULATION_DEPTH": 4, "INPUT_OFFSET": -INPUT_ZERO, "FILTER_OFFSET": 0, "OUTPUT_OFFSET": OUTPUT_ZERO}


def arrays(**changes):
    return {"input": np.array(X, np.int8), "weights": np.array(WEIGHTS, np.int8), "biases": np.array(BIAS, np.int32),
            "output_ref": np.array(outputs(), np.int8), **changes}


def write_archive(path, numbers=NUMBERS, **changes):
    """One fully connected layer, as archives of CMSIS-NN's tests have it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    found = {f"def/{key}": np.array(value) for key, value in numbers.items()}
    np.savez(path, **found, **{f"arr/{key}": value.ravel() for key, value in arrays(**changes).items()})
    return path


def write_headers(folder, **changes):
    """The same as the library's repository has it, with an older test's file beside it."""
    folder.mkdir(parents=True)
    name = folder.name
    (folder / "config_data.h").write_text("// made by a tool\n#pragma once\n" + "".join(
        f"#define {name.upper()}_{key} {value}\n" for key, value in NUMBERS.items()))
    for key, array in arrays(**changes).items():
        numbers = ",\n    ".join(map(str, array.ravel().tolist()))
        (folder / f"{key}_data.h").write_text(
            f"#include <stdint.h>\n\nconst {array.dtype}_t {name}_{key}[{array.size}] = {{\n    {numbers}}};\n")
    (folder / "input.h").write_text(f"const int8_t {name}_input[1] = {{1}};\n")
    (folder / "test_data.h").write_text('#include "config_data.h"\n' + "".join(
        f'#include "{key}_data.h"\n' for key in arrays()))
    return folder


def outcomes(folder):
    return [check("cmsis-nn", case) for case in find(Folder(folder))]


def one_off():
    wrong = outputs()
    wrong[4] += 1
    return np.array(wrong, np.int8)


def test_check__a_case_that_agrees_in_both_arithmetics(tmp_path):
    write_archive(tmp_path / "fc.npz")
    (outcome,) = outcomes(tmp_path)
    assert (outcome.operation, outcome.rule) == ("fully connected", "double")
    assert (outcome.tensors, outcome.codes, outcome.differing) == (1, 6, 0)
    assert (outcome.plain, outcome.plain_differing) == (3, 0), "the first image in plain integers"
    assert outcome.agrees
    assert outcome.is_run


def test_check__one_code_that_differs_is_told_with_its_place(tmp_path):
    write_archive(tmp_path / "fc.npz", output_ref=one_off())
    (outcome,) = outcomes(tmp_path)
    assert (outcome.codes, outcome.differing) == (6, 1)
    assert outcome.first == f"fully connected[4] is {outputs()[4]}, not {outputs()[4] + 1}"
    assert not outcome.agrees


def test_check__outputs_of_another_size_all_differ(tmp_path):
    write_archive(tmp_path / "fc.npz", output_ref=np.zeros(9, np.int8))
    (outcome,) = outcomes(tmp_path)
    assert outcome.differing == 9
    assert "6 codes, not 9" in outcome.first


def test_check__a_large_program_is_left_to_the_machine(tmp_path):
    write_archive(tmp_path / "fc.npz")
    (case,) = find(Folder(tmp_path))
    golden = case.make()
    assert is_small(golden.program)


def test_headers__are_the_same_case_as_an_archive(tmp_path):
    write_headers(tmp_path / "TestData" / "fully_connected")
    write_archive(tmp_path / "archives" / "fully_connected.npz")
    headers, archive = outcomes(tmp_path)
    assert headers == archive


def test_headers__those_of_an_earlier_test_do_not_count(tmp_path):
    folder = write_headers(tmp_path / "fully_connected")
    (outcome,) = outcomes(tmp_path)
    assert outcome.differing == 0
    (folder / "test_data.h").write_text((folder / "test_data.h").read_text().replace("input_data.h", "input.h"))
    (outcome,) = outcomes(tmp_path)
    assert outcome.reason == "1 codes are no images of (1, 1, 4)"


def test_headers__lists_of_several_lines_null_pointers_and_packed_bytes(tmp_path):
    folder = tmp_path / "some"
    folder.mkdir()
    (folder / "test_data.h").write_text('#include "a_data.h"\n#include "config_data.h"\n')
    (folder / "config_data.h").write_text(
        "#define SOME_IN_DIM \\\n    { \\\n        5, 4, \\\n    }\n#define SOME_PAD SAME\n")
    (folder / "a_data.h").write_text("const int8_t some_w[2] = {254, -3};\nconst int32_t *const some_bias = NULL;\n"
                                     "const int32_t *const some_biases = some_bias;\n")
    from sim.conformance.cmsis_nn.entry import from_headers

    entry = from_headers(folder, [folder / "a_data.h", folder / "config_data.h"])
    assert entry.numbers == {"IN_DIM": (5, 4), "PAD": "SAME"}
    assert entry.arrays["w"].tolist() == [-2, -3]
    assert entry.maybe("bias") is None


def test_headers__of_real_numbers_are_told_so(tmp_path):
    for name in ("add_f16", "add_real"):
        folder = write_headers(tmp_path / name)
        (folder / "input_data.h").write_text(f"const float32_t {name}_input[1] = {{1.0f}};\n")
    assert {outcome.name: outcome.reason for outcome in outcomes(tmp_path)} == {
        "add_f16": "a test of floating point, not of integers", "add_real": "real numbers, no codes"}


def test_unpacked__low_nibble_first():
    assert unpacked(np.array([0x21, 0x7F, 0x08], np.int8), 5).tolist() == [1, 2, -1, 7, -8]


def test_summary__counts_by_family_operation_and_rule(tmp_path):
    write_archive(tmp_path / "a.npz")
    write_archive(tmp_path / "b.npz", output_ref=one_off())
    write_archive(tmp_path / "svdf_1.npz")
    summary = Summary.of(outcomes(tmp_path))
    (row,) = summary.rows
    assert (row.family, row.operation, row.rule, row.cases, row.codes, row.differing) == (
        "cmsis-nn", "fully connected", "double", 2, 12, 1)
    assert summary.unsupported == {("cmsis-nn", "svdf", "SVDF has state between calls"): ["svdf_1"]}
    assert [outcome.name for outcome in summary.differing] == ["b"]
    assert summary.differing_codes == 1


# the command

def test_command__all_equal(tmp_path, monkeypatch):
    write_archive(tmp_path / "fc.npz")
    write_archive(tmp_path / "svdf_1.npz")
    monkeypatch.setenv("COLUMNS", "80")
    result = run("sim.conformance", tmp_path)
    assert result.returncode == 0, result.stderr
    assert "6 codes of 1 cases compared, 0 differ\n" in result.stdout
    assert "in plain Python integers, too: 3 codes, 0 differ\n" in result.stdout
    assert "cmsis-nn svdf, 1 case: SVDF has state between calls (svdf_1)" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert ["fully", "connected", "double", "1", "1", "6", "0"] in [line.split() for line in result.stdout.splitlines()]


def test_table__of_the_longest_names_fits_80_columns(monkeypatch, capsys):
    from sim.command import new_console
    from sim.conformance.__main__ import show
    from sim.conformance.summary import Row
    from sim.profiles import profiles

    monkeypatch.setenv("COLUMNS", "80")
    rows = [Row("tflite", "dynamicquantizelinear"[:17], rule, 1000, 1000, 271_000_000, 9) for rule in profiles()]
    show(new_console(), Summary(rows, {}, []))
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split()[:1] == ["operation"] for line in lines), "rows are no blocks of lines"
    assert max(map(len, lines)) <= 80


def test_command__codes_differ(tmp_path):
    write_archive(tmp_path / "fc.npz", output_ref=one_off())
    result = run("sim.conformance", tmp_path)
    assert result.returncode == 1, result.stderr
    assert "differs: cmsis-nn fc: 1 of 6 codes, fully connected[4]" in result.stdout


def test_command__is_one_of_bittrue(tmp_path):
    write_archive(tmp_path / "fc.npz")
    from bittrue.command import COMMANDS

    assert COMMANDS["conformance"][0] == "sim.conformance"


@pytest.mark.parametrize(("content", "options", "words"), [
    ((), (), ["no golden data of cmsis-nn"]),
    (("notes.txt",), (), ["no golden data", "1 files"]),
    (("lstm_1.npz",), (), ["none of its 1 cases can be run"]),
    (("fc.npz",), ("--family", "tosa"), ["no golden data of tosa"]),
    (("fc.npz",), ("--family", "cmsis"), ["family: 'cmsis' is unknown, choose some of cmsis-nn"]),
    (("fc.npz",), ("--json", "-"), ["is no file of its own"]),
    (("fc.npz",), ("--json", "x.md"), ["is no file of its own"]),
])
def test_command__refuses_in_one_line(tmp_path, content, options, words):
    folder = tmp_path / "data"
    folder.mkdir()
    for name in content:
        write_archive(folder / name) if name.endswith(".npz") else (folder / name).write_text("nothing")
    assert_one_line(run("sim.conformance", folder, *options), *words, status=2)


def test_command__a_folder_that_is_not_there_is_one_line(tmp_path):
    assert_one_line(run("sim.conformance", tmp_path / "none"), "no such folder", status=2)


def test_record__makes_the_tables_again(tmp_path):
    write_archive(tmp_path / "data" / "fc.npz")
    write_archive(tmp_path / "data" / "lstm_1.npz")
    file = tmp_path / "results" / "records" / "conformance.json"
    result = run("sim.conformance", tmp_path / "data", "--json", file)
    assert result.returncode == 0, result.stderr
    record = json.loads(file.read_text())
    assert {"command", "commit", "date", "hardware", "versions", "digest"} <= record.keys()
    assert record["rows"][0] | {"codes": 6, "differing": 0, "rule": "double"} == record["rows"][0]
    texts = {name: (tmp_path / "results" / name).read_text() for name in ("conformance.md", "conformance.csv")}
    assert make_tables(file.parent) == texts
    assert "SVDF" not in texts["conformance.md"]
    assert "LSTM has state between steps" in texts["conformance.md"]
    (tmp_path / "results" / "conformance.md").unlink()
    assert [path.name for path in write_tables("conformance", file)] == ["conformance.csv", "conformance.md"]
    assert (tmp_path / "results" / "conformance.md").read_text() == texts["conformance.md"]


def test_record__replaces_no_other_work(tmp_path):
    write_archive(tmp_path / "fc.npz")
    (tmp_path / "e.json").write_text('{"kind": "evaluation"}')
    assert_one_line(run("sim.conformance", tmp_path, "--json", tmp_path / "e.json"), "the record of an evaluation", status=2)


# hostile files

def _lying(path):
    """An archive whose array says to be of 2^40 numbers."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<i8", "fortran_order": False, "shape": (2**40,)})
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("def/OUT_CH", "def/ACCUMULATION_DEPTH", "arr/input"):
            archive.writestr(f"{name}.npy", buffer.getvalue())


def _cut(path):
    path.write_bytes(write_archive(path).read_bytes()[:-30])


def _pickled(path):
    np.savez(path, **{"def/ACCUMULATION_DEPTH": np.array({"a": 1}, dtype=object), "arr/input": np.zeros(3)})


@pytest.mark.parametrize(("spoil", "words"), [(_lying, "not as large as it says"), (_pickled, "not as large as it says")])
def test_archive__that_lies_is_a_case_that_cannot_be_run(tmp_path, spoil, words):
    spoil(tmp_path / "bad.npz")
    (outcome,) = outcomes(tmp_path)
    assert words in outcome.reason
    with pytest.raises(UnsupportedError):
        read_archive(tmp_path / "bad.npz")


def test_archive__that_is_cut_off_is_no_case(tmp_path):
    _cut(tmp_path / "fc.npz")
    assert outcomes(tmp_path) == []


@pytest.mark.parametrize("changes", [
    {"weights": np.zeros(5, np.int8)}, {"weights": np.zeros(12, np.float32)}, {"input": np.zeros(7, np.int8)},
    {"input": np.zeros(8, np.float64)}, {"biases": np.zeros(2, np.int32)}])
def test_case__whose_arrays_do_not_fit_says_so(tmp_path, changes):
    write_archive(tmp_path / "fc.npz", **changes)
    (outcome,) = outcomes(tmp_path)
    assert outcome.reason


@pytest.mark.parametrize("number", sorted(set(NUMBERS) & {"ACCUMULATION_DEPTH", "OUTPUT_MULTIPLIER", "OUTPUT_OFFSET"}))
def test_case__without_a_number_says_which(tmp_path, number):
    numbers = {key: value for key, value in NUMBERS.items() if key != number}
    write_archive(tmp_path / "fc.npz", {**numbers, "FILTER_X": 1})
    for outcome in outcomes(tmp_path):
        assert outcome.reason


@pytest.mark.parametrize("changes", [{"DILATION_Y": 10**9}, {"INPUT_H": 10**9}, {"OUTPUT_W": -1}, {"STRIDE_X": 0},
                                     {"OUT_CH": 2**40}, {"PAD_X": -5}, {"OUT_ACTIVATION_MIN": 500}])
def test_case__of_impossible_numbers_takes_no_memory(tmp_path, changes):
    numbers = {key: value for key, value in NUMBERS.items() if key != "ACCUMULATION_DEPTH"}
    window = {"FILTER_X": 1, "FILTER_Y": 1, "STRIDE_X": 1, "STRIDE_Y": 1, "PAD_X": 0, "PAD_Y": 0, "DILATION_X": 1,
              "DILATION_Y": 1, "OUTPUT_W": 1, "OUTPUT_H": 1}
    write_archive(tmp_path / "conv.npz", {**numbers, **window, "FILTER_Y": 3, "PAD_Y": 1, **changes},
                  weights=np.zeros(36, np.int8))
    (outcome,) = outcomes(tmp_path)
    assert outcome.reason


def test_families__each_finds_nothing_in_an_empty_folder(tmp_path):
    for find_cases in FAMILIES.values():
        assert list(find_cases(Folder(tmp_path))) == []


def test_folder__does_not_follow_links_to_folders(tmp_path):
    write_archive(tmp_path / "data" / "fc.npz")
    (tmp_path / "data" / "loop").symlink_to(tmp_path / "data")
    assert len(Folder(tmp_path / "data").files) == 1


def test_case__is_made_only_when_it_is_run():
    def make() -> Golden:
        raise UnsupportedError("why")

    outcome = check("family", Case("name", "operation", make))
    assert (outcome.reason, outcome.codes, outcome.is_run) == ("why", 0, False)


# networks

def chain(*kinds):
    """A graph of operators one behind the other; the last number of each name is its place."""
    from sim.importers.deeploy.model import Model, Node

    nodes = (Node(kind, f"{kind}_{at}", (f"t{at - 1}",), (f"t{at}",), {}) for at, kind in enumerate(kinds, 1))
    return Model((), (f"t{len(kinds)}",), tuple(nodes), {})


@pytest.mark.parametrize(("kinds", "ends"), [
    (("Conv", "Mul", "Add", "Cast", "Mul", "Div", "Cast", "Clip", "MaxPool", "Conv", "Mul", "Clip"), [8, 9, 12]),
    (("Add", "Div", "Floor", "Cast", "Mul", "Div", "Cast", "Clip"), [8]),
    (("Add", "Div", "Floor", "Conv", "Mul", "Div", "Clip"), [3, 7]),
    (("AveragePool", "Mul", "Div", "Floor", "Flatten", "Gemm", "LogSoftmax"), [4, 6]),
    (("AveragePool", "Flatten", "MatMul", "Mul", "Add", "Div", "Clip", "MatMul"), [1, 7, 8]),
])
def test_dory__a_layer_ends_where_its_files_do(kinds, ends):
    from sim.conformance.pulp import layer_ends

    assert layer_ends(chain(*kinds)) == [f"t{place}" for place in ends]


def test_deeploy__saved_tensors_are_found_by_name_or_by_order():
    from sim.conformance.pulp import _by_name
    from sim.importers.deeploy.model import Model, Node

    named = Model((), ("c",), (
        Node("MatMul", "__QL_REPLACED__LIN_PASS_1_MatMul", ("x",), ("a",), {}),
        Node("Add", "__QL_REPLACED__LIN_PASS_1_Add", ("a",), ("b",), {}),
        Node("RequantShift", "__QL_REPLACED__ACT_PASS_0_RequantShift", ("b",), ("c",), {})), {})
    saved = {"net_0__ql_replaced__lin_pass_1": np.zeros(1), "net_0__ql_replaced__act_pass_0": np.ones(1)}
    assert {name: array[0] for name, array in _by_name(named, saved).items()} == {"b": 0.0, "c": 1.0}
    counted = chain("Conv", "RequantShift", "Flatten", "Gemm")
    saved = {key: np.full(1, place) for place, key in enumerate(
        ("conv__ql_replaced__integerize_pact_conv2d_pass_0", "conv__ql_replaced__integerize_bn2d_signed_act_pass_0",
         "classifier__ql_replaced__integerize_pact_lin_pass_0"))}
    assert {name: array[0] for name, array in _by_name(counted, saved).items()} == {"t1": 0, "t2": 1, "t4": 2}
    biased = chain("RequantShift", "MatMul", "Add", "RequantShift")
    saved = {key: np.full(1, place) for place, key in enumerate(
        ("rq1", "net__ql_replaced__pact_lin_pass_3", "rqs_merge_pass_0"))}
    assert {name: array[0] for name, array in _by_name(biased, saved).items()} == {"t1": 0, "t3": 1, "t4": 2}


@pytest.mark.parametrize(("title", "first"), [
    ("# relu1 (shape [48, 80, 32]),", False), ("# cnn_layer1.2 (shape [32, 48, 80]),", True),
    ("layers.0.relu1 (shape [1, 25, 5, 64]),\\", True), ("# input (shape [1, 48, 80, 32])", False), ("# fc", False)])
def test_dory__the_order_of_numbers_is_told_by_the_first_line(title, first):
    from sim.conformance.pulp import is_channels_first

    assert is_channels_first(title, (32, 48, 80)) is first


def test_qonnx__codes_are_told_from_float32_values():
    from sim.conformance.qonnx import codes_of
    from sim.importers.onnx.model import Constant, Model, Node

    scale, zero = np.float32(0.1), np.float32(3)
    constants = {"s": Constant(np.array(scale), "float"), "z": Constant(np.array(zero), "float")}
    node = Node("q", "Quant", "", ("x", "s", "z"), ("y",))
    model = Model((node,), constants, (), (), 13, {})
    codes = np.array([-4, 0, 3, 7])
    assert codes_of(model, node, ((codes - zero) * scale).astype(np.float32)).tolist() == codes.tolist()
    with pytest.raises(UnsupportedError, match="no codes"):
        codes_of(model, node, np.array([0.04], np.float32))
