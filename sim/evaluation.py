"""A network on images or texts, in integers: accuracy, predictions and overflows, as a value to go on with."""

import contextlib
import dataclasses
import os
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sim.accumulator import AccumulatorOverflowError
from sim.cost.cost import Wanted, cost_of
from sim.counters import Counters
from sim.kernels.isa import choose
from sim.machine import Machine
from sim.outcome import Evaluation, Verification
from sim.outputs import check_outputs, code_file, profile_file
from sim.subject import Arithmetic, EvalError, Subject, plain, subject_of
from sim.testset import Examples, given_examples, stored_examples

if TYPE_CHECKING:
    from training.verify import Comparison  # noqa: TID251 - only its name

BATCH = 100
Progress = Callable[[int, int], None]
"""Told how many images are done and how many of them are right: (0, 0) once the kernels are there, then after each batch.

Of texts it is told of windows; one is right if both ends of the answer are."""


def evaluate(  # noqa: PLR0913 - one parameter per option of the command
    model: Any, pixels: np.ndarray | None = None, labels: Any = None, *,
    bits: int | None = None, boundary_bits: int | None = None, activation_bits: int | None = None,
    accumulator: int | str | None = None, boundary_accumulator: int | str | None = None,
    overflow: str | None = None, tile: int | str | None = None, requant: str | None = None, quantizer: str | None = None,
    hardware: str | os.PathLike[str] | None = None, pixels_as: str | None = None,
    softmax: str | None = None, gelu: str | None = None, norm: str | None = None,
    dataset: str | None = None, data: str | os.PathLike[str] | None = None, limit: int | None = None,
    batch: int | None = None, verify: bool = False, progress: Progress | None = None,
    json: str | os.PathLike[str] | None = None, order: str | None = None,
    registers: str | os.PathLike[str] | None = None, counters: bool = False,
    cost: bool = False, cost_images: int | None = None, array: str | os.PathLike[str] | None = None,
    energy: str | os.PathLike[str] | None = None,
) -> Evaluation:
    """Run a trained network in integers and count what it gets right, as python -m sim.eval does.

    `model` is the path of a checkpoint or of a program file, a loaded Checkpoint, or a Program.  `pixels` uint8 of 0 to 255
    [N, height, width, channels] and `labels`, N whole numbers, are the images; without them a checkpoint's own test set is
    taken, or that of `dataset` and `data`.  `bits` and `boundary_bits`: widths of the inner layers and of the first and last
    (default: as trained), `activation_bits` that of the inner activations alone.  `accumulator`, `boundary_accumulator`:
    bits of their registers (unlimited), their `overflow` ("wrap", "saturate", "error"; default wrap), and the products
    summed before they reach it, `tile` (a number or "end"; default 1); or registers one after another as a text,
    "2:16:saturate,end:32:wrap".  `order`: in which products come, "rows", "channels", "sorted" or loops; `registers`: a file
    of layers that have their own.  `counters`: count stage by stage what did not fit.  `requant`: default "fp32", which
    equals the torch model.  `quantizer`: where the checkpoint's is, if it is code of your own, "file.py:NAME".  `limit`:
    the first so many images only.  `hardware`: a profile of sim.profiles, by name, or the path of a file of yours: registers
    and requantizers of a runtime, from which single options above may differ.  `pixels_as`: what a pixel stands for in a
    model of another's.
    `softmax`, `gelu`, `norm`: definitions by name in the place of the network's own.  `batch`: images run at a time.
    `verify`: compare every code with the torch model.  torch is imported only if `model` is no Program or if data of a data
    set are wanted.  `cost`: count operations, memory, energy, and on `cost_images` images zero operands and toggled bits,
    with the cycles of an `array` and a table of `energy` (sim/cost).  `json`: a file for the record, which training.tables
    reads.

    >>> import sim
    >>> result = sim.evaluate("tests/data/takd-digits-2bit.pt", accumulator=7, overflow="saturate", limit=100)
    >>> result
    Evaluation(95.00 % of 100 images of digits, 19,817 overflows)
    >>> result.predictions[:5], result.labels[:5], result.logits.shape
    (array([7, 6, 3, 7, 7]), array([7, 6, 3, 7, 7]), (100, 10))
    >>> result.per_class[["images", "right"]].sum().to_dict()
    {'images': 100, 'right': 95}
    >>> result.layers.loc[:1, ["name", "accumulator_bits", "safe_bits"]]  # the first layer's register is unlimited
                      name  accumulator_bits  safe_bits
    0                 stem              <NA>         19
    1  stage1_block1_conv1                 7          9

    Raises EvalError for an option or an array that is not allowed or has no effect, by its name; CheckpointError and
    ProgramError for a damaged file, LowerError for hardware that the network does not fit, DataError for missing data,
    CostError for an array or a table of energies that there is not,
    AccumulatorOverflowError under overflow "error".  Warns (UserWarning) about data other than those of training.
    """
    options = {name: plain(value) for name, value in locals().items()}
    wanted = Arithmetic(bits, boundary_bits, accumulator, boundary_accumulator, overflow, tile, requant, quantizer,
                        activation_bits, _name(hardware), pixels_as, order, _name(registers), softmax, gelu, norm)
    source = Source(pixels, labels, dataset, _path("data", data), limit)
    if (record := _path("json", json)) is not None:
        file = Path(model) if isinstance(model, str | os.PathLike) else None
        check_outputs({"json": record}, {"model": file, "data": source.data, "requant": code_file(requant),
                                         "quantizer": code_file(quantizer), "hardware": profile_file(hardware),
                                         "registers": _path("registers", registers), "array": profile_file(array),
                                         "energy": profile_file(energy)})
    job = prepare(model, wanted, source, batch, verify, counters,
                  Wanted.asked(cost, _name(energy), _name(array), plain(cost_images)))
    for note in job.warnings:
        warnings.warn(note, UserWarning, stacklevel=2)
    result = job.run(progress)
    if record is not None:
        result.save(record, _command(options))
    return result


