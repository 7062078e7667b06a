"""Tensors of a run: every operation's result and what registers held, of a machine or of the torch model."""

import math
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import numpy as np

from sim.machine import Machine
from sim.program import Op, Program
from sim.traces import MOST_BYTES, SUMS, TraceError

if TYPE_CHECKING:
    from sim.network import NetworkSpec

BATCH = 100
"""Images whose tensors are held at a time, those that nobody asked for included."""


def tensor_names(program: Program) -> list[str]:
    """Every tensor of a program: sums of an operation before its result."""
    names: list[str] = []
    for op in program.ops:
        names += [op.name + SUMS] if op.accumulates else []
        names.append(op.name)
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise TraceError(f"an operation is called {twice}, as the sums of another are: nothing tells them apart")
    return names


def check_memory(program: Program, names: Collection[str], images: int) -> None:
    """Raise TraceError if these tensors of so many images are more than a trace may hold."""
    ops = {op.name: op for op in program.ops}
    size = images * sum(math.prod(ops[name.removesuffix(SUMS) if name not in ops else name].shape)
                        * _dtype(ops, name).itemsize for name in names)
    if size > MOST_BYTES:
        raise TraceError(f"limit: these tensors of {images} images have {size / 2**30:.1f} GiB, at most {MOST_BYTES >> 30} "
                         "are held: take fewer images (--limit), or name layers (--layer)")


def _dtype(ops: dict[str, Op], name: str) -> np.dtype:
    if name not in ops:
        return sum_dtype(ops[name.removesuffix(SUMS)])
    form = ops[name].format
    return np.dtype(np.float32) if form is None else form.dtype


def sum_dtype(op: Any) -> np.dtype:
    """Of an operation's sums: int32 unless they, or its register, can be wider."""
    return np.dtype(np.int32 if max(op.safe_bits, op.accumulator.bits or 0) <= 32 else np.int64)


def machine_tensors(machine: Machine, pixels: np.ndarray, names: Collection[str]) -> dict[str, np.ndarray]:
    """These tensors of a run on `pixels`, as `Machine.run` takes them, by name in the program's order.

    Raises AccumulatorOverflowError under overflow "error".
    """
    parts: dict[str, list[np.ndarray]] = {}
    for start in range(0, len(pixels), BATCH):
        trace: dict[str, np.ndarray] = {}
        machine.results(pixels[start : start + BATCH], trace)
        for op in machine.program.ops:
            if op.name + SUMS in names and op.accumulates:
                inputs = [trace[name] for name in op.sources() if name != op.residual]
                parts.setdefault(op.name + SUMS, []).append(machine.sums(op, *inputs).astype(sum_dtype(op)))
            if op.name in names:
                parts.setdefault(op.name, []).append(trace[op.name])
    return {name: np.concatenate(each) for name, each in parts.items()}


def torch_names(spec: "NetworkSpec") -> list[str]:
    """Every tensor of a torch model: it has no registers."""
    return [row.name for row in spec.graph.rows]


class TorchModel:
    """The fake-quantized model of a checkpoint (FQ)."""

    def __init__(self, spec: "NetworkSpec") -> None:
        from training.network import QuantNetwork  # noqa: TID251 - the other half, only where it is compared

        self.spec, self._model = spec, QuantNetwork.from_spec(spec)

    def tensors(self, pixels: np.ndarray, names: Collection[str]) -> dict[str, np.ndarray]:
        """These tensors [N, H, W, C] of `pixels` uint8 [N, H, W, C]: codes as whole numbers, logits as real ones."""
        import torch  # noqa: TID251

        traced: dict[str, Any] = {}
        with torch.no_grad():
            given = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float()
            self._model(given.contiguous(memory_format=torch.channels_last), traced)
        logits = set(self.spec.graph.output_names)
        found = {name: traced[name].permute(0, 2, 3, 1).numpy() for name in traced if name in names}
        return {name: array if name in logits else whole(array) for name, array in found.items()}


def whole(array: np.ndarray) -> np.ndarray:
    """Real numbers that are all whole as the narrowest signed integers; others as they are."""
    if array.dtype.kind != "f" or not np.isfinite(array).all() or (array != np.rint(array)).any() \
            or np.abs(array).max(initial=0) >= 2**53:
        return array
    largest = np.abs(array).max(initial=0)
    return array.astype(next(kind for kind in (np.int16, np.int32, np.int64) if largest <= np.iinfo(kind).max))
