"""From a .tflite file to a program: inputs, operators one by one, outputs."""

from pathlib import Path
from typing import TYPE_CHECKING

from sim.accumulator import AccumulatorOverflowError
from sim.importers.imported import Imported, ImporterError
from sim.importers.pixels import inferred
from sim.importers.tflite.file import Operator, read_file
from sim.importers.tflite.graph import Graph
from sim.importers.tflite.operators import OPERATORS
from sim.program import ProgramError
from sim.requantizers.requantizer import RequantizeError

if TYPE_CHECKING:
    from sim.profiles import Profile

_WRONG = (ValueError, KeyError, IndexError, TypeError, AttributeError, ArithmeticError)
"""What an operator raises whose tensors or options are not as it needs them."""


def read(path: Path, profile: "Profile") -> Imported:
    """A .tflite file on the arithmetic of a profile.  Raises ImporterError, OSError; ProgramError, ProfileError."""
    graph = Graph(read_file(path), profile)
    try:
        for number in graph.model.inputs:
            _input(graph, number)
        for node in graph.model.operators:
            _convert(graph, node)
        outputs = [_output(graph, number) for number in graph.model.outputs]
        program = graph.build.program(list(dict.fromkeys(outputs)))
    except ProgramError as error:
        raise ImporterError(str(error)) from None
    pixels = [inferred(program.scales.get(op.name, 1.0)) for op in program.ops if op.is_input]
    kept = {op.name for op in program.ops}
    return Imported(
        program,
        profile,
        pixels[0] if len(pixels) == 1 else None,
        tuple(graph.notes),
        {f"t{number}": name for number, name in graph.names.items() if name in kept},
    )


def _input(graph: Graph, number: int) -> None:
    """Codes as they come; a float input is that of the QUANTIZE which reads it."""
    tensor = graph.model.tensors[number]
    if tensor.type != "FLOAT32":
        graph.read(tensor, tensor)


def _convert(graph: Graph, node: Operator) -> None:
    if node.code not in OPERATORS:
        raise ImporterError(f"{node}: this operator is not supported; supported are {', '.join(sorted(OPERATORS))}")
    try:
        OPERATORS[node.code](graph, node)
    except (ImporterError, AccumulatorOverflowError):
        raise
    except (ProgramError, RequantizeError) as error:
        raise ImporterError(f"{node}: {error}") from None
    except _WRONG as error:
        if type(error).__module__.startswith("sim."):
            raise  # a profile without a rule, say: not the file's fault, and a line of its own
        raise ImporterError(f"{node}: its tensors or options do not fit it ({error})") from None


def _output(graph: Graph, number: int) -> str:
    tensor = graph.model.tensors[number]
    if number not in graph.names:
        raise ImporterError(f"{tensor} is an output, and nothing writes it")
    return graph.names[number]
