"""python -m bench.speed: training and evaluation of ResNet-20 on 32x32 images, side by side in one run.

Every implementation takes its turn in each round, so that a slow moment of the machine hits all of them; the table shows
medians and the spread from the lower to the upper quartile.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

from sim.accumulator import Accumulator
from sim.command import new_app, run_app
from sim.files import write_text_atomically
from sim.hardware import HardwareSpec
from sim.kernels.isa import available
from sim.lower import lower
from sim.machine import Machine
from sim.network import Input, Precision
from training.models import MODELS
from training.network import QuantNetwork
from training.record import provenance

app = new_app()


@app.command()
def main(rounds: Annotated[int, typer.Option(help="how often each takes its turn")] = 7,
         batch: Annotated[int, typer.Option(help="images of a training step")] = 128,
         json_file: Annotated[Path | None, typer.Option("--json", help="write the figures to a file")] = None) -> None:
    """Measure images per second."""
    torch.manual_seed(0)
    graph = MODELS["resnet20"](Input("image", "", 32, 32, 3, (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)), 10, 16)
    pixels = torch.randint(0, 256, (batch, 3, 32, 32), dtype=torch.uint8)
    cases: dict[str, Callable[[], object]] = {}
    for bits in (32, 8, 4, 2, 1):
        cases[f"train {_name(bits)}"] = _training_step(graph, bits, pixels)
    with torch.no_grad():
        for bits in (32, 2):
            cases[f"torch eval {_name(bits)}"] = _torch_eval(graph, bits, pixels)
    spec = QuantNetwork(graph, Precision(3)).spec()
    images = pixels.permute(0, 2, 3, 1).contiguous().numpy()
    for name, hardware in (("fp32", HardwareSpec()), ("tflite_single", HardwareSpec(requant="tflite_single")),
                           ("fp32, wrap 10", HardwareSpec(Accumulator(10, "wrap"))),
                           ("fp32, saturate 10", HardwareSpec(Accumulator(10, "saturate")))):
        for isa in available():
            machine = Machine(lower(spec, hardware), isa)
            cases[f"sim eval W3A3 {name}, {isa}"] = lambda machine=machine: machine.run(images)
    rows = _measure(cases, rounds, batch)
    _show(rows)
    if json_file is not None:
        write_text_atomically(json_file, json.dumps({"rows": rows, **provenance("bench.speed")}, indent=1) + "\n")


def _name(bits: int) -> str:
    return "float32" if bits == 32 else f"W{bits}A{bits}"


def _training_step(graph, bits: int, pixels: torch.Tensor) -> Callable[[], object]:
    model = QuantNetwork(graph, Precision.of(bits)).channels_last()
    optimizer = torch.optim.SGD(model.parameters(), 0.01, 0.9)
    labels = torch.arange(len(pixels)) % 10

    def step() -> None:
        model.train()
        batch = pixels.float().contiguous(memory_format=torch.channels_last)
        loss = torch.nn.functional.cross_entropy(model(batch), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step


def _torch_eval(graph, bits: int, pixels: torch.Tensor) -> Callable[[], object]:
    model = QuantNetwork(graph, Precision.of(bits)).channels_last().eval()

    @torch.no_grad()
    def evaluate() -> torch.Tensor:
        return model(pixels.float().contiguous(memory_format=torch.channels_last))

    return evaluate


def _measure(cases: dict[str, Callable[[], object]], rounds: int, images: int) -> list[dict[str, object]]:
    for case in cases.values():
        case()  # compile and warm up
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, case in cases.items():
            started = time.perf_counter()
            case()
            seconds[name].append(time.perf_counter() - started)
    return [{"case": name, "isa": name.rsplit(", ", 1)[1] if name.startswith("sim") else "torch",
             "images/s": images / float(np.median(times)),
             "spread": [images / float(np.quantile(times, q)) for q in (0.75, 0.25)]} for name, times in seconds.items()]


def _show(rows: list[dict[str, object]]) -> None:
    speed = {row["case"]: row["images/s"] for row in rows}
    table = Table()
    for column in ("case", "images/s", "spread", "of float32"):
        table.add_column(column, justify="left" if column == "case" else "right")
    for row in rows:
        base = speed["train float32" if row["case"].startswith("train") else "torch eval float32"]
        low, high = row["spread"]
        table.add_row(row["case"], f"{row['images/s']:.0f}", f"{low:.0f} to {high:.0f}", f"{row['images/s'] / base:.2f} x")
    Console().print(table)


if __name__ == "__main__":
    run_app(app)
