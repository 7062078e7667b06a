"""The checkpoint file: the one place where its format is written and read.

A file that torch.load reads with weights_only=True, so nothing in it is ever executed:

    format     "bittrue-checkpoint"         version    2
    graph      rows as dictionaries         precision  bits of the roles inner, boundary, skip;
                                                       layers: exceptions; activations: their width
    quantizer  its name                     arrays     float32 tensors by "row.array"
    dataset    name, path, label, digest of the data, size of the images ("" where they were not scaled)
    training   the configuration that made it (information only)
    digest     "sha256:..." over all of these (`content_digest`), because torch ignores the checksums of its files

Version 1 had no digest, and neither digest nor size of the data set; it still loads, and `Checkpoint.checked` says so.
"""

import hashlib
import io
import json
import pickle
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sim.files import write_atomically
from sim.network import Graph, NetworkError, NetworkSpec, Precision
from sim.quantizers import QUANTIZERS
from sim.registry import RegistryError, is_own
from sim.text import printable

FORMAT = "bittrue-checkpoint"
VERSION = 2
KEYS = {"format", "version", "graph", "precision", "quantizer", "arrays", "dataset", "training"}
DATASET_KEYS = ("name", "path", "label")
NEW_DATASET_KEYS = ("digest", "size")


class CheckpointError(ValueError):
    """A file that is no usable checkpoint, and why."""


@dataclass(frozen=True)
class Checkpoint:
    """A trained network and where its data came from.

    `dataset` holds the texts name, path, label, digest and size, "" where unknown; `checked` is False if the file that it
    was read from, of version 1, carried no digest.
    """

    spec: NetworkSpec
    dataset: Mapping[str, str]
    training: Mapping[str, Any] = field(default_factory=dict)
    checked: bool = field(default=True, compare=False)


def save_checkpoint(path: Path | str, checkpoint: Checkpoint) -> None:
    """Write the file, completely or not at all."""
    spec = checkpoint.spec
    payload = {
        "format": FORMAT, "version": VERSION, "graph": spec.graph.to_json(),
        "precision": spec.precision.to_json(), "quantizer": spec.quantizer,
        "arrays": {name: torch.tensor(array) for name, array in spec.arrays.items()},
        "dataset": _dataset(dict.fromkeys(NEW_DATASET_KEYS, "") | dict(checkpoint.dataset), VERSION),
        "training": dict(checkpoint.training),
    }
    save_payload(path, payload)


def load_checkpoint(path: Path | str, quantizer: str = "") -> Checkpoint:
    """Read and check everything; raises CheckpointError with one reason, OSError if the file cannot be read.

    A checkpoint of a quantizer that is not built in wants it found before; `quantizer` is its name here, if another
    folder has made it "../my_q.py:NAME" instead of "my_q.py:NAME".
    """
    payload = load_payload(path)
    try:
        return _checkpoint(payload, quantizer)
    except (NetworkError, CheckpointError, RegistryError) as error:
        raise CheckpointError(f"{printable(path)}: {printable(error)}") from None
    except Exception as error:  # plain data of a shape that nobody thought of
        raise CheckpointError(f"{printable(path)}: malformed ({type(error).__name__}: {printable(error)})") from None


def save_payload(path: Path | str, payload: Mapping[str, Any]) -> None:
    """torch.save of plain data and tensors with their digest, completely or not at all.

    Built in memory, because torch turns a full disk into other errors.
    """
    plain = _plain(payload)
    buffer = io.BytesIO()
    torch.save({**plain, "digest": content_digest(plain)}, buffer)
    write_atomically(path, lambda file: file.write(buffer.getbuffer()))


