"""Tables of sim.importers.table: models of others on the arithmetic of several runtimes and on narrower registers."""

from collections.abc import Iterable, Iterator
from typing import Any

import pandas as pd

from sim.command import printable
from training.report.markup import Section, markdown_text
from training.report.record import Record
from training.report.rows import origin_of
from training.report.summaries import origin_cells

TITLE = "Models of others on several arithmetics and registers"
NOTE = (
    "A model of another's under the profile of a runtime, with a register of that many bits in every layer, the first and "
    "last, too, consulted after each product. Accuracy in percent where there are labels; without them, of random "
    "inputs those that get the answer that they get on the profile's own registers. In brackets: of all outputs of "
    "layers with products those that the register got wrong (wrap) or clipped at least once (saturate). Profiles multiply "
    "different numbers (codes as they are, or less their zero points), so that the same width is another thing to each. "
    "Commands: `runtimes.csv`.")


def runtime_rows(records: Iterable[Record]) -> Iterator[dict[str, Any]]:
    """One row for each width of a profile and way to overflow."""
    number = 0
    for record in records:
        for row in record["rows"]:
            for bits, cell in row["widths"].items():
                yield {"number": number, "model": printable(record["model"]), "inputs": printable(record["inputs"]),
                       "profile": printable(row["profile"]), "overflow": printable(row["overflow"]), "bits": int(bits),
                       "right": cell["right"], "of": cell["of"], "right %": 100.0 * cell["right"] / cell["of"],
                       "overflowed outputs %": 100.0 * cell["overflowed"], **origin_of(record)}
                number += 1


def summarize_runtimes(rows: pd.DataFrame) -> list[Section]:
    """A table for each model and its inputs: a row for each profile and way to overflow, a column for each width."""
    sections = []
    for (model, inputs), part in rows.groupby(["model", "inputs"], sort=False):
        shown = []
        for (profile, overflow), group in part.groupby(["profile", "overflow"], sort=False):
            cells = {f"{row['bits']} bits": _cell(row) for _, row in group.iterrows()}
            shown.append({"profile": profile, "overflow": overflow, **cells,
                          **{key: values[0] for key, values in origin_cells(group).items()}})
        sections.append(Section(pd.DataFrame(shown).astype(str), f"{markdown_text(model)}, {markdown_text(inputs)}"))
    return sections


def _cell(row: "pd.Series[Any]") -> str:
    share = row["overflowed outputs %"]
    return f"{row['right %']:.2f}" + (f" ({share:.2g} %)" if share else "")
