"""ONNX Runtime beside the machine: every tensor that a program has, code by code, and float outputs bit by bit."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from sim.importers.onnx import convert
from sim.importers.onnx.converted import Converted
from sim.importers.onnx.model import model_of
from sim.importers.onnx.values import arranged
from sim.machine import Machine
from sim.profiles import profile


def session(model: onnx.ModelProto, optimized: bool = True, int8: bool = True) -> onnxruntime.InferenceSession:
    """One thread; `int8` fuses signed activations on x86, too, as everywhere else."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    if int8:
        options.add_session_config_entry("session.qdqisint8allowed", "1")
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def runtime(model: onnx.ModelProto, given: Mapping[str, np.ndarray], shown: Any = (), **how: bool) -> dict[str, np.ndarray]:
    """Its outputs, and those of other tensors by name."""
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    known = {each.name for each in (*whole.graph.output, *whole.graph.input)}
    for name in shown:
        if name not in known:
            whole.graph.output.append(onnx.ValueInfoProto(name=name))
    running = session(whole, **how)
    names = [each.name for each in running.get_outputs()]
    return dict(zip(names, running.run(names, dict(given)), strict=True))


def converted(model: onnx.ModelProto, importer: Any = convert, rules: str = "onnxruntime") -> Converted:
    """By the importer, from the bytes."""
    return importer(model_of(onnx.ModelProto.FromString(model.SerializeToString()), Path(".")), profile(rules))


def machine(done: Converted, given: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """(codes of every tensor by its ONNX name as ONNX has it, outputs as the model gives them)."""
    trace: dict[str, np.ndarray] = {}
    codes = done.accept(given)
    results = Machine(done.program).results(codes if len(codes) > 1 else next(iter(codes.values())), trace)
    shown = {name: arranged(trace[each.op], each.dims, each.layout, done.batched) for name, each in done.shown.items()}
    return shown, {each.name: each.give(results[each.op]) for each in done.outlets}


def differing(model: onnx.ModelProto, given: Mapping[str, np.ndarray], every: bool = True,
              **how: bool) -> tuple[int, dict[str, int]]:
    """How many codes were compared, and how many differ by tensor; float32 outputs bit by bit."""
    done = converted(model)
    shown, outputs = machine(done, given)
    theirs = runtime(model, given, [name for name in shown if every], **how)
    mine = {**shown, **outputs}
    counts, compared = {}, 0
    for name in theirs.keys() & mine.keys():
        a, b = mine[name], theirs[name]
        assert a.shape == b.shape, name
        unequal = a.view(np.int32) != b.view(np.int32) if b.dtype == np.float32 else a.astype(np.int64) != b.astype(np.int64)
        compared += b.size
        if unequal.any():
            counts[name] = int(unequal.sum())
    assert compared
    return compared, counts