def load_payload(path: Path | str) -> Any:
    """torch.load that never executes what a file says.  OSError if it cannot be read, CheckpointError if it is damaged."""
    content = io.BytesIO(Path(path).read_bytes())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about foreign pickles; the error below says it all
            return torch.load(content, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = "it holds objects other than plain data" if "weights" in str(error).lower() else "not a torch file"
        raise CheckpointError(f"{printable(path)}: refused, {reason}; nothing in it was executed") from None
    except Exception as error:  # parsers of damaged bytes fail in every way there is
        raise CheckpointError(f"{printable(path)}: damaged or not a torch file ({type(error).__name__})") from None


def check_digest(payload: dict[str, Any]) -> None:
    """Take the digest out of a payload; raises CheckpointError if it is missing or not that of the rest."""
    if payload.pop("digest", None) != content_digest(payload):
        raise CheckpointError("the digest does not match, the file was changed")


def content_digest(value: Any) -> str:
    """The digest of dictionaries, lists, texts, numbers and tensors: of types and values, not of the order of keys.

    Raises CheckpointError for anything else, and for tensors that are views or not on the processor.
    """
    digest = hashlib.sha256()
    for part in _parts(value):
        digest.update(part)
    return f"sha256:{digest.hexdigest()}"


def _parts(value: Any) -> Iterator[bytes]:
    """Bytes that no other value has: each part begins with its type and length."""
    kind = type(value)
    if kind is dict:
        yield b"dict %d\n" % len(value)
        for key in sorted(value, key=lambda key: (type(key).__name__, key)):
            if type(key) not in (str, int):
                raise CheckpointError(f"a key that is a {type(key).__name__}")
            yield from _parts(key)
            yield from _parts(value[key])
    elif kind is list:
        yield b"list %d\n" % len(value)
        for part in value:
            yield from _parts(part)
    elif kind is torch.Tensor:
        if not is_plain(value):
            raise CheckpointError("it holds a tensor that is not a plain one")
        yield f"tensor {value.dtype} {list(value.shape)}\n".encode()
        yield value.detach().reshape(-1).view(torch.uint8).numpy().tobytes()
    elif kind in _ENCODE:
        encoded = _ENCODE[kind](value)
        yield f"{kind.__name__} {len(encoded)}\n".encode() + encoded
    else:
        raise CheckpointError(f"it holds a {printable(kind.__name__)}, which is no plain data")


_ENCODE: Mapping[type, Callable[[Any], bytes]] = {
    str: lambda text: text.encode("utf-8", "surrogatepass"), float: lambda number: number.hex().encode(),
    **dict.fromkeys((int, bool, type(None)), lambda value: repr(value).encode())}


def is_plain(tensor: Any) -> bool:
    """Whether an object is a tensor that lies in memory as one whole."""
    return (type(tensor) is torch.Tensor and tensor.layout == torch.strided and tensor.device.type == "cpu"
            and tensor.is_contiguous() and not (tensor.is_neg() or tensor.is_conj() or tensor.is_quantized))


def _plain(value: Any) -> Any:
    """The same without what torch and training add: ordered dictionaries with notes, tuples, parameters, strides."""
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().contiguous().clone()
    return value.item() if isinstance(value, np.generic) else value


def _checkpoint(payload: Any, quantizer: str) -> Checkpoint:
    if not isinstance(payload, dict) or not isinstance(payload.get("format"), str) or payload["format"] != FORMAT:
        raise CheckpointError(f"not a {FORMAT} file")
    version = payload.get("version")
    if type(version) is not int or not 1 <= version <= VERSION:
        raise CheckpointError(f"version {version!r}, this program reads versions 1 to {VERSION}")
    checked = version > 1
    if checked:
        check_digest(payload)
    if payload.keys() != KEYS:
        odd = sorted(map(str, payload.keys() ^ KEYS))
        raise CheckpointError(f"missing or unknown entry {odd[0]!r}")
    training = _mapping(payload["training"], "training")
    json.dumps(training, allow_nan=False)  # it is copied into records
    return Checkpoint(_spec(payload, quantizer), _dataset(payload["dataset"], version), training, checked)


def _quantizer(saved: str, named: str) -> str:
    """The name of the quantizer here: as saved, or as the user names it, which must be the same thing in a file."""
    if named and named != saved:
        if not (is_own(saved) and is_own(named)) or saved.rpartition(":")[2] != named.rpartition(":")[2]:
            raise CheckpointError(f"its quantizer is {saved!r}, not {named!r}")
        saved = named
    QUANTIZERS.known(saved)
    return saved


def _spec(payload: dict[str, Any], quantizer: str) -> NetworkSpec:
    if not isinstance(payload["quantizer"], str):
        raise CheckpointError("the quantizer must be a name")
    arrays = {name: _array(name, tensor) for name, tensor in _mapping(payload["arrays"], "arrays").items()}
    return NetworkSpec(Graph.from_json(payload["graph"]), arrays, Precision.from_json(payload["precision"]),
                       _quantizer(payload["quantizer"], quantizer))


def _array(name: str, tensor: Any) -> np.ndarray:
    if not is_plain(tensor) or tensor.dtype != torch.float32:
        raise CheckpointError(f"array {name} is not a plain float32 tensor")
    array: np.ndarray = tensor.detach().numpy()
    return array


def _dataset(value: Any, version: int) -> dict[str, str]:
    dataset = _mapping(value, "dataset")
    keys = DATASET_KEYS if version == 1 else DATASET_KEYS + NEW_DATASET_KEYS
    if dataset.keys() != set(keys) or not all(isinstance(v, str) for v in dataset.values()):
        raise CheckpointError(f"dataset must hold the texts {', '.join(keys[:-1])} and {keys[-1]}")
    return dict.fromkeys(NEW_DATASET_KEYS, "") | dataset


def _mapping(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise CheckpointError(f"{what} is not a dictionary with text keys")
    return value
