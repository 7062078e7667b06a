"""Small .tflite models made here, byte by byte as the flatbuffers library writes them: one operator, any options.

Needs the packages `tflite` and `flatbuffers` (extra `import`).
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

TYPES = {"float32": 0, "int32": 2, "uint8": 3, "int64": 4, "bool": 6, "int16": 7, "int8": 9, "int4": 17}


@dataclass
class Value:
    """A tensor: `data` is what it holds, None where an operator or the user writes it."""

    shape: tuple[int, ...]
    type: str = "int8"
    scale: Any = None
    zero: Any = 0
    data: Any = None
    axis: int = 0


@dataclass
class Node:
    """An operator: its code's name, numbers of tensors, the name of its options and their fields."""

    code: str
    inputs: list[int]
    outputs: list[int]
    options: str = ""
    fields: dict[str, Any] = field(default_factory=dict)
    version: int = 2


def model(tensors: list[Value], operators: list[Node], inputs: list[int], outputs: list[int]) -> bytes:  # noqa: PLR0915 - as long as the schema
    import flatbuffers
    import tflite

    b = flatbuffers.Builder(4096)

    def ints(values, start, kind="PrependInt32"):
        values = list(values)
        start(b, len(values))
        for value in reversed(values):
            getattr(b, kind)(value)
        return b.EndVector()

    def offsets(values, start):
        return ints(values, start, "PrependUOffsetTRelative")

    contents = [b""] + [_bytes(t) for t in tensors]
    buffers = []
    for content in contents:
        data = b.CreateByteVector(content) if content else None
        tflite.BufferStart(b)
        if data is not None:
            tflite.BufferAddData(b, data)
        buffers.append(tflite.BufferEnd(b))
    made = []
    for number, t in enumerate(tensors):
        quantization = None
        if t.scale is not None:
            scales, zeros = np.atleast_1d(np.float32(t.scale)), np.atleast_1d(t.zero)
            zeros = np.broadcast_to(zeros, scales.shape)
            scale = ints(map(float, scales), tflite.QuantizationParametersStartScaleVector, "PrependFloat32")
            zero = ints(map(int, zeros), tflite.QuantizationParametersStartZeroPointVector, "PrependInt64")
            tflite.QuantizationParametersStart(b)
            tflite.QuantizationParametersAddScale(b, scale)
            tflite.QuantizationParametersAddZeroPoint(b, zero)
            tflite.QuantizationParametersAddQuantizedDimension(b, t.axis)
            quantization = tflite.QuantizationParametersEnd(b)
        name, shape = b.CreateString(f"tensor{number}"), ints(t.shape, tflite.TensorStartShapeVector)
        tflite.TensorStart(b)
        tflite.TensorAddShape(b, shape)
        tflite.TensorAddType(b, TYPES[t.type])
        tflite.TensorAddBuffer(b, number + 1 if t.data is not None else 0)
        tflite.TensorAddName(b, name)
        if quantization is not None:
            tflite.TensorAddQuantization(b, quantization)
        made.append(tflite.TensorEnd(b))
    codes, written = [], []
    for number, o in enumerate(operators):
        code = getattr(tflite.BuiltinOperator, o.code)
        tflite.OperatorCodeStart(b)
        tflite.OperatorCodeAddDeprecatedBuiltinCode(b, min(code, 127))
        tflite.OperatorCodeAddBuiltinCode(b, code)
        tflite.OperatorCodeAddVersion(b, o.version)
        codes.append(tflite.OperatorCodeEnd(b))
        options = None
        if o.options:
            values = {
                key: ints(value, getattr(tflite, f"{o.options}Start{key}Vector")) if isinstance(value, list) else value
                for key, value in o.fields.items()
            }
            getattr(tflite, f"{o.options}Start")(b)
            for key, value in values.items():
                getattr(tflite, f"{o.options}Add{key}")(b, value)
            options = getattr(tflite, f"{o.options}End")(b)
        given, results = ints(o.inputs, tflite.OperatorStartInputsVector), ints(o.outputs, tflite.OperatorStartOutputsVector)
        tflite.OperatorStart(b)
        tflite.OperatorAddOpcodeIndex(b, number)
        tflite.OperatorAddInputs(b, given)
        tflite.OperatorAddOutputs(b, results)
        if options is not None:
            tflite.OperatorAddBuiltinOptionsType(b, getattr(tflite.BuiltinOptions, o.options))
            tflite.OperatorAddBuiltinOptions(b, options)
        written.append(tflite.OperatorEnd(b))
    parts = (
        offsets(made, tflite.SubGraphStartTensorsVector),
        ints(inputs, tflite.SubGraphStartInputsVector),
        ints(outputs, tflite.SubGraphStartOutputsVector),
        offsets(written, tflite.SubGraphStartOperatorsVector),
    )
    tflite.SubGraphStart(b)
    for add, part in zip(
        (tflite.SubGraphAddTensors, tflite.SubGraphAddInputs, tflite.SubGraphAddOutputs, tflite.SubGraphAddOperators),
        parts,
        strict=True,
    ):
        add(b, part)
    graph = tflite.SubGraphEnd(b)
    graphs = offsets([graph], tflite.ModelStartSubgraphsVector)
    listed = offsets(codes, tflite.ModelStartOperatorCodesVector)
    held = offsets(buffers, tflite.ModelStartBuffersVector)
    text = b.CreateString("made by a test")
    tflite.ModelStart(b)
    tflite.ModelAddVersion(b, 3)
    tflite.ModelAddOperatorCodes(b, listed)
    tflite.ModelAddSubgraphs(b, graphs)
    tflite.ModelAddDescription(b, text)
    tflite.ModelAddBuffers(b, held)
    b.Finish(tflite.ModelEnd(b), b"TFL3")
    return bytes(b.Output())


def _bytes(t: Value) -> bytes:
    if t.data is None:
        return b""
    if t.type == "int4":
        codes = np.asarray(t.data, np.int64).reshape(-1) & 15
        codes = np.append(codes, np.zeros(codes.size % 2, np.int64))
        return (codes[::2] | codes[1::2] << 4).astype(np.uint8).tobytes()
    return np.asarray(t.data, np.dtype(t.type)).tobytes()
