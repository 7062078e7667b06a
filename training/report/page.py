"""results/report.html: one page with everything in it, no script, and whatever users named as text."""

from collections.abc import Iterable, Iterator

import pandas as pd

from training.report.accuracy_tables import summarize_accuracy
from training.report.catalog import panels_of
from training.report.claims import CONFIRMED, REFUTED
from training.report.findings import Findings
from training.report.markup import PROVENANCE, Section
from training.report.mistakes import mistake_rows, summarize_mistakes
from training.report.panels import Panel, profile_panels
from training.report.readme import SCOPE, answer_table
from training.report.style import STYLE
from training.report.summaries import summarize_jobs
from training.report.svg import escape, figure

LAYERS = 3
"""Of a profile, for weights and for activations: all are in profiles.csv."""
SYMBOLS = ((REFUTED, "✗", "no"), (CONFIRMED, "✓", "yes"))


def page(findings: Findings) -> str:
    """The whole file."""
    parts = "".join(f"<section><h2>{escape(heading)}</h2>{body}</section>" for heading, body in _sections(findings) if body)
    return (f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>BitTrue: results</title>'
            f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head><body><main>'
            f"<h1>BitTrue: results</h1>{_intro(findings)}{parts}</main></body></html>\n")


def _intro(findings: Findings) -> str:
    lines = "".join(f"<li>{escape(line)}</li>" for line in findings.sentences())
    return ("<p>Networks with few bits, trained by several ways of distillation and run on integers as an accelerator "
            "would. Everything here is made from records of runs; nothing is typed in by hand.</p>"
            f"<ul>{lines}</ul>")


def _sections(findings: Findings) -> Iterator[tuple[str, str]]:
    report, rows = findings.report, findings.accuracy
    mistakes = pd.DataFrame(list(mistake_rows(report.records.mistakes)))
    yield "What papers claim, and what these runs say", _claims(findings)
    yield "Accuracy of the schemes", _matrices(findings) + _leaders(findings) + _figures(panels_of(report, "bits.svg"))
    yield "Accuracy against bit operations", _explained(
        "Up and to the left is better. A bit operation is a multiply-accumulate by the bits of both factors.",
        _figures(panels_of(report, "pareto.svg")))
    yield "Learning curves", _explained(
        "Validation accuracy of the student, mean over seeds, lowest to highest shaded: trained alone, taught from twice "
        "the bits, from far above, and down a ladder of teacher assistants.", _figures(panels_of(report, "ladder.svg")))
    yield "Narrow registers", _explained(
        "One trained network on accumulators from wide to narrow, not trained again; the first and last layer have wide "
        "ones.", _figures(panels_of(report, "registers.svg")))
    yield "Mistakes that students share with their teachers", _explained(
        "By chance: what two networks would share whose mistakes within each class had nothing to do with each other.",
        "" if mistakes.empty else _tables(summarize_mistakes(mistakes)))
    yield "Weights and activations beside their codes", _explained(
        "Weights: dashed lines are where the code changes. Activations: what lies beyond the shaded range is clipped; the "
        "first and last bar hold all that is further out. Heights grow with the square root, so that small bars show.",
        _figures(profile_panels(report.records.profiles, LAYERS)))
    yield "All figures", "" if rows.empty else (
        f"<details><summary>Accuracy, registers, cost, differences, published figures</summary>"
        f"{_tables(summarize_accuracy(rows))}</details>")
    yield "What is missing", "" if findings.missing.empty else (
        f"<details><summary>{len(findings.missing):,} jobs of grids without a record</summary>"
        f"{_tables(summarize_jobs(findings.missing))}</details>")
    yield "Where it comes from", _origin(findings)


def _explained(text: str, body: str) -> str:
    """Nothing where there is nothing to explain."""
    return f"<p>{escape(text)}</p>{body}" if body else ""


def _figures(panels: Iterable[Panel]) -> str:
    shown = "".join(map(figure, panels))
    return f'<div class="figures">{shown}</div>' if shown else ""


def _claims(findings: Findings) -> str:
    items = []
    for judged in findings.claims:
        symbol, kind = next(((symbol, kind) for word, symbol, kind in SYMBOLS if word in judged.word), ("?", "open"))
        below = _table(answer_table(judged.answers)) if judged.answers else ""
        items.append(f'<details class="claim"><summary><span class="{kind}">{symbol} {escape(judged.word)}</span> '
                     f"{escape(judged.claim.says)} <small>{escape(judged.claim.source)}</small></summary>"
                     f"<p>{escape(judged.claim.why)}</p>{below}</details>")
    return ("<p>Differences are paired over seeds; confirmed or refuted is what the 95 % interval says after correction for "
            f"the number of comparisons of a claim. {SCOPE} Open a line for its figures.</p>{''.join(items)}")


def _matrices(findings: Findings) -> str:
    return "".join(f"<h3>{escape(title)}: bit-true accuracy in percent, mean ± deviation over seeds</h3>{_table(table)}"
                   for title, table in findings.matrices())


def _leaders(findings: Findings) -> str:
    lines = "".join(f"<li>{escape(line)}</li>" for line in findings.best())
    return f"<ul>{lines}</ul>" if lines else ""


def _tables(sections: Iterable[Section]) -> str:
    parts = []
    for section in sections:
        table, equal = section.split()
        shared = "; ".join(f"{key} {value}" for key, value in equal if key not in PROVENANCE and value != "none")
        parts += [f"<h3>{escape(_plain(section.heading))}</h3>"] if section.heading else []
        parts += [f"<p>{escape(_plain(section.text))}</p>"] if section.text else []
        parts += [f"<p>In all rows: {escape(shared)}.</p>"] if shared else []
        parts.append(_table(table.drop(columns=[column for column in PROVENANCE if column in table])))
    return "".join(parts)


def _plain(text: str) -> str:
    """Markdown of ours without its signs."""
    return text.replace("\\", "").replace("`", "")


def _table(table: pd.DataFrame) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in table)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>"
                   for row in table.itertuples(index=False, name=None))
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _origin(findings: Findings) -> str:
    items = "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in findings.origin().items())
    return (f"<dl>{items}</dl><p>Every run with its command: the CSV files beside this page. To make it again:</p>"
            "<pre>python -m training.tables\npython -m training.report</pre>")
