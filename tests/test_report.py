"""Main table, pictures and page: every number is that of a record, whatever users name is text, and a screen is enough."""

import html.parser
import itertools
import json
import re
import statistics

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.text import printable
from tests import records
from tests.committed import committed_report, committed_tables
from tests.examples import examples
from tests.test_tables_groups import csv_rows
from training.report import published
from training.report.__main__ import make_report
from training.report.catalog import PANELS, Report
from training.report.claims import claims, judge
from training.report.corrections import holm, with_corrections
from training.report.findings import Findings
from training.report.panels import Bars, Line, Panel
from training.report.records import TableError
from training.report.svg import figure, ticks
from training.tables import RESULTS, make_tables

WIDTH = 120


def runs_of(folder, **schemes):
    """Three seeds of every scheme, of the accuracies given, evaluated on every kind of hardware."""
    for name, accuracies in schemes.items():
        scheme = name.replace("_", "-")
        path = [2] if scheme == "individual" else [4, 2] if scheme == "single-level" else [32, 2]
        for seed, accuracy in enumerate(accuracies):
            run = f"{scheme}-{seed}"
            record = records.training(accuracy, seed=seed, scheme=scheme, path=path, curve=[10.0, accuracy])
            records.write_run(folder, run, record)
            common = {"model": f"runs/{run}/ckpt.pt"}
            integer = records.evaluation(record, accuracy - 1, requant="tflite_single", **common)
            records.write(folder, f"{run}-i.json", integer)
            for width in (16, 12, 10):
                for overflow, loss in (("wrap", 2.0), ("saturate", 1.0)):
                    lower = accuracy - loss * (16 - width)
                    records.write(folder, f"{run}-{overflow}-{width}.json", records.evaluation(
                        record, lower, accumulator=width, overflow=overflow, **common))


SCHEMES = {"individual": [80.0, 81.0, 82.0], "skip_level": [90.0, 91.5, 91.0], "single_level": [85.0, 86.0, 87.5]}


@pytest.fixture
def folder(tmp_path):
    runs_of(tmp_path / "records", **SCHEMES)
    return tmp_path / "records"


def test_accuracy__has_the_figures_of_every_evaluation(folder):
    for row in csv_rows(make_tables(folder)["accuracy.csv"]):
        accuracy = SCHEMES[row["scheme"].replace("-", "_")][int(row["seed"])]
        assert float(row["FQ"]) == float(row["bit-true"]) == accuracy
        assert (row["requantizer"], float(row["integer"])) == ("tflite_single", accuracy - 1)
        assert [float(row[f"wrap {width}"]) for width in (16, 12, 10)] == [accuracy, accuracy - 8, accuracy - 12]
        assert [float(row[f"saturate {width}"]) for width in (16, 12, 10)] == [accuracy, accuracy - 4, accuracy - 6]
        assert (row["best epoch"], row["last epoch"]) == ("18", "2")


def test_one_record_changed__changes_table_picture_and_page(folder):
    def numbers():
        report = Report.of([folder])
        made = make_report(report)
        panels = [panel for name in ("registers.svg", "ladder.svg") for panel in PANELS[name][0](report)]
        lines = [line for panel in panels for line in panel.lines]
        return make_tables(folder)["accuracy.md"], made["report.html"], made["README.md"], lines

    before = numbers()
    file = folder / "skip-level-1.train.json"
    record = json.loads(file.read_text())
    record["test"]["accuracy"] = 70.25
    file.write_text(json.dumps(record))
    wide = folder / "skip-level-1-wrap-12.json"
    evaluation = json.loads(wide.read_text())
    evaluation["result"]["accuracy"] = 60.5
    wide.write_text(json.dumps(evaluation))
    after = numbers()
    changed = f"{statistics.fmean([90.0, 70.25, 91.0]):.2f}±{statistics.stdev([90.0, 70.25, 91.0]):.2f}"
    assert changed in after[0]
    assert changed not in before[0]
    assert changed in after[1]
    assert before[3] != after[3]
    low = {line.low for line in after[3]} - {line.low for line in before[3]}
    assert any(60.5 in values for values in low)


