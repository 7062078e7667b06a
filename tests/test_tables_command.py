"""A user's own runs become tables and plots by one command; what users name is text in every format."""

import contextlib
import json
import re
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.records import write_record
from tests import records
from tests.cli import run
from training.plots import COLORS, MOST_SERIES, plot_accumulators, plot_curves, style_of
from training.report.evaluations import accumulator_rows
from training.report.markup import WIDTH, Section, csv, latex_text, markdown, markdown_text
from training.report.records import Record, TableError
from training.report.rows import curve_rows
from training.tables import PLOTS, Report, main, make_tables

UNDIGESTED = "note: {} without a digest, from before 0.2 or changed since: nothing tells [^\n]*"


def run_module(module, *options, cwd):
    with contextlib.chdir(cwd):
        return run(module, *options)


def own_runs(folder, count=3, **config):
    """As training.run and sim.eval --json leave them: run.json, and evaluations under any name."""
    for seed in range(count):
        out = folder / f"mine-{seed}"
        training = records.training(80.0 + seed, seed=seed, curve=[50.0 + seed, 80.0 + seed], **config)
        records.write(out, "run.json", training)
        records.write(out, "my own name.json", records.evaluation(training, model=str(out / "ckpt.pt"), dataset="mine"))


def test_command__makes_tables_of_own_runs_whatever_their_files_are_called(tmp_path):
    own_runs(tmp_path / "runs", dataset="npz", data="mine.npz")
    (tmp_path / "runs" / "package.json").write_text('{"name": "not of ours"}')
    result = run_module("training.tables", "runs", "--out", "tables", "--format", "md,csv,latex", cwd=tmp_path)
    assert result.returncode == 0
    assert re.fullmatch(f"{UNDIGESTED.format('6 records')}\n", result.stderr)
    assert set(result.stdout.split()) == {
        f"tables/{name}" for name in (
            "schemes.md", "schemes.csv", "schemes.tex", "accuracy.md", "accuracy.csv", "accuracy.tex", "curves.svg")}
    text = (tmp_path / "tables/schemes.md").read_text()
    assert "81.00 ± 1.00" in text
    assert "digits" not in text
    assert r"81.00 $\pm$ 1.00" in (tmp_path / "tables/schemes.tex").read_text()


def test_command__with_results_reads_own_runs_too(tmp_path):
    own_runs(tmp_path / "runs")
    main(results=tmp_path / "runs")
    assert (tmp_path / "runs/schemes.md").exists()


def test_command__without_folders_takes_those_of_the_working_directory(tmp_path, monkeypatch):
    """Where sweeps put theirs, and never a folder beside an installed package."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TableError, match=r"results/records: no such folder.*--out my-results"):
        main()
    own_runs(tmp_path / "results/records")
    main()
    assert (tmp_path / "results/schemes.md").exists()


@pytest.mark.parametrize("options", [["empty"], ["missing"], ["--results", "empty"]])
def test_command__with_nothing_found_is_one_line_and_status_2(options, tmp_path):
    (tmp_path / "empty").mkdir()
    result = run_module("training.tables", *options, cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("damage", [
    lambda text: text[:-200], lambda text: text.replace('"status"', '"stat"'), lambda text: text.replace('"kind"', '"kinx"'),
    lambda text: text.replace('"accuracy": 80.0', '"accuracy": "x"'), lambda text: "", lambda text: "[]",
    lambda text: text.replace('"path": [', '"path": [], "x": ['),
    lambda text: text.replace('"hardware": {', '"hardware": 3, "y": {')])
def test_damaged_record__is_named_and_no_row_is_lost_in_silence(damage, tmp_path, capsys):
    own_runs(tmp_path / "runs", 2)
    file = tmp_path / "runs/mine-0/run.json"
    file.write_text(damage(file.read_text()))
    with pytest.raises(TableError) as error:
        main([tmp_path / "runs"], out=tmp_path / "out")
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()
    main([tmp_path / "runs"], out=tmp_path / "out", skip_damaged=True)
    assert f"left out: {file}" in capsys.readouterr().err
    assert f"{file.parent.name}" in (tmp_path / "out/schemes.md").read_text()


def test_unfinished_run__is_named(tmp_path, capsys):
    own_runs(tmp_path / "runs", 1)
    records.write(tmp_path / "runs/other", "run.json", records.training(status="running", seed=7))
    main([tmp_path / "runs"], out=tmp_path / "out")
    assert "other/run.json: this run is not finished (running)" in capsys.readouterr().err


def test_the_same_records_twice_count_once(tmp_path, capsys):
    own_runs(tmp_path / "runs", 2)
    shutil.copytree(tmp_path / "runs", tmp_path / "results/records")
    main([tmp_path], out=tmp_path / "out")
    assert "80.50 ± 0.71" in (tmp_path / "out/schemes.md").read_text()
    assert re.fullmatch(f"{UNDIGESTED.format('4 records')}\n", capsys.readouterr().err)


def test_an_evaluation_belongs_to_the_run_whose_student_it_was(tmp_path):
    """Two runs of one configuration in two folders: the evaluation of the older one is not the newer one's."""
    first, second = records.training(70.0), records.training(80.0, date="2026-11-22T00:30:00+00:00")
    records.write(tmp_path / "a", "run.json", first)
    records.write(tmp_path / "a", "eval.json", records.evaluation(first, model="a/ckpt.pt"))
    records.write(tmp_path / "b", "run.json", second)
    assert "80.00 | -" in " ".join(make_tables(tmp_path)["schemes.md"].split())


