"""python -m sim.eval: the accuracy of a checkpoint on integer hardware, to the last bit."""

import contextlib
import dataclasses
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, get_args

import numpy as np
import torch
import typer
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from sim.accumulator import END, MAX_BITS, MIN_BITS, Accumulator, AccumulatorOverflowError, Overflow
from sim.checkpoint import Checkpoint, CheckpointError, load_checkpoint
from sim.command import new_app, run_app
from sim.hardware import HardwareSpec
from sim.kernels.isa import choose
from sim.lower import LowerError, lower
from sim.machine import Machine
from sim.network import FLOAT_BITS, QUANTIZED_BITS, ROLES, Conv, NetworkError, NetworkSpec, Precision
from sim.program import ConvOp, Program
from sim.quantizers import learns
from sim.records import write_record
from sim.requantizers import REQUANTIZERS
from training.data import DATASETS, DataError, Images, load_dataset
from training.network import QuantNetwork
from training.record import command_line, provenance

OVERFLOW_WORDS = {"wrap": "wrap", "saturate": "sat.", "error": "error"}

app = new_app()
console = Console(width=None if sys.stdout.isatty() else 120)


class EvalError(ValueError):
    """An option with a value that is not allowed, and what is."""


@app.command()
def main(  # noqa: PLR0913 - one parameter per option
    model: Annotated[Path, typer.Option(help="checkpoint of training.run")],
    bits: Annotated[int | None, typer.Option(help="bits of weights and activations, 1 to 8 or 16  [default: as trained]")
                    ] = None,
    boundary_bits: Annotated[int | None, typer.Option(help="bits of the first and last layer  [default: as trained]")
                             ] = None,
    accumulator: Annotated[int | None, typer.Option(
        help=f"bits of the accumulator of inner layers, {MIN_BITS} to {MAX_BITS}  [default: unlimited]")] = None,
    boundary_accumulator: Annotated[int | None, typer.Option(
        help="the same of the first and last layer")] = None,
    overflow: Annotated[str, typer.Option(help=", ".join(get_args(Overflow)))] = "wrap",
    tile: Annotated[str, typer.Option(help="products summed before they reach the accumulator: 1, N or end")] = "1",
    requant: Annotated[str, typer.Option(
        help=f"{', '.join(REQUANTIZERS)}; fp32 equals the torch model, the others are integers only")] = "fp32",
    dataset: Annotated[str | None, typer.Option(help=f"{', '.join(DATASETS)}  [default: the checkpoint's]")
                       ] = None,
    data: Annotated[Path | None, typer.Option(help="where the data are  [default: the checkpoint's]")] = None,
    limit: Annotated[int | None, typer.Option(help="evaluate the first N test images only")] = None,
    batch: Annotated[int, typer.Option(help="images run at a time")] = 100,
    verify: Annotated[bool, typer.Option("--verify", help="compare every code with the torch model")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="write the results to a file")] = None,
    save_program: Annotated[Path | None, typer.Option(help="write the integer program to a file (.npz)")] = None,
) -> None:
    """Run a trained network in integers on its test set."""
    command = command_line("sim.eval", {{"json_file": "json"}.get(key, key): value for key, value in locals().items()})
    for name, value in (("limit", limit), ("batch", batch)):
        if value is not None and value < 1:
            raise EvalError(f"{name}: {value} is not allowed, choose 1 or more images")
    hardware = _hardware(accumulator, boundary_accumulator, overflow, tile, requant)
    checkpoint = load_checkpoint(model)
    precision = _precision(checkpoint.spec.precision, bits, boundary_bits)
    _check_learned(checkpoint.spec, precision)
    spec = checkpoint.spec.at(precision)
    images = _test_images(checkpoint, dataset, data, limit)
    program = lower(spec, hardware)
    if spec.precision != checkpoint.spec.precision:
        console.print(f"trained as {checkpoint.spec.precision}; its float weights are requantized to {spec.precision}, "
                      "without further training", highlight=False, soft_wrap=not console.is_terminal)
    if save_program is not None:
        program.save(save_program)
    machine = Machine(program, _isa())
    started = time.perf_counter()
    result = _evaluate(machine, spec if verify else None, images[1], batch)
    result["seconds"] = time.perf_counter() - started
    _show(_title(checkpoint), machine, spec, images[0], result)
    if spec.precision != checkpoint.spec.precision:
        console.print(f"(not retrained: the checkpoint was trained as {checkpoint.spec.precision})", highlight=False)
    if json_file is not None:
        record = _record(model, checkpoint, spec, hardware, images[0], program, machine, result)
        write_record(json_file, {**record, **provenance(command)})
    if verify and requant == "fp32" and result["differing"]:
        raise typer.Exit(1)


