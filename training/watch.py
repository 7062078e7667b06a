"""Who watches a run go on: a log file, TensorBoard, and several at once.  The terminal's own is in training/display.py."""

import contextlib
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TextIO

from training.options import ConfigError


class Display(Protocol):
    """What a run shows while it goes on."""

    def begin(self, step: str, epochs: int, images: int, done: int) -> None:
        """A step begins, `done` of its epochs already behind it."""

    def advance(self, images: int, loss: float) -> None:
        """A batch is done."""

    def epoch(self, entry: dict[str, Any]) -> None:
        """An epoch is done."""


class Silent:
    """Shows nothing."""

    def begin(self, step: str, epochs: int, images: int, done: int) -> None:
        """Nothing."""

    def advance(self, images: int, loss: float) -> None:
        """Nothing."""

    def epoch(self, entry: dict[str, Any]) -> None:
        """Nothing."""


class Several:
    """Tells every one of `displays`."""

    def __init__(self, displays: Sequence[Display]) -> None:
        self.displays = displays

    def begin(self, step: str, epochs: int, images: int, done: int) -> None:
        """To all."""
        for display in self.displays:
            display.begin(step, epochs, images, done)

    def advance(self, images: int, loss: float) -> None:
        """To all."""
        for display in self.displays:
            display.advance(images, loss)

    def epoch(self, entry: dict[str, Any]) -> None:
        """To all."""
        for display in self.displays:
            display.epoch(entry)


class LogFile(Silent):
    """A line of every epoch, appended to a file that may be followed while it grows."""

    def __init__(self, file: TextIO) -> None:
        self.file, self.step, self.epochs = file, "", 0

    def begin(self, step: str, epochs: int, images: int, done: int) -> None:
        """Remember whose epochs come."""
        self.step, self.epochs = step, epochs

    def epoch(self, entry: dict[str, Any]) -> None:
        """One line; a disk that is full ends no training."""
        line = (f"{self.step} epoch {entry['epoch']}/{self.epochs}  {entry['images_per_second']:.0f} images/s  "
                f"loss {entry['loss']:.4f}  val {entry['validation_accuracy']:.2f} %  "
                f"val loss {entry['validation_loss']:.4f}")
        with contextlib.suppress(OSError):
            print(line, file=self.file, flush=True)


class TensorBoard(Silent):
    """Scalars of every epoch by step, as event files that `tensorboard --logdir` shows; needs the package tensorboard."""

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer, self.step = SummaryWriter(str(folder)), ""

    def begin(self, step: str, epochs: int, images: int, done: int) -> None:
        """Remember whose epochs come."""
        self.step = step

    def epoch(self, entry: dict[str, Any]) -> None:
        """Every number of the epoch."""
        for key, value in entry.items():
            if key not in ("epoch", "session"):
                self.writer.add_scalar(f"{self.step}/{key}", value, entry["epoch"])
        self.writer.flush()


def require_tensorboard() -> None:
    """Raise ConfigError unless there is TensorBoard: a run of hours should not end at its first epoch."""
    if importlib.util.find_spec("tensorboard") is None:
        raise ConfigError("tensorboard: the package tensorboard is not installed, pip install tensorboard")


@contextlib.contextmanager
def watched(display: Display, log: str, tensorboard: Path | None) -> Iterator[Display]:
    """`display` together with a log file ("" for none) and TensorBoard in a folder (None for none)."""
    with contextlib.ExitStack() as stack:
        displays = [display]
        if log:
            file = sys.stdout if log == "-" else stack.enter_context(open_log(log))
            displays.append(LogFile(file))
        if tensorboard is not None:
            board = TensorBoard(tensorboard)
            stack.callback(board.writer.close)
            displays.append(board)
        yield Several(displays) if len(displays) > 1 else display


def open_log(path: str) -> TextIO:
    """The file to append to; its folder is made.  Raises OSError."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    return open(path, "a", encoding="utf-8", errors="backslashreplace")
