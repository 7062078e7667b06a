"""A sweep in which everything is checked, and how it runs: batches of images outermost, all registers on each."""

import dataclasses
import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sim.arithmetic import Arithmetic
from sim.evaluation import Source, check_source, examples_of, usable_isa
from sim.machine import MOST_IMAGES
from sim.outputs import EvalError
from sim.sweep.configurations import Configuration, configurations
from sim.sweep.outcome import Sweep
from sim.sweep.plan import Group, Run, plan
from sim.sweep.state import State, Tally
from sim.sweep.track import Found, Track, bytes_of
from sim.testset import Examples, require_classes

MEMORY = 512
"""MiB of tensors that are kept of a batch of images, if nothing else is said."""
Progress = Callable[[int, int], None]
"""Told what is done and what there is to do, in images times registers."""


@dataclass(frozen=True)
class Job:
    """A sweep in which everything is checked and nothing has run yet."""

    groups: tuple[Group, ...]
    examples: Examples
    state: State
    isa: str
    memory: int
    counters: bool
    notes: tuple[str, ...]

    @property
    def work(self) -> tuple[int, int]:
        """Done, and all there is, in images times registers."""
        runs = [run for group in self.groups for run in group.different]
        return sum(self.state.of(run.key).done for run in runs), len(self.examples.labels) * len(runs)

    def run(self, progress: Progress | None = None) -> Sweep:
        """Whatever is not done yet.  However it ends, what was done is kept."""
        started, tell = time.perf_counter(), progress or (lambda done, work: None)
        try:
            for group in self.groups:
                self._run_group(group, tell)
        finally:
            self.state.save()
        return Sweep(self.groups, self.examples, self.state, self.isa, self.counters, time.perf_counter() - started,
                     self.notes)

    def _run_group(self, group: Group, tell: Progress) -> None:
        count, runs = len(self.examples.labels), group.different
        pending = [run for run in runs if self.state.of(run.key).done < count]
        if not pending:
            return
        images = max(1, min(MOST_IMAGES, (self.memory << 20) // bytes_of(group.base), count))
        watched = {name for run in pending for name in run.registers}
        track = Track(group.base, watched, images, self.isa)
        while first := [self.state.of(run.key).done for run in pending if self.state.of(run.key).done < count]:
            begin = min(first)
            end = min([begin + images, count, *(done for done in first if done > begin)])
            self._run_batch(track, [run for run in pending if self.state.of(run.key).done == begin], begin, end, tell)
            self.state.save()

    def _run_batch(self, track: Track, runs: Sequence[Run], begin: int, end: int, tell: Progress) -> None:
        pixels, labels = self.examples.pixels[begin:end], self.examples.labels[begin:end]
        free = track.begin(pixels)
        answers = free.logits.argmax(1)
        for run in runs:
            found = track.run(run.registers, self.counters) if run.registers else free
            self.state.add(run.key, _tally(found, answers, labels))
            tell(*self.work)


def _tally(found: Found, answers: np.ndarray, labels: np.ndarray) -> Tally:
    mine = found.logits.argmax(1)
    return Tally(len(labels), int((mine == labels).sum()), int((mine != answers).sum()), found.overflows, found.counters)


def prepare(model: Any, wanted: Sequence[Configuration], common: Arithmetic, source: Source,
            out: Path | None = None, memory: int = MEMORY, counters: bool = False) -> Job:
    """Check everything, read model and images; raises what `sim.evaluate` does, before any image is run."""
    if isinstance(memory, bool) or not isinstance(memory, int) or memory < 1:
        raise EvalError(f"memory: {memory!r} is not allowed, choose 1 or more MiB")
    check_source(source)
    groups = tuple(plan(model, wanted, common, counters))
    subject = groups[0].subject
    examples, notes = examples_of(subject, source)
    require_classes(examples)
    pixels = np.ascontiguousarray(examples.pixels)
    digest = hashlib.sha256(pixels.data)
    digest.update(np.ascontiguousarray(examples.labels).data)
    identity = {"model": subject.digest or groups[0].base.digest(), "images": f"{len(pixels)} {digest.hexdigest()}",
                "options": {name: value for name, value in vars(common).items() if value is not None}}
    return Job(groups, dataclasses.replace(examples, pixels=pixels), State(identity, out), usable_isa(), memory, counters,
               tuple(dict.fromkeys((*subject.notes, *notes))))


def sweep(  # noqa: PLR0913 - one parameter per option of the command
        model: Any, accumulator: str = "8:24", pixels: np.ndarray | None = None, labels: Any = None, *,
        overflow: str = "wrap", tile: str = "1", stages: Sequence[str] = (), order: str | None = None,
        requant: str | None = None, boundary_accumulator: str | None = None,
        bits: int | None = None, boundary_bits: int | None = None, activation_bits: int | None = None,
        quantizer: str | None = None, hardware: str | None = None, pixels_as: str | None = None,
        dataset: str | None = None, data: Path | str | None = None, limit: int | None = None,
        out: Path | str | None = None, memory: int = MEMORY, counters: bool = False,
        progress: Progress | None = None) -> Sweep:
    """Run a trained network on many registers, as python -m sim.sweep does; every number is that of `sim.evaluate`.

    `accumulator` are widths ("8:24", "8,10,12"), `overflow` rules ("wrap,saturate"), `tile` products that reach the register
    at once ("1,16,end"), `requant` requantizers; every combination is run.  `stages`: several registers instead of one, with
    B for the width (and R, T for rule and tile), such as "16:B:R,end:32:wrap"; "single" is the one.  `order`: of products.
    `boundary_accumulator`: bits of the register of the first and last layer, or "same".  `out`: a folder for what is done,
    from which an interrupted sweep goes on.  `memory`: MiB for the tensors of a batch.  `counters`: tell what is
    persistent and what transient (sim/counters.py), which takes longer.  The rest as in `sim.evaluate`.

    >>> from sim.sweep import sweep
    >>> found = sweep("tests/data/takd-digits-2bit.pt", "6:9", overflow="saturate", limit=50)
    >>> found
    Sweep(5 configurations, 5 of them different, on 50 images of digits)
    >>> found.configurations.columns[:5].tolist()
    ['requant', 'stages', 'bits', 'overflow', 'tile']

    Raises EvalError for what is not allowed, by its name, and what `sim.evaluate` does.
    """
    wanted = configurations(accumulator, overflow, tile, requant, boundary_accumulator, stages)
    common = Arithmetic(bits=bits, boundary_bits=boundary_bits, activation_bits=activation_bits, quantizer=quantizer,
                        hardware=hardware, pixels_as=pixels_as, order=order)
    source = Source(pixels, labels, dataset, None if data is None else Path(data), limit)
    return prepare(model, wanted, common, source, None if out is None else Path(out), memory, counters).run(progress)
