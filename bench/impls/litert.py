"""LiteRT's default, the XNNPACK delegate, on int8 models of others."""

from collections.abc import Callable

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from bench.cases import ModelCase, Work
from bench.threads import THREADS


def isa() -> str:
    """XNNPACK looks at the processor itself and does not tell."""
    return "XNNPACK's choice"


def network(case: ModelCase) -> Work:
    """One image a call: such models have a batch of 1."""
    runtime = Interpreter(model_path=str(case.path()), num_threads=THREADS)
    runtime.allocate_tensors()
    (given,), (result,) = runtime.get_input_details(), runtime.get_output_details()
    codes = case.codes(tuple(given["shape"]))

    def run() -> np.ndarray:
        for image in codes:
            runtime.set_tensor(given["index"], image[None])
            runtime.invoke()
        last: np.ndarray = runtime.get_tensor(result["index"])
        return last

    return Work(run, case.images)


BUILD: dict[str, dict[str, Callable[..., Work]]] = {"LiteRT XNNPACK": {"tflite": network}}
