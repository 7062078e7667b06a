"""python -m training.mistakes: how often a network repeats its teacher's mistakes, along a chain of networks.

Both are wrong on some of the same images by chance alone, and more on classes that both find hard.  What chance expects is
therefore counted class by class, as if a network's answers to the images of one class had nothing to do with another's:
of the n images of a class, a and b of them wrong, a b / n are wrong twice.  Images that are hard for every network repeat
mistakes, too: a network that nobody taught, beside a teacher that it never saw, shows how many.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from sim.checkpoint import CheckpointError
from sim.command import new_app, new_console, output_file, printable, run_app, show_table
from sim.outputs import EvalError, check_outputs
from sim.records import write_record
from training.data import DataError
from training.examined import Examined, ExamineError, about, chain, check_limit, images_of, predictions
from training.record import command_line, provenance

KIND = "mistakes"

app = new_app()


@dataclass(frozen=True)
class Shared:
    """Images that two networks get wrong: each of them, both, both with the same answer; and what chance expects."""

    images: int
    teacher_wrong: int
    student_wrong: int
    both_wrong: int
    same_answer: int
    both_expected: float
    same_expected: float

    @property
    def repeated(self) -> float:
        """Percent of the teacher's mistakes that the student makes, too."""
        return 100.0 * self.both_wrong / self.teacher_wrong if self.teacher_wrong else float("nan")

    @property
    def by_chance(self) -> float:
        """What it would be without a connection."""
        return 100.0 * self.both_expected / self.teacher_wrong if self.teacher_wrong else float("nan")


def shared(labels: np.ndarray, teacher: np.ndarray, student: np.ndarray) -> Shared:
    """Counts of two networks' answers int64 [N] to images with these labels [N].

    >>> shared(np.array([0, 0, 0, 0]), np.array([1, 1, 0, 0]), np.array([1, 2, 3, 0]))
    Shared(images=4, teacher_wrong=2, student_wrong=3, both_wrong=2, same_answer=1, both_expected=1.5, same_expected=0.5)
    """
    wrong, also = teacher != labels, student != labels
    both, same = 0.0, 0.0
    classes = int(max(labels.max(), teacher.max(), student.max())) + 1
    for label in np.unique(labels):
        here = labels == label
        theirs = np.bincount(teacher[here & wrong], minlength=classes)
        mine = np.bincount(student[here & also], minlength=classes)
        both += float(theirs.sum() * mine.sum() / here.sum())
        same += float((theirs * mine).sum() / here.sum())
    return Shared(len(labels), int(wrong.sum()), int(also.sum()), int((wrong & also).sum()),
                  int((wrong & (teacher == student)).sum()), both, same)


@app.command()
def main(
    networks: Annotated[list[Path], typer.Argument(
        help="checkpoints, teacher first; the folder of a run stands for all networks on the way to its student")],
    dataset: Annotated[str | None, typer.Option(help="data set  [default: the first checkpoint's]")] = None,
    data: Annotated[Path | None, typer.Option(help="where the data are  [default: the first checkpoint's]")] = None,
    limit: Annotated[int | None, typer.Option(help="the first N test images only")] = None,
    json_file: Annotated[Path | None, typer.Option(
        "--json", help="write a record, which training.tables reads", parser=output_file, metavar="FILE")] = None,
) -> None:
    """Compare the mistakes of every network of a chain with those of each before it.

    Example: python -m training.mistakes runs/mine/takd-seed0 --json runs/mine/takd-seed0/mistakes.json
    """
    check_limit(limit)
    files = list(dict.fromkeys(file for place in networks for file in chain(place)))
    if len(files) < 2:
        raise ExamineError("networks: name two checkpoints at least, teacher first, or the folder of a run with a teacher")
    check_outputs({"json": json_file}, {f"networks {number}": file for number, file in enumerate(files)}, {})
    options = {"dataset": dataset, "data": data, "limit": limit, "json": json_file}
    record = compare(files, dataset, data, limit, command_line("training.mistakes", options, [str(place) for place in
                                                                                          networks]))
    _show(record)
    if json_file is not None:
        write_record(json_file, record)


def compare(files: Sequence[Path], dataset: str | None = None, data: Path | None = None, limit: int | None = None,
            command: str = "") -> dict[str, Any]:
    """The record of a chain.  Raises ExamineError, CheckpointError, DataError or OSError."""
    found = [Examined.of(file) for file in files]
    images = images_of(found, dataset, data)
    labels = images.test.first(limit).labels.numpy()
    answers = [predictions(each.model(), images, limit).numpy() for each in found]
    pairs = [{"teacher": one, "student": other, **asdict(shared(labels, answers[one], answers[other]))}
             for other in range(len(found)) for one in range(other)]
    told = [{**each.to_json(), "right": int((answer == labels).sum())} for each, answer in zip(found, answers, strict=True)]
    return {"kind": KIND, **provenance(command), **about(images), "images": len(labels), "networks": told, "pairs": pairs}


def _show(record: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table()
    for column in ("teacher", "student", "its mistakes", "repeated", "%", "by chance %", "with the same answer"):
        table.add_column(column, justify="left" if column in ("teacher", "student") else "right")
    for pair in record["pairs"]:
        counts = Shared(**{key: value for key, value in pair.items() if key not in ("teacher", "student")})
        names = [printable(record["networks"][pair[role]]["name"]) for role in ("teacher", "student")]
        table.add_row(*names, f"{counts.teacher_wrong:,}", f"{counts.both_wrong:,}", f"{counts.repeated:.1f}",
                      f"{counts.by_chance:.1f}", f"{counts.same_answer:,}")
    show_table(new_console(), table)


if __name__ == "__main__":
    run_app(app, ExamineError, EvalError, CheckpointError, DataError)
