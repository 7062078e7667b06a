"""Programs as ONNX files that other runtimes run with equal integers: QLinear operators, integer operators, QONNX."""

from collections.abc import Mapping
from types import ModuleType
from typing import Any

from sim.exporters import integer, qonnx, qoperator
from sim.exporters.writer import ExportError, Writer
from sim.program import Program

__all__ = ["FORMS", "ExportError", "export"]

FORMS: Mapping[str, ModuleType] = {"qoperator": qoperator, "integer": integer, "qonnx": qonnx}


def export(program: Program, form: str) -> Any:
    """An onnx.ModelProto of a program; tensors of the same names as its operations, [N, channels, height, width].

    N is any number of images; in QONNX it is 1, as its tools want it.

    `form` is one of FORMS.  Raises ExportError for what it cannot express: the operation, why, and what can be done.
    """
    try:
        import onnx  # noqa: F401 - said here in words if it is absent
    except ImportError:
        raise ExportError("writing ONNX needs the package onnx: pip install 'bittrue[import]'") from None
    if form not in FORMS:
        raise ExportError(f"format: {form!r} is unknown, choose one of {', '.join(FORMS)}")
    rules = FORMS[form]
    write = Writer(program, rules.OPSET, dict(rules.DOMAINS), rules.BATCH)
    for op in program.ops:
        if op.kind not in rules.OPERATIONS:
            raise ExportError(f"{op.name}: the operation {op.kind} is not written as {form}, which has "
                              f"{', '.join(rules.OPERATIONS)}")
        rules.check(op)
        rules.OPERATIONS[op.kind](write, op)
    write.outputs = [write.shaped(name, rules.dtype_of(write.ops[name]), write.ops[name]) for name in program.output_names]
    return write.model()
