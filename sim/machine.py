"""Runs a program on batches of images, in integers."""

import os
import threading
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from sim.accumulator import AccumulatorOverflowError
from sim.buffers import Layout, Padded, Place, Plan
from sim.counters import Counters
from sim.inputs import InputError, check_codes
from sim.kernels import isa as instruction_sets
from sim.lazy import cached_property
from sim.ops.op import Op
from sim.program import ConvOp, Program
from sim.steps import Step, step_for
from sim.steps.watch import Watch

WORKING_SET = 16 << 20
"""Codes that a chunk of images may have in its largest layer: they are read again while in the outermost cache.

Chunks that fit an inner one were slower: late layers of large images have few lines to hand out, and weights to read, for
each.
"""
Given = np.ndarray | Mapping[str, np.ndarray]
"""What a user hands over: an array, or for programs of several inputs one for each, by name."""
MOST_IMAGES = 128
"""Of a chunk: more would not hide the calls any better."""


@dataclass(frozen=True)
class Tally:
    """What finished runs have counted: `images`, and overflowed outputs int64 [channels] of each convolution."""

    images: int
    overflows: Mapping[str, np.ndarray]


@dataclass
class _Run:
    """What one run writes to, nobody else's meanwhile: its memory, which the next run takes over, and its counts.

    `joined` are the steps that it takes in the place of others, None for those that it leaves out; `places` where tensors
    lie then.
    """

    memory: dict[int, np.ndarray] = field(default_factory=dict)
    tensors: dict[str, Padded] = field(default_factory=dict)
    counts: dict[str, np.ndarray] = field(default_factory=dict)
    images: int = 0
    joined: Mapping[str, Step | None] = field(default_factory=dict)
    places: Mapping[str, Place] | None = None


_ADDING = threading.RLock()
"""Held while a run adds its counts to its machine's, and across forks, so that no child finds it taken."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_ADDING.acquire, after_in_parent=_ADDING.release, after_in_child=_ADDING.release)


class Machine:
    """A program ready to run, and its overflow counters.

    `isa` names the instruction set of its kernels, the fastest here if None; every one gives the same codes.  Any number
    of threads may run one machine at once: each run has tensors of its own, as many sets as ever ran together are kept.
    Machines are equal if program and instruction set are, hash, and pickle without their counts; one that comes from a
    processor with other instructions takes the fastest here.  Raises ValueError for an instruction set that is not here.

    >>> import numpy as np
    >>> from sim.lowering import lower
    >>> from sim.network import Conv, Graph, Input, NetworkSpec, Precision
    >>> image = Input("image", height=4, width=6, channels=1, mean=(0.5,), std=(0.5,))
    >>> layer = Conv("logits", "image", channels=3, kernel=4, stride=4, role="boundary", norm=False)
    >>> weights = np.linspace(-1, 1, 48, dtype=np.float32).reshape(3, 1, 4, 4)
    >>> spec = NetworkSpec(Graph((image, layer)), {"logits.weight": weights}, Precision(8), "dorefa")
    >>> machine = Machine(lower(spec))
    >>> pixels = np.full((2, 4, 6, 1), 255, np.uint8)
    >>> machine.run(pixels).shape
    (2, 3)
    >>> machine.images, machine.overflows
    (2, {'logits': array([0, 0, 0])})
    >>> codes = {}
    >>> logits = machine.run(pixels[:1], codes)
    >>> codes["image"].shape, codes["image"].dtype, int(codes["image"].max())
    ((1, 4, 6, 1), dtype('int8'), 127)
    >>> machine.run(pixels / 255)
    Traceback (most recent call last):
    sim.inputs.InputError: pixels: uint8 0 .. 255 [N, 4, 6, 1] are wanted, not float64 [2, 4, 6, 1] of 1 .. 1: multiply by \
