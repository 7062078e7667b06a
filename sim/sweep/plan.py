"""What the registers of a sweep mean for every layer of a network, and which of them are the same."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sim.accumulator import MAX_BITS, MIN_BITS, Accumulator, parse_accumulator
from sim.arithmetic import Arithmetic, hardware_of
from sim.hardware import HardwareSpec
from sim.importers import default_profile, is_importable
from sim.outputs import EvalError
from sim.program import Program
from sim.recognize import PROGRAM, recognize
from sim.subject import Subject, subject_of
from sim.sweep.configurations import Configuration
from sim.sweep.layer import Layer
from sim.sweep.track import Registers, without_limits

UNLIMITED = "unlimited"
_C_BITS = 32
"""What importers take for a register of C's int may be modeled otherwise than a wider one."""

_LOADED = "starts are loaded as A3 says"
"""In keys of runs with registers that start with a number: once, loading them clipped and counted nothing."""
_Asked = Mapping[Configuration, Mapping[str, Accumulator]]


@dataclass(frozen=True)
class Run:
    """A network on registers that differ from all others': `key` names both, whatever they were called."""

    key: str
    registers: Registers


class Runs:
    """Runs of one program without limits, which is looked at once; registers that can never overflow are none in them.

    With `counters` registers are the same only if all that they count is, stage by stage and sums on the way.
    """

    def __init__(self, base: Program, counters: bool = False) -> None:
        self._digest, self._layers = base.digest(), {op.name: Layer(op) for op in base.accumulating}
        self._counters = counters

    def of(self, registers: Mapping[str, Accumulator]) -> Run:
        """That of these registers."""
        rule = Layer.asked if self._counters else Layer.simplest
        every = {name: rule(self._layers[name], register) for name, register in registers.items()}
        found = {name: register for name, register in every.items() if register.is_limited}
        told: list[Any] = [self._digest, self._counters, {name: own.to_json() for name, own in sorted(found.items())}]
        if any(getattr(self._layers[name].op, "start", None) is not None for name in found):
            told.append(_LOADED)
        return Run(hashlib.sha256(json.dumps(told).encode()).hexdigest()[:32], found)


@dataclass(frozen=True)
class Group:
    """Configurations that are one program but for the registers: `base` has none.

    `asked` names every register of a configuration, those that can never overflow included.
    """

    subject: Subject
    base: Program
    free: Run
    runs: Mapping[Configuration, Run]
    asked: _Asked

    @property
    def different(self) -> list[Run]:
        """Runs of which no two are the same, narrow registers first; without limits is the first."""
        return list({run.key: run for run in (self.free, *self.runs.values())}.values())


def plan(model: Any, wanted: Sequence[Configuration], common: Arithmetic, counters: bool = False) -> list[Group]:
    """Everything read and checked, nothing run; raises what `sim.subject.subject_of` does.

    `common` is what all configurations share: widths, hardware, quantizer, what a pixel stands for.  With `counters` all
    that registers count is to be told.
    """
    groups: dict[tuple[str | None, bool], list[Configuration]] = {}
    for each in wanted:
        is_wide = _is_foreign(model) and (parse_accumulator(each.accumulator).narrowest or MAX_BITS) > _C_BITS
        groups.setdefault((each.requant, is_wide), []).append(each)
    return [_grouped(*_group(model, members, common), counters) for members in groups.values()]


def narrow_subject(model: Any, common: Arithmetic) -> Subject:
    """The network without limits, made as for registers that may overflow wherever they could: raises as `plan`."""
    if _is_program(model):
        subject = subject_of(model, common)
    else:
        narrowest = Configuration(MIN_BITS, "wrap", "1", "", str(MIN_BITS), common.requant)
        try:
            subject = subject_of(model, dataclasses.replace(narrowest.arithmetic(common), tile=None))
        except EvalError as error:
            if not str(error).startswith("accumulator: "):
                raise
            subject = subject_of(model, common)  # no inner layers
    return dataclasses.replace(subject, program=checked(without_limits(subject.program)))


def checked(base: Program) -> Program:
    """The same, if it says what an image shows and has registers; raises EvalError."""
    if len(base.inputs) > 1 or len(base.output_names) > 1:
        raise EvalError("model: a network of one input and one output is wanted, which says what an image shows")
    if not base.accumulating:
        raise EvalError("model: none of its operations has a register")
    return base


def _group(model: Any, members: Sequence[Configuration], common: Arithmetic) -> tuple[Subject, _Asked]:
    """The network without limits, and the registers of every configuration."""
    if _is_program(model):
        return _of_program(model, members, common)
    told = common
    if common.hardware is None and _is_foreign(model):
        told = dataclasses.replace(common, hardware=default_profile(Path(model)))
    hardware = {each: hardware_of(each.arithmetic(told)) for each in members}
    marked, inner, outer = _marked(model, members[0], common, hardware)
    base = without_limits(marked.program)
    asked = {}
    for each, spec in hardware.items():
        own = {inner: spec.accumulator, outer: spec.boundary_accumulator}
        asked[each] = {op.name: spec.layers.get(op.name, own.get(op.accumulator.bits, op.accumulator))
                       for op in marked.program.accumulating}
    return dataclasses.replace(marked, program=base), asked


def _marked(model: Any, first: Configuration, common: Arithmetic, hardware: Mapping[Configuration, HardwareSpec]
            ) -> tuple[Subject, int, int]:
    """The network on registers of widths that tell inner layers from the first and last, and both widths.

    They are no wider than the narrowest: models of others are made otherwise where a register may overflow, and whatever
    is exact on it is so on wider ones.
    """
    every = [each.narrowest for spec in hardware.values() for each in (spec.accumulator, spec.boundary_accumulator)]
    inner = min(MAX_BITS - 1, *(bits for bits in every if bits is not None))
    marks = Configuration(inner, "wrap", "1", "", str(inner + 1), first.requant).arithmetic(common)
    return subject_of(model, dataclasses.replace(marks, tile=None, order=None)), inner, inner + 1


def _of_program(model: Any, members: Sequence[Configuration], common: Arithmetic) -> tuple[Subject, _Asked]:
    """A program file: its registers are replaced, as those of a model of another's."""
    for each in members:
        if each.requant is not None:
            raise EvalError("requant: a program has its requantizer built in; give the checkpoint that it was made of")
    subject = subject_of(model, dataclasses.replace(common, order=None))
    ops = subject.program.accumulating
    ends, asked = {op.name for op in ops[:1] + ops[-1:]}, {}
    for each in members:
        told = hardware_of(each.arithmetic(Arithmetic(order=common.order)))
        outer = None if each.boundary is None else told.boundary_accumulator
        asked[each] = {op.name: (outer or op.accumulator) if op.name in ends else told.accumulator for op in ops}
    return dataclasses.replace(subject, program=without_limits(subject.program)), asked


def _grouped(subject: Subject, asked: _Asked, counters: bool) -> Group:
    base = checked(subject.program)
    runs = Runs(base, counters)
    return Group(subject, base, runs.of({}), {each: runs.of(registers) for each, registers in asked.items()}, asked)


def _is_program(model: Any) -> bool:
    return isinstance(model, Program) or (_is_file(model) and recognize(Path(model)) is PROGRAM)


def _is_foreign(model: Any) -> bool:
    return _is_file(model) and is_importable(recognize(Path(model)))


def _is_file(model: Any) -> bool:
    return isinstance(model, str | os.PathLike) and Path(model).exists()