def test_panels__are_means_over_seeds_and_their_range(folder):
    panels = list(PANELS["registers.svg"][0](Report.of([folder])))
    assert [panel.title for panel in panels] == [f"digits, resnet20, 2 bits, registers that {how}" for how in
                                                 ("saturate", "wrap")]
    line = next(line for line in panels[1].lines if line.name == "skip-level")
    assert line.x == (10.0, 12.0, 16.0)
    assert line.y == pytest.approx([statistics.fmean(SCHEMES["skip_level"]) - 2 * (16 - width) for width in line.x])
    assert (line.low[2], line.high[2]) == (90.0, 91.5)
    curves, = PANELS["ladder.svg"][0](Report.of([folder]))
    curve = next(line for line in curves.lines if line.name == "individual 2")
    assert (curve.x, curve.y) == ((1.0, 2.0), pytest.approx((10.0, 81.0)))


def test_pareto_and_bits__have_a_point_for_every_width(tmp_path):
    for bits in (1, 2, 4):
        record = records.training(90.0 + bits, path=[32, bits], scheme="skip-level")
        records.write(tmp_path, f"{bits}.train.json", record)
        evaluation = records.evaluation(record, bits=bits)
        evaluation["trained_precision"] = evaluation["precision"]
        for layer in evaluation["layers"]:
            if layer.get("role") == "inner":
                layer |= {"operand": f"u{bits}", "weight_bits": bits}
        records.write(tmp_path, f"{bits}.eval.json", evaluation)
    report = Report.of([tmp_path])
    line, = next(iter(PANELS["bits.svg"][0](report))).lines
    assert (line.x, line.y) == ((1.0, 2.0, 4.0), (91.0, 92.0, 94.0))
    pareto, = next(iter(PANELS["pareto.svg"][0](report))).lines
    assert pareto.y == line.y
    assert list(pareto.x) == sorted(pareto.x)


def test_paired_differences__are_corrected_for_their_number(folder):
    rows = {row["scheme"]: row for row in csv_rows(make_tables(folder)["comparisons.csv"]) if row["against"] == "individual"}
    assert {row["comparisons"] for row in rows.values()} == {"2"}
    for row in rows.values():
        assert float(row["corrected low"]) < float(row["low"]) < float(row["high"]) < float(row["corrected high"])
        assert float(row["corrected p"]) >= float(row["p"])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm__is_between_the_plain_values_and_bonferronis(values):
    adjusted = holm(values)
    assert all(p <= q <= min(1.0, p * len(values)) + 1e-12 for p, q in zip(values, adjusted, strict=True))
    order = sorted(range(len(values)), key=lambda index: values[index])
    assert all(adjusted[a] <= adjusted[b] for a, b in itertools.pairwise(order))


def test_corrections__of_one_comparison_are_what_it_was():
    row, = with_corrections([{"difference": 2.0, "deviation": 1.0, "n": 4, "low": 0.41, "high": 3.59}], lambda row: "")
    assert (row["corrected low"], row["corrected high"]) == pytest.approx((row["low"], row["high"]), abs=0.01)
    assert row["p"] == row["corrected p"] == pytest.approx(0.028, abs=0.001)


@pytest.mark.parametrize(("single", "word"), [
    ([90.0, 91.5, 92.0], "confirmed"), ([70.0, 71.5, 72.0], "refuted"), ([80.5, 80.0, 82.5], "open"), ([], "not run")])
def test_claims__are_answered_by_the_corrected_interval(single, word, tmp_path):
    runs_of(tmp_path, individual=[80.0, 81.0, 82.0], single_level=single)
    judged = {each.claim.says: each for each in judge(Report.of([tmp_path]).groups, [])}
    found = judged["Taught by a network of twice the bits is better than trained alone."]
    assert found.word == word
    assert [answer.n for answer in found.answers] == ([3] if single else [])


def test_claims__name_schemes_and_options_that_exist():
    from training.schemes import SCHEMES as KNOWN
    from training.schemes import SchemeOptions

    for claim in claims():
        assert claim.mistakes or claim.scheme in KNOWN
        assert claim.than in ("", "float", *KNOWN)
        assert not claim.option or hasattr(SchemeOptions, claim.option.replace("-", "_"))
        assert claim.expects in ("better", "worse", "equal")


def test_published_figures__stand_beside_lossless_images_only():
    assert published.of("cifar10", "resnet20", 2) == published.of("CIFAR-10", "resnet20", 2)
    assert {figure.value for figure in published.of("CIFAR-10", "resnet20", 2)} >= {91.44, 91.24, 87.83}
    for label in ("CIFAR-10 (JPEG-75)", "cifar10-q75", "digits"):
        assert not published.of(label, "resnet20", 2)


def test_data_sets__never_share_a_table():
    for name, text in committed_tables().items():
        if name.endswith(".md"):
            for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
                assert not ("JPEG-75" in table and "digits" in table), name


