"""Tables of a run of sim.conformance: every row with its provenance, what was not run with its reason."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from training.report.markup import Section
from training.report.record import Record
from training.report.rows import origin_of
from training.report.summaries import origin_cells

TITLE = "Conformance"
NOTE = (
    "Golden data that nobody here wrote, case by case through the simulator: tests of libraries for small processors, "
    "conformance tests of a specification, networks with the traces of a runtime or an accelerator. A `rule` is the "
    "arithmetic that a case tries, by the name of a requantizer, a rounding, an integer definition or a profile; `copy` "
    "moves codes and rounds nothing. Codes are compared one by one, without a tolerance; `plain` are those that were "
    "computed once more in plain Python integers. `python -m sim.conformance FOLDER` does the same with public clones of "
    "the repositories; sim/README.md names them. Every row with its command: `conformance.csv`.")
NOT_RUN = "not supported"


def conformance_rows(run: Record) -> Iterator[dict[str, Any]]:
    """The rows of a record, then what was not run."""
    origin = origin_of(run)
    empty = dict.fromkeys(("tensors", "codes compared", "codes differing", "plain", "plain differing"))
    for number, row in enumerate(run["rows"]):
        yield {"number": number, "family": row["family"], "operation": row["operation"], "rule": row["rule"],
               "cases": row["cases"], "tensors": row["tensors"], "codes compared": row["codes"],
               "codes differing": row["differing"], "plain": row["plain"], "plain differing": row["plain_differing"],
               "reason": "", "which": "", **origin}
    for number, entry in enumerate(run["unsupported"], len(run["rows"])):
        yield {"number": number, "family": entry["family"], "operation": entry["operation"], "rule": NOT_RUN,
               "cases": len(entry["cases"]), **empty, "reason": entry["reason"], "which": " ".join(entry["cases"]), **origin}


def conformance_table(rows: pd.DataFrame) -> list[Section]:
    """A sum for each family, the rows, and what was not run."""
    origin = {**origin_cells(rows), "command": list(rows["command"])}
    left = rows["rule"] == NOT_RUN
    names = ["cases", "tensors", "codes compared", "codes differing", "plain", "plain differing"]
    counts = {name: rows[name].map(_number) for name in names}
    shown = pd.DataFrame({"family": rows["family"], "operation": rows["operation"], "rule": rows["rule"], **counts,
                          **origin})[~left]
    missing = pd.DataFrame({"family": rows["family"], "operation": rows["operation"], "cases": rows["cases"].map(_number),
                            "reason": rows["reason"], "which": rows["which"], **origin})[left]
    sums = rows[~left].groupby("family", sort=False)[names].sum().map(_number).reset_index()
    first = {key: values[0] for key, values in origin.items()}
    sections = [Section(sums.assign(**first).astype(str), common=tuple(origin)),
                Section(shown.astype(str), heading="By operation and rule", common=tuple(origin))]
    if not missing.empty:
        sections.append(Section(missing.astype(str), heading="Not supported", common=tuple(origin)))
    return sections


def _number(value: Any) -> str:
    return "" if pd.isna(value) else f"{int(value):,}"
