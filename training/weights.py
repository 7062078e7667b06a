"""Float weights that others have published: torch state dicts, as arrays of a network of this project."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sim.checkpoint import CheckpointError, load_payload
from sim.network import FLOAT_BITS, Graph, NetworkSpec, Precision
from sim.text import printable
from sim.values import sizes
from training.models.published import published
from training.safetensors import SafetensorsError, is_safetensors, read_safetensors

WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Keys under which training scripts keep the state dict beside other things."""
PARALLEL = "module."
"""What torch's DataParallel puts before every name."""
NORM_ARRAYS = ("weight", "bias", "running_mean", "running_var")
UNREAD = "num_batches_tracked"
"""What a batch norm counts and inference does not read."""
FLOAT_QUANTIZER = "dorefa"
"""Of a float network: this one has learned nothing yet."""
SHOWN = 4


class WeightsError(ValueError):
    """A file that holds no state dict, or one of another network, and which tensors are wrong."""


def read_state_dict(path: Path | str) -> dict[str, Tensor]:
    """The tensors of a state dict file by name, nothing of it executed (weights_only=True).

    It may stand under "state_dict" beside other things, and its names may begin with "module."; or it is a file of the
    format safetensors.  Raises WeightsError or OSError.
    """
    if is_safetensors(path):
        try:
            return read_safetensors(path)
        except SafetensorsError as error:
            raise WeightsError(str(error)) from None
    try:
        state = load_payload(path)
    except CheckpointError as error:
        raise WeightsError(str(error)) from None
    for key in WRAPPERS:
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
            break
    tensors = isinstance(state, dict) and bool(state) and all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in state.items())
    if not tensors:
        raise WeightsError(f"{printable(path)}: no state dict, which is a dictionary of tensors by name")
    if all(name.startswith(PARALLEL) for name in state):
        state = {name.removeprefix(PARALLEL): tensor for name, tensor in state.items()}
    return dict(state)


def float_network(graph: Graph, state: Mapping[str, Tensor], model: str) -> NetworkSpec:
    """The float network `graph`, which is `model`'s, with the weights of a state dict.

    Names are those of `training.models.published`, else "row.weight" and "row.norm.weight".  Matrices of fully connected
    layers become windows over what they read, channels first, as torch flattens it; a bias before a batch norm moves its
    mean.  Raises WeightsError that names every
    tensor that is missing, of another shape, or belongs to no row.
    """
    known, state = published(model), _known(state, model)
    shapes, rows = graph.shapes(), [row.name for row in graph.rows]
    found, wrong, used = {}, [], set()
    for row in graph.rows:
        if not row.array_shapes(shapes):
            continue
        layer, norm = known.names(row.name, rows)
        used.add(f"{norm}.{UNREAD}")
        for array, shape in row.array_shapes(shapes).items():
            name = f"{norm}.{array.removeprefix('norm.')}" if array.startswith("norm.") else f"{layer}.{array}"
            used.add(name)
            if name not in state:
                wrong.append(f"{name} is missing")
            elif not _fits(state[name], shape):
                wrong.append(f"{name} is {_shown(state[name].shape)}, {row.name} of {model} has {_shown(shape)} here")
            else:
                found[f"{row.name}.{array}"] = _array(state[name], shape)
        if f"{row.name}.norm.running_mean" in found and (bias := state.get(f"{layer}.bias")) is not None:
            used.add(f"{layer}.bias")
            if bias.shape == (row.weight_channels,):
                found[f"{row.name}.norm.running_mean"] -= _array(bias, bias.shape)
            else:
                wrong.append(f"{layer}.bias is {_shown(bias.shape)}, not {row.weight_channels}")
    wrong += [f"{name} belongs to no row of {model}" for name in state if name not in used]
    if wrong:
        more = f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        raise WeightsError(f"not the weights of this network: {'; '.join(wrong[:SHOWN])}{more}; to begin a training with "
                           "what fits of them: --init-from")
    return NetworkSpec(graph, found, Precision.of(FLOAT_BITS), FLOAT_QUANTIZER)


def first_arrays(graph: Graph, state: Mapping[str, Tensor], model: str) -> dict[str, np.ndarray]:
    """Arrays "row.array" of all in a state dict that fits a row of the graph, `model`'s: what a training begins with.

    What is missing, such as a head, and what belongs to no row is left out; of more positions than the network has the first
    are taken.  Raises WeightsError if nothing fits.
    """
    known, state = published(model), _known(state, model)
    shapes, rows = graph.shapes(), [row.name for row in graph.rows]
    found = {}
    for row in graph.rows:
        own = row.array_shapes(shapes)
        layer, norm = known.names(row.name, rows) if own else ("", "")
        for array, shape in own.items():
            tensor = state.get(f"{norm}.{array.removeprefix('norm.')}" if array.startswith("norm.") else f"{layer}.{array}")
            if tensor is not None and row.is_constant and tensor.ndim == len(shape):
                tensor = tensor[: shape[0]]
            if tensor is not None and _fits(tensor, shape):
                found[f"{row.name}.{array}"] = _array(tensor, shape)
    if not found:
        raise WeightsError(f"no tensor of it fits {model}, by name and shape")
    return found


def _known(state: Mapping[str, Tensor], model: str) -> dict[str, Tensor]:
    """Tensors by the names that `model` has for them, without those that are never read."""
    known = published(model)
    plain = {name.removeprefix(known.prefix): tensor for name, tensor in state.items()}
    return {name: tensor for name, tensor in plain.items() if not (known.unread and name.startswith(known.unread))}


def classes_of(state: Mapping[str, Tensor], model: str) -> int:
    """How many classes the weights of a published network know: rows of its last matrix.  Raises WeightsError."""
    names = published(model).names
    for rows in (("classifier", "fc1"), ("classifier",)):
        if (name := f"{names('classifier', rows)[0]}.weight") in state:
            return int(state[name].shape[0])
    raise WeightsError(f"{name} is missing: these are no weights of {model}")


def _fits(tensor: Tensor, shape: Sequence[int]) -> bool:
    """Equal shapes, or a matrix for a window."""
    is_matrix = tensor.ndim == 2 and len(shape) == 4 and tensor.shape[0] == shape[0]
    return tuple(tensor.shape) == tuple(shape) or (is_matrix and tensor.numel() == int(np.prod(shape)))


def _array(tensor: Tensor, shape: Sequence[int]) -> np.ndarray:
    return tensor.detach().to(torch.float32).reshape(tuple(shape)).numpy().copy()


def _shown(shape: Sequence[int]) -> str:
    return sizes(tuple(shape)) if shape else "a number"
