"""Runtimes of .tflite files as oracles, where they are installed (extra `peers`): each tensor of each input."""

import importlib.util
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sim.conformance.case import UnsupportedError

Tensors = Callable[[Path, Sequence[np.ndarray]], Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class Runtime:
    """The package, the profile of its arithmetic, and what it makes of inputs [N, ...]: tensors [N, ...] by t and number."""

    package: str
    profile: str
    tensors: Tensors

    def require(self) -> None:
        """Raise UnsupportedError where it is not installed."""
        if importlib.util.find_spec(self.package) is None:
            name = self.package.replace("_", "-")
            raise UnsupportedError(f"the runtime {name} is not installed: pip install 'bittrue[peers]'")


def _litert(resolver: str, model: Path, inputs: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """LiteRT with one of its resolvers."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that keeping tensors takes memory
            interpreter = Interpreter(str(model), experimental_op_resolver_type=OpResolverType[resolver],
                                      experimental_preserve_all_tensors=True, num_threads=1)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise UnsupportedError(f"LiteRT refuses it: {_first_sentence(error)}") from None
    places = [place["index"] for place in interpreter.get_input_details()]
    numbers = _codes(interpreter.get_tensor_details())
    found: dict[str, list[np.ndarray]] = {}
    for index in range(len(inputs[0])):
        for place, array in zip(places, inputs, strict=True):
            interpreter.set_tensor(place, _sample(array, index, interpreter.get_tensor(place)))
        interpreter.invoke()
        for number in numbers:
            try:
                tensor = interpreter.get_tensor(number)
            except ValueError:  # inside a delegate
                continue
            found.setdefault(f"t{number}", []).append(tensor.copy())
    return _whole(found, len(inputs[0]))


def _first_sentence(error: Exception) -> str:
    """Runtimes repeat themselves for each tensor."""
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0].partition(". ")[0]


def _micro(model: Path, inputs: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """tflite-micro; the numbers of tensors are the file's, as LiteRT tells them."""
    from tflite_micro import runtime

    numbers = _numbers(model)
    interpreter = runtime.Interpreter.from_file(
        str(model), intrepreter_config=runtime.InterpreterConfig.kPreserveAllTensors)
    found: dict[str, list[np.ndarray]] = {}
    for index in range(len(inputs[0])):
        for place, array in enumerate(inputs):
            shape = tuple(interpreter.get_input_details(place)["shape"])
            interpreter.set_input(array[index].reshape(shape), place)
        interpreter.invoke()
        for number in numbers:
            found.setdefault(f"t{number}", []).append(interpreter.GetTensor(number, 0)["tensor_data"].copy())
    return _whole(found, len(inputs[0]))


def _numbers(model: Path) -> list[int]:
    """The tensors of a file that operators give: an index that is none ends the process of tflite-micro."""
    import tflite

    graph = tflite.Model.GetRootAs(model.read_bytes(), 0).Subgraphs(0)
    return [int(graph.Operators(number).Outputs(0)) for number in range(graph.OperatorsLength())]


def _codes(details: Sequence[Mapping[str, Any]]) -> list[int]:
    """Numbers of tensors of quantized codes."""
    return [place["index"] for place in details if place["dtype"] in (np.int8, np.int16, np.uint8)]


def _sample(array: np.ndarray, index: int, like: np.ndarray) -> np.ndarray:
    return array[index].reshape(like.shape).astype(like.dtype)


def _whole(found: Mapping[str, Sequence[np.ndarray]], images: int) -> dict[str, np.ndarray]:
    return {name: np.stack(list(arrays)) for name, arrays in found.items() if len(arrays) == images}


TFLITE: tuple[Runtime, ...] = (
    Runtime("ai_edge_litert", "litert_reference", partial(_litert, "BUILTIN_REF")),
    Runtime("ai_edge_litert", "litert_ruy", partial(_litert, "BUILTIN_WITHOUT_DEFAULT_DELEGATES")),
    Runtime("ai_edge_litert", "litert_xnnpack", partial(_litert, "AUTO")),
    Runtime("tflite_micro", "tflite_micro_cmsis_nn", _micro),
)
