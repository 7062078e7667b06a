"""An ONNX graph that is being written: nodes, constants and names.  Tensors are [N, channels, height, width]."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from sim.formats import IntFormat
from sim.ops.op import Op, format_of
from sim.program import Program


class ExportError(ValueError):
    """A program that a form of ONNX cannot express: which operation, why, and what can be done."""


class Writer:
    """What is written so far; `domains` are those of operators beside ONNX's own, with their versions.

    `batch` is how many images inputs and outputs are declared for: a number, or a name for any.
    """

    def __init__(self, program: Program, opset: int, domains: dict[str, int], batch: int | str) -> None:
        self.program, self.opset, self.domains, self.batch = program, opset, domains, batch
        self.ops = {op.name: op for op in program.ops}
        self.inputs: list[Any] = []
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.outputs: list[Any] = []
        self._known: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._names: set[str] = {op.name for op in program.ops}

    def fresh(self, wanted: str) -> str:
        """A name that no tensor has."""
        name, count = wanted, 2
        while name in self._names:
            name, count = f"{wanted}#{count}", count + 1
        self._names.add(name)
        return name

    def constant(self, array: Any, dtype: Any, stem: str = "constant") -> str:
        """An array in the file, once for equal ones."""
        from onnx import numpy_helper

        whole = np.ascontiguousarray(array, dtype) if np.ndim(array) else np.array(array, dtype)
        key = str(whole.dtype), whole.shape, whole.tobytes()
        if key not in self._known:
            self._known[key] = self.fresh(stem)
            self.constants.append(numpy_helper.from_array(whole, self._known[key]))
        return self._known[key]

    def per_channel(self, array: np.ndarray, dtype: Any, stem: str) -> str:
        """[C] against [N, C, H, W]."""
        return self.constant(np.asarray(array).reshape(-1, 1, 1), dtype, stem)

    def node(self, kind: str, inputs: Sequence[str], output: str, domain: str = "", **attributes: Any) -> str:
        """An operator; `output` is the wanted name, a program's own or a new one."""
        from onnx import helper

        name = output if output in self.ops else self.fresh(output)
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, domain=domain, **attributes))
        return name

    def cast(self, source: str, dtype: Any, output: str) -> str:
        """To a type of numpy."""
        from onnx import helper

        return self.node("Cast", [source], output, to=int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype))))

    def shaped(self, name: str, dtype: Any, op: Op) -> Any:
        """What an input or output is declared as."""
        from onnx import helper

        height, width, channels = op.shape
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)),
                                             [self.batch, channels, height, width])

    def model(self) -> Any:
        """The onnx.ModelProto, checked."""
        from onnx import checker, helper

        graph = helper.make_graph(self.nodes, "bittrue", self.inputs, self.outputs, self.constants)
        opsets = [helper.make_opsetid("", self.opset), *(helper.make_opsetid(*pair) for pair in self.domains.items())]
        model = helper.make_model(graph, opset_imports=opsets, producer_name="bittrue")
        model.ir_version = 8
        if not set(self.domains) - {"com.microsoft"}:
            checker.check_model(model)
        return model


def limits_of(op: Op) -> tuple[int, int]:
    """Smallest and largest code of an operation."""
    form = format_of(op)
    low, high = op.limits or (form.min, form.max)
    return low, high


def stored_dtype(form: IntFormat) -> np.dtype:
    """The ONNX type of codes: a byte, or 32 bits."""
    if form.bits <= 8:
        return np.dtype(np.int8 if form.signed else np.uint8)
    return np.dtype(np.int32)


def check_register(op: Any) -> None:
    """Raise ExportError unless no sum can leave the register: ONNX has sums of 32 bits and no others."""
    bits = op.accumulator.narrowest
    if bits is not None and bits < op.safe_bits:
        raise ExportError(f"{op.name}: a register of {bits} bits that can overflow is nothing that ONNX has; "
                          f"{op.safe_bits} bits never do")


def check_reach(op: Op, reach: int, what: str = "sums") -> None:
    """Raise ExportError unless integers of such a magnitude have 32 bits, which is what ONNX multiplies and adds."""
    if reach >= 2**31:
        raise ExportError(f"{op.name}: its {what} can pass 32 bits, ONNX has no wider ones")


def check_codes(op: Op) -> None:
    """Raise ExportError for codes that no type of `stored_dtype` holds."""
    if op.format is not None and not op.format.signed and op.format.bits > 31:
        raise ExportError(f"{op.name}: gives codes of {op.format}, at most 31 bits without a sign are written")


def pads_of(window: Any) -> list[int]:
    """ONNX's order: top, left, bottom, right."""
    top, bottom, left, right = window.paddings
    return [top, left, bottom, right]
