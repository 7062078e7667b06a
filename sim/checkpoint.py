"""The checkpoint file: the one place where its format is written and read.

A file that torch.load reads with weights_only=True, so nothing in it is ever executed:

    format     "bittrue-checkpoint"         version    1
    graph      rows as dictionaries         precision  bits of the roles inner, boundary, skip; layers: exceptions
    quantizer  its name                     arrays     float32 tensors by "row.array"
    dataset    name, path, label            training   the configuration that made it (information only)
"""

import io
import json
import pickle
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sim.files import write_atomically
from sim.network import Graph, NetworkError, NetworkSpec, Precision
from sim.quantizers import QUANTIZERS
from sim.registry import RegistryError, is_own

FORMAT = "bittrue-checkpoint"
VERSION = 1
KEYS = {"format", "version", "graph", "precision", "quantizer", "arrays", "dataset", "training"}


class CheckpointError(ValueError):
    """A file that is no usable checkpoint, and why."""


@dataclass(frozen=True)
class Checkpoint:
    """A trained network and where its data came from."""

    spec: NetworkSpec
    dataset: Mapping[str, str]
    training: Mapping[str, Any] = field(default_factory=dict)


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write the file, completely or not at all."""
    spec = checkpoint.spec
    payload = {
        "format": FORMAT, "version": VERSION, "graph": spec.graph.to_json(),
        "precision": spec.precision.to_json(), "quantizer": spec.quantizer,
        "arrays": {name: torch.tensor(array) for name, array in spec.arrays.items()},
        "dataset": dict(checkpoint.dataset), "training": dict(checkpoint.training),
    }
    save_payload(path, payload)


def load_checkpoint(path: Path, quantizer: str = "") -> Checkpoint:
    """Read and check everything; raises CheckpointError with one reason, OSError if the file cannot be read.

    A checkpoint of a quantizer that is not built in wants it found before; `quantizer` is its name here, if another
    folder has made it "../my_q.py:NAME" instead of "my_q.py:NAME".
    """
    payload = load_payload(path)
    if not isinstance(payload, dict) or not isinstance(payload.get("format"), str) or payload["format"] != FORMAT:
        raise CheckpointError(f"{path}: not a {FORMAT} file")
    if not isinstance(version := payload.get("version"), int) or version != VERSION:
        raise CheckpointError(f"{path}: version {version!r}, this program reads version {VERSION}")
    if payload.keys() != KEYS:
        odd = sorted(map(str, payload.keys() ^ KEYS))
        raise CheckpointError(f"{path}: missing or unknown entry {odd[0]!r}")
    try:
        training = _mapping(payload["training"], "training")
        json.dumps(training, allow_nan=False)  # it is copied into records
        return Checkpoint(_spec(payload, quantizer), _dataset(payload["dataset"]), training)
    except (NetworkError, CheckpointError, RegistryError) as error:
        raise CheckpointError(f"{path}: {error}") from None
    except Exception as error:  # plain data of a shape that nobody thought of
        raise CheckpointError(f"{path}: malformed ({type(error).__name__}: {error})") from None


def save_payload(path: Path, payload: Any) -> None:
    """torch.save, completely or not at all; built in memory, because torch turns a full disk into other errors."""
    buffer = io.BytesIO()
    torch.save(payload, buffer)
    write_atomically(path, lambda file: file.write(buffer.getbuffer()))


def load_payload(path: Path) -> Any:
    """torch.load that never executes what a file says.  OSError if it cannot be read, CheckpointError if it is damaged."""
    content = io.BytesIO(path.read_bytes())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about foreign pickles; the error below says it all
            return torch.load(content, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = "it holds objects other than plain data" if "weights" in str(error).lower() else "not a torch file"
        raise CheckpointError(f"{path}: refused, {reason}; nothing in it was executed") from None
    except Exception as error:  # parsers of damaged bytes fail in every way there is
        raise CheckpointError(f"{path}: damaged or not a torch file ({type(error).__name__})") from None


def _quantizer(saved: str, named: str) -> str:
    """The name of the quantizer here: as saved, or as the user names it, which must be the same thing in a file."""
    if named and named != saved:
        if not (is_own(saved) and is_own(named)) or saved.rpartition(":")[2] != named.rpartition(":")[2]:
            raise CheckpointError(f"its quantizer is {saved!r}, not {named!r}")
        saved = named
    QUANTIZERS.known(saved)
    return saved


def _spec(payload: dict[str, Any], quantizer: str) -> NetworkSpec:
    precision = _mapping(payload["precision"], "precision")
    if precision.keys() | {"layers"} != {"inner", "boundary", "skip", "layers"}:
        raise CheckpointError("precision must name inner, boundary and skip")
    layers = precision.get("layers", [])
    if not isinstance(layers, list) or not all(isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str)
                                               for pair in layers):
        raise CheckpointError("layers of the precision must be pairs of a row and its bits")
    precision = {**precision, "layers": tuple(tuple(pair) for pair in layers)}
    if not isinstance(payload["quantizer"], str):
        raise CheckpointError("the quantizer must be a name")
    arrays = {name: _array(name, tensor) for name, tensor in _mapping(payload["arrays"], "arrays").items()}
    return NetworkSpec(Graph.from_json(payload["graph"]), arrays, Precision(**precision),
                       _quantizer(payload["quantizer"], quantizer))


def _array(name: str, tensor: Any) -> np.ndarray:
    plain = isinstance(tensor, torch.Tensor) and tensor.layout == torch.strided and tensor.device.type == "cpu"
    if not plain or tensor.dtype != torch.float32 or not tensor.is_contiguous() or tensor.is_neg():
        raise CheckpointError(f"array {name} is not a plain float32 tensor")
    array: np.ndarray = tensor.detach().numpy()
    return array


def _dataset(value: Any) -> dict[str, str]:
    dataset = _mapping(value, "dataset")
    if dataset.keys() != {"name", "path", "label"} or not all(isinstance(v, str) for v in dataset.values()):
        raise CheckpointError("dataset must hold the texts name, path and label")
    return dataset


def _mapping(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise CheckpointError(f"{what} is not a dictionary with text keys")
    return value
