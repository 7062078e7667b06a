"""python -m sim.export: a trained network or a program as an ONNX file that other runtimes run with equal integers."""

from pathlib import Path
from typing import Annotated

import typer

from sim.checkpoint import CheckpointError
from sim.command import new_app, new_console, output_file, run_app
from sim.exporters import FORMS, ExportError, export
from sim.files import write_atomically
from sim.importers import ImporterError
from sim.lowering import LowerError
from sim.network import NetworkError
from sim.outputs import EvalError, check_outputs, code_file
from sim.profiles import ProfileError
from sim.program import ProgramError
from sim.recognize import ONNX
from sim.registry import RegistryError
from sim.requantizers import REQUANTIZERS
from sim.subject import Arithmetic, subject_of

app = new_app()
REQUANTS = {"qoperator": "ort"}
"""What a form rounds by, unless something else is asked for."""


@app.command()
def main(
    model: Annotated[Path, typer.Option(help="checkpoint of training.run, or a program that --save-program wrote")],
    form: Annotated[str, typer.Option("--format",
                                      help=f"{', '.join(FORMS)}: QLinear operators of ONNX Runtime, ConvInteger and "
                                                       "exact operators behind it, or QONNX")],
    out: Annotated[Path, typer.Option(help="the file to write (.onnx)", parser=output_file, metavar="FILE")],
    bits: Annotated[int | None, typer.Option(help="bits of weights and activations  [default: as trained]")] = None,
    boundary_bits: Annotated[int | None,
                             typer.Option(help="bits of the first and last layer  [default: as trained]")] = None,
    activation_bits: Annotated[int | None, typer.Option(help="bits of the inner activations alone")] = None,
    requant: Annotated[str | None, typer.Option(
        help=f"{', '.join(REQUANTIZERS)}  [default: fp32, for qoperator ort]")] = None,
    quantizer: Annotated[str | None,
                         typer.Option(help="where the checkpoint's quantizer is, if it is one of your own")] = None,
) -> None:
    """Write a network as ONNX.  Exit status: 0; 2 if refused."""
    check_outputs({"out": out}, {"model": model, "requant": code_file(requant), "quantizer": code_file(quantizer)},
                  {"out": ONNX})
    if form not in FORMS:
        raise ExportError(f"format: {form!r} is unknown, choose one of {', '.join(FORMS)}")
    wanted = Arithmetic(bits=bits, boundary_bits=boundary_bits, activation_bits=activation_bits, quantizer=quantizer,
                        requant=requant)
    subject = subject_of(model, wanted)
    if requant is None and form in REQUANTS and subject.checkpoint is not None:
        subject = subject_of(subject.checkpoint, Arithmetic(
            bits=bits, boundary_bits=boundary_bits, activation_bits=activation_bits, quantizer=quantizer,
            requant=REQUANTS[form]))
    made = export(subject.program, form)
    content = made.SerializeToString()
    write_atomically(out, lambda file: file.write(content))
    console = new_console()
    for note in subject.notes:
        console.print(note)
    console.print(f"{out}: {len(made.graph.node)} operators, {len(content):,} bytes")


if __name__ == "__main__":
    run_app(app, ExportError, EvalError, ImporterError, ProfileError, CheckpointError, LowerError, NetworkError,
            ProgramError, RegistryError)