255, round, convert to uint8
    """

    def __init__(self, program: Program, isa: str | None = None) -> None:
        if not isinstance(program, Program):
            raise TypeError(f"program: a Program is wanted, such as lower(spec) or Program.load(path), not a "
                            f"{type(program).__name__}")
        self.program = program
        self.isa = instruction_sets.choose(isa)
        self.reset()
        self._ops = {op.name: op for op in program.ops}
        self._steps = {op.name: step_for(op, [self._ops[name] for name in op.sources()], self.isa) for op in program.ops}
        self._replaceable = _replaceable(program, self._steps)
        self._borders = borders_of(program, self._replaceable)
        self._plan = _plan(program, self._borders, self._replaceable)
        largest = max(op.shape[0] * op.shape[1] * op.shape[2] for op in program.ops)
        self._chunk = max(1, min(MOST_IMAGES, WORKING_SET // largest))
        self._watches: dict[str, Watch] = {}
        self._idle: list[_Run] = []  # append and pop are one step each, whoever else does them

    def __repr__(self) -> str:
        return f"<Machine {self.isa}: {repr(self.program)[1:-1]}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Machine) and self.isa == other.isa and self.program == other.program

    def __hash__(self) -> int:
        return hash((self.program, self.isa))

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (self.program, self.isa)

    def reset(self) -> None:
        """Forget the counts of all runs that have ended; one that is under way is counted when it ends."""
        zeros = {op.name: np.zeros(op.shape[2], np.int64) for op in self.program.accumulating}
        with _ADDING:
            self._tally = Tally(0, zeros)

    @property
    def tally(self) -> Tally:
        """Images and overflows of the same runs: a picture of this moment, which later runs do not change."""
        return self._tally

    @property
    def images(self) -> int:
        """Images run since the last `reset`."""
        return self._tally.images

    @property
    def overflows(self) -> Mapping[str, np.ndarray]:
        """Per convolution, int64 [channels]: outputs since the last `reset` that a limited register got wrong.

        Under "saturate" those of which at least one addition was clipped, under "wrap" those whose exact sum does not fit;
        of several stages those of which a register that saturates clipped, or the last one is not the exact sum in the end.
        """
        return self._tally.overflows

    def run(self, pixels: Given, trace: MutableMapping[str, np.ndarray] | None = None,
            counters: MutableMapping[str, Counters] | None = None) -> np.ndarray:
        """uint8 pixels [N, H, W, C], in any memory order, -> logits [N, classes]: float32, or integers (`ConvOp.unit`).

        A program of tokens takes ids int32 [N, tokens]; logits of more than one pixel are [N, H, W, classes].  A program of
        several inputs takes a mapping from their names to arrays, of as many images each.
        `trace` receives every operation's result [N, H, W, C], `counters` what the registers of every operation with limited
        ones did.  Raises InputError for pixels of another type or shape, AccumulatorOverflowError under overflow "error".
        """
        results = self.results(pixels, trace, counters)
        if len(results) > 1:
            raise InputError(f"this program has {len(results)} outputs, {', '.join(results)}: take `results`")
        (logits,) = results.values()
        return flattened(logits)

    def results(self, pixels: Given, trace: MutableMapping[str, np.ndarray] | None = None,
                counters: MutableMapping[str, Counters] | None = None) -> dict[str, np.ndarray]:
        """Every output [N, H, W, C] by name: logits as `run` gives them, or codes.

        For the rest as `run`.
        """
        given, images = self._accepted(pixels)
        names = [op.name for op in self.program.ops] if trace is not None else list(self.program.output_names)
        found: dict[str, list[np.ndarray]] = {name: [] for name in names}
        counted: dict[str, list[Counters]] = {}
        limited = {op.name for op in self.program.accumulating if op.accumulator.is_limited}
        with self._running() as run:
            if trace is None and counters is None and self._joined:
                run.joined, run.places = self._joined, self._joined_places
            chunks = -(-images // self._chunk)
            together = -(-images // chunks) if chunks else 1  # the last chunk is about as long as the others
            for start in range(0, images, together):
                part = {name: _plain(array[start : start + together]) for name, array in given.items()}
                count = min(together, images - start)
                values: dict[str, Padded] = {}
                for op in self.program.ops:
                    if run.joined.get(op.name, ...) is None:
                        values[op.name] = values[op.source]
                        continue
                    inputs = _inputs(op, part, values)
                    if counters is not None and op.name in limited:
                        result, told = self._told(run, op, inputs, count)
                        counted.setdefault(op.name, []).append(told)
                    else:
                        result = self._step(run, op, inputs, count)
                    values[op.name] = result
                    if op.name in found:  # logits are made anew; codes lie in memory that others take over
                        found[op.name].append(result.array if op.format is None else result.interior.copy())
                run.images += count
        whole = {name: np.concatenate(parts) for name, parts in found.items()}
        if trace is not None:
            trace.update(whole)
        if counters is not None:
            counters.update({name: Counters.join(parts) for name, parts in counted.items()})
        return {name: whole[name] for name in self.program.output_names}

    def apply(self, op: Op, pixels: np.ndarray, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """One operation [N, H, W, C], given the results of those it reads.

        `pixels` [N, H, W, C] matter to the input alone.  Raises InputError for codes of another type or shape, or out of
        their format.
        """
        self._check_op(op)
        padded = {name: self._padded(op, name, values.get(name)) for name in op.sources()}
        if op.is_input:
            pixels = _plain(op.accept(pixels))
        with self._running() as run:
            return self._step(run, op, _inputs(op, {op.name: pixels}, padded), len(pixels)).interior.copy()

    def sums(self, op: Op, *codes: np.ndarray) -> np.ndarray:
        """What the registers of an operation hold after all products of `codes` [N, H, W, C]; counts overflows.

        A convolution reads its input's codes, its residual comes after the registers; a product of activations reads two.
        Raises InputError for codes of another type or shape, or out of their format.
        """
        self._check_op(op)
        with self._running() as run:
            return self._accumulate(run, op, self._padded_all(op, codes))

    def counters(self, op: Op, *codes: np.ndarray) -> Counters:
        """What the registers of an operation do with `codes` [N, H, W, C], stage by stage; counts nothing.

        For the rest as `sums`.
        """
        self._check_op(op)
        return self._watch(op).counters(self._padded_all(op, codes))

    def first_overflows(self, op: Op, *codes: np.ndarray) -> np.ndarray:
        """The product with whose addition a register of each output first left its range, int32 [stages, N, H, W, C].

        Products are numbered from 0, in the order in which the accumulator takes them; -1 where none did.  For the rest as
        `sums`.
        """
        self._check_op(op)
        return self._watch(op).first(self._padded_all(op, codes))

    def convolve(self, op: ConvOp, x: Padded, skip: Padded | None, out: Padded) -> None:
        """Codes with their border, and those of the residual, -> requantized codes inside theirs; counts overflows."""
        with self._running() as run:
            counts = self._steps[op.name]([x] if skip is None else [x, skip], out)
            _count(run, op, counts, len(x.array))

    def accumulate(self, op: ConvOp, x: Padded) -> np.ndarray:
        """`sums` of a tensor that has its border already."""
        with self._running() as run:
            return self._accumulate(run, op, [x])

    @contextmanager
    def _running(self) -> Iterator[_Run]:
        """Tensors of an earlier run or new ones; at the end, however it comes, its counts become the machine's."""
        try:
            run = self._idle.pop()
        except IndexError:
            run = _Run()
        try:
            yield run
        finally:
            if run.counts or run.images:
                with _ADDING:
                    before = self._tally
                    more = {name: before.overflows[name] + counts for name, counts in run.counts.items()}
                    self._tally = Tally(before.images + run.images, {**before.overflows, **more})
            self._idle.append(_Run(run.memory, run.tensors))

    @cached_property
    def _joined(self) -> Mapping[str, Step | None]:
        """Steps that do the work of another as well, and those that need none then."""
        joined: dict[str, Step | None] = {}
        for name, reader in self._replaceable.items():
            if (whole := self._steps[reader].through(self._ops[name])) is not None:
                joined |= {name: None, reader: whole}
        return joined

    @cached_property
    def _joined_places(self) -> Mapping[str, Place]:
        """Where tensors lie in runs with these steps."""
        return self._plan.places_without({name for name, step in self._joined.items() if step is None})

    def path_of(self, op: Op) -> str:
        """How an operation runs, in a word or two: what a profile shows beside its time."""
        step = self._joined.get(op.name, self._steps[op.name])
        return f"in {self._replaceable[op.name]}" if step is None else step.path

    def _check_op(self, op: Op) -> None:
        if self._ops.get(op.name) is not op and self._ops.get(op.name) != op:
            raise InputError(f"{op.name}: no operation of this program")

    def _watch(self, op: Op) -> Watch:
        """What tells of an operation's registers; made when it is first asked for."""
        found = self._watches.get(op.name)
        return self._watches.setdefault(op.name, Watch(op, self.isa, self._steps[op.name])) if found is None else found

    def _padded_all(self, op: Op, codes: Sequence[np.ndarray]) -> list[Padded]:
        """What an operation reads for its products."""
        return [self._padded(op, name, x) for name, x in zip(op.sources(), codes, strict=False)]

    def _padded(self, op: Op, name: str, codes: Any) -> Padded:
        """Codes that a user hands over for an operation to read, with the border that it wants."""
        source = self._ops[name]
        check_codes(op, source.shape, source.format, codes)
        return Padded.of(codes, self._borders[name], source.zero_point)

    def _accepted(self, given: Given) -> tuple[dict[str, np.ndarray], int]:
        """What each input gets, and how many images; raises InputError."""
        inputs = [op for op in self.program.ops if op.is_input]
        if not isinstance(given, Mapping):
            if len(inputs) > 1:
                raise InputError(f"this program has {len(inputs)} inputs, {', '.join(self.program.inputs)}: give an array "
                                 "for each, by its name")
            given = {inputs[0].name: given}
        if set(given) != {op.name for op in inputs}:
            raise InputError(f"{', '.join(map(str, given)) or 'nothing'} is given, the inputs are "
                             f"{', '.join(self.program.inputs)}")
        accepted = {op.name: op.accept(given[op.name]) for op in inputs}
        counts = {len(array) for array in accepted.values()}
        if len(counts) > 1:
            raise InputError("its inputs are of as many images each, not " + ", ".join(
                f"{len(array)} of {name}" for name, array in accepted.items()))
        return accepted, counts.pop()

    def _step(self, run: _Run, op: Op, inputs: Sequence[Padded], images: int) -> Padded:
        step = run.joined.get(op.name) or self._steps[op.name]
        if op.format is None:
            logits, counts = step.logits(inputs)
            result = Padded(logits, 0)
        else:
            result = self._output(run, op, images)
            counts = step(inputs, result)
        _count(run, op, counts, images)
        return result

    def _told(self, run: _Run, op: Op, inputs: Sequence[Padded], images: int) -> tuple[Padded, Counters]:
        """The same, and what its registers did."""
        watch = self._watch(op)
        if op.format is None:
            return self._step(run, op, inputs, images), watch.counters(inputs)
        result = self._output(run, op, images)
        counts, counters = watch.run(self._steps[op.name], inputs, result)
        _count(run, op, counts, images)
        return result, counters

    def _output(self, run: _Run, op: Op, images: int) -> Padded:
        """The tensor that receives a result, its border the code of 0: made once for each run at a time."""
        place, tensor = (run.places or self._plan.places)[op.name], run.tensors.get(op.name)
        is_new = tensor is None or len(tensor.array) < images
        if is_new:
            memory = run.memory.get(place.slot)
            if memory is None or len(memory) < place.layout.room(images):
                run.memory[place.slot] = self._plan.memory(place.slot, images)
            tensor = run.tensors[op.name] = place.layout.within(run.memory[place.slot], images)
        assert tensor is not None
        if is_new:
            tensor.fill_border(op.zero_point)
        used = tensor if len(tensor.array) == images else tensor.first(images)
        if place.is_spoilt and not is_new:
            used.fill_border(op.zero_point)
        return used

    def _accumulate(self, run: _Run, op: Op, inputs: Sequence[Padded]) -> np.ndarray:
        sums, overflows = self._steps[op.name].registers(inputs)
        _count(run, op, overflows, len(sums))
        return sums


