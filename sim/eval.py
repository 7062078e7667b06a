"""python -m sim.eval: the accuracy of a checkpoint on integer hardware, to the last bit."""

from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, get_args

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from sim.accumulator import MAX_BITS, MIN_BITS, AccumulatorOverflowError, Overflow
from sim.checkpoint import Checkpoint, CheckpointError
from sim.command import CODES_DIFFER, new_app, new_console, new_table, output_file, run_app, show_table
from sim.cost import CostError
from sim.cost.cost import Wanted
from sim.cost.show import show_cost
from sim.definitions import NORMS
from sim.evaluation import BATCH, Source, prepare
from sim.importers import ImporterError
from sim.lowering import LowerError
from sim.network import NetworkError
from sim.orders import ORDERS
from sim.outcome import Evaluation, Verification
from sim.outputs import check_outputs, code_file, is_stdout, profile_file
from sim.profiles import ProfileError, profiles
from sim.program import ProgramError
from sim.redefined import GELUS, SOFTMAX_UNITS
from sim.registry import RegistryError
from sim.requantizers import REQUANTIZERS
from sim.subject import Arithmetic, EvalError
from sim.tasks import Task
from sim.text import short
from training.data import DATASETS, DataError
from training.record import command_line

NARROW = " narrow"
"""Of a format; two of them would make the table too wide for a terminal."""
OVERFLOW_WORDS = {"wrap": "wrap", "saturate": "sat.", "error": "error"}

app = new_app()


