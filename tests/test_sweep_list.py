"""Tables of jobs: a line for each, whatever the terminal has room for."""

import io

import pytest

from sim.command import new_console
from training.sweeps.listing import COLUMNS, show_jobs

LONG = "skip-level-32-8-4-2-teacher-width-32"


def shown(rows, width, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    out = io.StringIO()
    console = new_console()
    console.file = out
    show_jobs(console, rows)
    return out.getvalue().splitlines()


def row(name, **changes):
    return [{"job": name, "seeds": "0 to 4", "scheme": "skip-level", "path": "32-8-4-2", "teacher": "digits/individual-32",
             "epochs": "20", "in all": "40", "T macs": "1.5", "hours": "?", "there": "0 of 5", **changes}[column]
            for column in COLUMNS]


@pytest.mark.parametrize("width", [60, 80, 200])
def test_jobs__are_a_line_each_and_nothing_is_lost_unnamed(width, monkeypatch):
    rows = [row(f"{LONG}-{n}", scheme=f"scheme{n}", teacher=f"float-{n}", path=f"32-8-{n}", epochs=str(n),
                **{"T macs": f"{n}.5"}) for n in range(8)]
    lines = shown(rows, width, monkeypatch)
    table, told = [line for line in lines if not line.startswith(("all jobs", "a wider"))], " ".join(lines[-2:])
    assert max(map(len, table)) <= width
    assert sum(LONG in line for line in lines) == 8
    assert "all jobs: seeds 0 to 4; in all 40; hours ?; there 0 of 5" in lines
    head = next(line for line in lines if "job" in line)
    for name in ("scheme", "path", "teacher", "epochs", "T macs"):
        assert name in (head if width == 200 else head + told)
    assert ("a wider terminal shows scheme" in told) == (width < 200)


def test_one_job__has_every_column(monkeypatch):
    lines = shown([row("float")], 200, monkeypatch)
    assert all(name in "".join(lines) for name in COLUMNS)
    assert not any(line.startswith("all jobs") for line in lines)