def _rebuilt(program: Program, isa: str) -> Machine:
    """A machine that was pickled, here or on another processor."""
    return Machine(program, isa if instruction_sets.is_runnable(isa) else None)


def _inputs(op: Op, given: Mapping[str, np.ndarray], values: Mapping[str, Padded]) -> list[Padded]:
    """What an operation reads: what was handed over, if it is an input."""
    return [Padded(given[op.name], 0)] if op.is_input else [values[name] for name in op.sources()]


def _plain(pixels: np.ndarray) -> np.ndarray:
    """In the memory order, and of the one type of arrays, that kernels are compiled for."""
    part = np.ascontiguousarray(pixels)
    return part if part.flags.writeable else part.copy()


def _count(run: _Run, op: Any, counts: np.ndarray | None, images: int) -> None:
    """Add counts per channel of overflowed outputs; stop the run if none are allowed."""
    if counts is None:
        return
    before = run.counts.get(op.name)
    run.counts[op.name] = counts if before is None else before + counts
    if op.accumulator.must_fit and counts.any():
        channel = int(np.flatnonzero(counts)[0])
        raise AccumulatorOverflowError(
            f"{op.name}, channel {channel}: a sum does not fit the {_registers_of(op)} "
            f"({counts[channel]} of {images * op.shape[0] * op.shape[1]} outputs of a batch); "
            f"{op.safe_bits} bits can never overflow")


