"""What of a sweep is done, in one file that is whole whenever the process ends: the same sweep goes on from there."""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sim.files import write_atomically
from sim.outputs import EvalError
from sim.text import printable

FILE = "state.npz"
VERSION = 1
MOST_BYTES = 1 << 30


@dataclass(frozen=True, eq=False)
class Tally:
    """Of one run: images done, how many of them are right, how many are not answered as without limits, and overflows.

    `overflows` int64 [channels] and `counters` int64 [stages, 2] (persistent, transient) by layer; layers that had none are
    left out.
    """

    done: int = 0
    right: int = 0
    changed: int = 0
    overflows: Mapping[str, np.ndarray] = field(default_factory=dict)
    counters: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __add__(self, more: "Tally") -> "Tally":
        """With what some more images gave."""
        return Tally(self.done + more.done, self.right + more.right, self.changed + more.changed,
                     _added(self.overflows, more.overflows), _added(self.counters, more.counters))


def _added(mine: Mapping[str, np.ndarray], more: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    summed = {name: mine[name] + counts if name in mine else counts for name, counts in more.items() if counts.any()}
    return {**mine, **summed}


class State:
    """Tallies by the key of their run; `identity` is what a sweep must have in common with one that is there."""

    def __init__(self, identity: Mapping[str, Any], folder: Path | None = None) -> None:
        self.identity, self._folder = json.loads(json.dumps(identity)), folder
        self._tallies: dict[str, Tally] = {}
        if folder is not None and (folder / FILE).exists():
            self._tallies = self._read(folder / FILE)
        elif folder is not None and folder.exists() and any(folder.iterdir()):
            raise EvalError(f"out: {printable(folder)} holds other files, choose a new folder")

    def of(self, key: str) -> Tally:
        """That of a run."""
        return self._tallies.get(key, Tally())

    def add(self, key: str, more: Tally) -> None:
        """What some more images gave: all of it by one assignment, for an interrupt comes between any two."""
        self._tallies[key] = self.of(key) + more

    def save(self) -> None:
        """Write the file, completely or not at all; nothing where there is no folder."""
        if self._folder is None:
            return
        header: list[Any] = []
        arrays: dict[str, np.ndarray] = {}
        for number, (key, tally) in enumerate(self._tallies.items()):
            header.append([key, tally.done, tally.right, tally.changed, list(tally.overflows), list(tally.counters)])
            arrays |= {f"{number}.{at}": counts for at, counts in enumerate(
                (*tally.overflows.values(), *tally.counters.values()))}
        told = json.dumps({"version": VERSION, "sweep": self.identity, "runs": header}).encode()
        buffer = io.BytesIO()
        np.savez(buffer, header=np.frombuffer(told, np.uint8), **arrays)  # type: ignore[arg-type]
        write_atomically(self._folder / FILE, lambda file: file.write(buffer.getvalue()))

    def _read(self, path: Path) -> dict[str, Tally]:
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
                header = json.loads(file["header"].tobytes())
                if header["version"] != VERSION:
                    raise ValueError("another version")
                there, tallies = header["sweep"], {}
                for number, (key, done, right, changed, names, others) in enumerate(header["runs"]):
                    read = [file[f"{number}.{at}"].astype(np.int64) for at in range(len(names) + len(others))]
                    tallies[str(key)] = Tally(int(done), int(right), int(changed), dict(zip(names, read, strict=False)),
                                              dict(zip(others, read[len(names):], strict=True)))
        except OSError:
            raise
        except Exception as error:  # parsers of damaged bytes fail in every way there is
            raise EvalError(f"out: {printable(path)} is not the state of a sweep, or damaged ({type(error).__name__}): "
                            "choose another folder, or remove it to begin again") from None
        if differing := [key for key in self.identity if there.get(key) != self.identity[key]]:
            raise EvalError(f"out: {printable(path.parent)} holds another sweep, of another {' and '.join(differing)}: "
                            "choose another folder")
        return tallies
