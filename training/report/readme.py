"""results/README.md: what holds, what does not, and why that may be, in plain words made of records."""

from collections.abc import Iterable, Iterator

import pandas as pd

from training.report.claims import CONFIRMED, NOT_RUN, OPEN, REFUTED, Answer, Judged
from training.report.corrections import interval_text
from training.report.findings import Findings
from training.report.markup import Section, markdown, markdown_text

MARK = "<!-- made by python -m training.report from records: changes are lost -->"
SCOPE = (
    "Papers claim this of CIFAR-10, CIFAR-100 and ImageNet: an answer holds for the data and widths that its lines name, "
    "and says little about others.")
HEADINGS = (
    ("What holds", lambda word: word.startswith(CONFIRMED) and REFUTED not in word),
    ("What does not hold here", lambda word: REFUTED in word),
    ("What is open", lambda word: word == OPEN),
    ("What was not run", lambda word: word == NOT_RUN))


def readme(findings: Findings) -> str:
    """The whole text."""
    parts = [MARK, "# Results", "\n".join(f"- {markdown_text(line)}" for line in findings.sentences()),
             "A claim is *confirmed* or *refuted* where the 95 % interval of the paired difference, corrected for the "
             "number of comparisons of that claim, leaves out 0; else it is *open*. The page [report.html](report.html) "
             f"shows the same with pictures. {SCOPE}",
             "## Who leads", "\n".join(f"- {markdown_text(line)}" for line in findings.best()) or "-",
             "A lead is no proof: whether it exceeds noise says [comparisons.md](comparisons.md)."]
    for heading, belongs in HEADINGS:
        chosen = [judged for judged in findings.claims if belongs(judged.word)]
        if chosen:
            parts += [f"## {heading}", *_claims(chosen)]
    parts += ["## Where it comes from",
              "\n".join(f"- {key}: {markdown_text(value)}" for key, value in findings.origin().items()),
              "    python -m training.tables       # the tables and pictures of this folder\n"
              "    python -m training.report       # this file and report.html"]
    return "\n\n".join(parts) + "\n"


def _claims(chosen: Iterable[Judged]) -> Iterator[str]:
    for judged in chosen:
        claim = judged.claim
        yield f"### {markdown_text(claim.says)}"
        yield f"{markdown_text(claim.source)}: **{judged.word}**. {markdown_text(claim.why)}"
        if judged.answers:
            yield markdown([Section(answer_table(judged.answers), common=())]).rstrip()


def answer_table(answers: Iterable[Answer]) -> pd.DataFrame:
    """Text cells, a row for each answer."""
    return pd.DataFrame([{
        "where": answer.where, "difference": f"{answer.difference:+.2f}", "95 %": interval_text(answer.low, answer.high),
        "corrected": interval_text(answer.corrected_low, answer.corrected_high), "n": str(answer.n), "answer": answer.word}
        for answer in answers])
