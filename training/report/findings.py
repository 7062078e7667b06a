"""The findings of a report as values: counts, the best of each width, claims, what is missing, where it comes from."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import pandas as pd

from sim.network import FLOAT_BITS
from sim.text import printable
from training.report.catalog import Report
from training.report.claims import Judged, judge
from training.report.panels import bits_text, finished, networks
from training.report.rows import hardware_of, job_rows
from training.report.summaries import mean_text, names, short_commits


@dataclass(frozen=True)
class Findings:
    """What a reader is told.  `accuracy` are the rows of the table of that name."""

    report: Report
    accuracy: pd.DataFrame
    claims: tuple[Judged, ...]
    missing: pd.DataFrame

    @classmethod
    def of(cls, report: Report) -> "Findings":
        """All of it, from records alone."""
        judged = judge(report.groups, report.records.mistakes, report.answering)
        return cls(report, pd.DataFrame(report.accuracy), tuple(judged),
                   pd.DataFrame(list(job_rows(report.records.grids))))

    @property
    def done(self) -> pd.DataFrame:
        """Runs that are finished."""
        return finished(self.accuracy)

    @property
    def compared(self) -> tuple[int, int]:
        """Codes that were compared between torch model and simulator, under arithmetic that must agree, and that differ."""
        exact = [each["result"] for each in self.report.records.evaluations
                 if "compared" in each["result"] and each.hardware_spec["requant"] == "fp32" and each.unlimited]
        return sum(result["compared"] for result in exact), sum(result["differing"] for result in exact)

    @property
    def counts(self) -> Counter[str]:
        """Claims by what became of them."""
        return Counter(judged.word for judged in self.claims)

    def sentences(self) -> list[str]:
        """What the records hold, in plain words."""
        runs, evaluations = self.report.records.runs, self.report.records.evaluations
        labels = names(sorted({printable(run.label) for run in runs})).replace("; ", ", ") or "none"
        found = [f"{len(runs):,} training runs and {len(evaluations):,} evaluations in integers; data: {labels}."]
        compared, differing = self.compared
        if compared:
            found.append(f"Torch model and integer simulator were compared in {compared:,} codes and logits: "
                         f"{differing:,} differ.")
        told = ", ".join(f"{count} {word}" for word, count in self.counts.most_common())
        found.append(f"Of {len(self.claims)} claims of papers: {told}.")
        if not self.missing.empty:
            jobs = self.missing[self.missing["kind"] == "training"]
            found.append(f"{len(jobs):,} training runs of {jobs['grid'].nunique()} grids are not there.")
        return found

    def matrices(self) -> list[tuple[str, pd.DataFrame]]:
        """For each network on each data set: schemes by bits, mean and deviation of bit-true accuracy; float as FQ."""
        found = []
        for title, part in networks(self.done):
            columns = {"float" if bits == FLOAT_BITS else bits_text(bits): self._column(few["FQ" if bits == FLOAT_BITS else
                       "bit-true"], few) for bits, few in part.groupby("bits")}
            table = pd.DataFrame(dict(reversed(columns.items()))).fillna("-").sort_index()
            found.append((title, table.rename_axis("scheme").reset_index()))
        return found

    @staticmethod
    def _column(values: "pd.Series[float]", part: pd.DataFrame) -> dict[str, str]:
        column = {}
        for scheme, few in part.groupby("scheme", sort=True):
            best = max((group for _, group in few.groupby("group")), key=_mean)
            column[str(scheme)] = mean_text(values[best.index]).replace(" ± ", "±")
        return column

    def best(self) -> list[str]:
        """The leading scheme of each width on each data set, and the next one, each as it did best."""
        found = []
        if self.done.empty:
            return []
        for (dataset, model, bits), part in self.done[self.done["bits"] != FLOAT_BITS].groupby(["dataset", "model", "bits"]):
            everyone = sorted((group for _, group in part.groupby("group") if not pd.isna(_mean(group))), key=_mean)
            groups = list({group["scheme"].iloc[0]: group for group in everyone}.values())  # of each the last one, its best
            groups.sort(key=_mean)
            if len(groups) > 1:
                first, second = groups[-1], groups[-2]
                found.append(f"{dataset}, {model}, {bits_text(bits)}: {first['scheme'].iloc[0]} "
                             f"{mean_text(first['bit-true'])} % (n = {len(first)}), then {second['scheme'].iloc[0]} "
                             f"{mean_text(second['bit-true'])} %.")
        return found

    def origin(self) -> dict[str, str]:
        """Commits, dates and hardware of everything."""
        records: list[Any] = [run.training for run in self.report.records.runs] + self.report.records.evaluations
        dates = sorted(str(record["date"])[:10] for record in records)
        return {"commits": printable(short_commits(record["commit"] for record in records)),
                "dates": printable(f"{dates[0]} to {dates[-1]}") if dates else "-",
                "hardware": names(sorted({hardware_of(record) for record in records}))}


def _mean(group: pd.DataFrame) -> float:
    bit_true = group["bit-true"].dropna()
    return float(bit_true.mean() if len(bit_true) else group["FQ"].mean())
