"""Networks of PULP's tools: folders of Deeploy (network.onnx, inputs.npz, outputs.npz, some activations.npz) and of DORY.

DORY's have one ONNX file, input.txt and out_layer0.txt, ... in the order of the layers.  A text begins with a line that
names the tensor and its sides; its numbers are in the order height, width, channels, unless that line has the channels first
or is not marked as a comment: then it is of another tool, which writes tensors as the file has them.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from sim.conformance.case import Case, Golden, UnsupportedError
from sim.conformance.folder import Folder, read_archive, read_text
from sim.conformance.networks import refusing
from sim.importers import deeploy, dory
from sim.importers.deeploy.graph import Graph
from sim.importers.deeploy.model import Model, Node, read_model
from sim.importers.deeploy.views import View
from sim.profiles import profile

DEEPLOY, DORY = "deeploy_pulp", "dory_nemo"
_LAYER = re.compile(r"out_layer(\d+)\.txt")
SAVED: Mapping[str, tuple[str, ...]] = {
    "conv": ("Conv",), "lin": ("Gemm", "MatMul"), "act": ("RequantShift",), "rq": ("RequantShift",)}
"""What the name of a saved tensor says of the operator that gives it, where nodes have other names."""
STEPS = ("Mul", "Div", "Cast")
"""Between what a layer computes and its end."""
ENDS: Mapping[str, frozenset[str]] = {
    "Clip": frozenset(), "MaxPool": frozenset(), "AveragePool": frozenset({"Mul", "Div", "Floor"}),
    "Floor": frozenset({"Clip"}), "Gemm": frozenset({"Mul", "Add", "Div"}), "MatMul": frozenset({"Mul", "Add", "Div"})}
"""Operators that a layer may end with -> those that must not follow: then its end is theirs."""


def find_deeploy(folder: Folder) -> Iterator[Case]:
    """A case as the importer makes the program, and one whose every tensor of the file is one of the program's."""
    for parent, files in folder.folders.items():
        names = {file.name for file in files}
        if names >= {"network.onnx", "inputs.npz", "outputs.npz"}:
            operation = "kernel" if any(part.lower() == "kernels" for part in parent.parts) else "network"
            name = parent.relative_to(folder.path).as_posix()
            yield Case(name, operation, refusing(partial(_deeploy, parent, fuse=True)))
            yield Case(f"{name}, every tensor", operation, refusing(partial(_deeploy, parent, fuse=False)))


def find_dory(folder: Folder) -> Iterator[Case]:
    """A case for each folder of one model and its layers."""
    for parent, files in folder.folders.items():
        models = [file for file in files if file.suffix == ".onnx"]
        if parent / "input.txt" in files and len(models) == 1 and any(_LAYER.fullmatch(file.name) for file in files):
            name = parent.relative_to(folder.path).as_posix()
            yield Case(name, "network", refusing(partial(_dory, parent, models[0], files)))


def _deeploy(folder: Path, fuse: bool) -> Golden:
    """Outputs, and the saved tensors in between that the program has: all of them if nothing is fused."""
    path = folder / "network.onnx"
    model = read_model(path)
    graph = deeploy.read_graph(path, profile(DEEPLOY), fuse=fuse)
    given = dict(zip((given.name for given in model.inputs), read_archive(folder / "inputs.npz").values(), strict=False))
    expected = dict(zip(model.outputs, read_archive(folder / "outputs.npz").values(), strict=True))
    saved = folder / "activations.npz"
    if saved.exists():
        inner = _by_name(model, read_archive(saved))
        lost = [name for name in inner if name not in graph.views]
        if lost and not fuse:
            raise UnsupportedError(f"its program does not have the tensors {', '.join(lost[:3])}")
        expected |= {name: array for name, array in inner.items() if name in graph.views}
    return _golden(DEEPLOY, graph, given, expected)


