"""Models of TensorFlow Lite: stored traces of a runtime, and the runtimes themselves where they are installed.

A trace is an archive beside its model, called after it: NAME_ref_trace (LiteRT's reference kernels) or tflm_NAME
(tflite-micro with CMSIS-NN's arithmetic), with the inputs as in, in0, in1 and each tensor as t and its number.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from sim.conformance import runtimes
from sim.conformance.case import Case, Golden, UnsupportedError
from sim.conformance.folder import Folder, read_archive
from sim.conformance.networks import golden_of, input_ops, inputs_of, read_model
from sim.ops.op import format_of

TRACES: Mapping[str, str] = {r"(.+)_ref_trace": "litert_reference", r"tflm_(.+)": "tflite_micro_cmsis_nn"}
"""What a trace is called -> the profile of the runtime that it is of."""
_INPUT, _TENSOR = re.compile(r"in(\d*)"), re.compile(r"t(\d+)(?:_\w+)?")
IMAGES, SEED = 6, 15
"""Of a live comparison: the extremes, a ramp, and random codes."""


def find(folder: Folder) -> Iterator[Case]:
    """A case for each trace, and one for each model and runtime."""
    models = sorted(folder.ending(".tflite"))
    for path in folder.archives:
        for pattern, profile in TRACES.items():
            if (found := re.fullmatch(pattern, path.stem)) and (model := _model_of(found[1], path.parent, models)):
                yield Case(f"{model.stem}: {path.stem}", "trace", partial(_traced, model, path, profile))
    for model in models:
        for runtime in runtimes.TFLITE:
            yield Case(f"{model.stem}: {runtime.profile}", "live", partial(_live, model, runtime))


def _model_of(word: str, parent: Path, models: Sequence[Path]) -> Path | None:
    """The one model beside a trace whose name holds the word that the trace is called by."""
    beside = [model for model in models if model.parent == parent and word in model.stem]
    return beside[0] if len(beside) == 1 else None


def _traced(model: Path, path: Path, profile: str) -> Golden:
    """Every stored tensor."""
    arrays = read_archive(path)
    inputs = sorted((int(found[1] or 0), key) for key in arrays if (found := _INPUT.fullmatch(key)))
    tensors = {f"t{found[1]}": array for key, array in arrays.items() if (found := _TENSOR.fullmatch(key))}
    if not inputs or not tensors:
        raise UnsupportedError("it holds no inputs, or no tensors")
    imported = read_model(model, profile)
    return golden_of(profile, imported, inputs_of(imported, [arrays[key] for _, key in inputs]), tensors)


def _live(model: Path, runtime: runtimes.Runtime) -> Golden:
    """Every tensor that the runtime shows of some inputs, and that is codes."""
    runtime.require()
    imported = read_model(model, runtime.profile)
    rng = np.random.default_rng(SEED)
    given = {}
    for op in input_ops(imported):
        form = format_of(op)
        images = rng.integers(form.min, form.max, (IMAGES, *op.shape), endpoint=True)
        images[0], images[1] = form.min, form.max
        images[2] = np.linspace(form.min, form.max, images[2].size).astype(np.int64).reshape(op.shape)
        given[op.name] = images.astype(form.dtype)
    shown = runtime.tensors(model, list(given.values()))
    expected = {name: array for name, array in shown.items()
                if name in imported.tensors and imported.tensors[name] not in given}
    return golden_of(runtime.profile, imported, given, expected)
