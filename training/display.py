"""What a training run shows: a live bar in a terminal, one line per epoch elsewhere, a table at the end."""

from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from sim.command import new_console, show_table

console = new_console()


class RunDisplay:
    """Use as a context manager around a run; satisfies `training.runner.Display`."""

    def __init__(self) -> None:
        self.progress = Progress(
            TextColumn("{task.description:>6}"), BarColumn(20), MofNCompleteColumn(), TextColumn("epochs"),
            TextColumn("{task.fields[rate]:>6.0f} images/s"), TextColumn("loss {task.fields[loss]:.3f}"),
            TextColumn("val {task.fields[accuracy]:.2f} %"), TimeRemainingColumn(compact=True),
            console=console, disable=not console.is_terminal)
        self.task = TaskID(0)
        self.images = 1
        self.done_in_epoch = 0
        self.step, self.epochs, self.finished = "", 0, 0

    def __enter__(self) -> "RunDisplay":
        self.progress.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        self.progress.__exit__(*exception)

    def begin(self, step: str, epochs: int, images: int, done: int) -> None:
        """A new bar for a step."""
        self.step, self.epochs, self.images, self.finished, self.done_in_epoch = step, epochs, images, done, 0
        self.task = self.progress.add_task(step, total=epochs, completed=done, rate=0.0, loss=0.0, accuracy=0.0)

    def advance(self, images: int, loss: float) -> None:
        """Move the bar by a fraction of an epoch."""
        self.done_in_epoch += images
        speed = self.progress.tasks[-1].finished_speed or self.progress.tasks[-1].speed or 0.0
        self.progress.update(self.task, completed=self.finished + min(self.done_in_epoch / self.images, 1.0),
                             loss=loss, rate=speed * self.images)

    def epoch(self, entry: dict[str, Any]) -> None:
        """An epoch ends."""
        self.finished, self.done_in_epoch = entry["epoch"], 0
        self.progress.update(self.task, completed=entry["epoch"], accuracy=entry["validation_accuracy"],
                             rate=entry["images_per_second"], loss=entry["loss"])
        if not console.is_terminal:
            print(f"{self.step:>6} epoch {entry['epoch']}/{self.epochs}  {entry['images_per_second']:.0f} images/s  "
                  f"loss {entry['loss']:.3f}  val {entry['validation_accuracy']:.2f} %", flush=True)


def show_run(record: dict[str, Any], label: str) -> None:
    """The table at the end of a run."""
    table = Table(title=f"{record['config']['scheme']} on {label}", title_justify="left")
    for column in ("step", "best validation %", "at epoch", "last validation %", "test % (FQ)"):
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
