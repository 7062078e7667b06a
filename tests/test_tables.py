"""The committed tables are exactly what the committed records give."""

from pathlib import Path

import pandas as pd
import pytest

from training.tables import PLOTS, RESULTS, TableError, make_tables

TABLES = make_tables(RESULTS / "records")


def test_tables__are_all_there():
    committed = {path.name for pattern in ("*.csv", "*.md") for path in RESULTS.glob(pattern)}
    assert committed == set(TABLES)


@pytest.mark.parametrize("name", sorted(TABLES))
def test_table__is_regenerated_from_records(name):
    assert (RESULTS / name).read_text() == TABLES[name], "python -m training.tables makes the tables again"


@pytest.mark.parametrize("name", sorted(PLOTS))
def test_plot__is_drawn_from_records(tmp_path, name):
    rows_of, plot = PLOTS[name]
    plot(pd.DataFrame(list(rows_of(RESULTS / "records"))), tmp_path / name)
    assert (tmp_path / name).read_text().count("<path") > 20
    assert (RESULTS / name).exists()


def test_records__are_of_clean_commits_and_their_own_claims():
    """No number from uncommitted code, and no code that differed from the model."""
    for name, text in TABLES.items():
        assert "dirty" not in text, name
    import csv
    import io

    rows = list(csv.DictReader(io.StringIO(TABLES["schemes.csv"])))
    assert len(rows) >= 240
    assert {row["codes differing"] for row in rows} == {"0"}
    assert all(row["FQ"] == row["bit-true"] for row in rows)


def test_tables__without_records_say_so(tmp_path):
    with pytest.raises(TableError, match="no such folder"):
        make_tables(Path(tmp_path) / "records")