def _isa() -> str:
    try:
        return choose()
    except ValueError as error:
        raise EvalError(str(error)) from None


def _hardware(accumulator: int | None, boundary: int | None, overflow: str, tile: str, requant: str) -> HardwareSpec:
    if tile != "end" and not (tile.isdecimal() and int(tile) >= 1):
        raise EvalError(f"tile: {tile!r} is not allowed, choose 1 or more products, or end")
    size = END if tile == "end" else int(tile)
    try:
        inner, outer = (Accumulator(width, overflow, size) for width in (accumulator, boundary))  # type: ignore[arg-type]
        spec = HardwareSpec(inner, outer, requant)
    except ValueError as error:
        raise EvalError(str(error)) from None
    if accumulator is None and boundary is None and inner != Accumulator():
        raise EvalError("overflow, tile: only a limited register has them, add --accumulator or --boundary-accumulator")
    return spec


def _precision(trained: Precision, bits: int | None, boundary: int | None) -> Precision:
    """The widths to run at: as trained, except where told otherwise."""
    inner = trained.inner if bits is None else bits
    if inner not in QUANTIZED_BITS:
        given = "this network is float" if bits is None else f"{bits} is not allowed"
        raise EvalError(f"bits: {given}, choose --bits 1 to 8 or 16")
    if boundary is None:
        boundary = trained.boundary if trained.boundary != FLOAT_BITS or not trained.is_float else 8
    if boundary == FLOAT_BITS:
        raise EvalError("boundary-bits: the first and last layer are float, add --boundary-bits 8 to quantize them")
    layers = trained.layers if inner == trained.inner else ()  # exceptions belong to the width they were chosen for
    return Precision(inner, boundary, 8 if trained.skip == FLOAT_BITS else trained.skip, layers)


def _check_learned(spec: NetworkSpec, wanted: Precision) -> None:
    """What was float has learned no scales: its placeholders would be silently wrong."""
    roles = [role for role in ROLES if spec.precision.bits(role, "") == FLOAT_BITS and wanted.bits(role, "") != FLOAT_BITS]
    if roles and learns(spec.quantizer):
        raise EvalError(f"bits: this network is float in its {' and '.join(roles)} layers, of which quantizer "
                        f"{spec.quantizer} has learned nothing; python -m training.run --scheme ptq --teacher quantizes "
                        "a float network")


def _test_images(checkpoint: Checkpoint, name: str | None, path: Path | None, limit: int | None) -> tuple[str, Images]:
    saved = checkpoint.dataset
    if path is None and (name is None or name == saved["name"]) and saved["path"]:
        path = Path(saved["path"])
    data = load_dataset(name or saved["name"], path)
    image = checkpoint.spec.graph.input
    channels, height, width = data.test.pixels.shape[1:]
    if (height, width, channels) != (image.height, image.width, image.channels):
        raise DataError(f"the network reads images of {image.height}x{image.width}x{image.channels}, "
                        f"{data.label} has {height}x{width}x{channels}")
    if int(data.test.labels.max()) >= checkpoint.spec.graph.classes:
        raise DataError(f"{data.label} has label {int(data.test.labels.max())}, "
                        f"the network knows 0 to {checkpoint.spec.graph.classes - 1}")
    return data.label, data.test.first(limit)


