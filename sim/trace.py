"""python -m sim.trace: any tensor of a run, sums before requantization included, as an archive or a folder of arrays."""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from sim.accumulator import AccumulatorOverflowError
from sim.arithmetic import Arithmetic
from sim.checkpoint import CheckpointError
from sim.command import new_app, new_console, new_table, run_app, show_table
from sim.evaluation import Source, prepare
from sim.importers import ImporterError
from sim.lowering import LowerError
from sim.network import NetworkError
from sim.outputs import EvalError, check_outputs, code_file, profile_file
from sim.profiles import ProfileError
from sim.program import ProgramError
from sim.recognize import TRACE
from sim.registry import RegistryError
from sim.requantizers import REQUANTIZERS
from sim.subject import Subject
from sim.text import printable
from sim.traces import SUMS, Trace, TraceError, chosen
from sim.tracing import TorchModel, check_memory, machine_tensors, tensor_names, torch_names
from sim.values import sizes
from training.data import DATASETS, DataError

IMAGES = 16
app = new_app()


@app.command()
def main(  # noqa: PLR0913 - one parameter per option
    model: Annotated[Path, typer.Option(
        help="checkpoint of training.run, a program that --save-program wrote, or a model of another's (.tflite, .onnx)")],
    out: Annotated[Path, typer.Option(help="what to write: an archive (.npz), or a folder of .npy", metavar="FILE|FOLDER")],
    layer: Annotated[list[str] | None, typer.Option(
        help=f"only this tensor; NAME{SUMS} are the sums of NAME; may be given more than once  [default: all]")] = None,
    sums: Annotated[bool, typer.Option(help="write sums before requantization, too")] = True,
    torch: Annotated[bool, typer.Option("--torch", help="trace the checkpoint's torch model, not the simulator")] = False,
    bits: Annotated[int | None, typer.Option(help="as of sim.eval, like all below")] = None,
    boundary_bits: Annotated[int | None, typer.Option()] = None,
    activation_bits: Annotated[int | None, typer.Option()] = None,
    accumulator: Annotated[str | None, typer.Option()] = None,
    boundary_accumulator: Annotated[str | None, typer.Option()] = None,
    overflow: Annotated[str | None, typer.Option()] = None,
    tile: Annotated[str | None, typer.Option()] = None,
    requant: Annotated[str | None, typer.Option(help=f"{', '.join(REQUANTIZERS)}")] = None,
    hardware: Annotated[str | None, typer.Option(metavar="NAME|FILE")] = None,
    order: Annotated[str | None, typer.Option()] = None,
    registers: Annotated[Path | None, typer.Option(metavar="FILE")] = None,
    pixels_as: Annotated[str | None, typer.Option()] = None,
    quantizer: Annotated[str | None, typer.Option()] = None,
    dataset: Annotated[str | None, typer.Option(help=f"{', '.join(DATASETS)}  [default: the checkpoint's]")] = None,
    data: Annotated[Path | None, typer.Option(help="where the data are  [default: the checkpoint's]")] = None,
    limit: Annotated[int, typer.Option(help="the first N test images")] = IMAGES,
) -> None:
    """Write tensors of a run.  Exit status: 0; 2 if refused."""
    is_archive = out.suffix == ".npz"
    inputs = {"model": model, "data": data, "requant": code_file(requant), "quantizer": code_file(quantizer),
              "hardware": profile_file(hardware), "registers": registers}
    check_outputs({"out": out} if is_archive else {}, inputs, {"out": TRACE})
    if not is_archive and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise TraceError(f"out: {printable(out)} is there already: name an archive (.npz) or a new folder")
    own = None if registers is None else str(registers)
    wanted = Arithmetic(bits, boundary_bits, number(accumulator), number(boundary_accumulator), overflow, tile, requant,
                        quantizer, activation_bits, hardware, pixels_as, order, own)
    job = prepare(model, wanted, Source(dataset=dataset, data=data, limit=limit))
    console = new_console()
    for note in job.notes:
        console.print(note)
    pixels = job.examples.pixels
    if torch:
        made = _of_torch(job.subject, wanted, pixels, layer)
    else:
        known = tensor_names(job.subject.program)
        names = chosen(known, layer) if layer else [name for name in known if sums or not name.endswith(SUMS)]
        check_memory(job.subject.program, names, len(pixels))
        made = machine_tensors(job.machine, pixels, names)
    about = {"model": str(model), "model_digest": job.subject.digest, "program": job.subject.program.digest(),
             "of": "the torch model" if torch else "the simulator", "data": job.examples.label}
    Trace(made, pixels, about).save(out)
    _show(console, made)
    console.print(f"{printable(out)}: {len(made)} tensors of {len(pixels)} images of {job.examples.label}")


def number(text: str | None) -> Any:
    """A width as a number; what else a register may be told by stays a text."""
    return int(text) if text is not None and text.isascii() and text.isdecimal() else text


def _of_torch(subject: Subject, wanted: Arithmetic, pixels: np.ndarray, layers: list[str] | None) -> dict[str, np.ndarray]:
    if subject.spec is None:
        raise EvalError("torch: only a checkpoint has a torch model")
    for name in ("accumulator", "boundary_accumulator", "overflow", "tile", "requant", "hardware", "order", "registers"):
        if getattr(wanted, name) is not None:
            raise EvalError(f"{name.replace('_', '-')}: the torch model has no registers and no requantizer, leave it out")
    names = chosen(torch_names(subject.spec), layers or None)
    check_memory(subject.program, names, len(pixels))
    return TorchModel(subject.spec).tensors(pixels, names)


def _show(console: Console, tensors: dict[str, np.ndarray]) -> None:
    table: Table = new_table("tensor", "type", "[N, H, W, C]", "least", "largest", left=("tensor", "type", "[N, H, W, C]"))
    for name, array in tensors.items():
        table.add_row(name, str(array.dtype), sizes(array.shape), f"{array.min():g}", f"{array.max():g}")
    show_table(console, table)


if __name__ == "__main__":
    run_app(app, TraceError, EvalError, ImporterError, ProfileError, CheckpointError, ProgramError, NetworkError, DataError,
            LowerError, RegistryError, AccumulatorOverflowError)
