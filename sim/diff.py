"""python -m sim.diff: where the integers of two machines first differ, how many do, and why where that can be told."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from sim.accumulator import AccumulatorOverflowError
from sim.checkpoint import CheckpointError
from sim.command import CODES_DIFFER, new_app, new_console, new_table, output_file, printable, run_app, show_table
from sim.difference import Difference, DiffError, LayerDifference, compare
from sim.difference.images import images_for
from sim.difference.named import Names
from sim.importers import ImporterError
from sim.inputs import InputError
from sim.lowering import LowerError
from sim.network import NetworkError
from sim.outputs import EvalError, check_outputs, is_stdout
from sim.profiles import ProfileError
from sim.program import ProgramError
from sim.recognize import DIFFERENCE
from sim.records import write_record
from sim.registry import RegistryError
from sim.traces import TraceError
from training.data import DATASETS, DataError
from training.record import command_line, provenance

IMAGES = 100
SIDE = ("a program (.npz), a model (.tflite, .onnx), a checkpoint (its torch model), a trace, arrays (.npz, .npy, folder), "
        "or of --model: a profile, a requantizer, torch, or settings as accumulator=12,overflow=saturate")
app = new_app()


@app.command()
def main(  # noqa: PLR0913 - one parameter per option
    a: Annotated[str, typer.Argument(help=SIDE, metavar="A")],
    b: Annotated[str, typer.Argument(help="the same", metavar="B")],
    model: Annotated[Path | None, typer.Option(help="the model of sides that name no file")] = None,
    layer: Annotated[list[str] | None, typer.Option(
        help="only this tensor; what a single array (.npy) is of; may be given more than once  [default: all]")] = None,
    every: Annotated[bool, typer.Option("--all", help="list layers without a difference, too")] = False,
    pixels_as: Annotated[str | None, typer.Option(help="what a pixel stands for in a model of another's, as of sim.eval")
                         ] = None,
    quantizer: Annotated[str | None, typer.Option(help="where the checkpoint's quantizer is, if it is your own")] = None,
    dataset: Annotated[str | None, typer.Option(
        help=f"{', '.join(DATASETS)}  [default: the images of the trace, the checkpoint's, or made ones]")] = None,
    data: Annotated[Path | None, typer.Option(help="where the data are  [default: the checkpoint's]")] = None,
    limit: Annotated[int, typer.Option(help="the first N test images", min=1)] = IMAGES,
    json_file: Annotated[Path | None, typer.Option(
        "--json", help="write what was found to a file", parser=output_file, metavar="FILE")] = None,
) -> None:
    """Compare every integer of A with B's.

    Exit status: 0 if all are equal; 1 if some differ; 2 if refused.
    """
    options = {"model": model, "layer": layer, "all": every, "pixels_as": pixels_as, "quantizer": quantizer,
               "dataset": dataset, "data": data, "limit": limit, "json": json_file}
    check_outputs({"json": json_file}, {"A": _input(a), "B": _input(b), "model": model, "data": data}, {"json": DIFFERENCE})
    names = Names(model, pixels_as, quantizer, tuple(layer or ()))
    sides = names.side("A", a), names.side("B", b)
    if model is not None and all(_input(text) is not None for text in (a, b)):
        raise DiffError("model: has no effect, A and B are files")
    pixels, what = images_for(sides, dataset, data, limit)
    console = new_console(stderr=is_stdout(json_file))
    for side in sides:
        for note in side.notes:
            console.print(note)
    with _bar(console) as progress:
        task = progress.add_task("images", total=None if pixels is None else len(pixels))
        found = compare(*sides, pixels, layer, lambda done: progress.update(task, completed=done, refresh=True))
    _show(console, found, what, every)
    if json_file is not None:
        write_record(json_file, {"kind": "difference", **provenance(command_line("sim.diff", options, (a, b))),
                                 **found.to_json()})
    if found.differing:
        raise typer.Exit(CODES_DIFFER)


def _input(text: str) -> Path | None:
    path = Path(text)
    return path if path.exists() and path.suffix != ".toml" else None


def _bar(console: Console) -> Progress:
    return Progress(TextColumn("{task.description}"), BarColumn(30), MofNCompleteColumn(), TimeRemainingColumn(compact=True),
                    console=console, disable=not console.is_terminal, transient=True, auto_refresh=False)


def _show(console: Console, found: Difference, what: str, every: bool) -> None:
    console.print(f"A: {found.a}\nB: {found.b}\n{found.images} images: {what}")
    for note in found.notes:
        console.print(note)
    for letter, names in (("A", found.only_a), ("B", found.only_b)):
        if names:
            shown = ", ".join(map(printable, names[:5]))
            console.print(f"only in {letter}: {shown}{f' and {len(names) - 5} more' if names[5:] else ''}")
    first = found.first
    numbers = sum(layer.compared for layer in found.layers)
    if first is None:
        console.print(f"equal: 0 of {numbers:,} numbers of {len(found.layers)} tensors differ")
    if found.silent:
        console.print(f"constants of {len(found.silent)} layers differ without a difference on these images, such as "
                      f"{found.silent[0]}")
    if first is not None or every:
        _show_layers(console, [layer for layer in found.layers if layer.differing or every])
    if first is not None:
        console.print(f"{found.differing:,} of {numbers:,} numbers differ, in {_count(found)} of {len(found.layers)} "
                      "tensors; own: on equal inputs")
        _show_first(console, first)


def _count(found: Difference) -> int:
    return sum(bool(layer.differing) for layer in found.layers)


def _show_layers(console: Console, layers: list[LayerDifference]) -> None:
    table = new_table("layer", "compared", "differ", "by", "own", "cause", left=("layer", "cause"))
    for layer in layers:
        largest, own = f"{layer.largest:,}" if layer.largest else "", "" if layer.own is None else f"{layer.own:,}"
        table.add_row(layer.name, f"{layer.compared:,}", f"{layer.differing:,}", largest, own,
                      layer.cause.kind if layer.cause else "")
    show_table(console, table)


def _show_first(console: Console, first: LayerDifference) -> None:
    assert first.index is not None
    axes = ("image", "row", "column", "channel")
    where = ", ".join(f"{axis} {place}" for axis, place in zip(axes, first.index, strict=True))
    console.print(f"first difference: {first.name}, {where}: A {first.a}, B {first.b}")
    if first.cause is not None:
        console.print(f"cause: {first.cause}")


if __name__ == "__main__":
    run_app(app, DiffError, TraceError, InputError, EvalError, ImporterError, ProfileError, CheckpointError, ProgramError,
            NetworkError, DataError, LowerError, RegistryError, AccumulatorOverflowError)