@app.command()
def main(  # noqa: PLR0913 - one parameter per option
    model: Annotated[Path, typer.Option(
        help="checkpoint of training.run, a program that --save-program wrote, or a model of another's (.tflite, .onnx)")],
    bits: Annotated[int | None, typer.Option(help="bits of weights and activations, 1 to 8 or 16  [default: as trained]")
                    ] = None,
    boundary_bits: Annotated[int | None, typer.Option(help="bits of the first and last layer  [default: as trained]")
                             ] = None,
    activation_bits: Annotated[int | None, typer.Option(
        help="bits of the inner activations alone: --bits 4 --activation-bits 8 is W4A8  [default: as the weights]")] = None,
    accumulator: Annotated[str | None, typer.Option(
        help=f"bits of the accumulator of inner layers, {MIN_BITS} to {MAX_BITS}, or registers one after another, "
             "PRODUCTS:BITS:RULE with commas: 2:16:saturate,end:32:wrap  [default: unlimited]", metavar="BITS|STAGES"),
    ] = None,
    boundary_accumulator: Annotated[str | None, typer.Option(
        help="the same of the first and last layer", metavar="BITS|STAGES")] = None,
    overflow: Annotated[str | None, typer.Option(help=f"{', '.join(get_args(Overflow))}  [default: wrap]")] = None,
    tile: Annotated[str | None, typer.Option(
        help="products summed before they reach the accumulator: 1, N or end  [default: 1]")] = None,
    order: Annotated[str | None, typer.Option(
        help=f"in which products reach registers: {', '.join(ORDERS)}, or loops, such as "
             '"channels/16 rows columns channels"  [default: rows]')] = None,
    registers: Annotated[Path | None, typer.Option(
        help="a file (.toml) of layers that have registers of their own", metavar="FILE")] = None,
    counters: Annotated[bool, typer.Option(
        "--counters", help="count stage by stage which sums do not fit, and which only do not on the way")] = False,
    requant: Annotated[str | None, typer.Option(
        help=f"{', '.join(REQUANTIZERS)}; fp32 equals the torch model; a multiplier of 8 to 30 bits: double_16; your own: "
             "file.py:CLASS, package.module:CLASS, or what an installed package adds  [default: fp32]")] = None,
    hardware: Annotated[str | None, typer.Option(
        help=f"a runtime's or accelerator's registers and requantizers, from which single options may differ: "
             f"{', '.join(profiles())}, or your own .toml file", metavar="NAME|FILE")] = None,
    pixels_as: Annotated[str | None, typer.Option(
        help="what a pixel p stands for in a model of another's: raw (p), unit (p / 255), symmetric, codes, or MEAN/STD of "
             "p / 255  [default: what the scale of its input tells]")] = None,
    quantizer: Annotated[str | None, typer.Option(
        help="where the checkpoint's quantizer is, if it is one of your own: file.py:NAME, package.module:NAME")] = None,
    softmax: Annotated[str | None, typer.Option(
        help=f"compute every softmax as {', '.join(SOFTMAX_UNITS)}  [default: as trained]")] = None,
    gelu: Annotated[str | None, typer.Option(help=f"every GELU as {', '.join(GELUS)}  [default: as trained]")] = None,
    norm: Annotated[str | None, typer.Option(help=f"every norm as {', '.join(NORMS)}  [default: as trained]")] = None,
    dataset: Annotated[str | None, typer.Option(help=f"{', '.join(DATASETS)}  [default: the checkpoint's]")
                       ] = None,
    data: Annotated[Path | None, typer.Option(help="where the data are  [default: the checkpoint's]")] = None,
    limit: Annotated[int | None, typer.Option(help="evaluate the first N test images only")] = None,
    batch: Annotated[int | None, typer.Option(help=f"images run at a time  [default: {BATCH}]")] = None,
    verify: Annotated[bool, typer.Option("--verify", help="compare every code with the torch model")] = False,
    per_class: Annotated[bool, typer.Option("--per-class", help="show the accuracy of each class")] = False,
    cost: Annotated[bool, typer.Option("--cost", help="show operations, memory, energy, zero operands and toggled bits")
                    ] = False,
    cost_images: Annotated[int | None, typer.Option(
        help=f"images that zeros and toggled bits are counted on; implies --cost  [default: {Wanted.images}]")] = None,
    array: Annotated[str | None, typer.Option(
        help="show the cycles of an array of multipliers: os:32x32, ws:32x32, is:32x32 (systolic), pe:8x16 (PE x SIMD), or "
             "a file (.toml); implies --cost", metavar="ARRAY|FILE")] = None,
    energy: Annotated[str | None, typer.Option(
        help="a table of energies: horowitz_45nm, or your own .toml file; implies --cost  [default: horowitz_45nm]",
        metavar="NAME|FILE")] = None,
    predictions: Annotated[Path | None, typer.Option(
        help="write label, prediction and logits of each image to a file (.csv)", parser=output_file, metavar="FILE")
        ] = None,
    json_file: Annotated[Path | None, typer.Option(
        "--json", help="write the results to a file", parser=output_file, metavar="FILE")] = None,
    save_program: Annotated[Path | None, typer.Option(
        help="write the integer program to a file (.npz)", parser=output_file, metavar="FILE")] = None,
) -> None:
    """Run a trained network in integers on its test set.

    Exit status: 0; 1 if --verify finds codes that differ (of an integer requantizer: by more than one); 2 if refused.
    """
    options = dict(locals())
    options["json"] = options.pop("json_file")
    outputs = {"save-program": save_program, "predictions": predictions, "json": json_file}
    check_outputs(outputs, {"model": model, "data": data, "requant": code_file(requant), "quantizer": code_file(quantizer),
                            "hardware": profile_file(hardware), "registers": registers, "array": profile_file(array),
                            "energy": profile_file(energy)})
    console = new_console(stderr=any(map(is_stdout, outputs.values())))
    own = None if registers is None else str(registers)
    wanted = Arithmetic(bits, boundary_bits, _width(accumulator), _width(boundary_accumulator), overflow, tile, requant,
                        quantizer, activation_bits, hardware, pixels_as, order, own, softmax, gelu, norm)
    job = prepare(model, wanted, Source(dataset=dataset, data=data, limit=limit), batch, verify, counters,
                  Wanted.asked(cost, energy, array, cost_images))
    for note in job.notes:
        console.print(note)
    if per_class and not job.examples.task.has_classes:
        raise EvalError(f"per-class: {job.examples.label} is about {job.examples.task.unit}, which have no classes")
    with _Live(console, len(job.examples.labels), job.examples.task) as live:
        result = job.run(live)
    if save_program is not None:
        result.program.save(save_program)
    _show(console, result, per_class)
    if result.cost is not None:
        show_cost(console, result.cost)
    if predictions is not None:
        result.save_predictions(predictions)
    if json_file is not None:
        result.save(json_file, command_line("sim.eval", options))
    if result.verification is not None and not result.verification.agrees:
        raise typer.Exit(CODES_DIFFER)


