"""python -m sim.importers.table: one model of another's under every profile and on narrower and narrower registers.

With a data set (.npz of x_test, y_test) the table holds accuracies; without one, how many of random inputs get the answer
that they get on the profile's own registers.  All layers have the register, the first and last, too.
"""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from sim.accumulator import Accumulator, AccumulatorError
from sim.command import new_app, new_console, output_file, printable, run_app
from sim.evaluation import Source, check_source
from sim.importers import ImporterError, load_model
from sim.importers.pixels import image_program
from sim.inputs import InputError
from sim.machine import Machine
from sim.outputs import EvalError, check_outputs
from sim.profiles import Profile, ProfileError, profile
from sim.program import Program, ProgramError
from sim.recognize import RUNTIMES
from sim.records import write_record

PROFILES = "litert_reference,litert_ruy,litert_xnnpack,tflite_micro_cmsis_nn,tosa_1_0"
WIDTHS = "32,24,20,18,16,14"
TEST = ("x_test", "y_test")

app = new_app()


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What the model reads: pixels with labels, or None of both and so many random codes."""

    label: str
    pixels: np.ndarray | None
    labels: np.ndarray | None
    count: int

    def of(self, program: Program) -> np.ndarray:
        """For a program."""
        if self.pixels is not None:
            return self.pixels
        sources = [op for op in program.ops if op.is_input]
        if len(sources) != 1:
            names = ", ".join(printable(op.name) for op in sources)
            raise EvalError(f"model: it has {len(sources)} inputs ({names}), one is supported here")
        (source,) = sources
        assert source.format is not None
        codes = np.random.default_rng(0).integers(source.format.min, source.format.max + 1, (self.count, *source.shape))
        return codes.astype(source.format.dtype)


@app.command()
def main(
    model: Annotated[Path, typer.Option(help="a model of another's (.tflite, .onnx)")],
    json_file: Annotated[Path, typer.Option("--json", help="file of the record; tables are written with it",
                                            parser=output_file, metavar="FILE")],
    data: Annotated[Path | None, typer.Option(help="an .npz of x_test and y_test  [default: random codes]")] = None,
    hardware: Annotated[str, typer.Option(help="profiles, with commas")] = PROFILES,
    accumulator: Annotated[str, typer.Option(help="bits of the register of all layers, with commas")] = WIDTHS,
    pixels_as: Annotated[str | None, typer.Option(help="as that of sim.eval")] = None,
    limit: Annotated[int, typer.Option(help="so many images, or random inputs")] = 10_000,
) -> None:
    """A row for each profile and way to overflow, a column for each width."""
    from training.record import command_line, provenance  # noqa: TID251 - which program ran, and how to run it again
    from training.tables import write_tables  # noqa: TID251 - tables are made where all are

    options = {"model": model, "json": json_file, "data": data, "hardware": hardware, "accumulator": accumulator,
               "pixels-as": pixels_as, "limit": limit}
    check_outputs({"json": json_file}, {"model": model, "data": data}, {"json": RUNTIMES})
    record = provenance(command_line("sim.importers.table", options))
    check_source(Source(limit=limit))
    console, inputs, widths, rows = new_console(), _inputs(data, limit), _widths(accumulator), []
    for named in [profile(name) for name in hardware.split(",")]:
        for row in rows_of(model, named, inputs, widths, pixels_as):
            rows.append(row)
            console.print(printable(_line(row)))
    write_record(json_file, {"kind": "runtimes", "model": model.name, "inputs": inputs.label, "rows": rows, **record})
    for path in write_tables("runtimes", json_file):
        console.print(printable(path))


def rows_of(model: Path, hardware: Profile, inputs: Inputs, widths: list[int], pixels_as: str | None = None
            ) -> list[dict[str, Any]]:
    """Both rows of a profile: wrapped and saturated."""
    wanted = _answers(model, hardware, None, inputs, pixels_as)[0] if inputs.labels is None else inputs.labels
    rows = []
    for overflow in ("wrap", "saturate"):
        cells = {}
        for bits in widths:
            answers, share = _answers(model, hardware, Accumulator(bits, overflow), inputs, pixels_as)
            cells[str(bits)] = {"right": int((answers == wanted).sum()), "of": len(wanted), "overflowed": share}
        rows.append({"profile": hardware.name, "overflow": overflow, "widths": cells})
    return rows


def _answers(model: Path, hardware: Profile, register: Accumulator | None, inputs: Inputs,
             pixels_as: str | None) -> tuple[np.ndarray, float]:
    """The largest output of each input, and the share of outputs of layers with products that overflowed."""
    program = load_model(model, hardware if register is None else hardware.with_(register)).program
    program = program if inputs.pixels is None else image_program(program, pixels_as)[0]
    machine, given = Machine(program), inputs.of(program)
    answers = machine.run(given).reshape(len(given), -1).argmax(1)
    outputs = sum(int(np.prod(op.shape)) for op in program.accumulating) * len(given)
    return answers, sum(int(counts.sum()) for counts in machine.overflows.values()) / max(outputs, 1)


def _inputs(data: Path | None, limit: int) -> Inputs:
    if data is None:
        return Inputs(f"{limit:,} random inputs", None, None, limit)
    from training.data.dataset import DataError  # noqa: TID251 - files of arrays are read where all are
    from training.data.sources.archive import read_arrays  # noqa: TID251

    try:
        arrays, _ = read_arrays(data, TEST)
    except DataError as error:
        raise EvalError(str(error)) from None
    if missing := [name for name in TEST if name not in arrays]:
        raise EvalError(f"{printable(data)}: array {missing[0]} is missing")
    pixels, labels = (arrays[name] for name in TEST)
    if labels.ndim != 1 or pixels.shape[:1] != labels.shape or not labels.size:
        raise EvalError(f"{printable(data)}: x_test {list(pixels.shape)} and y_test {list(labels.shape)} are not so many "
                        "images and a label for each")
    pixels, labels = pixels[:limit], labels[:limit]
    return Inputs(f"{len(labels):,} test images of {data.stem}", np.ascontiguousarray(pixels), labels, len(labels))


def _widths(accumulator: str) -> list[int]:
    """Numbers with commas; raises EvalError."""
    words = accumulator.split(",")
    if not all(word.isdecimal() and len(word) < 4 for word in words):
        raise EvalError(f"accumulator: {printable(repr(accumulator))} is not allowed, give widths with commas, such as "
                        f"{WIDTHS}")
    for bits in (found := [int(word) for word in words]):
        Accumulator(bits)
    return found


def _line(row: dict[str, Any]) -> str:
    """What a reader who waits wants to see."""
    cells = (f"{bits}: {100.0 * cell['right'] / cell['of']:.2f}" for bits, cell in row["widths"].items())
    return f"{row['profile']} {row['overflow']} " + "  ".join(cells)


if __name__ == "__main__":
    run_app(app, AccumulatorError, EvalError, ImporterError, InputError, ProfileError, ProgramError)
