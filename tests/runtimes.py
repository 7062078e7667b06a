"""Runtimes of .tflite files from PyPI (extra `peers`): every tensor that they show, for one input."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from sim.importers.tflite.file import Model, read_file

THREADS = {"litert_ruy": 1}
"""Other than two: how its mean rounds depends on them."""
LITERT = {"litert_reference": "BUILTIN_REF", "litert_ruy": "BUILTIN_WITHOUT_DEFAULT_DELEGATES", "litert_xnnpack": "AUTO"}
TFLM = "tflite_micro_cmsis_nn"
ARENA = 16 << 20


class LiteRt:
    """One of its resolvers, all tensors kept."""

    def __init__(self, content: bytes, profile: str) -> None:
        interpreter = pytest.importorskip("ai_edge_litert.interpreter", reason="ai-edge-litert is not installed")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                self.runtime = interpreter.Interpreter(
                    model_content=content,
                    num_threads=THREADS.get(profile, 2),
                    experimental_preserve_all_tensors=True,
                    experimental_op_resolver_type=getattr(interpreter.OpResolverType, LITERT[profile]),
                )
                self.runtime.allocate_tensors()
            except (ValueError, RuntimeError) as error:
                pytest.skip(f"LiteRT refuses this model: {str(error).splitlines()[0]}")

    def run(self, *inputs: np.ndarray) -> None:
        for details, codes in zip(self.runtime.get_input_details(), inputs, strict=True):
            self.runtime.set_tensor(details["index"], codes)
        self.runtime.invoke()

    def tensor(self, number: int) -> np.ndarray:
        return self.runtime.get_tensor(number)


class TfliteMicro:
    """Its reference kernels, which CMSIS-NN's equal."""

    def __init__(self, content: bytes) -> None:
        runtime = pytest.importorskip("tflite_micro", reason="tflite-micro is not installed").runtime
        try:
            self.runtime = runtime.Interpreter.from_bytes(
                content, arena_size=ARENA, intrepreter_config=runtime.InterpreterConfig.kPreserveAllTensors
            )
        except RuntimeError as error:
            pytest.skip(f"tflite-micro refuses this model: {error}")

    def run(self, *inputs: np.ndarray) -> None:
        for index, codes in enumerate(inputs):
            self.runtime.set_input(codes, index)
        self.runtime.invoke()

    def tensor(self, number: int) -> np.ndarray:
        return self.runtime.GetTensor(number, 0)["tensor_data"]


def runtime_of(content: bytes, profile: str) -> LiteRt | TfliteMicro:
    return TfliteMicro(content) if profile == TFLM else LiteRt(content, profile)


def written_tensors(model: Model) -> list[int]:
    """Numbers of the tensors that operators write."""
    return [number for node in model.operators for number in node.outputs]


def inputs_of(path: Path, count: int, seed: int = 0) -> Iterator[list[np.ndarray]]:
    """Random and extreme codes for every input: least, largest, alternating, the zero point, small and wide noise."""
    model, rng = read_file(path), np.random.default_rng(seed)
    for index in range(count):
        yield [_codes(model.tensors[number], index, rng) for number in model.inputs]


def _codes(tensor, index: int, rng: np.random.Generator) -> np.ndarray:
    info = np.iinfo(tensor.type.lower())
    zero, shape = int(tensor.zeros[0]), tensor.shape
    wide = rng.integers(info.min, info.max, shape, endpoint=True)
    kinds = [
        wide,
        np.full(shape, info.min),
        np.full(shape, info.max),
        np.full(shape, zero),
        np.where(np.indices(shape).sum(0) % 2, info.min, info.max),
        wide // 8 + zero,
        wide // 40 + zero,
        np.where(rng.random(shape) < 0.01, info.max, zero),
        np.where(rng.random(shape) < 0.5, info.min, info.max),
        np.clip(np.cumsum(wide // 40, axis=-2) + zero, info.min, info.max),
    ]
    return kinds[index % len(kinds)].clip(info.min, info.max).astype(info.dtype)
