"""Who watches a run go on: a log file, TensorBoard, and several at once.  The terminal's own is in training/display.py."""

import contextlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TextIO

from sim.files import STANDARD_OUTPUT
from sim.outputs import EvalError, check_outputs, code_file, is_stdout
from sim.recognize import EMPTY, TEXT, recognize
from sim.text import printable
from training.folder import CURVES_FILE, RECORD_FILE
from training.options import ConfigError

READ_FILES, READ_CODE = ("config", "data", "init_from", "teacher", "individual"), (
    "scheme", "model", "teacher_model", "quantizer")
"""Options that name a file to read, and those that may name one's own code."""
_LOG_ENDINGS = ("", ".log", ".txt", ".out")


def rate(per_second: float, unit: str) -> str:
    """How fast, in words; below 10 a second with a decimal."""
    return f"{per_second:.{1 if per_second < 10 else 0}f} {unit}/s"


def validated(entry: Mapping[str, Any]) -> str:
    """What an epoch reached on what is held out, in words; what is no accuracy is named."""
    name = "F1 " if "validation_f1" in entry else ""
    return f"val {name}{entry['validation_accuracy']:.2f} %"


class Display(Protocol):
    """What a run shows while it goes on."""

    def begin(self, step: str, epochs: int, images: int, done: float, unit: str = "images") -> None:
        """A step begins, `done` of its epochs already behind it; each sees so many images, or whatever `unit` is."""

    def advance(self, images: int, loss: float) -> None:
        """A batch is done."""

    def epoch(self, entry: dict[str, Any]) -> None:
        """An epoch is done."""


class Silent:
    """Shows nothing."""

    def begin(self, step: str, epochs: int, images: int, done: float, unit: str = "images") -> None:
        """Nothing."""

    def advance(self, images: int, loss: float) -> None:
        """Nothing."""

    def epoch(self, entry: dict[str, Any]) -> None:
        """Nothing."""


class Several:
    """Tells every one of `displays`."""

    def __init__(self, displays: Sequence[Display]) -> None:
        self.displays = displays

    def begin(self, step: str, epochs: int, images: int, done: float, unit: str = "images") -> None:
        """To all."""
        for display in self.displays:
            display.begin(step, epochs, images, done, unit)

    def advance(self, images: int, loss: float) -> None:
        """To all."""
        for display in self.displays:
            display.advance(images, loss)

    def epoch(self, entry: dict[str, Any]) -> None:
        """To all."""
        for display in self.displays:
            display.epoch(entry)


class LogFile(Silent):
    """A line of every epoch, appended to a file that may be followed while it grows; its disk's errors end no training."""

    def __init__(self, file: TextIO, path: str = "") -> None:
        self.file, self.path, self.step, self.epochs, self.is_whole = file, path, "", 0, True
        self.unit = "images"

    def begin(self, step: str, epochs: int, images: int, done: float, unit: str = "images") -> None:
        """Remember whose epochs come."""
        self.step, self.epochs, self.unit = step, epochs, unit

    def epoch(self, entry: dict[str, Any]) -> None:
        """One line."""
        line = (f"{self.step} epoch {entry['epoch']}/{self.epochs}  {rate(entry['images_per_second'], self.unit)}  "
                f"loss {entry['loss']:.4f}  {validated(entry)}  "
                f"val loss {entry['validation_loss']:.4f}")
        try:
            print(line, file=self.file, flush=True)
        except OSError as error:
            self._warn(error)

    def close(self) -> None:
        """What a full disk did not take is given up."""
        try:
            self.file.close()
        except OSError as error:
            self._warn(error)

    def _warn(self, error: OSError) -> None:
        """Once: a line that names the file."""
        if self.is_whole:
            self.is_whole = False
            with contextlib.suppress(OSError):
                print(f"warning: log: cannot write {printable(self.path or STANDARD_OUTPUT)}: {error.strerror or error}; "
                      "the training goes on", file=sys.stderr, flush=True)


class TensorBoard(Silent):
    """Scalars of every epoch by step, as event files that `tensorboard --logdir` shows; needs the package tensorboard."""

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer, self.step = SummaryWriter(str(folder)), ""

    def begin(self, step: str, epochs: int, images: int, done: float, unit: str = "images") -> None:
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
        displays: list[Display] = [display]
        if log:
            if log == STANDARD_OUTPUT:
                displays.append(LogFile(sys.stdout))
            else:
                displays.append(file := LogFile(open_log(log), log))
                stack.callback(file.close)
        if tensorboard is not None:
            board = TensorBoard(tensorboard)
            stack.callback(board.writer.close)
            displays.append(board)
        yield Several(displays) if len(displays) > 1 else display


def open_log(path: str) -> TextIO:
    """The file to append to; its folder is made.  Raises OSError."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    return open(path, "a", encoding="utf-8", errors="backslashreplace")


def check_log(options: Mapping[str, Any], folder: Path) -> None:
    """Raise ConfigError if the option `log` names what the run reads or writes, or a file that is no log.

    `folder` is that of the run, which need not be there.
    """
    log = options.get("log", "")
    path = Path(log)
    if not log or is_stdout(path):
        return
    if log.endswith("/"):
        raise ConfigError(f"log: {log!r} names a folder, name a file")
    read = {name.replace("_", "-"): Path(options[name]) for name in READ_FILES if options.get(name)}
    code = {name.replace("_", "-"): code_file(options.get(name)) for name in READ_CODE}
    try:
        check_outputs({"log": path}, {**read, **code})
    except EvalError as error:
        raise ConfigError(str(error)) from None
    real, home = path.resolve(), folder.resolve()
    if real in (home, *home.parents):
        raise ConfigError(f"log: {log} is the folder of the run, or one above it; name a file")
    if real.parent == home and (real.suffix == ".pt" or real.name in (RECORD_FILE, CURVES_FILE)):
        raise ConfigError(f"log: {log} is a file of the run itself, choose another one")
    if path.is_file() and not _is_log(path):
        raise ConfigError(f"log: {log} is {recognize(path).what} and no log, to which lines could be appended; "
                          "choose another file")


def _is_log(path: Path) -> bool:
    """Text, and by its name or its first lines nothing else: a line appended to a table or a program would break it."""
    kind = recognize(path)
    if kind is EMPTY:
        return True
    with path.open("rb") as file:
        return kind is TEXT and (path.suffix.lower() in _LOG_ENDINGS or b" epoch " in file.read(4096))
