"""python -m sim.widths: how wide the registers of a network have to be, by bounds, by images, by accuracy."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from sim.accumulator import Accumulator
from sim.arithmetic import Arithmetic
from sim.checkpoint import CheckpointError
from sim.command import new_app, new_console, new_table, output_file, printable, run_app, show_table
from sim.evaluation import Source, check_source, usable_isa
from sim.files import write_text_atomically
from sim.importers import ImporterError
from sim.lowering import LowerError
from sim.network import NetworkError
from sim.outputs import EvalError, check_outputs, code_file, is_stdout, profile_file
from sim.profiles import ProfileError, profiles
from sim.program import ProgramError
from sim.registers import registers_text
from sim.registry import RegistryError
from sim.subject import Subject
from sim.sweep.configurations import RULES, tiles, words
from sim.sweep.job import MEMORY
from sim.sweep.plan import narrow_subject
from sim.testset import Examples, require_classes, stored_examples
from sim.widths.assignment import Trials, assign
from sim.widths.observed import observe
from sim.widths.outcome import Chosen, Widths
from training.data import DATASETS, DataError
from training.record import command_line

LOSS = 0.5
IMAGES = 1000
PARTS = ("validation", "test")

app = new_app()


@app.command()
def main(  # noqa: PLR0913 - one parameter per option
    model: Annotated[Path, typer.Option(
        help="checkpoint of training.run, a program that --save-program wrote, or a model of another's (.tflite, .onnx)")],
    out: Annotated[Path | None, typer.Option(
        help="choose widths of layers that keep the accuracy, and write them to a file (.toml) for sim.eval --registers",
        parser=output_file, metavar="FILE")] = None,
    loss: Annotated[float | None, typer.Option(help=f"points of accuracy that may be lost  [default: {LOSS}]")] = None,
    overflow: Annotated[str | None, typer.Option(
        help=f"of the registers that are chosen: {', '.join(RULES)}  [default: wrap]")] = None,
    tile: Annotated[str | None, typer.Option(
        help="products summed before they reach them: 1, N or end  [default: 1]")] = None,
    choose_on: Annotated[str | None, typer.Option(help="images that widths are chosen on: validation or test  "
                                                  "[default: validation]")] = None,
    dataset: Annotated[str | None, typer.Option(
        help=f"images whose sums are observed: {', '.join(DATASETS)}  [default: with --out the checkpoint's, else none]")
        ] = None,
    data: Annotated[Path | None, typer.Option(help="where the data are  [default: the checkpoint's]")] = None,
    limit: Annotated[int, typer.Option(help="the first N images only")] = IMAGES,
    bits: Annotated[int | None, typer.Option(help="as that of sim.eval")] = None,
    boundary_bits: Annotated[int | None, typer.Option(help="as that of sim.eval")] = None,
    activation_bits: Annotated[int | None, typer.Option(help="as that of sim.eval")] = None,
    requant: Annotated[str | None, typer.Option(help="as that of sim.eval")] = None,
    hardware: Annotated[str | None, typer.Option(help=f"a profile: {', '.join(profiles())}, or your own .toml file",
                                                 metavar="NAME|FILE")] = None,
    pixels_as: Annotated[str | None, typer.Option(help="as that of sim.eval")] = None,
    quantizer: Annotated[str | None, typer.Option(help="as that of sim.eval")] = None,
    csv: Annotated[Path | None, typer.Option(help="a row for each layer and channel (.csv)", parser=output_file,
                                             metavar="FILE")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="a record of everything", parser=output_file,
                                                   metavar="FILE")] = None,
    memory: Annotated[int, typer.Option(help="MiB for tensors of images")] = MEMORY,
) -> None:
    """Bits that a register needs, layer by layer: by three bounds, exactly, on images, and to keep the accuracy.

    Exit status: 0; 2 if refused, or if no widths keep the accuracy.
    """
    options = dict(locals())
    options["json"] = options.pop("json_file")
    check_outputs({"out": out, "csv": csv, "json": json_file}, {
        "model": model, "data": data, "requant": code_file(requant), "quantizer": code_file(quantizer),
        "hardware": profile_file(hardware)})
    console = new_console(stderr=any(map(is_stdout, (out, csv, json_file))))
    wish = _wish(out, loss, overflow, tile, choose_on)
    source = Source(dataset=dataset, data=data, limit=limit)
    check_source(source)
    if memory < 1:
        raise EvalError(f"memory: {memory} is not allowed, choose 1 or more MiB")
    subject = narrow_subject(model, Arithmetic(
        bits=bits, boundary_bits=boundary_bits, activation_bits=activation_bits, requant=requant, quantizer=quantizer,
        hardware=hardware, pixels_as=pixels_as))
    for note in subject.notes:
        console.print(note)
    found = Widths(subject)
    if out is not None or dataset is not None or data is not None:
        found = _with_images(console, found, source, wish, memory)
    _show(console, found)
    if out is not None and found.chosen is not None:
        write_text_atomically(out, _file(found, command_line("sim.widths", options)))
    if csv is not None:
        found.save_channels(csv)
    if json_file is not None:
        found.save(json_file, command_line("sim.widths", options))


@dataclasses.dataclass(frozen=True)
class _Wish:
    """What registers are to be chosen."""

    loss: float
    register: Accumulator
    part: str


def _wish(out: Path | None, loss: float | None, overflow: str | None, tile: str | None,
          choose_on: str | None) -> _Wish | None:
    if out is None:
        for name, value in (("loss", loss), ("overflow", overflow), ("tile", tile), ("choose-on", choose_on)):
            if value is not None:
                raise EvalError(f"{name}: has no effect unless widths are chosen, add --out")
        return None
    loss = LOSS if loss is None else loss
    if not 0.0 <= loss <= 100.0:
        raise EvalError(f"loss: {loss} is not allowed, choose 0 to 100 points")
    (rule, *more), (part, *others) = words("overflow", overflow or "wrap", RULES), tiles(tile or "1")
    if more or others:
        raise EvalError("overflow, tile: one of each is wanted")
    (chosen,) = words("choose-on", choose_on or PARTS[0], PARTS)[:1]
    return _Wish(loss, Accumulator(2, rule, 0 if part == "end" else int(part)), chosen)  # type: ignore[arg-type]


def _with_images(console: Console, found: Widths, source: Source, wish: _Wish | None, memory: int) -> Widths:
    base, isa = found.subject.program, usable_isa()
    tested = _examples(console, found.subject, source, "test")
    with console.status("observing sums"):
        found = dataclasses.replace(found, examples=tested, ranges=observe(base, tested.pixels, isa, memory))
    if wish is None:
        return found
    chosen_on = tested if wish.part == "test" else _examples(console, found.subject, source, wish.part)
    with console.status("choosing widths") as status:
        trials = Trials(base, chosen_on, wish.register, isa, memory)
        assignment = assign(trials, base, len(chosen_on.labels), wish.loss, lambda layer, count: status.update(
            f"choosing widths: {layer}, {count} evaluations"))
        test = Trials(base, tested, wish.register, isa, memory)
        right = test.right(assignment.widths)
    chosen = Chosen(assignment, wish.register, wish.loss, wish.part, tested, right, test.free)
    return dataclasses.replace(found, chosen=chosen)


def _examples(console: Console, subject: Subject, source: Source, part: str) -> Examples:
    examples = stored_examples(subject, source.dataset, source.data, part)
    require_classes(examples)
    for note in examples.notes if part == "test" else ():
        console.print(note)
    return examples.first(source.limit or len(examples.labels))


def _show(console: Console, found: Widths) -> None:
    table = new_table("layer", "products", "type", "L1", "A2Q+", "exact", *(["seen"] if found.ranges else []),
                      *(["chosen"] if found.chosen else []), left=("layer",))
    for row in found.layers:
        cells = [row["data_type"], row["l1"], row["zero_centered"], row["exact"]]
        cells += ([row["observed"]] if found.ranges else []) + ([row["chosen"]] if found.chosen else [])
        table.add_row(row["layer"], f"{row['products']:,}", *("-" if cell is None else str(cell) for cell in cells))
    show_table(console, table)
    console.print("bits of a register that never overflows, the widest of a layer's channels: by")
    console.print("data types; by the weights' L1 norm (A2Q); once each channel's mean is taken off")
    console.print("(A2Q+); exact: some input needs them, in every order of the products")
    if found.examples is not None:
        console.print(f"seen: bits of the sums of {len(found.examples.labels):,} test images of {found.examples.label}, in "
                      "the end, not on the way")
    if found.chosen is not None:
        _show_chosen(console, found, found.chosen)


def _show_chosen(console: Console, found: Widths, chosen: Chosen) -> None:
    told, test = chosen.to_json(), chosen.to_json()["test"]
    totals = [sum(row[name] for row in found.layers) for name in ("exact", "chosen")]
    console.print(f"chosen: {chosen.register.overflow}, tile {chosen.register.tile or 'end'}; {totals[1]} bits of all "
                  f"layers together, of the exact bounds {totals[0]}")
    console.print(f"accuracy on {told['images']:,} {told['part']} images that they were chosen on: {told['accuracy']:.2f} "
                  f"%, without limits {told['accuracy_without_limits']:.2f} % ({told['evaluations']} evaluations)")
    console.print(f"accuracy on {test['images']:,} test images: {test['accuracy']:.2f} %, without limits "
                  f"{test['accuracy_without_limits']:.2f} %")
    if chosen.uncertainty > chosen.loss:
        console.print(f"note: {told['images']:,} {told['part']} images tell an accuracy to {chosen.uncertainty:.1f} points "
                      f"only (at 95 %): others may lose more than {chosen.loss:g}")


def _file(found: Widths, command: str) -> str:
    assert found.chosen is not None
    told, test = found.chosen.to_json(), found.chosen.to_json()["test"]
    lines = (f"Registers of {found.subject.path}, {found.subject.digest}",
             f"{told['accuracy']:.2f} % of {told['images']} {told['part']} images they were chosen on "
             f"({told['accuracy_without_limits']:.2f} % without limits),",
             f"{test['accuracy']:.2f} % of {test['images']} test images ({test['accuracy_without_limits']:.2f} %)", command)
    return registers_text(found.chosen.registers, "\n".join(map(printable, lines)))


if __name__ == "__main__":
    run_app(app, EvalError, ImporterError, ProfileError, CheckpointError, ProgramError, NetworkError, DataError, LowerError,
            RegistryError)
