"""The committed tables are exactly what the committed records give."""

from pathlib import Path

import pandas as pd
import pytest

from tests.committed import committed_report, committed_tables
from training import comparisons
from training.report.catalog import PANELS, draw
from training.report.records import TableError
from training.schemes import SCHEMES, SchemeOptions
from training.tables import PLOTS, RESULTS, make_tables

COMMITTED = {path.name for form in ("*.csv", "*.md") for path in RESULTS.glob(form)} - {"README.md"}


def test_tables__are_all_there():
    assert set(committed_tables()) == COMMITTED


@pytest.mark.parametrize("name", sorted(COMMITTED))
def test_table__is_regenerated_from_records(name):
    assert (RESULTS / name).read_text() == committed_tables()[name], "python -m training.tables makes the tables again"


@pytest.mark.parametrize("name", sorted([*PLOTS, *PANELS]))
def test_plot__is_drawn_from_records(tmp_path, name):
    is_drawn = draw(committed_report(), name, tmp_path / name)
    assert is_drawn == (RESULTS / name).exists()
    if is_drawn:
        assert (tmp_path / name).read_text().count("<path") > 20


def test_records__are_of_clean_commits_and_their_own_claims():
    """No number from uncommitted code, and no code that differed from the model."""
    for name, text in committed_tables().items():
        assert "dirty" not in text, name
    import csv
    import io

    rows = list(csv.DictReader(io.StringIO(committed_tables()["schemes.csv"])))
    assert len(rows) >= 240
    assert {row["path"] for row in rows if not row["bit-true"]} == {"32"}  # float networks have no integers
    assert {row["codes differing"] for row in rows if row["bit-true"]} == {"0"}
    assert all(row["FQ"] == row["bit-true"] for row in rows if row["bit-true"])


def test_tables__without_records_say_so(tmp_path):
    with pytest.raises(TableError, match="no such folder"):
        make_tables(Path(tmp_path) / "records")


ROWS = pd.DataFrame({"change": ["u 0.1", "u 0.9"], "difference": [-1.25, 0.5]})


@pytest.mark.parametrize(("verdicts", "expects", "sentence"), [
    (["within noise", "within noise"], "worse",
     "S, which these runs neither confirm nor contradict: nothing differs beyond noise."),
    (["worse", "within noise"], "worse",
     "S, which these runs confirm in part: u 0.1 is worse by 1.25 points; the rest stays within noise."),
    (["worse", "better"], "worse",
     "S, which these runs confirm here and contradict there: "
     "u 0.1 is worse by 1.25 points; u 0.9 is better by 0.50 points."),
    (["better", "within noise"], "better",
     "S, which these runs confirm in part: u 0.1 is better by 1.25 points; the rest stays within noise."),
    (["better", "better"], "worse",
     "S, which these runs contradict: u 0.1 is better by 1.25 points; u 0.9 is better by 0.50 points."),
    (["worse", "one seed"], "", "S: u 0.1 is worse by 1.25 points; the rest stays within noise."),
])
def test_ablation__says_what_it_shows_beside_its_source(verdicts, expects, sentence):
    rows = ROWS.assign(verdict=verdicts)
    assert comparisons.sentence(rows, comparisons.Ablation("", "S", expects)) == sentence


def test_ablations__are_of_schemes_and_options_that_exist():
    for scheme, option in comparisons.ABLATIONS:
        assert scheme in SCHEMES
        assert option == "quantizer" or hasattr(SchemeOptions, option.replace("-", "_"))
    shown = {line[3:] for line in committed_tables()["ablations.md"].splitlines() if line.startswith("## ")}
    assert shown == {f"{scheme}: {ablation.title}" for (scheme, _), ablation in comparisons.ABLATIONS.items()}


def test_paired__refuses_a_seed_twice():
    with pytest.raises(comparisons.ComparisonError, match="two runs of one seed"):
        comparisons.paired(pd.Series([1.0, 2.0], index=[0, 0]), pd.Series([1.0], index=[0]))