def _registers_of(op: Any) -> str:
    accumulator = op.accumulator
    return f"registers {accumulator.text}" if accumulator.before else f"{accumulator.bits}-bit accumulator"


def _replaceable(program: Program, steps: Mapping[str, Step]) -> dict[str, str]:
    """Operations whose work the step of their one reader may do as well, by name; and its name.

    Codes around what that would read are 0, and stand for 0.
    """
    ops = {op.name: op for op in program.ops}
    readers: dict[str, list[Op]] = {name: [] for name in ops}
    for op in program.ops:
        for name in op.sources():
            readers[name].append(op)
    found = {}
    for name, (first, *others) in ((name, each) for name, each in readers.items() if each):
        is_lone = not others and first.sources()[0] == name and name not in program.output_names
        if is_lone and steps[first.name].could_replace(ops[name]) and not ops[ops[name].source].zero_point:
            found[name] = first.name
    return found


def flattened(logits: np.ndarray) -> np.ndarray:
    """Logits [N, H, W, C] as runs give them: [N, C] where they are of one pixel."""
    return logits.reshape(len(logits), -1) if logits.shape[1:3] == (1, 1) else logits


def borders_of(program: Program, replaceable: Mapping[str, str] = MappingProxyType({})) -> dict[str, int]:
    """The widest border that any reader of an operation wants, whoever reads it in the place of another included."""
    borders = {op.name: 0 for op in program.ops}
    for op in program.ops:
        if op.sources():
            borders[op.sources()[0]] = max(borders[op.sources()[0]], op.border)
    for op in program.ops:
        if op.name in replaceable:
            borders[op.source] = max(borders[op.source], borders[op.name])
    return borders


def _plan(program: Program, borders: Mapping[str, int], replaceable: Mapping[str, str]) -> Plan:
    """Tensors are needed until their last reader has run."""
    last = {name: step for step, op in enumerate(program.ops) for name in op.sources()}
    for op in program.ops:
        if op.name in replaceable:
            last[op.source] = max(last[op.source], last[op.name])
    return Plan([(op.name, Layout(op.shape, op.format.dtype if op.format else np.dtype(np.uint8), borders[op.name],
                                  op.zero_point), last.get(op.name, step)) for step, op in enumerate(program.ops)])
