"""One task of a sweep and how it is done: commands as a user would type them, each in a process of its own."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sim.records import RecordError, read_record
from sim.text import printable
from training.folder import FINAL_FILE, KIND, RECORD_FILE, RESUME_FILE
from training.record import ROOT

FINISHED, FAILED, NOT_RUN = "finished", "failed", "not run"
PATIENCE = 30.0
"""Seconds that an interrupted command may take to end."""
LOWEST = 19
"""The lowest priority."""


class SweepError(RuntimeError):
    """A command that failed, or a sweep that cannot begin."""


@dataclass(frozen=True)
class Command:
    """A module of this package with its options, and the file that is there when it is done."""

    module: str
    options: tuple[str, ...]
    product: Path

    @property
    def is_done(self) -> bool:
        """A training is done when its record says so; raises RecordError for a damaged one."""
        if self.product.name != RECORD_FILE:
            return self.product.exists()
        return (self.product.exists() and (self.product.parent / FINAL_FILE).exists()
                and read_record(self.product, KIND)["status"] == "finished")


@dataclass(frozen=True)
class Task:
    """A job for one seed, or one more evaluation of it: commands in order; `needs` names tasks that come before.

    `kept`: (record that the commands write, its name among the kept ones).  `epochs` are those to train.
    """

    name: str
    grid: str
    job: str
    seed: int
    folder: Path
    commands: tuple[Command, ...]
    kept: tuple[tuple[Path, str], ...]
    needs: tuple[str, ...] = ()
    epochs: int = 0

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do.  Raises RecordError."""
        return all(command.is_done for command in self.commands)

    def __str__(self) -> str:
        return f"{self.name.split('/', 1)[1]}"


@dataclass(frozen=True)
class Outcome:
    """How a task ended; `folder` and `files` are its folder and what is in it where another machine may have written it."""

    task: str
    status: str
    error: str = ""
    seconds: float = 0.0
    folder: str = ""
    files: dict[str, bytes] = field(default_factory=dict, repr=False)


@dataclass
class Crew:
    """Starts commands for several threads at once, and ends all that it started.

    Every command has `threads` threads and the priority `nice`.
    """

    threads: int = 0
    nice: int = 0
    stopped: bool = False
    _children: set["subprocess.Popen[str]"] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def do(self, task: Task) -> Outcome:
        """What of the task is not done yet; an error becomes an outcome."""
        started = time.monotonic()
        status, error = FINISHED, ""
        try:
            for command in task.commands:
                if self.stopped:
                    status, error = NOT_RUN, "interrupted"
                    break
                if not command.is_done:
                    self.call(command.module, *command.options)
                    if not command.is_done:
                        raise SweepError(f"{command.module} ended and {command.product} is not as it should be")
        except (SweepError, RecordError, OSError) as problem:
            status, error = (NOT_RUN, "interrupted") if self.stopped else (FAILED, printable(problem))
        return Outcome(task.name, status, error, time.monotonic() - started)

    def call(self, module: str, *options: str) -> None:
        """Run a command of this package, whatever modules lie in the working directory; its error is one line.

        In a session of its own: a terminal's Ctrl-C reaches the sweep alone, which tells its commands once.
        """
        program = [sys.executable, "-P", "-m", "training.sweeps.follow", str(self.nice), module, *options]
        held, ours = os.pipe()  # open as long as this process lives
        try:
            with self._lock:
                if self.stopped:
                    raise SweepError("interrupted")
                child = subprocess.Popen(program, env=environment(self.threads), stdin=held, stdout=subprocess.DEVNULL,
                                         stderr=subprocess.PIPE, encoding="utf-8", errors="backslashreplace",
                                         start_new_session=True)
                self._children.add(child)
            _, errors = self._waited(child)
        finally:
            os.close(held)
            os.close(ours)
        if child.returncode:
            lines = errors.strip().splitlines() or [f"status {child.returncode}"]
            raise SweepError(printable(f"{module} {' '.join(options)}: {lines[-1].removeprefix('error: ')}"))

    def _waited(self, child: "subprocess.Popen[str]") -> tuple[str, str]:
        try:
            return child.communicate()
        except KeyboardInterrupt:  # where commands are called from the main thread
            child.send_signal(signal.SIGINT)
            try:
                child.communicate(timeout=PATIENCE)
            except (subprocess.TimeoutExpired, KeyboardInterrupt):
                child.kill()
            raise
        finally:
            with self._lock:
                self._children.discard(child)

    @contextlib.contextmanager
    def suspended_together(self) -> Iterator[None]:
        """Within the block a SIGTSTP (Ctrl-Z, `kill -TSTP`) stops the commands, too, and a SIGCONT lets all go on."""
        def suspend(*_: object) -> None:
            self._tell(signal.SIGSTOP)
            os.kill(os.getpid(), signal.SIGSTOP)
            self._tell(signal.SIGCONT)

        if threading.current_thread() is not threading.main_thread() or sys.platform == "win32":
            yield
            return
        before = signal.signal(signal.SIGTSTP, suspend)
        try:
            yield
        finally:
            signal.signal(signal.SIGTSTP, before)

    def _tell(self, number: int) -> None:
        for child in list(self._children):
            child.send_signal(number)

    def stop(self) -> None:
        """Interrupt every command and start no other; whatever does not end in time, or at a second Ctrl-C, is killed."""
        with self._lock:
            self.stopped = True
            children = list(self._children)
        for child in children:
            child.send_signal(signal.SIGINT)
        end = time.monotonic() + PATIENCE
        try:
            while any(child.poll() is None for child in children) and time.monotonic() < end:
                time.sleep(0.05)
        except KeyboardInterrupt:
            pass
        for child in children:
            if child.poll() is None:
                child.kill()


def environment(threads: int) -> dict[str, str]:
    """That of a command: so many threads (0: as they are), which do not spin, and this package, installed or not."""
    found = {**os.environ, "COLUMNS": "140"}
    found.setdefault("OMP_WAIT_POLICY", "passive")
    if threads:
        found |= {name: str(threads) for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")}
    if ROOT.name not in ("site-packages", "dist-packages"):  # a checkout; there, the child finds an installed package itself
        found["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return found


def files_of(folder: Path) -> dict[str, bytes]:
    """Everything of a finished run, by name."""
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file() and file.name != RESUME_FILE}
