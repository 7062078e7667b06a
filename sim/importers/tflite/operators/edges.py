"""Where real numbers become codes and codes real numbers: a program begins and ends with codes."""

from sim.importers.imported import ImporterError
from sim.importers.tflite.file import Operator
from sim.importers.tflite.graph import Graph
from sim.importers.tflite.operators.scaled import requantized


def quantize(graph: Graph, node: Operator) -> None:
    """QUANTIZE: of a float input the program's input; of codes the same values in another format or scale."""
    given, result = graph.tensor(node, 0), graph.result(node)
    if given.type != "FLOAT32":
        requantized(graph, node)
        return
    if given.number not in graph.model.inputs:
        raise ImporterError(f"{node}: quantizes floats in the middle of the model, supported is an input")
    graph.read(result, given)
    graph.notes.append(f"input {given.name} is float in the file, here it is the codes that {node} makes of it")


def dequantize(graph: Graph, node: Operator) -> None:
    """DEQUANTIZE at the end: the codes themselves, whose order is that of the real numbers."""
    result = graph.result(node)
    if not graph.is_last(result):
        raise ImporterError(f"{node}: gives floats in the middle of the model, supported is an output")
    graph.names[result.number] = graph.codes(node, 0)
    graph.notes.append(f"output {result.name} is float in the file, here it is the codes that {node} reads")


OPERATORS = {"QUANTIZE": quantize, "DEQUANTIZE": dequantize}