def _width(text: str | None) -> int | str | None:
    """A number of bits, or stages."""
    is_number = text is not None and text.removeprefix("-").isascii() and text.removeprefix("-").isdecimal()
    return int(text) if text is not None and is_number and len(text) < 20 else text


class _Live:
    """What a terminal shows meanwhile: that kernels are compiled, then a bar.

    It is drawn between batches and not by a thread of its own, which would take turns with what is being timed.
    """

    def __init__(self, console: Console, images: int, task: Task) -> None:
        self.status = console.status("compiling what this processor has not run before")
        self.progress = Progress(TextColumn("{task.description}"), BarColumn(30), MofNCompleteColumn(),
                                 TextColumn("{task.fields[accuracy]}"), TimeRemainingColumn(compact=True), console=console,
                                 disable=not console.is_terminal, transient=True, auto_refresh=False)
        self.task = self.progress.add_task(task.input, total=images, accuracy="")
        self.meanwhile = task.meanwhile

    def __enter__(self) -> "_Live":
        self.status.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.status.stop()
        self.progress.stop()

    def __call__(self, done: int, right: int) -> None:
        if not done:
            self.status.stop()
            self.progress.start()
        else:
            self.progress.update(self.task, completed=done, accuracy=f"{100.0 * right / done:.2f} % {self.meanwhile}",
                                 refresh=True)


def _show(console: Console, result: Evaluation, per_class: bool) -> None:
    program, verification = result.program, result.verification
    show_table(console, _layer_table(result))
    console.print("formats: input x weights, u unsigned, s signed (odd weights of k bits need an operand of k + 1)")
    if any(NARROW in op.details()[0] for op in program.accumulating):
        console.print("n: narrow, without the most negative code")
    console.print("acc.: accumulator bits; safe: bits that can never overflow")
    console.print("overflows: outputs that wrapped to another number, or were clipped at least once")
    if result.counters:
        show_table(console, _counter_table(result))
        console.print("persistent: the sum of all that a register received does not fit; transient: only a sum on the way")
    if per_class:
        show_table(console, _class_table(result))
    widths = f"{result.subject.spec.precision}; " if result.subject.spec else ""
    task = result.task
    each = "an image" if task.input == "images" else f"a {task.input.removesuffix('s')}"
    console.print(f"{widths}{program.requantizer} requantizer; {program.macs:,} MACs {each}; "
                  f"{result.overflowed:,} overflows; program {program.digest()[:16]}")
    measures = ", ".join(f"{task.measures[name]} {value:.2f} %" for name, value in result.measures.items())
    console.print(f"{measures} on {result.images:,} test {task.unit} of {result.examples.label}, "
                  f"{result.images_per_second:.0f} {task.input}/s ({result.isa} kernels)")
    if len(task.measures) > 1:
        bounds = (f"{task.measures[name]} {low:.2f} to {high:.2f}" for name, (low, high) in result.intervals.items())
        console.print(f"at 95 %, over {task.unit}: {', '.join(bounds)}")
    if result.examples.is_as_trained is False:
        console.print("(other data than the network was trained on)")
    if verification is not None:
        _show_comparison(console, result, verification)
    checkpoint, spec = result.subject.checkpoint, result.subject.spec
    if checkpoint and spec and spec.precision != checkpoint.spec.precision:
        console.print(f"(not retrained: the checkpoint was trained as {checkpoint.spec.precision})")


