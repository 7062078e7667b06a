"""python -m bench.layers: where the time of a whole network goes, operation by operation.

A model's weights are random and its batch norms as if every input had a mean square of 1/3, so that codes use their range.
An operation's time is that of its step, filling of its output's border included: with NUMBA_NUM_THREADS=1 processor time,
which neighbors on the machine hardly change, else the time that passes.
"""

import time
from collections.abc import Mapping
from typing import Annotated, Any

import numba
import numpy as np
import typer
from rich import box
from rich.table import Table

from bench.cases import random_pixels, random_spec
from sim.command import new_app, new_console, run_app, show_table
from sim.lowering import lower
from sim.machine import Machine
from sim.network import NetworkError
from sim.ops.op import Op
from sim.registry import RegistryError
from training.models import MODELS

app = new_app()


class LayersError(ValueError):
    """An option with a value that is not allowed, and what is."""


class TimedMachine(Machine):
    """A machine that keeps the seconds of each operation of each chunk."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._clock = time.process_time if numba.get_num_threads() == 1 else time.perf_counter
        self.seconds: dict[str, list[float]] = {op.name: [] for op in self.program.ops}

    def _step(self, run: Any, op: Op, inputs: Any, images: int) -> Any:
        started = self._clock()
        result = super()._step(run, op, inputs, images)
        self.seconds[op.name].append(self._clock() - started)
        return result


def profile(machine: TimedMachine, pixels: np.ndarray, rounds: int) -> dict[str, float]:
    """Seconds of each operation in a whole run of `pixels`: the median over `rounds` of the sum over chunks."""
    machine.run(pixels)  # compile
    runs = []
    for _ in range(rounds):
        for seconds in machine.seconds.values():
            seconds.clear()
        machine.run(pixels)
        runs.append([sum(seconds) for seconds in machine.seconds.values()])
    return dict(zip(machine.seconds, np.median(runs, 0).tolist(), strict=True))


def by_kind(machine: Machine, seconds: Mapping[str, float]) -> dict[str, float]:
    """The same by what operations are: kind, kernel path."""
    totals: dict[str, float] = {}
    for op in machine.program.ops:
        key = described(machine, op)
        totals[key] = totals.get(key, 0.0) + seconds[op.name]
    return totals


def described(machine: Machine, op: Op) -> str:
    """An operation's kind and what runs it."""
    return f"{op.kind} {machine.path_of(op)}".strip()


@app.command()
def main(
    model: Annotated[str, typer.Option(help=f"network, of {', '.join(MODELS)}")] = "mobilenetv2",
    size: Annotated[int, typer.Option(help="side of the images")] = 224,
    bits: Annotated[int, typer.Option(help="width of weights and activations")] = 8,
    batch: Annotated[int, typer.Option(help="images of a run")] = 8,
    rounds: Annotated[int, typer.Option(help="runs, whose median is shown")] = 9,
    most: Annotated[int, typer.Option(help="operations to list, the costliest first")] = 20,
) -> None:
    """Show the costliest operations of a network on the machine, and shares by kind and kernel path."""
    for name, value in (("size", size), ("bits", bits), ("batch", batch), ("rounds", rounds), ("most", most)):
        if value < 1:
            raise LayersError(f"{name}: {value} is not allowed, choose 1 or more")
    MODELS.find(model)
    machine = TimedMachine(lower(random_spec(model, size, bits)))
    seconds = profile(machine, random_pixels(batch, size), rounds)
    total = sum(seconds.values())
    ops = {op.name: op for op in machine.program.ops}
    table = _table(f"{model}, {batch} x {size}x{size}, W{bits}A{bits}, {machine.isa}: {1e3 * total:.1f} ms",
                   "operation", "shape", "what runs it", "ms", "share", "GMAC/s")
    for name in sorted(seconds, key=lambda name: -seconds[name])[:most]:
        op = ops[name]
        rate = f"{batch * op.macs / seconds[name] / 1e9:.0f}" if op.macs else ""
        table.add_row(name, "x".join(map(str, op.shape)), described(machine, op), *_cells(seconds[name], total), rate)
    show_table(new_console(), table)
    table = _table("by kind", "what runs", "ms", "share")
    for key, spent in sorted(by_kind(machine, seconds).items(), key=lambda item: -item[1]):
        table.add_row(key, *_cells(spent, total))
    show_table(new_console(), table)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for column in columns:
        table.add_column(column)
    return table


def _cells(seconds: float, total: float) -> tuple[str, str]:
    return f"{1e3 * seconds:.2f}", f"{100 * seconds / total:.1f} %"


if __name__ == "__main__":
    run_app(app, LayersError, NetworkError, RegistryError)
