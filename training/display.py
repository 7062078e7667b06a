"""What a training run shows: a live bar in a terminal, one line per epoch elsewhere, a table at the end."""

import time
from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from sim.command import new_console, show_table
from training.watch import rate, validated

console = new_console()
LINE_SECONDS = 300.0
"""How often a line says how far an epoch is, where there is no terminal for a bar."""


class RunDisplay:
    """Use as a context manager around a run; satisfies `training.runner.Display`."""

    def __init__(self) -> None:
        self.progress = Progress(*_columns(console), console=console, disable=not console.is_terminal)
        self.task = TaskID(0)
        self.images = 1
        self.done_in_epoch = 0
        self.step, self.epochs, self.unit = "", 0, "images"
        self.begun_at = self.finished = 0.0
        self.began = self.line_at = time.monotonic()

    def __enter__(self) -> "RunDisplay":
        self.progress.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        self.progress.__exit__(*exception)

    def begin(self, step: str, epochs: int, images: int, done: float, unit: str = "images") -> None:
        """A new bar for a step; its numbers stay blank until there are some."""
        self.step, self.epochs, self.images, self.finished, self.done_in_epoch = step, epochs, images, done, 0
        self.unit, self.begun_at, self.began = unit, done, time.monotonic()
        self.line_at = self.began
        self.task = self.progress.add_task(step, total=epochs, rate="", loss="", accuracy="")
        self.progress.update(self.task, completed=done)

    def advance(self, images: int, loss: float) -> None:
        """Move the bar by a fraction of an epoch."""
        self.done_in_epoch += images
        speed = self.progress.tasks[-1].finished_speed or self.progress.tasks[-1].speed
        completed = self.finished + min(self.done_in_epoch / self.images, 1.0)
        self.progress.update(self.task, completed=completed, loss=f"loss {loss:.3f}",
                             rate=rate(speed * self.images, self.unit) if speed else "")
        if not console.is_terminal and time.monotonic() - self.line_at >= LINE_SECONDS:
            self._line(completed, loss)

    def _line(self, completed: float, loss: float) -> None:
        """How far the step is, and how long it will take."""
        self.line_at = time.monotonic()
        seconds, done = self.line_at - self.began, completed - self.begun_at
        left = timedelta(seconds=round(seconds / done * (self.epochs - completed)))
        speed = rate(done * self.images / seconds, self.unit)
        console.print(f"{self.step:>6} epoch {completed:.2f}/{self.epochs}  {speed}  loss {loss:.3f}  {left} left",
                      soft_wrap=True)

    def epoch(self, entry: dict[str, Any]) -> None:
        """An epoch ends."""
        self.finished, self.done_in_epoch = entry["epoch"], 0
        speed, loss = rate(entry["images_per_second"], self.unit), f"loss {entry['loss']:.3f}"
        accuracy = validated(entry)
        self.progress.update(self.task, completed=entry["epoch"], accuracy=accuracy, rate=speed, loss=loss)
        if not console.is_terminal:
            console.print(f"{self.step:>6} epoch {entry['epoch']}/{self.epochs}  {speed}  {loss}  {accuracy}",
                          soft_wrap=True)


def show_run(record: dict[str, Any], label: str) -> None:
    """The table at the end of a run."""
    table = Table(title=f"{record['config']['scheme']} on {label}", title_justify="left")
    measure = "F1" if "f1" in record["test"] else "%"
    for column in ("step", f"best validation {measure}", "at epoch", f"last validation {measure}", f"test {measure} (FQ)"):
        table.add_column(column, justify="left" if column == "step" else "right")
    for number, (name, step) in enumerate(record["steps"].items(), 1):
        student = number == len(record["steps"])
        test = f"{record['test']['accuracy']:.2f}" if student else "-"
        if "best" in step:
            best = step["best"]
            table.add_row(name, f"{best['accuracy']:.2f}", str(best["epoch"]),
                          f"{step['epochs'][-1]['validation_accuracy']:.2f}", test)
        else:
            table.add_row(name, f"from {step['from']}", "-", "-", test)
    show_table(console, table)


def _columns(screen: Console) -> list[ProgressColumn]:
    """As many as fit beside each other, so that none is cut: what was reached, then how far, then how fast."""
    columns: list[ProgressColumn] = [_text("{task.description}"), MofNCompleteColumn(), _text("{task.fields[accuracy]}")]
    if screen.width >= 50:
        columns.insert(2, _text("{task.fields[loss]}"))
    if screen.width >= 80:
        columns.insert(2, _text("{task.fields[rate]:>13}"))
        columns.append(TimeRemainingColumn(compact=True))
    if screen.width >= 100:
        columns.insert(1, BarColumn(20))
    return columns


def _text(template: str) -> TextColumn:
    return TextColumn(template, markup=False)  # a name in it is a name
