"""Damaged and hostile ONNX files: bytes that changed, and graphs whose parts did."""

import random
from collections.abc import Callable

import onnx
from onnx import TensorProto, helper

HUGE = (-1, 0, 1, 7, 1 << 16, 1 << 31, (1 << 40) + 1, (1 << 62), -(1 << 62))


def damaged(content: bytes, rng: random.Random) -> bytes:
    """One of many ways to spoil a model."""
    return rng.choice(WAYS)(content, rng)


def _flip(content: bytes, rng: random.Random) -> bytes:
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8, 50))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def _cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content))]


def _repeat(content: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(content))
    return content[:at] + content[at : at + rng.randrange(1, 200)] + content[at:]


def _insert(content: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(content))
    return content[:at] + rng.randbytes(rng.choice((1, 5, 100))) + content[at:]


def _graph(change: Callable[[onnx.GraphProto, random.Random], None]) -> Callable[[bytes, random.Random], bytes]:
    def way(content: bytes, rng: random.Random) -> bytes:
        model = onnx.ModelProto.FromString(content)
        for _ in range(rng.choice((1, 1, 2))):
            change(model.graph, rng)
        return model.SerializeToString()
    return way


def _drop_node(graph: onnx.GraphProto, rng: random.Random) -> None:
    if graph.node:
        del graph.node[rng.randrange(len(graph.node))]


def _twice(graph: onnx.GraphProto, rng: random.Random) -> None:
    graph.node.append(rng.choice(graph.node))


def _rewire(graph: onnx.GraphProto, rng: random.Random) -> None:
    node = rng.choice(graph.node)
    names = [name for each in graph.node for name in (*each.input, *each.output)] + ["", "nothing", "\n\x1b[31m"]
    if node.input:
        node.input[rng.randrange(len(node.input))] = rng.choice(names)


def _rename(graph: onnx.GraphProto, rng: random.Random) -> None:
    rng.choice(graph.node).op_type = rng.choice([*(node.op_type for node in graph.node), "If", "Loop", "Erf", "", "é\n",
                                                 "Concat",
                                                 "Reshape", "Transpose", "Softmax", "Add", "Gemm", "Cast", "Pad", "Slice"])


def _attribute(graph: onnx.GraphProto, rng: random.Random) -> None:
    node = rng.choice(graph.node)
    value = rng.choice([rng.choice(HUGE), [rng.choice(HUGE) for _ in range(rng.randrange(5))], rng.choice((0.5, -1e30)),
                        "SAME_UPPER"])
    names = [entry.name for entry in node.attribute] + ["pads", "strides", "group", "axis", "kernel_shape", "dilations",
                                                        "perm"]
    name = rng.choice(names)
    for index in reversed(range(len(node.attribute))):
        if node.attribute[index].name == name:
            del node.attribute[index]
    if value == []:
        node.attribute.append(onnx.AttributeProto(name=name, type=onnx.AttributeProto.INTS))
    else:
        node.attribute.append(helper.make_attribute(name, value))


def _subgraph(graph: onnx.GraphProto, rng: random.Random) -> None:
    inner = helper.make_graph([], "inner", [], [])
    for _ in range(rng.choice((1, 20))):
        inner = helper.make_graph([helper.make_node("If", ["x"], ["y"], then_branch=inner)], "inner", [], [])
    rng.choice(graph.node).attribute.append(helper.make_attribute("body", inner))


def _dims(graph: onnx.GraphProto, rng: random.Random) -> None:
    if graph.initializer:
        tensor = rng.choice(graph.initializer)
        dims = list(tensor.dims) or [1]
        dims[rng.randrange(len(dims))] = rng.choice(HUGE)
        del tensor.dims[:]
        tensor.dims.extend(dims)


def _type(graph: onnx.GraphProto, rng: random.Random) -> None:
    if graph.initializer:
        rng.choice(graph.initializer).data_type = rng.choice((0, 1, 2, 3, 6, 7, 8, 10, 14, 16, 17, 22, 23, 99))


def _outside(graph: onnx.GraphProto, rng: random.Random) -> None:
    if graph.initializer:
        tensor = rng.choice(graph.initializer)
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", rng.choice(["/dev/zero", "../../etc/passwd", "/proc/self/mem", "m.onnx", ".",
                                                    "a\0b"])),
                           ("offset", str(rng.choice(HUGE))), ("length", str(rng.choice(HUGE)))):
            tensor.external_data.add(key=key, value=value)


def _sides(graph: onnx.GraphProto, rng: random.Random) -> None:
    shape = rng.choice(graph.input).type.tensor_type.shape
    if shape.dim:
        shape.dim[rng.randrange(len(shape.dim))].dim_value = rng.choice(HUGE)


def _values(graph: onnx.GraphProto, rng: random.Random) -> None:
    floats = [tensor for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT and tensor.raw_data]
    if floats:
        tensor = rng.choice(floats)
        word = rng.choice((b"\0\0\xc0\x7f", b"\0\0\x80\x7f", b"\0\0\0\0", b"\1\0\0\0", b"\0\0\x80\xbf", b"\xff\xff\x7f\x7f"))
        tensor.raw_data = word * (len(tensor.raw_data) // 4)


WAYS = (_flip, _flip, _cut, _repeat, _insert, *(_graph(change) for change in (
    _drop_node, _twice, _rewire, _rewire, _rename, _attribute, _attribute, _subgraph, _dims, _dims, _type, _outside, _sides,
    _values)))
