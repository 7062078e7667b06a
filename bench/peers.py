"""python -m bench.peers: this project beside other implementations of the same things, in one run.

Every implementation takes its turn in each round, so that a slow moment of the machine hits all of them; a row holds the
median of its turns and the lower and upper quartile.  All use all cores of the machine.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from bench.cases import CASES, MEASURES, Case
from bench.impls import Peer, peers
from bench.pool import Pool
from bench.ratios import Row, add_ratios, summarize
from sim.command import new_app, new_console, printable, run_app, show_table
from sim.kernels.isa import choose
from sim.outputs import EvalError, check_outputs, is_stdout
from sim.recognize import PERFORMANCE
from sim.records import write_record
from training.record import command_line, provenance, versions
from training.tables import table_files, write_tables

ROUNDS, QUICK_ROUNDS = 9, 2
PAUSE = 0.02
"""Seconds between turns, in which threads that still spin for work of the turn before go to sleep."""
PACKAGES = ("ai-edge-litert", "brevitas", "onnx", "onnxruntime", "qonnx")

app = new_app()


class PeersError(ValueError):
    """An option with a value that is not allowed, and what is."""


@app.command()
def main(
    json_file: Annotated[Path, typer.Option("--json", help="file of all rows; tables and a plot are written with it")],
    quick: Annotated[bool, typer.Option("--quick", help="few cases and two rounds, about a minute")] = False,
    only: Annotated[str, typer.Option(help=f"measures to take, of {','.join(CASES)}  [default: all]")] = "",
    rounds: Annotated[int | None, typer.Option(help=f"turns of each  [default: {ROUNDS}, quick {QUICK_ROUNDS}]")] = None,
) -> None:
    """Measure this project and its peers side by side."""
    command = command_line(
        "bench.peers", {"json": json_file, "quick": quick, "only": only or None, "rounds": rounds})
    measures = only.split(",") if only else list(CASES)
    for what in measures:
        if what not in CASES:
            raise PeersError(f"only: {what!r} is unknown, choose some of {','.join(CASES)}")
    if rounds is not None and rounds < 1:
        raise PeersError(f"rounds: {rounds} is not allowed, choose 1 or more")
    _check_file(json_file)
    record = provenance(command)
    record["versions"] |= versions(PACKAGES)
    contests = select(measures, peers(), quick)
    rows = measure(contests, rounds or (QUICK_ROUNDS if quick else ROUNDS))
    add_ratios(rows)
    ratios = summarize(rows, choose())
    show(new_console(), rows, ratios)
    write_record(json_file, {"rows": rows, "ratios": ratios, "quick": quick, **record})
    for path in write_tables("performance", json_file):
        print(printable(path))


def _check_file(record: Path) -> None:
    """Raise EvalError or PeersError unless the record, and the tables and the plot beside it, can be written.

    They replace those of an earlier call, and nothing else.
    """
    tables = table_files("performance", record)
    if record.suffix in {table.suffix for table in tables}:
        raise PeersError(f"json: {record} has the name of a table that is written with it, choose another ending (.json)")
    if is_stdout(record) or (record.exists() and not record.is_file() and not record.is_dir()):
        raise PeersError(f"json: {record} is no file: tables are made of it and written beside it, name one")
    check_outputs({"json": record} | {table.suffix: table for table in tables}, {}, {"json": PERFORMANCE})


@dataclass(frozen=True)
class Contest:
    """One case of a measure and who takes part."""

    what: str
    case: Case
    peers: tuple[Peer, ...]


def select(measures: Iterable[str], everyone: Sequence[Peer], quick: bool) -> list[Contest]:
    """Contests of the short or the long run."""
    return [Contest(what, case, tuple(peer for peer in everyone if _takes_part(peer, what, case, quick)))
            for what in measures for case in CASES[what] if case.quick or not quick]


def _takes_part(peer: Peer, what: str, case: Case, quick: bool) -> bool:
    return (what in peer.what and peer.when(case, quick)
            and (not case.impls or (peer.impl in case.impls and peer.isa in ("", choose()))))


def measure(contests: Sequence[Contest], rounds: int) -> list[Row]:
    """Rows of all contests, in their order."""
    rows: list[Row] = []
    turns = sum(len(contest.peers) * (1 + _rounds(contest, rounds)) for contest in contests)
    with _progress() as progress, Pool() as pool:
        task = progress.add_task("", total=turns)
        for contest in contests:
            progress.update(task, description=f"{contest.what}: {contest.case.name}", refresh=True)
            rows += _hold(contest, _rounds(contest, rounds), pool, lambda: progress.update(task, advance=1, refresh=True))
            pool.release(contest.peers)
    return rows


def _rounds(contest: Contest, rounds: int) -> int:
    return min(rounds, contest.case.rounds or rounds)


def _hold(contest: Contest, rounds: int, pool: Pool, tick: Any) -> list[Row]:
    """Everyone prepares, then rounds of turns; who fails once is out."""
    states: dict[Peer, dict[str, Any]] = {}
    for peer in contest.peers:
        states[peer] = pool.of(peer).ask(do="prepare", impl=peer.impl, what=contest.what, case=contest.case.to_json())
        tick()
    values: dict[Peer, list[float]] = {peer: [] for peer in contest.peers}
    for _ in range(rounds):
        for peer, state in states.items():
            if "missing" not in state:
                time.sleep(PAUSE)
                answer = pool.of(peer).ask(do="turn", impl=peer.impl, what=contest.what)
                values[peer] += [answer["value"]] if "value" in answer else []
                state |= {key: answer[key] for key in answer.keys() & {"missing"}}
            tick()
    return [_row(contest, peer, states[peer], values[peer]) for peer in contest.peers]


def _row(contest: Contest, peer: Peer, state: dict[str, Any], values: list[float]) -> Row:
    row: Row = {"what": contest.what, "case": contest.case.name, "impl": peer.impl, "isa": state.get("isa", peer.isa),
                "value": None, "unit": MEASURES[contest.what].unit, "spread": None}
    if "missing" in state:
        return {**row, "missing": state["missing"]}
    low, middle, high = (float(np.quantile(values, q)) for q in (0.25, 0.5, 0.75))
    return {**row, "value": middle, "spread": [low, high], "rounds": len(values), **state["extra"]}


def _progress() -> Progress:
    """Drawn between turns and not by a thread of its own, which would take part in what is being timed."""
    screen = Console(stderr=True)
    return Progress(BarColumn(30), MofNCompleteColumn(), TimeRemainingColumn(compact=True), TextColumn("{task.description}"),
                    console=screen, disable=not screen.is_terminal, transient=True, auto_refresh=False)


def show(console: Console, rows: Sequence[Row], ratios: Sequence[Row]) -> None:
    """Rows by measure, then the summary."""
    for what in dict.fromkeys(row["what"] for row in rows):
        table = _table(what, "case", "implementation", "isa", MEASURES[what].unit, "quartiles", f"of {MEASURES[what].base}")
        for row in rows:
            if row["what"] == what:
                table.add_row(row["case"], row["impl"], row["isa"], *_cells(row))
        show_table(console, table)
    table = _table("summary", "measure", "target", "reached", "cases")
    for ratio in ratios:
        reached = "not measured" if ratio["value"] is None else f"{ratio['value']:.2f}"
        table.add_row(ratio["measure"], ratio["target"], reached, str(ratio["cases"]))
    show_table(console, table)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for column in columns:
        table.add_column(column.removesuffix("of "))
    return table


def _cells(row: Row) -> list[str]:
    if row["value"] is None:
        return ["missing", row["missing"], ""]
    low, high = row["spread"]
    ratio = f"{row['ratio']:.2f} x" if "ratio" in row else ""
    return [f"{row['value']:.4g}", f"{low:.4g} to {high:.4g}", ratio]


if __name__ == "__main__":
    run_app(app, PeersError, EvalError)
