"""Tables as Markdown, LaTeX and CSV: every cell is text, whatever a user named it."""

import re
from collections.abc import Iterable
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


@dataclass(frozen=True)
class Section:
    """A table of text cells under a heading; columns in `common` are named once, above it, where all rows agree."""

    table: pd.DataFrame
    heading: str = ""
    text: str = ""
    common: tuple[str, ...] = field(default=("commit", "date", "hardware"))

    def split(self) -> tuple[pd.DataFrame, list[tuple[str, str]]]:
        """The columns that differ, and those that do not with their value."""
        equal = [column for column in self.common if column in self.table and len(self.table) > 1
                 and self.table[column].nunique(dropna=False) == 1]
        values = [(column, str(self.table[column].iloc[0]) or "none") for column in equal]
        return self.table.drop(columns=equal), values


def markdown(sections: Iterable[Section]) -> str:
    """Headings, texts and tables; headings and texts are Markdown already, cells are not."""
    parts = []
    for section in sections:
        table, equal = section.split()
        cells = table.map(markdown_text).rename(columns=markdown_text)
        parts += [f"## {section.heading}"] if section.heading else []
        parts += [section.text] if section.text else []
        common = "; ".join(f"{key} {markdown_text(value)}" for key, value in equal)
        parts += [f"In all rows: {common}."] if common else []
        parts.append(cells.to_markdown(index=False, disable_numparse=True))
    return "\n\n".join(parts) + "\n"


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
        numbers = [all(re.match(r"[+\-\d]|-?$", str(cell)) for cell in table[column]) for column in table]
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