def _layer_table(result: Evaluation) -> Table:
    differing = result.verification.differing_by_layer if result.verification else {}
    columns = ["layer", "output", "formats", "MACs", "acc.", "safe", "overflows"]
    table = new_table(*columns, *(["differ"] if differing else []), left=("layer",))
    for op in result.program.ops:
        cells = _layer_cells(op, result) if op.accumulates else [""] * (len(columns) - 1)
        if op.accumulates or differing.get(op.name):
            table.add_row(op.name, *cells, *([f"{differing[op.name]:,}"] if differing else []))
    return table


def _layer_cells(op: Any, result: Evaluation) -> list[str]:
    overflows = int(result.overflows[op.name].sum())
    share = f"{overflows:,} {100.0 * overflows / result.outputs(op):.2f}%" if overflows else "0"
    register = op.accumulator
    width = ", ".join("no limit" if stage.bits is None else f"{stage.bits} {OVERFLOW_WORDS[stage.overflow]}"
                      for stage in register.stages)
    return ["x".join(map(str, op.shape)), op.details()[0].replace(NARROW, "n"), short(op.macs), width,
            str(op.safe_bits), share]


def _counter_table(result: Evaluation) -> Table:
    """A row for each stage of each layer."""
    table = new_table("layer", "stage", "clipped", "persistent", "transient", left=("layer", "stage"))
    for name, counters in result.counters.items():
        for number, row in enumerate(counters.total()):
            table.add_row("" if number else name, row["stage"], *(f"{row[key]:,}" for key in
                                                                  ("clipped", "persistent", "transient")))
    return table


def _class_table(result: Evaluation) -> Table:
    table = new_table("class", "name", "images", "right", "accuracy %", left=("name",))
    for number, row in result.per_class.iterrows():
        accuracy = f"{row['accuracy']:.2f}" if row["images"] else "-"
        table.add_row(str(number), row["name"], f"{row['images']:,}", f"{row['right']:,}", accuracy)
    return table


def _show_comparison(console: Console, result: Evaluation, found: Verification) -> None:
    """The table that a verified evaluation ends with: one network, twice."""
    assert result.subject.checkpoint is not None
    assert result.subject.spec is not None
    is_exact = result.program.requantizer == "fp32"
    verdict = f"{found.differing:,} of {found.compared:,} codes differ"
    if found.largest_difference:
        verdict += f", by at most {found.largest_difference:,}"
    if not is_exact:
        verdict += ", each layer given the model's codes and a wide accumulator"
    widths = result.subject.spec.precision.short
    main = result.task.measures[result.task.main]
    shown = "" if main == "accuracy" else f" {main}"
    table = new_table("network", "bits", "data", f"FQ{shown} %", f"bit-true{shown} %", "simulator and torch model",
                      left=("network", "bits", "data", "simulator and torch model"))
    table.add_row(_title(result.subject.checkpoint), widths, result.examples.label, f"{found.fq_accuracy:.2f}",
                  f"{result.accuracy:.2f}", verdict)
    show_table(console, table)
    if is_exact and found.differing and result.overflowed:
        console.print("the torch model has no accumulator limit: overflows make codes differ")
    if not is_exact and found.beyond:
        console.print(f"{found.beyond:,} codes differ by more than 1, which no integer requantizer may (contract C5)")
    elif not is_exact and found.largest_difference > 1:
        console.print("where codes differ by more than 1, sums are so wide that float32, in which the torch model scales "
                      "them, is itself not certain to a quarter of a code")


def _title(checkpoint: Checkpoint) -> str:
    """Scheme, path and model as training noted them; a checkpoint made elsewhere may not say."""
    training = checkpoint.training
    path = training.get("path")
    rungs = "-".join(map(str, path)) if isinstance(path, list) else ""
    return " ".join(str(part) for part in (training.get("scheme", "network"), rungs, training.get("model", "")) if part)


if __name__ == "__main__":
    run_app(app, EvalError, CostError, ImporterError, ProfileError, CheckpointError, ProgramError, NetworkError, DataError,
            LowerError, RegistryError, AccumulatorOverflowError)