def _evaluate(machine: Machine, spec: NetworkSpec | None, images: Images, batch: int) -> dict[str, Any]:
    """Accuracy and speed of the machine; with a spec also the comparison with the torch model of it."""
    comparison = None if spec is None else _Comparison(machine, QuantNetwork.from_spec(spec))
    right, simulating = 0, 0.0
    pixels = images.pixels.permute(0, 2, 3, 1).contiguous().numpy()
    labels = images.labels.numpy()
    with console.status("compiling what this processor has not run before"), contextlib.suppress(AccumulatorOverflowError):
        machine.run(pixels[:1])  # before the clock starts, then forget
    machine.reset()
    with _progress() as progress:
        task = progress.add_task("images", total=len(labels), accuracy=0.0)
        for start in range(0, len(labels), batch):
            part, wanted = pixels[start : start + batch], labels[start : start + batch]
            trace: dict[str, np.ndarray] | None = {} if comparison else None
            begun = time.perf_counter()
            logits = machine.run(part, trace)
            simulating += time.perf_counter() - begun
            right += int((logits.argmax(1) == wanted).sum())
            if comparison is not None and trace is not None:
                comparison.add(part, wanted, trace)
            done = min(start + batch, len(labels))
            progress.update(task, completed=done, accuracy=100.0 * right / done, refresh=True)
    result: dict[str, Any] = {"images": len(labels), "accuracy": 100.0 * right / len(labels),
                              "images_per_second": len(labels) / simulating}
    if comparison is not None:
        result |= {"fq_accuracy": 100.0 * comparison.right / len(labels), "compared": comparison.compared,
                   "differing": sum(comparison.differing.values()), "largest_difference": comparison.largest,
                   "differing_by_layer": comparison.differing}
    return result


