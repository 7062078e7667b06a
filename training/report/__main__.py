"""python -m training.report: records -> one page, report.html, and README.md beside it."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from sim.command import new_app, printable, run_app
from sim.files import write_text_atomically
from sim.records import RecordError
from training.comparisons import ComparisonError
from training.report.catalog import Report
from training.report.findings import Findings
from training.report.page import page
from training.report.readme import MARK, readme
from training.report.records import TableError
from training.tables import Folders, SkipDamaged, places

PAGE, README = "report.html", "README.md"

app = new_app()


@app.command()
def main(
    folders: Folders = None,
    out: Annotated[Path | None, typer.Option(help="folder of the page  [default: that of the records]")] = None,
    results: Annotated[Path | None, typer.Option(help="folder of records/ and of the page  [default: results]")] = None,
    skip_damaged: SkipDamaged = False,
) -> None:
    """Write report.html and README.md: what the records say, for people.

    Example: python -m training.report runs --out my-results
    """
    sources, target = places(folders or [], out, results)
    if (target / README).exists() and not (target / README).read_text(encoding="utf-8").startswith(MARK):
        raise TableError(f"out: {target / README} was written by somebody, the report's own would replace it; choose "
                         "another folder, such as --out my-results")
    report = Report.of(sources, skip_damaged)
    for name, text in make_report(report).items():
        write_text_atomically(target / name, text)
        print(printable(target / name))
    for note in report.notes:
        print(f"note: {printable(note)}", file=sys.stderr)


def make_report(report: Report) -> dict[str, str]:
    """File name -> content."""
    findings = Findings.of(report)
    return {PAGE: page(findings), README: readme(findings)}


if __name__ == "__main__":
    run_app(app, TableError, ComparisonError, RecordError)
