"""python -m training.profile: how the weights and activations of a trained network lie in the range of their codes.

Weights: a histogram of the float weights of each layer, and of every code the float weights that become it.  Activations: a
histogram of what each layer computes, in code steps before it is rounded and clipped, over test images.  The plot of
`training.tables` shows both with the range that the codes have, as hls4ml's profiling does.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor, nn

from sim.checkpoint import CheckpointError
from sim.command import new_app, new_console, output_file, printable, run_app, show_table
from sim.network import FLOAT_BITS
from sim.outputs import EvalError, check_outputs
from sim.records import write_record
from training.data import DataError
from training.examined import Examined, ExamineError, about, check_limit, images_of, predictions
from training.layers import ConvLayer
from training.layers.activate import Activate
from training.network import QuantNetwork
from training.record import command_line, provenance

KIND = "profile"
BINS = 60
IMAGES = 256
"""Looked at unless told otherwise: every layer has thousands of activations for each."""
BEYOND = 1.0
"""How much of the range is shown on either side of it."""

app = new_app()


@app.command()
def main(
    model: Annotated[Path, typer.Option(help="checkpoint of training.run, of a quantized network")],
    dataset: Annotated[str | None, typer.Option(help="data set  [default: the checkpoint's]")] = None,
    data: Annotated[Path | None, typer.Option(help="where the data are  [default: the checkpoint's]")] = None,
    limit: Annotated[int, typer.Option(help="the first N test images")] = IMAGES,
    json_file: Annotated[Path | None, typer.Option(
        "--json", help="write a record, which training.tables reads", parser=output_file, metavar="FILE")] = None,
) -> None:
    """Look at the weights and activations of a network beside the range of their codes.

    Example: python -m training.profile --model runs/mine/ckpt.pt --json runs/mine/profile.json
    """
    check_limit(limit)
    check_outputs({"json": json_file}, {"model": model, "data": data}, {})
    options = {"model": model, "dataset": dataset, "data": data, "limit": limit, "json": json_file}
    record = examine(model, dataset, data, limit, command_line("training.profile", options))
    _show(record)
    if json_file is not None:
        write_record(json_file, record)


def examine(file: Path, dataset: str | None = None, data: Path | None = None, limit: int = IMAGES,
            command: str = "") -> dict[str, Any]:
    """The record of a checkpoint.  Raises ExamineError, CheckpointError, DataError or OSError."""
    found = Examined.of(file)
    if found.checkpoint.spec.precision.is_float:
        raise ExamineError(f"model: {file} is a float network, it has no codes")
    images = images_of([found], dataset, data)
    network = found.model()
    watched = {name: Watched(end) for name, end in network.activations().items() if not end.is_float}
    try:
        predictions(network, images, limit)
    finally:
        for each in watched.values():
            each.handle.remove()
    return {"kind": KIND, **provenance(command), **about(images), "images": len(images.test.first(limit)),
            "network": found.to_json(), "weights": list(weights(network)),
            "activations": [{"name": name, **each.to_json()} for name, each in watched.items()]}


@torch.no_grad()
def weights(network: QuantNetwork) -> Iterator[dict[str, Any]]:
    """Of every layer with quantized windows: its float weights as a histogram, and what becomes of them by code."""
    for name, layer in network.layers.items():
        if not isinstance(layer, ConvLayer) or layer.bits == FLOAT_BITS:
            continue
        codes, _ = layer.weight_codes()
        real = layer.weight.detach().flatten()
        largest = float(real.abs().max())
        yield {"name": name, "bits": layer.bits, "largest": largest,
               "counts": torch.histc(real, BINS, -largest, largest).to(torch.int64).tolist(),
               "codes": [_code(code, real[codes.detach().flatten() == code]) for code in torch.unique(codes).tolist()]}


def _code(code: float, real: Tensor) -> dict[str, Any]:
    return {"code": int(code), "count": len(real), "least": float(real.min()), "most": float(real.max())}


class Watched:
    """Counts what reaches the end of a row, in code steps, while a network runs."""

    def __init__(self, end: Activate) -> None:
        self.least, self.most = float(end.least), float(end.levels)
        width = (self.most - self.least) * BEYOND
        self.low, self.high = self.least - width, self.most + width
        self.counts = torch.zeros(BINS, dtype=torch.int64)
        self.total = self.below = self.above = 0
        self.handle = end.register_forward_pre_hook(self)

    def __call__(self, module: nn.Module, given: tuple[Any, ...]) -> None:
        """Before the rounding; what lies beyond the picture counts in its outermost bins."""
        steps = given[0].detach().float()
        self.counts += torch.histc(steps.clamp(self.low, self.high), BINS, self.low, self.high).to(torch.int64)
        self.total += steps.numel()
        self.below += int((steps < self.least - 0.5).sum())
        self.above += int((steps > self.most + 0.5).sum())

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"least": self.least, "most": self.most, "low": self.low, "high": self.high, "counts": self.counts.tolist(),
                "total": self.total, "below": self.below, "above": self.above}


def _show(record: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table()
    for column in ("layer", "codes", "values", "below the codes %", "above them %"):
        table.add_column(column, justify="left" if column == "layer" else "right")
    for row in record["activations"]:
        shares = [f"{100.0 * row[key] / row['total']:.2f}" for key in ("below", "above")]
        table.add_row(printable(row["name"]), f"{row['least']:g} to {row['most']:g}", f"{row['total']:,}", *shares)
    show_table(new_console(), table)


if __name__ == "__main__":
    run_app(app, ExamineError, EvalError, CheckpointError, DataError)
