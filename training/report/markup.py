"""Tables as Markdown, LaTeX and CSV: every cell is text, whatever a user named it.

A Markdown table fits a screen: what all rows share stands above it, long texts are numbered below it, and provenance that
differs from row to row is in the CSV file.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import pandas as pd

_MARKDOWN = re.compile(r"[\\`*\[\]|~$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|(?<![\w.])[#](?=\w)|^[+-](?=\s)")
_EMOJI = re.compile(r":(?=[\w+-]+:)")
"""The first colon of what GitHub would show as a picture, as :smile:."""
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_LATEX = {"\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
          "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}",
          "|": r"\textbar{}", '"': r"\textquotedbl{}", "`": r"\textasciigrave{}", "±": r"$\pm$",
          "[": "{[}", "]": "{]}", "*": "{*}"}
_FORMULA = re.compile(r"^[=+\-@\t\r](?!$)")
_NUMBER = re.compile(r"[+\-\d]|-?$")
WIDTH = 120
"""Characters of a line of a table, as far as its numbers allow."""
_NARROWEST = 3
LONG = 12
"""Characters of a cell that may become a numbered note where a table is too wide."""
PROVENANCE = ("commit", "date", "hardware", "command")


@dataclass(frozen=True)
class Section:
    """A table of text cells under a heading; columns in `common` are named once, above it, where all rows agree.

    Of a table that is too wide for a line parts stand below each other, each with the columns `keys`, if there are any.
    """

    table: pd.DataFrame
    heading: str = ""
    text: str = ""
    common: tuple[str, ...] = field(default=("commit", "date", "hardware"))
    keys: tuple[str, ...] = ()

    def split(self) -> tuple[pd.DataFrame, list[tuple[str, str]]]:
        """The columns that differ, and those that do not with their value; provenance of a single row is of the latter."""
        equal = [column for column in self.common if column in self.table
                 and (len(self.table) > 1 or column in PROVENANCE) and self.table[column].nunique(dropna=False) == 1]
        values = [(column, str(self.table[column].iloc[0]) or "none") for column in equal]
        return self.table.drop(columns=equal), values


def markdown(sections: Iterable[Section]) -> str:
    """Headings, texts and tables; headings and texts are Markdown already, cells are not."""
    parts = []
    for section in sections:
        parts += [f"## {section.heading}"] if section.heading else []
        parts += [section.text] if section.text else []
        parts += _fitted(section)
    return "\n\n".join(parts) + "\n"


def _fitted(section: Section) -> Iterator[str]:
    """What all rows share, a table of at most WIDTH characters a line where that can be, and its notes."""
    table, equal = section.split()
    dropped = [column for column in PROVENANCE if column in table]
    cells = table.drop(columns=dropped).map(markdown_text).rename(columns=markdown_text)
    shared = [f"{key} {markdown_text(value)}" for key, value in equal]
    alike = [column for column in cells if "%" not in str(column) and cells[column].nunique() == 1
             and (len(cells) > 1 or column in section.common)]
    while alike and _width(cells) > WIDTH:
        column = alike.pop(0)
        shared.append(f"{column} {cells[column].iloc[0] or 'none'}")
        cells = cells.drop(columns=column)
    if _width(cells) > WIDTH:
        cells = cells.map(lambda cell: cell.replace(" ± ", "±"))
    notes: list[str] = []
    keys = [key for key in map(markdown_text, section.keys) if key in cells]
    while max(map(_width, _parts(cells, keys))) > WIDTH and (column := _longest(cells)) is not None:
        cells[column] = [_noted(cell, notes) for cell in cells[column]]
    if shared:
        yield f"In all rows: {'; '.join(shared)}."
    yield from map(_pipes, _parts(cells, keys))
    if notes:
        yield "\n".join(f"- ({number}) {note}" for number, note in enumerate(notes, 1))
    if dropped:
        yield f"Of each row in the CSV file: {', '.join(dropped)}."


def _parts(cells: pd.DataFrame, keys: list[str]) -> Iterator[pd.DataFrame]:
    """The columns from left to right, as many at a time as a line takes beside those of `keys`."""
    others = [column for column in cells if column not in keys] if keys else []
    while others and _width(cells[keys + others]) > WIDTH:
        count = next((size for size in range(len(others), 1, -1) if _width(cells[keys + others[:size]]) <= WIDTH), 1)
        yield cells[keys + others[:count]]
        others = others[count:]
    yield cells[keys + others] if keys else cells


def _width(cells: pd.DataFrame) -> int:
    """Of a line."""
    return 1 + sum(3 + max(_NARROWEST, *map(len, [str(column), *cells[column]])) for column in cells)


def _longest(cells: pd.DataFrame) -> str | None:
    """The column with the longest text that a note may stand for."""
    lengths = {column: max(map(len, cells[column]), default=0) for column in cells
               if not all(_NUMBER.match(cell) for cell in cells[column])}
    column = max(lengths, key=lambda name: lengths[name], default=None)
    return None if column is None or lengths[column] <= LONG else str(column)


def _noted(cell: str, notes: list[str]) -> str:
    if len(cell) <= LONG:
        return cell
    if cell not in notes:
        notes.append(cell)
    return f"({notes.index(cell) + 1})"


def _pipes(cells: pd.DataFrame) -> str:
    """Lines of a table, columns as wide as their widest cell, numbers to the right."""
    columns = [[str(column), *cells[column]] for column in cells]
    widths = [max(_NARROWEST, *map(len, column)) for column in columns]
    is_number = [all(_NUMBER.match(cell) for cell in column[1:]) for column in columns]
    lines = ["| " + " | ".join(
        cell.rjust(width) if right else cell.ljust(width) for cell, width, right in zip(row, widths, is_number, strict=True))
        + " |" for row in zip(*columns, strict=True)]
    rule = "|" + "|".join("-" * (width + 1) + ":" if right else ":" + "-" * (width + 1)
                          for width, right in zip(widths, is_number, strict=True)) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def markdown_text(value: object) -> str:
    """Text that Markdown, and HTML in it, shows as it is."""
    text = "".join(_ENTITIES.get(char, char) for char in " ".join(str(value).splitlines()))
    return _EMOJI.sub("&#58;", _MARKDOWN.sub(lambda found: "\\" + found[0], text))


def latex(title: str, sections: Iterable[Section]) -> str:
    r"""A tabular for each section, in the rules of booktabs; nothing else is needed but UTF-8."""
    lines = [rf"% {title}; needs \usepackage{{booktabs}}"]
    for section in sections:
        table, equal = section.split()
        lines += [f"% {section.heading}"] if section.heading else []
        lines += [f"% {key}: {' '.join(value.splitlines())}" for key, value in equal]
        numbers = [all(_NUMBER.match(str(cell)) for cell in table[column]) for column in table]
        alignment = "".join("r" if is_number else "l" for is_number in numbers)
        lines += [rf"\begin{{tabular}}{{{alignment}}}", r"\toprule", _latex_row(table.columns), r"\midrule",
                  *(_latex_row(row) for row in table.itertuples(index=False, name=None)), r"\bottomrule", r"\end{tabular}"]
    return "\n".join(lines) + "\n"


def latex_text(value: object) -> str:
    """Text that LaTeX shows as it is."""
    return "".join(_LATEX.get(char, char) for char in " ".join(str(value).splitlines()))


def csv(rows: pd.DataFrame) -> str:
    """Comma-separated values; text that a spreadsheet would run as a formula begins with an apostrophe."""
    return rows.map(lambda value: "'" + value if isinstance(value, str) and _FORMULA.match(value) else value).to_csv(
        index=False, float_format="%.4f", lineterminator="\n")


def _latex_row(cells: Iterable[object]) -> str:
    return " & ".join(map(latex_text, cells)) + r" \\"
