"""Networks of QONNX with what its executor made of an input: NAME.clean.onnx (or NAME.onnx) beside NAME.npz.

Arrays are input, output, and t/TENSOR for tensors in between.  Compared are the codes of every quantizer of activations,
which its float32 results tell exactly, and of the output the class.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from sim.conformance.case import Case, Golden, UnsupportedError
from sim.conformance.folder import Folder, read_archive
from sim.conformance.networks import refusing
from sim.importers.onnx.model import Model, Node, load
from sim.importers.onnx.values import Codes, arranged
from sim.importers.qonnx import convert
from sim.profiles import profile

PROFILE = "qonnx"
TENSOR = "t/"
QUANTIZERS = ("Quant", "BipolarQuant")
CLASS = "class"


def find(folder: Folder) -> Iterator[Case]:
    """Archives with input, output and tensors, beside a model of their name."""
    models = set(folder.ending(".onnx"))
    for path, names in folder.archives.items():
        called = (path.with_suffix(suffix) for suffix in (".clean.onnx", ".onnx"))
        model = next((other for other in called if other in models), None)
        if names >= {"input", "output"} and any(name.startswith(TENSOR) for name in names) and model is not None:
            yield Case(path.stem, "network", refusing(partial(_make, model, path)))


def _make(path: Path, archive: Path) -> Golden:
    arrays = read_archive(archive)
    model = load(path)
    done = convert(model, profile(PROFILE))
    expected: dict[str, np.ndarray] = {}
    operations: dict[str, str] = {}
    give: dict[str, Callable[[np.ndarray], np.ndarray]] = {}
    for node in quantizers_of(model):
        name = node.outputs[0]
        if TENSOR + name not in arrays:
            continue
        if name not in done.shown:
            raise UnsupportedError(f"its program does not have the tensor {name}")
        codes = done.shown[name]
        expected[name] = codes_of(model, node, arrays[TENSOR + name])
        operations[name] = codes.op
        give[name] = partial(_arranged, codes, done.batched)
    (outlet,) = done.outlets
    expected[CLASS] = _classes(arrays["output"])
    operations[CLASS] = outlet.op
    give[CLASS] = lambda results: _classes(outlet.give(results))
    return Golden(PROFILE, done.program, done.accept({model.inputs[0].name: arrays["input"]}), expected, operations, give)


def quantizers_of(model: Model) -> list[Node]:
    """Those of activations: what they read depends on an input."""
    known = {info.name for info in model.inputs}
    found = []
    for node in model.nodes:
        if known & set(node.inputs):
            known |= set(node.outputs)
            found += [node] if node.kind in QUANTIZERS else []
    return found


def codes_of(model: Model, node: Node, values: np.ndarray) -> np.ndarray:
    """The codes whose float32 values a quantizer gave: values / scale + zero point, which is near an integer."""
    scale = model.constants[node.inputs[1]].array.astype(np.float64)
    zero = model.constants[node.inputs[2]].array.astype(np.float64) if node.kind == "Quant" else 0.0
    steps = values.astype(np.float64) / scale + zero
    codes = np.rint(steps)
    if np.abs(steps - codes).max(initial=0.0) > 1e-3:
        raise UnsupportedError(f"what is stored of {node.outputs[0]} are no codes")
    return codes.astype(np.int64)


def _arranged(codes: Codes, batched: bool, values: np.ndarray) -> np.ndarray:
    return arranged(values, codes.dims, codes.layout, batched)


def _classes(outputs: np.ndarray) -> np.ndarray:
    """The largest of each row, or its one number."""
    rows = outputs.reshape(len(outputs), -1)
    classes: np.ndarray = rows.argmax(axis=1) if rows.shape[1] > 1 else rows[:, 0]
    return classes
