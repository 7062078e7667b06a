"""Machine against torch model, code by code: the proof of contracts C4 and C5 on one's own checkpoint and images.

>>> import sim
>>> spec = sim.load_checkpoint("tests/data/takd-digits-2bit.pt").spec
>>> machine = sim.Machine(sim.lower(spec))
>>> comparison = Comparison(machine, QuantNetwork.from_spec(spec))
>>> pixels, trace = np.zeros((4, 8, 8, 1), np.uint8), {}
>>> logits = machine.run(pixels, trace)
>>> comparison.add(pixels, np.zeros(4, np.int64), trace)
>>> sum(comparison.differing.values()), comparison.largest, comparison.agrees
(0, 0, True)
"""

import dataclasses
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import torch

from sim.accumulator import Accumulator
from sim.hardware import HardwareSpec
from sim.lowering import lower
from sim.machine import Machine
from sim.program import Op, Program
from sim.requantizers.fp32 import Fp32
from sim.tasks import CLASSIFICATION, TASKS, Task
from training.network import QuantNetwork

EXACT = "fp32"
"""The requantizer that computes as the torch model does, so that every code and logit must be equal (C4)."""
MOST_OFF = 1
"""Codes by which an integer requantizer may differ from the model on equal inputs (C5)."""
ROUNDINGS = 2.0**-22
"""Relative error that the roundings of the float32 affine can add up to."""
CERTAIN = 0.25
"""Codes of error below which the model's own rounding is certain to within one."""


class Comparison:
    """Counts codes that differ between a machine and a torch model, and what the model gets right.

    Under `fp32` the two run side by side and everything must be equal, logits included (C4).  An integer requantizer is
    compared operation by operation on the torch model's own codes (C5), with the accumulator out of the way; the model's
    logits are measured in units of the integer ones.

    `compared` codes so far, `differing` ones by operation, the `largest` difference of a code, `right` predictions of the
    model, `logits` those of the model, batch by batch; `beyond`: codes that an integer requantizer has more than one off
    although the model is certain of them.
    """

    def __init__(self, machine: Machine, model: QuantNetwork, task: Task = TASKS[CLASSIFICATION]) -> None:
        self.model, self.task = model, task
        self.differing = {op.name: 0 for op in machine.program.ops}
        self.compared = self.largest = self.right = self.beyond = 0
        self.logits: list[np.ndarray] = []
        self.is_exact = machine.program.requantizer == EXACT
        self.judge = None if self.is_exact else Machine(_without_accumulators(machine.program), machine.isa)

    @property
    def agrees(self) -> bool:
        """Whether the contract holds so far: no code differs, or none by more than one where numbers are integers only."""
        return not (any(self.differing.values()) if self.is_exact else self.beyond)

    def add(self, pixels: np.ndarray, labels: np.ndarray, trace: Mapping[str, np.ndarray]) -> None:
        """One batch: uint8 pixels [N, H, W, C], labels int [N], and every operation's result as `Machine.run` traced it.

        Of texts these are ids [N, tokens] and labels [N, 2].
        """
        expected: dict[str, torch.Tensor] = {}
        with torch.no_grad():
            logits = self.model(_given(pixels), expected)
        self.logits.append((logits.permute(0, 2, 3, 1) if logits.ndim == 4 else logits).numpy())
        self.right += self.task.right(self.logits[-1], labels)
        wanted = {name: codes.permute(0, 2, 3, 1).numpy() for name, codes in expected.items()}
        if self.judge is None:
            for name, codes in trace.items():
                self._count(name, codes, wanted[name])
        else:
            self._judge(self.judge, pixels, wanted)

    def _count(self, name: str, codes: np.ndarray, wanted: np.ndarray) -> int:
        """Add one operation's codes; returns the largest difference, 0 for logits that are real numbers."""
        wrong = int((codes != wanted).sum())
        self.differing[name] += wrong
        self.compared += codes.size
        if not wrong or codes.dtype.kind not in "iu":
            return 0
        largest = int(np.abs(codes.astype(np.int64) - wanted.astype(np.int64)).max())
        self.largest = max(self.largest, largest)
        return largest

    def _judge(self, judge: Machine, pixels: np.ndarray, wanted: dict[str, np.ndarray]) -> None:
        ops = judge.program.ops
        inputs = {op.name: wanted[op.name].astype(op.format.dtype) for op in ops if op.format}
        for op in judge.program.accumulating:
            if op.format is None:
                wanted[op.name] = np.rint(wanted[op.name].astype(np.float64) / op.unit)
        for op in ops:
            codes = judge.apply(op, pixels, inputs)
            if self._count(op.name, codes, wanted[op.name]) > MOST_OFF:
                off = np.abs(codes.astype(np.int64) - wanted[op.name].astype(np.int64)) > MOST_OFF
                self.beyond += int((off & self._is_certain(op, inputs)).sum())

    def _is_certain(self, op: Op, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """Where float32, in which the model scales its sums, is within a quarter of a code: [N, H, W, C], or of one value.

        Elsewhere, in wide layers, it is the model that is off.
        """
        twin = next(twin for twin in self._exact.program.ops if twin.name == op.name)
        if not twin.accumulates:
            return np.ones(1, bool)
        layer: Any = twin
        requant = layer.requant
        assert isinstance(requant, Fp32)
        sums = np.abs(self._exact.sums(twin, *(inputs[name] for name in twin.sources())).astype(np.float64))
        error = (sums * np.abs(requant.gain) + np.abs(requant.offset)) * ROUNDINGS
        if twin.residual:
            error += np.abs(inputs[twin.residual] * float(requant.skip_gain[0])) * ROUNDINGS
        unit: float = op.unit if op.accumulates else 1.0  # type: ignore[attr-defined]
        return np.asarray(error / unit < CERTAIN)

    @cached_property
    def _exact(self) -> Machine:
        """The same network with the model's own arithmetic, made only if a code is ever off by more than one."""
        return Machine(lower(self.model.spec(), HardwareSpec()))


def _given(inputs: np.ndarray) -> torch.Tensor:
    """What a machine takes as a network of torch does: pixels channels first, ids as they are."""
    given = torch.from_numpy(inputs)
    if inputs.ndim == 2:
        return given
    return given.permute(0, 3, 1, 2).float().contiguous(memory_format=torch.channels_last)


def _without_accumulators(program: Program) -> Program:
    ops: Iterable[Any] = program.ops
    return dataclasses.replace(program, ops=tuple(
        dataclasses.replace(op, accumulator=Accumulator()) if op.accumulates else op for op in ops))
