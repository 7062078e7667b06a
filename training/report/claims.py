"""What papers claim (claims.toml) and what the records say to it: confirmed, refuted or open, with interval and n.

A claim's comparisons, on all data sets and at all widths, are one family: its intervals are corrected for their number.
"""

import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from sim.command import printable
from sim.network import FLOAT_BITS
from training.comparisons import ablation_rows, between, paired, verdict
from training.report.ancestry import Ancestry
from training.report.corrections import LEVEL, with_corrections
from training.report.identity import Group, changes_of
from training.report.mistakes import mistake_rows
from training.report.panels import bits_text
from training.report.questions import compared
from training.report.record import Record

FILE = Path(__file__).resolve().parent / "claims.toml"
CONFIRMED, REFUTED, OPEN, NOT_RUN = "confirmed", "refuted", "open", "not run"
MARGIN = 1.0
"""Points within which accuracies are the same."""
FLOAT = "float"
UNTAUGHT = "individual"


@dataclass(frozen=True)
class Claim:
    """One line of claims.toml."""

    source: str
    says: str
    why: str
    expects: str
    scheme: str = ""
    than: str = ""
    option: str = ""
    bits: tuple[int, ...] = ()
    mistakes: bool = False
    questions: bool = False
    """Whether it is about networks that answer questions, of which there are thousands: they make the interval."""


@dataclass(frozen=True)
class Answer:
    """One comparison that a claim is about: where, the difference in points, its intervals, n, and what follows."""

    where: str
    difference: float
    low: float
    high: float
    corrected_low: float
    corrected_high: float
    n: int
    word: str


@dataclass(frozen=True)
class Judged:
    """A claim and its answers."""

    claim: Claim
    answers: tuple[Answer, ...]

    @property
    def word(self) -> str:
        """Of all answers together."""
        words = {answer.word for answer in self.answers}
        if {CONFIRMED, REFUTED} <= words:
            return "confirmed here, refuted there"
        for word in (CONFIRMED, REFUTED):
            if word in words:
                return word if words == {word} else f"{word} in part"
        return OPEN if words else NOT_RUN


@cache
def claims() -> tuple[Claim, ...]:
    """All of the file, in its order."""
    content = tomllib.loads(FILE.read_text(encoding="utf-8"))
    return tuple(Claim(**{**entry, "bits": tuple(entry.get("bits", ()))}) for entry in content["claims"])


def judge(groups: list[Group], mistakes: list[Record], answering: Sequence[Group] = ()) -> list[Judged]:
    """Every claim with what the runs say; `answering` are those whose measure is F1."""
    ancestry, ablations = Ancestry(run for group in groups for run in group.runs), list(ablation_rows(groups))
    return [Judged(claim, tuple(_by_question(claim, answering) if claim.questions else
                                _answers(claim, groups, ancestry, ablations, mistakes))) for claim in claims()]


def _by_question(claim: Claim, answering: Sequence[Group]) -> Iterator[Answer]:
    """Corrected for the number of answers; one seed is enough where thousands of questions say how sure a mean is."""
    rows = [row for row in compared(answering, claim.scheme, claim.than) if not claim.bits or row["bits"] in claim.bits]
    for row in rows:
        low, high = row["interval"](1.0 - (1.0 - LEVEL) / len(rows))
        told = {**row, "corrected low": low, "corrected high": high, "n": max(2, row["n"])}
        yield Answer(row["where"], row["difference"], row["low"], row["high"], low, high, row["n"], _word(claim, told))


def _answers(claim: Claim, groups: list[Group], ancestry: Ancestry, ablations: list[dict[str, Any]],
             mistakes: list[Record]) -> Iterator[Answer]:
    if claim.mistakes:
        rows = list(_repeated(mistakes))
    elif claim.option:
        rows = [{**row, "where": f"{row['dataset']}, {row['bits']} bits, {row['change']}"} for row in ablations
                if row["scheme"] == claim.scheme and str(row["change"]).split(" ")[0] == claim.option]
    elif claim.than == FLOAT:
        rows = list(_than_float(claim, groups))
    else:
        rows = [{**row, "where": _where(row)} for row in between(groups, claim.scheme, claim.than, ancestry)]
    chosen = [row for row in rows if not claim.bits or row["bits"] in claim.bits]
    for row in with_corrections(chosen, lambda row: claim.says):
        yield Answer(row["where"], row["difference"], row["low"], row["high"], row["corrected low"], row["corrected high"],
                     row["n"], _word(claim, row))


def _where(row: dict[str, Any]) -> str:
    """Data, width and what was compared; epochs where they differ, as they do on ladders of steps of equal length."""
    options = f", {row['options']}" if row["options"] else ""
    mine, theirs = row["epochs along path"], row["against epochs"]
    budget = f" ({mine} and {theirs} epochs)" if mine != theirs and None not in (mine, theirs) else ""
    return f"{row['dataset']}, {bits_text(row['bits'])}, {row['path']} and {row['against path']}{budget}{options}"


def _than_float(claim: Claim, groups: list[Group]) -> Iterator[dict[str, Any]]:
    for group in groups:
        if group.config["scheme"] != claim.scheme or changes_of(group.config):
            continue
        for real in groups:
            same = all(real.config[key] == group.config[key] for key in ("model", "width")) and real.label == group.label
            if same and real.config["path"] == [FLOAT_BITS] and not changes_of(real.config):
                mine = pd.Series({run.seed: run.bit_true for run in group.runs}, dtype=float).dropna()
                row = paired(mine, pd.Series({run.seed: run.fq for run in real.runs}, dtype=float))
                if row["n"]:
                    bits = group.config["path"][-1]
                    yield {**row, "bits": bits, "verdict": verdict(row),
                           "where": printable(f"{group.label}, {bits} bits against float")}


def _repeated(records: list[Record]) -> Iterator[dict[str, Any]]:
    """How much more of its teacher's mistakes a student repeats than chance expects, in points; less what nobody taught."""
    rows = pd.DataFrame(list(mistake_rows(records)))
    if rows.empty:
        return
    rows["more"] = rows["repeated %"] - rows["by chance %"]
    is_control = rows["student"].str.startswith(f"{UNTAUGHT} ")
    controls = {(dataset, teacher): part.groupby("seed")["more"].mean()
                for (dataset, teacher), part in rows[is_control].groupby(["dataset", "teacher"])}
    for (dataset, teacher, student), part in rows[~is_control & (rows["steps"] == 1)].groupby(
            ["dataset", "teacher", "student"], sort=False):
        mine = part.groupby("seed")["more"].mean()
        theirs = controls.get((dataset, teacher), mine * 0.0)
        row = paired(mine, theirs)
        if row["n"]:
            beside = "chance" if theirs.eq(0.0).all() else "an untaught network"
            where = f"{dataset}, {student} after {teacher}, against {beside}"
            yield {**row, "bits": 0, "verdict": verdict(row), "where": where}


def _word(claim: Claim, row: dict[str, Any]) -> str:
    if row["n"] < 2:
        return OPEN
    if claim.expects == "equal":
        if row["corrected low"] >= -MARGIN and row["corrected high"] <= MARGIN:
            return CONFIRMED
        return REFUTED if row["corrected high"] < 0.0 else OPEN
    if row["corrected low"] <= 0.0 <= row["corrected high"]:
        return OPEN
    return CONFIRMED if claim.expects == ("better" if row["difference"] > 0 else "worse") else REFUTED