def _by_name(model: Model, saved: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Saved tensors by the names of the graph: as the nodes are called, else in the order in which they are computed.

    The node __QL_REPLACED__INTEGER_GELU_PASS_0_iGELU is saved as ..._ql_replaced__integer_gelu_pass_0; of a matrix product
    and the addition of its bias, which share a name, it is the addition.
    """
    called: dict[str, Node] = {}
    for node in model.nodes:
        word = node.name.lower().lstrip("_").removesuffix(f"_{node.kind.lower()}").replace(".", "_")
        called |= {key: node for key in saved if word and (key == word or key.endswith(f"_{word}"))}
    if called.keys() == saved.keys():
        return {called[key].outputs[0]: array for key, array in saved.items()}
    nodes, found = iter(sorted(model.nodes, key=_number)), {}
    for key, array in saved.items():
        words = key.rpartition("replaced__")[2]  # before it stands the place in the network
        kinds = next((kinds for word, kinds in SAVED.items() if f"_{word}" in f"_{words}"), ())
        giver = next((node for node in nodes if not kinds or node.kind in kinds), None)
        if giver is None:
            raise UnsupportedError(f"nothing gives the saved tensor {key}")
        biased = [node for node in model.nodes if node.kind == "Add" and giver.outputs[0] in node.inputs]
        found[(biased[0] if giver.kind == "MatMul" and biased else giver).outputs[0]] = array
    return found


def _number(node: Node) -> int:
    """The number at the end of a node's name: tools count nodes as they are computed."""
    digits = re.search(r"(\d+)$", node.name)
    return int(digits[1]) if digits else 0


def _dory(folder: Path, path: Path, files: Sequence[Path]) -> Golden:
    """Every layer's output."""
    model = read_model(path)
    graph = dory.read_graph(path, profile(DORY))
    layers = sorted((int(found[1]), file) for file in files if (found := _LAYER.fullmatch(file.name)))
    ends = layer_ends(model)
    if len(ends) != len(layers):
        raise UnsupportedError(f"its graph has {len(ends)} layers, {len(layers)} are stored")
    lost = [name for name in ends if name not in graph.views]
    if lost:
        raise UnsupportedError(f"its program does not have the tensors {', '.join(lost[:3])}")
    (name,) = graph.inputs
    given = {name: _tensor(folder / "input.txt", graph.views[name])}
    expected = {end: _tensor(file, graph.views[end]) for end, (_, file) in zip(ends, layers, strict=True)}
    return _golden(DORY, graph, given, expected)


def layer_ends(model: Model) -> list[str]:
    """Tensors that are a layer's output to DORY: behind a clamp, a pool, a floor that no clamp follows, the last product."""
    readers: dict[str, list[Node]] = {}
    for node in model.nodes:
        for name in node.inputs:
            readers.setdefault(name, []).append(node)
    ends = (node for node in model.nodes if node.kind in ENDS and not _kinds_behind(node, readers) & ENDS[node.kind])
    return [node.outputs[0] for node in ends]


def _kinds_behind(node: Node, readers: Mapping[str, Sequence[Node]]) -> set[str]:
    """Kinds of the operators that read it, or what multiplications and divisions make of it."""
    found: set[str] = set()
    following = list(readers.get(node.outputs[0], []))
    while following:
        after = following.pop()
        found.add(after.kind)
        if after.kind in STEPS:
            following += readers.get(after.outputs[0], [])
    return found


def _golden(rule: str, graph: Graph, given: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> Golden:
    """Tensors as the program has them."""
    codes = {name: graph.views[name].codes_of(_whole(name, array)) for name, array in expected.items()}
    taken = graph.given({name: _whole(name, given[name]) for name in graph.inputs})
    images = len(next(iter(taken.values()))) if taken else 1
    if any(len(array) != images for array in (*codes.values(), *taken.values())):
        raise UnsupportedError("its tensors do not have the same number of samples")
    return Golden(rule, graph.program, taken, codes, {name: graph.views[name].op for name in codes})


def _whole(name: str, array: np.ndarray) -> np.ndarray:
    """int64 of numbers that are whole."""
    if array.dtype.kind not in "iufb" or (array.dtype.kind == "f" and not (np.rint(array) == array).all()):
        raise UnsupportedError(f"{name} holds numbers that are not whole")
    return array.astype(np.int64)


def _tensor(path: Path, view: View) -> np.ndarray:
    """The numbers of a text as a tensor of the file, [1, channels, height, width]."""
    title, _, body = read_text(path).partition("\n")
    words = re.split(r"[\s,\\]+", body)
    try:
        numbers = np.array([float(word) for word in words if word])
    except ValueError:
        raise UnsupportedError(f"{path.name} holds words that are no numbers") from None
    if numbers.size != view.size:
        raise UnsupportedError(f"{path.name} holds {numbers.size} numbers, its tensor has {view.size}")
    batch, *sides = view.shape
    if len(sides) < 2 or is_channels_first(title, sides):
        return numbers.reshape(view.shape)
    return np.ascontiguousarray(np.moveaxis(numbers.reshape(batch, *sides[1:], sides[0]), -1, 1))


def is_channels_first(title: str, sides: Sequence[int]) -> bool:
    """Whether numbers under such a title are in the order of the file's sides (channels, height, width).

    >>> is_channels_first("# relu (shape [40, 30, 16]),", (16, 40, 30))
    False
    >>> is_channels_first("# relu (shape [16, 40, 30]),", (16, 40, 30)), is_channels_first("relu (shape", (16, 40, 30))
    (True, True)
    """
    told = re.search(r"shape \[([\d, ]+)\]", title)
    shape = [int(word) for word in told[1].split(",") if word.strip()] if told else []
    last = [*sides[1:], sides[0]]
    return not title.startswith("#") or (shape[-len(sides):] == list(sides) != last)