def _name(named: Any) -> Any:
    """A path as the text that it is; anything else is told later what it is not."""
    return os.fspath(named) if isinstance(named, os.PathLike) else named


def _path(name: str, value: Any) -> Path | None:
    if value is not None and not isinstance(value, str | os.PathLike):
        raise EvalError(f"{name}: {value!r} is not allowed, give a path")
    return None if value is None else Path(value)


def _command(options: dict[str, Any]) -> str:
    """The command that a shell runs again; of what only Python has, a word on it."""
    from training.record import command_line  # noqa: TID251 - how commands are written

    shown = {key: value for key, value in options.items() if key != "progress"}
    if isinstance(shown["model"], str | os.PathLike) and shown["pixels"] is None:
        return command_line("sim.eval", shown)
    given = ", ".join(f"{key}={value!r}" for key, value in shown.items()
                      if key not in ("model", "pixels", "labels", "json") and value is not None and value is not False)
    return f"sim.evaluate({given})  # from Python, with a model or images of its own"


@dataclass(frozen=True)
class Source:
    """Where the images come from: arrays of the caller, or else a data set, None for the checkpoint's; `limit` of them."""

    pixels: np.ndarray | None = None
    labels: Any = None
    dataset: str | None = None
    data: Path | None = None
    limit: int | None = None


@dataclass(frozen=True)
class Job:
    """An evaluation in which everything is checked and nothing has run yet."""

    subject: Subject
    examples: Examples
    machine: Machine
    batch: int
    verify: bool
    notes: tuple[str, ...]
    counters: bool = False
    cost: Wanted | None = None

    @property
    def warnings(self) -> list[str]:
        """The notes that nobody should miss."""
        return [note.removeprefix("warning: ") for note in self.notes if note.startswith("warning: ")]

    def run(self, progress: Progress | None = None) -> Evaluation:
        """All images, batch by batch.  Raises AccumulatorOverflowError under overflow "error"."""
        started = time.perf_counter()
        machine, pixels, labels, task = self.machine, self.examples.pixels, self.examples.labels, self.examples.task
        tell = progress or (lambda done, right: None)
        comparison = self._comparison()
        with contextlib.suppress(AccumulatorOverflowError):
            machine.run(pixels[:1])  # compiles what this processor has not run before; then forget
        machine.reset()
        tell(0, 0)
        logits, right, simulating = [], 0, 0.0
        counted: dict[str, list[Counters]] = {}
        for start in range(0, len(labels), self.batch):
            part, wanted = pixels[start : start + self.batch], labels[start : start + self.batch]
            trace: dict[str, np.ndarray] | None = None if comparison is None else {}
            begun = time.perf_counter()
            told: dict[str, Counters] | None = {} if self.counters else None
            logits.append(machine.run(part, trace, told))
            for name, counters in (told or {}).items():
                counted.setdefault(name, []).append(counters)
            simulating += time.perf_counter() - begun
            right += task.right(logits[-1], wanted)
            if comparison is not None and trace is not None:
                comparison.add(part, wanted, trace)
            tell(start + len(part), right)
        values, overflows = np.concatenate(logits), {n: c.copy() for n, c in machine.overflows.items()}
        cost = None if self.cost is None else cost_of(machine, pixels[: self.cost.images], self.cost.energy, self.cost.array)
        return Evaluation(
            self.subject, self.examples, values, task.predictions(values, self.examples), overflows, machine.isa,
            len(labels) / simulating, time.perf_counter() - started, self.notes,
            None if comparison is None else _verification(comparison, self.examples),
            {name: Counters.join(parts) for name, parts in counted.items()}, cost)

    def _comparison(self) -> "Comparison | None":
        if not self.verify:
            return None
        assert self.subject.spec is not None
        from training.network import QuantNetwork  # noqa: TID251 - the other half, only where both are compared
        from training.verify import Comparison  # noqa: TID251

        model = QuantNetwork.from_spec(self.subject.spec)
        model.limit(self.subject.own_register)
        return Comparison(self.machine, model, self.examples.task)