def test_evaluations_of_no_other_table_have_one(tmp_path):
    training = records.training(80.0)
    records.write(tmp_path, "run.json", training)
    records.write(tmp_path, "e.json", records.evaluation(training, 79.0, requant="tflite_single"))
    other = records.training(70.0, seed=5)
    records.write(tmp_path, "f.json", records.evaluation(other))
    program = records.evaluation(training, 60.0) | {
        "training": {}, "precision": None, "trained_precision": None, "hardware_spec": None, "model": "program.npz"}
    assert not Record(tmp_path / "p.json", program).as_trained
    assert make_tables(tmp_path)["evaluations.csv"].count("\n") == 3


HOSTILE = ["a|b", "`code`", "<script>alert(1)</script>", "two\nlines", "$x_1$", "_hidden", "[link](http://x)", "100 %",
           "\x1b[31m", r"back\slash", "&amp;", "#hash", "~~gone~~", "=1+1", "*bold*", "{}", "\u202eabc", "日本"]


@pytest.mark.parametrize("name", HOSTILE)
def test_what_users_name_is_text_in_every_format(name, tmp_path):
    own_runs(tmp_path / "runs", 2, model=name, scheme=name, data=f"{name}.npz", dataset="npz")
    for file in (tmp_path / "runs").rglob("my own name.json"):
        file.write_text(file.read_text().replace('"dataset": "mine"', f'"dataset": {json.dumps(name)}'))
    main([tmp_path / "runs"], out=tmp_path / "out", formats="md,csv,latex")
    text = (tmp_path / "out/schemes.md").read_text()
    lines = [re.sub(r"\\.", "", line) for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 3
    assert len({line.count("|") for line in lines}) == 1, "a cell more or less"
    assert "<script>" not in text
    assert "\x1b" not in text
    frame = pd.read_csv(tmp_path / "out/schemes.csv", dtype=str)
    assert len(frame) == 2
    assert not any(str(cell).startswith("=") for cell in frame.to_numpy().ravel())
    body = (tmp_path / "out/schemes.tex").read_text().split("midrule")[1].replace(r"$\pm$", "")
    assert not re.search(r"(?<!\\)[$#&]\w", body)
    ET.parse(tmp_path / "out/curves.svg")


@given(st.lists(st.integers(1, 70), min_size=1, max_size=30), st.integers(1, 40))
def test_markup__parts_of_wide_tables_hold_every_cell_once(lengths, key):
    cells = {f"c{number}": ["x" * length, str(number)] for number, length in enumerate(lengths)}
    text = markdown([Section(pd.DataFrame({"key": ["k" * key, "l"], **cells}), common=(), keys=("key",))])
    seen = {}
    for part in text.strip().split("\n\n"):
        lines = part.split("\n")
        assert max(map(len, lines)) <= WIDTH
        header, first, second = ([cell.strip() for cell in lines[number].split("|")[1:-1]] for number in (0, 2, 3))
        assert (header[0], first[0], second[0]) == ("key", "k" * key, "l")
        assert not seen.keys() & set(header[1:])
        seen.update({name: [above, below] for name, above, below in zip(header[1:], first[1:], second[1:], strict=True)})
    assert seen == cells
    assert list(seen) == list(cells)


def test_markup__escapes():
    assert markdown_text("a|b`c<d>_e_ f_g") == r"a\|b\`c&lt;d&gt;\_e\_ f_g"
    assert latex_text(r"50 % of $x_1$ & {#} \ ^~ ± [") == (
        r"50 \% of \$x\_1\$ \& \{\#\} \textbackslash{} \textasciicircum{}\textasciitilde{} $\pm$ {[}")
    frame = pd.DataFrame({"a": ["=1", "+1", "-x", "@x", "-", "x"], "b": [-1.5] * 6})
    assert csv(frame).splitlines()[1:] == [f"{a},-1.5000" for a in ("'=1", "'+1", "'-x", "'@x", "-", "x")]


def limited(folder, **changes):
    training = records.training(90.0)
    for width in (8, 10):
        name = "-".join(map(str, (width, *changes.values()))).replace("/", "-") + ".json"
        records.write(folder, name, records.evaluation(training, 50.0 + width, accumulator=width, **changes))
    same = {key: value for key, value in changes.items() if key in ("model", "requant")}
    records.write(folder, "unlimited" + "-".join(map(str, changes.values())).replace("/", "-") + ".json",
                  records.evaluation(training, **same))


LABELS = {"tile": "tile {}", "requant": "{}", "overflow": "{}"}


@pytest.mark.parametrize(("key", "values"), [
    ("tile", [1, 16]), ("tile", [4, 0]), ("requant", ["fp32", "tflite_single"]), ("boundary", [None, 12]),
    ("overflow", ["wrap", "saturate"]), ("model", ["runs/a/ckpt.pt", "runs/b/ckpt.pt"]), ("dataset", ["digits", "mine"]),
    ("images", [360, 100])])
def test_accumulators__that_differ_in_anything_are_lines_of_their_own(key, values, tmp_path, monkeypatch):
    """As filed: tile 1 and tile 16 were one line."""
    drawn = []
    import matplotlib.axes
    plot = matplotlib.axes.Axes.plot
    monkeypatch.setattr(matplotlib.axes.Axes, "plot",
                        lambda axis, x, y, **style: drawn.append((list(x), list(y))) or plot(axis, x, y, **style))
    for value in values:
        limited(tmp_path / "records", **{key: value})
    rows = pd.DataFrame(list(accumulator_rows(Report.of([tmp_path / "records"]).records)))
    plot_accumulators(rows, tmp_path / "plot.svg")
    assert [x for x, _ in drawn] == [[8, 10]] * 4, "two lines, each in two panels"
    text = (tmp_path / "plot.svg").read_text()
    shown = set(re.findall(r"<!-- (.*?) -->", text))
    for value in values if key in LABELS else []:
        assert any(LABELS[key].format(value) in words for words in shown), value


def curves(tmp_path, count, names=None):
    for number in range(count):
        for seed in (0, 1):
            records.write(tmp_path / "runs" / f"{number}-{seed}", "run.json", records.training(
                seed=seed, lr=0.01 * (number + 1), curve=[10.0 * seed + number % 50, 60.0 + number % 40, 100.0 - number],
                scheme=names[number] if names else "skip-level"))
    return pd.DataFrame(list(curve_rows(Report.of([tmp_path / "runs"]).groups)))


@pytest.mark.parametrize("count", [1, 7, 20, 45])
def test_curves__of_any_number_of_series_show_each_once_and_no_legend_covers_a_point(count, tmp_path, monkeypatch):
    from training import plots

    figures = []
    save = plots.save
    monkeypatch.setattr(plots, "save", lambda plt, figure, file: (save(plt, figure, file), figures.append(figure)))
    plot_curves(curves(tmp_path, count), tmp_path / "curves.svg")
    axes = figures[0].axes
    assert sum(len(axis.get_lines()) for axis in axes) == count
    for axis in axes:
        inside, legend = axis.get_window_extent(), axis.get_legend().get_window_extent()
        assert legend.x0 > inside.x1, "beside the panel"
        assert legend.y0 > axis.figure.bbox.y0 - 1
        assert legend.x1 < axis.figure.bbox.x1 + 1
        assert len(axis.get_legend().get_texts()) == len(axis.get_lines())
        styles = {(line.get_color(), line.get_linestyle()) for line in axis.get_lines()}
        assert len(styles) == len(axis.get_lines())


def test_curves__names_are_text_and_none_is_hidden(tmp_path):
    plot_curves(curves(tmp_path, 3, ["_hidden", "$x_1$", "a<b"]), tmp_path / "curves.svg")
    text = (tmp_path / "curves.svg").read_text()
    for name in ("_hidden 32-2", "$x_1$ 32-2", "a&lt;b 32-2"):
        assert name in text or name.replace("&lt;", "<") in text


def test_curve__is_the_mean_over_seeds(tmp_path):
    rows = curves(tmp_path, 1)
    means = rows.groupby("epoch")["validation accuracy"].mean()
    assert list(means) == [5.0, 60.0, 100.0]


def test_styles__are_all_different_in_a_panel():
    assert len({tuple(style_of(number).values()) for number in range(MOST_SERIES)}) == MOST_SERIES >= 20
    assert len(set(COLORS)) == len(COLORS)


def test_plots__of_the_same_rows_are_the_same_files(tmp_path):
    rows = curves(tmp_path, 2)
    for name in ("a.svg", "b.svg"):
        plot_curves(rows, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert {"curves.svg", "accumulators.svg", "performance.svg"} <= set(PLOTS)


def test_records__with_a_digest_are_not_counted_among_those_without(tmp_path, capsys):
    write_record(tmp_path / "r/run.json", records.training(80.0))
    main([tmp_path / "r"], out=tmp_path / "out")
    assert capsys.readouterr().err == ""
    content = json.loads((tmp_path / "r/run.json").read_text())
    del content["digest"], content["schema"]
    records.write(tmp_path / "r", "run.json", content)
    main([tmp_path / "r"], out=tmp_path / "out")
    assert capsys.readouterr().err.startswith("note: 1 record without a digest")


@pytest.mark.parametrize("options", [{"folders": ["r"]}, {"folders": ["r/run.json"]}, {"results": "r"},
                                     {"folders": ["r"], "out": "r"}])
def test_tables__are_never_written_into_the_folder_of_a_run(options, tmp_path, monkeypatch):
    """As filed: they replaced its own curves.svg."""
    monkeypatch.chdir(tmp_path)
    records.write("r", "run.json", records.training(80.0))
    Path("r/curves.svg").write_text("of the run")
    given = {key: [Path(each) for each in value] if key == "folders" else Path(value) for key, value in options.items()}
    with pytest.raises(TableError, match="r is the folder of a run"):
        main(**given)
    assert {path.name for path in Path("r").iterdir()} == {"run.json", "curves.svg"}
    assert Path("r/curves.svg").read_text() == "of the run"


def test_linked_folders__are_read_once_and_loops_end(tmp_path, capsys):
    """As filed: they were passed over in silence."""
    records.write(tmp_path / "elsewhere", "run.json", records.training(80.0))
    records.write(tmp_path / "runs/b", "run.json", records.training(90.0, seed=1))
    (tmp_path / "runs/a").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "runs/a_b").symlink_to(tmp_path / "runs/b")
    (tmp_path / "elsewhere/back").symlink_to(tmp_path / "runs")
    (tmp_path / "runs/broken").symlink_to(tmp_path / "missing")
    report = Report.of([tmp_path / "runs"])
    assert sorted(str(run.training.file.relative_to(tmp_path)) for run in report.records.runs) == [
        "runs/a/run.json", "runs/b/run.json"]


@pytest.mark.parametrize(("text", "shown"), [
    (":smile:", "&#58;smile:"), ("a:+1:b", "a&#58;+1:b"), (":a_b:c:", "&#58;a_b&#58;c:"), ("net.py:build", "net.py:build")])
def test_markdown__has_no_pictures(text, shown):
    assert markdown_text(text) == shown


def test_format__named_twice_is_written_once(tmp_path, capsys):
    own_runs(tmp_path / "runs", 1)
    main([tmp_path / "runs"], out=tmp_path / "out", formats="latex,latex")
    assert capsys.readouterr().out.count("schemes.tex") == 1


def test_records__are_only_read(tmp_path):
    own_runs(tmp_path / "runs", 1)
    before = {file: file.read_bytes() for file in Path(tmp_path).rglob("*.json")}
    main([tmp_path / "runs"])
    assert {file: file.read_bytes() for file in Path(tmp_path).rglob("*.json")} == before