@pytest.mark.parametrize("name", sorted(path.name for path in RESULTS.glob("*.md")))
def test_markdown__fits_a_screen(name):
    assert max(len(line) for line in (RESULTS / name).read_text().splitlines() if line.startswith("|")) <= WIDTH


def test_jobs_without_a_record__are_rows(folder):
    job = {"job": "takd", "seed": 0, "scheme": "takd", "path": [32, 4, 2], "epochs": 8, "status": "not run", "error": "",
           "name": "mine/takd-seed0", "model": "resnet20", "preset": "quick", "dataset": "digits", "data": ""}
    waiting = {**job, "name": "mine/accumulator-takd-16-seed0"}
    origin = {key: value for key, value in records.training(1.0).items() if key in ("command", "commit", "date", "hardware")}
    records.write(folder, "grid.json", {"kind": "grid", **origin, "grid": "mine", "jobs": [job, waiting]})
    tables = make_tables(folder)
    assert re.search(r"takd +\| +32-4-2 \| +1 \| +not run", tables["accuracy.md"])
    assert "1 evaluations" in tables["jobs.md"]
    assert "1 training runs of 1 grids are not there" in make_report(Report.of([folder]))["README.md"]


class Page(html.parser.HTMLParser):
    """Tags that are open, all that were, and the text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.seen, self.text, self.links = [], set(), "", []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)
        self.links += [value for key, value in attrs if key in ("src", "href", "xlink:href")]
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.add(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "a|b", "\"'><b>", "&amp;", "$x$", "`c`", "日本", "\x1b[31m"])
def test_page__is_whole_html_without_scripts_whatever_is_named(name, tmp_path):
    for seed in (0, 1):
        record = records.training(80.0 + seed, seed=seed, model=name, scheme=name, data="x.npz", dataset="npz")
        records.write_run(tmp_path, f"r{seed}", record, dataset=name)
    text = make_report(Report.of([tmp_path]))["report.html"]
    page = Page(text)
    assert not page.open
    assert "script" not in page.seen
    assert not page.links
    assert "\x1b" not in text
    assert printable(name) in page.text


def test_committed_page__equals_the_records():
    made = make_report(committed_report())
    for name, text in made.items():
        assert (RESULTS / name).read_text() == text, "python -m training.report makes it again"
    page = Page(made["report.html"])
    assert not page.open
    assert not page.links
    assert len(made["report.html"]) < 2_000_000


def test_page__shows_the_means_of_the_table(folder):
    matrix = dict(Findings.of(Report.of([folder])).matrices())["digits, resnet20, preset quick"]
    assert matrix.set_index("scheme").loc["skip-level"].tolist() == [f"{statistics.fmean(SCHEMES['skip_level']):.2f}±0.76"]


def test_readme_of_somebody__is_not_replaced(folder, tmp_path):
    from training.report.__main__ import main

    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(TableError, match="written by somebody"):
        main([folder], out=tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"
    main([folder], out=tmp_path / "other")
    main([folder], out=tmp_path / "other")
    assert (tmp_path / "other/report.html").exists()


@examples(60)
@given(st.floats(0, 100), st.floats(0.01, 100))
def test_ticks__are_inside_and_not_many(low, width):
    found = ticks(low, low + width)
    assert all(low - 1e-6 * width <= value <= low + width * (1 + 1e-6) for value in found)
    assert 1 <= len(found) <= 11


def test_figure__has_a_mark_for_every_point_and_a_legend():
    line = Line("a & b", (1.0, 2.0), (50.0, 60.0), (49.0, 60.0), (51.0, 60.0), style=3)
    text = figure(Panel("t", "x", "y", (line, Line("float", (1.0, 2.0), (70.0, 70.0), (70.0, 70.0), (70.0, 70.0)))))
    assert text.count("<title>a &amp; b") == 2
    assert text.count("<li>") == 2
    bars = figure(Panel("t", "x", "y", bars=Bars((0.0, 1.0, 2.0), (0.0, 100.0)), shade=(0.5, 1.5), marks=(1.0,)))
    assert bars.count('class="mark"') == 1


def test_committed_rows__are_not_lost():
    rows = pd.DataFrame(csv_rows(committed_tables()["accuracy.csv"]))
    trained = list((RESULTS / "records" / "digits").glob("*.train.json"))
    assert (rows["dataset"] == "digits").sum() == len(trained)
    assert np.isfinite(rows.loc[rows["status"] == "finished", "FQ"].astype(float)).all()