def prepare(model: Any, wanted: Arithmetic, source: Source, batch: int | None = None, verify: bool = False,
            counters: bool = False, cost: Wanted | None = None) -> Job:
    """Check everything, read model and images; raises what `evaluate` does, before any image is run."""
    source, batch = dataclasses.replace(source, limit=plain(source.limit)), plain(batch)
    check_source(source, batch)
    subject = subject_of(model, wanted)
    if verify and subject.spec is None:
        raise EvalError("verify: a program has no torch model to compare it with, give the checkpoint that it was made of")
    examples, more = examples_of(subject, source)
    notes = [*subject.notes, *more]
    if batch is not None and batch > (inputs := len(examples.labels)):
        notes.append(f"batch: {batch} is more than the {inputs} {examples.task.input} that are evaluated, they run at once")
    return Job(subject, examples, Machine(subject.program, usable_isa()), batch or BATCH, verify, tuple(notes), counters,
               cost)


def check_source(source: Source, batch: int | None = None) -> None:
    """Raise EvalError for numbers of images and names that cannot be."""
    for name, value in (("limit", source.limit), ("batch", batch)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise EvalError(f"{name}: {value!r} is not allowed, choose 1 or more images")
    if not isinstance(source.dataset, str | None):
        raise EvalError(f"dataset: {source.dataset!r} is not allowed, give a name")


def examples_of(subject: Subject, source: Source) -> tuple[Examples, tuple[str, ...]]:
    """The images that a source says, and notes for the user.  Raises EvalError, DataError."""
    examples = _all_examples(subject, source)
    count, limit = examples.count, source.limit
    if limit is None:
        return examples, examples.notes
    told = (f"limit: {limit} is more than the {count} {examples.task.unit} that there are, all of them are evaluated",)
    return examples.first(min(count, limit)), (*examples.notes, *(told if limit > count else ()))


def _all_examples(subject: Subject, source: Source) -> Examples:
    if source.pixels is None:
        if source.labels is not None:
            raise EvalError("labels: have no effect without pixels")
        return stored_examples(subject, source.dataset, source.data)
    if source.dataset is not None or source.data is not None:
        raise EvalError("dataset, data: have no effect beside pixels, leave them or the pixels out")
    return given_examples(subject, source.pixels, source.labels)


def usable_isa() -> str:
    """The instruction set; what BITTRUE_ISA says is taken or refused, never passed over."""
    try:
        isa = choose()
    except ValueError as error:
        raise EvalError(str(error)) from None
    if (named := os.environ.get("BITTRUE_ISA", isa)) not in ("", isa):
        raise EvalError(f"BITTRUE_ISA: {named!r} has no effect where kernels are interpreted (NUMBA_DISABLE_JIT), "
                        f"which runs {isa}")
    return isa


def _verification(comparison: "Comparison", examples: Examples) -> Verification:
    found = examples.task.measure(np.concatenate(comparison.logits), examples)
    return Verification(found.pop(examples.task.main), comparison.compared, sum(comparison.differing.values()),
                        comparison.largest, comparison.beyond, comparison.differing, comparison.agrees,
                        {f"fq_{name}": value for name, value in found.items()})