class _Comparison:
    """Counts codes that differ between machine and torch model, and what the model gets right.

    Under `fp32` the two run side by side and everything must be equal, logits included (C4).  An integer requantizer is
    compared operation by operation on the torch model's own codes (C5), with the accumulator out of the way; the model's
    logits are measured in units of the integer ones.
    """

    def __init__(self, machine: Machine, model: QuantNetwork) -> None:
        self.model = model
        self.differing = {op.name: 0 for op in machine.program.ops}
        self.compared = self.largest = self.right = 0
        integer_only = machine.program.convolutions[0].requant.name != "fp32"
        self.judge = Machine(_without_accumulators(machine.program), machine.isa) if integer_only else None

    def add(self, pixels: np.ndarray, labels: np.ndarray, trace: Mapping[str, np.ndarray]) -> None:
        """One batch: uint8 pixels [N, H, W, C] and the machine's results."""
        expected: dict[str, torch.Tensor] = {}
        with torch.no_grad():
            nchw = torch.from_numpy(pixels).permute(0, 3, 1, 2).float().contiguous(memory_format=torch.channels_last)
            logits = self.model(nchw, expected)
        self.right += int((logits.argmax(1).numpy() == labels).sum())
        wanted = {name: codes.permute(0, 2, 3, 1).numpy() for name, codes in expected.items()}
        if self.judge is not None:
            trace = self._judged(self.judge, pixels, wanted)
        for name, codes in trace.items():
            wrong = int((codes != wanted[name]).sum())
            self.differing[name] += wrong
            self.compared += codes.size
            if wrong and codes.dtype.kind in "iu":
                distance = np.abs(codes.astype(np.int64) - wanted[name].astype(np.int64)).max()
                self.largest = max(self.largest, int(distance))

    def _judged(self, judge: Machine, pixels: np.ndarray, wanted: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        ops = judge.program.ops
        inputs = {op.name: wanted[op.name].astype(op.format.dtype) for op in ops if op.format}
        last = judge.program.convolutions[-1]
        wanted[last.name] = np.rint(wanted[last.name].astype(np.float64) / last.unit)
        return {op.name: judge.apply(op, pixels, inputs) for op in ops}


def _without_accumulators(program: Program) -> Program:
    return Program(tuple(dataclasses.replace(op, accumulator=Accumulator()) if isinstance(op, ConvOp) else op
                         for op in program.ops))


def _progress() -> Progress:
    """Drawn between batches and not by a thread of its own, which would take turns with what is being timed."""
    return Progress(TextColumn("{task.description}"), BarColumn(30), MofNCompleteColumn(),
                    TextColumn("{task.fields[accuracy]:.2f} %"), TimeRemainingColumn(compact=True), console=console,
                    disable=not console.is_terminal, transient=True, auto_refresh=False)


def _title(checkpoint: Checkpoint) -> str:
    """Scheme, path and model as training noted them; a checkpoint made elsewhere may not say."""
    training = checkpoint.training
    path = training.get("path")
    rungs = "-".join(map(str, path)) if isinstance(path, list) else ""
    return " ".join(str(part) for part in (training.get("scheme", "network"), rungs, training.get("model", "")) if part)


def _show(title: str, machine: Machine, spec: NetworkSpec, label: str, result: dict[str, Any]) -> None:
    program = machine.program
    columns = ["layer", "output", "formats", "MACs", "acc.", "safe", "overflows"]
    differing = result.get("differing_by_layer")
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for column in columns + (["differ"] if differing else []):
        table.add_column(column, justify="left" if column == "layer" else "right", no_wrap=True)
    for op in program.ops:
        cells = _layer_cells(op, machine) if isinstance(op, ConvOp) else [""] * (len(columns) - 1)
        differ = [f"{differing[op.name]:,}"] if differing else []
        if isinstance(op, ConvOp) or (differing and differing[op.name]):
            table.add_row(op.name, *cells, *differ)
    console.print(table)
    overflowed = sum(int(counts.sum()) for counts in machine.overflows.values())
    say = partial(console.print, highlight=False, soft_wrap=not console.is_terminal)
    say("formats: input x weights, u unsigned, s signed (odd weights of k bits need an operand of k + 1)")
    say("acc.: accumulator bits; safe: bits that can never overflow")
    say("overflows: outputs that wrapped to another number, or were clipped at least once")
    say(f"{spec.precision}; {program.convolutions[0].requant.name} requantizer; {program.macs:,} MACs an image; "
        f"{overflowed:,} overflows; program {program.digest()[:16]}")
    say(f"accuracy {result['accuracy']:.2f} % on {result['images']:,} test images of {label}, "
        f"{result['images_per_second']:.0f} images/s ({machine.isa} kernels)")
    if differing:
        is_fp32 = program.convolutions[0].requant.name == "fp32"
        _show_comparison(title, spec, label, result, is_by_layer=not is_fp32)
        if result["differing"] and overflowed and is_fp32:
            say("the torch model has no accumulator limit: overflows make codes differ")


def _show_comparison(title: str, spec: NetworkSpec, label: str, result: dict[str, Any], is_by_layer: bool) -> None:
    """The table that a verified evaluation ends with: one network, twice."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for column in ("network", "bits", "data", "FQ %", "bit-true %", "simulator and torch model"):
        table.add_column(column, justify="right" if column.endswith("%") else "left")
    verdict = f"{result['differing']:,} of {result['compared']:,} codes differ"
    if result["largest_difference"]:
        verdict += f", by at most {result['largest_difference']}"
    if is_by_layer:
        verdict += ", each layer given the model's codes and a wide accumulator"
    width = f"W{spec.precision.inner}A{spec.precision.inner}"
    table.add_row(title, width, label, f"{result['fq_accuracy']:.2f}", f"{result['accuracy']:.2f}", verdict)
    console.print(table)


def _layer_cells(op: ConvOp, machine: Machine) -> list[str]:
    overflows = int(machine.overflows[op.name].sum())
    outputs = machine.images * op.shape[0] * op.shape[1] * op.shape[2]
    share = f"{overflows:,} {100.0 * overflows / outputs:.2f}%" if overflows else "0"
    register = op.accumulator
    width = "no limit" if register.bits is None else f"{register.bits} {OVERFLOW_WORDS[register.overflow]}"
    return ["x".join(map(str, op.shape)), f"{op.operand} x {op.weight_format}", _short(op.macs), width,
            str(op.safe_bits), share]


def _short(number: int) -> str:
    """Three digits and a unit."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return str(number)


def _record(model: Path, checkpoint: Checkpoint, spec: NetworkSpec, hardware: HardwareSpec, label: str,
            program: Program, machine: Machine, result: dict[str, Any]) -> dict[str, Any]:
    roles = {row.name: row.role for row in spec.graph.rows if isinstance(row, Conv)}
    layers = [{"name": op.name, "role": roles[op.name], "shape": list(op.shape), "operand": str(op.operand),
               "weight_bits": op.weight_bits,
               "weights": str(op.weight_format), "macs": op.macs, "safe_bits": op.safe_bits,
               "accumulator": dataclasses.asdict(op.accumulator),
               "overflows": int(machine.overflows[op.name].sum()),
               **({"overflows_by_channel": counts.tolist()} if (counts := machine.overflows[op.name]).any() else {}),
               "outputs": machine.images * op.shape[0] * op.shape[1] * op.shape[2]} for op in program.convolutions]
    return {"kind": "evaluation", "model": str(model), "dataset": label,
            "precision": spec.precision.to_json(), "trained_precision": checkpoint.spec.precision.to_json(),
            "hardware_spec": dataclasses.asdict(hardware),
            "training": dict(checkpoint.training), "program": program.digest(), "isa": machine.isa, "result": result,
            "layers": layers}


if __name__ == "__main__":
    run_app(app, EvalError, CheckpointError, NetworkError, DataError, LowerError, AccumulatorOverflowError)
