"""ONNX's own backend tests of quantization: NAME.onnx with NAME.npz, arrays in0, ... and out0, ... in the graph's order.

Scales, zero points and weights are inputs of these graphs; a program has them as constants, so all inputs but the first
become some here.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from sim.conformance.case import Case, Golden, UnsupportedError
from sim.conformance.folder import Folder, read_archive
from sim.conformance.networks import refusing
from sim.importers.onnx import convert
from sim.importers.onnx.model import model_of, proto
from sim.profiles import profile

PROFILE = "onnxruntime"


def find(folder: Folder) -> Iterator[Case]:
    """Models beside an archive of their name with in0 and out0."""
    models = set(folder.ending(".onnx"))
    for path, names in folder.archives.items():
        model = path.with_suffix(".onnx")
        if names >= {"in0", "out0"} and model in models:
            operation = path.stem.removeprefix("test_").partition("_")[0]
            yield Case(path.stem, operation, refusing(partial(_make, model, path)))


def _make(model: Path, path: Path) -> Golden:
    from onnx import numpy_helper

    arrays = read_archive(path)
    content = proto(model)
    names = [value.name for value in content.graph.input]
    given = {name: arrays[f"in{index}"] for index, name in enumerate(names) if f"in{index}" in arrays}
    if given.keys() != set(names):
        raise UnsupportedError(f"it has {len(names)} inputs, {len(given)} are stored")
    for value in list(content.graph.input)[1:]:
        content.graph.input.remove(value)
        content.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(given[value.name]), value.name))
    done = convert(model_of(content, model.parent), profile(PROFILE))
    expected = {outlet.name: arrays[f"out{index}"] for index, outlet in enumerate(done.outlets)}
    return Golden(PROFILE, done.program, done.accept({names[0]: given[names[0]]}), expected,
                  {outlet.name: outlet.op for outlet in done.outlets}, {outlet.name: outlet.give for outlet in done.outlets})
