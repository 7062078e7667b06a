"""Checkpoints to look at after training, and the test images that they belong to."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sim.checkpoint import Checkpoint, load_checkpoint
from sim.network import Input
from sim.records import RecordError, read_record
from training.data import Dataset, batches, load_dataset
from training.folder import FINAL_FILE, KIND, RECORD_FILE
from training.network import QuantNetwork

BATCH = 500


class ExamineError(ValueError):
    """Checkpoints that cannot be looked at together, and why."""


@dataclass(frozen=True)
class Examined:
    """A checkpoint and its file."""

    file: Path
    checkpoint: Checkpoint

    @classmethod
    def of(cls, file: Path) -> "Examined":
        """Raises CheckpointError or OSError."""
        return cls(file, load_checkpoint(file))

    @property
    def training(self) -> dict[str, Any]:
        """How it was trained, as far as it says."""
        return dict(self.checkpoint.training)

    @property
    def name(self) -> str:
        """Scheme and precisions from the first to its own."""
        known = self.training
        path = known.get("path")
        if not isinstance(path, list) or "scheme" not in known:
            return self.file.stem
        bits = self.checkpoint.spec.precision.inner
        way = path[:path.index(bits) + 1] if bits in path else path
        return f"{known['scheme']} {'-'.join(map(str, way))}"

    def model(self) -> QuantNetwork:
        """The network itself."""
        return QuantNetwork.from_spec(self.checkpoint.spec)

    def to_json(self) -> dict[str, Any]:
        """What a record says of it."""
        spec = self.checkpoint.spec
        return {"file": str(self.file), "name": self.name, "bits": spec.precision.inner, "precision": str(spec.precision),
                "training": self.training}


def chain(place: Path) -> list[Path]:
    """The checkpoints that a path means: a file itself, a folder of a run the networks on the way to its student.

    A step that was taken from another run begins with the chain of that one, if it is still there.  Raises ExamineError.
    """
    if not place.is_dir():
        return [place]
    if not (place / RECORD_FILE).exists():
        raise ExamineError(f"{place}: no folder of a run, it has no {RECORD_FILE}")
    return _chain(place, FINAL_FILE, frozenset())


def _chain(folder: Path, until: str, seen: frozenset[Path]) -> list[Path]:
    try:
        steps = read_record(folder / RECORD_FILE, KIND)["steps"]
    except RecordError as error:
        raise ExamineError(str(error)) from None
    found: list[Path] = []
    for name, step in steps.items():
        file, given = folder / f"{name}.pt", Path(str(step.get("from", "")))
        if "from" in step and (given.parent / RECORD_FILE).exists() and given.parent not in seen:
            found += _chain(given.parent, given.name, seen | {folder})
        elif file.exists():
            found.append(file)
        if file.name == until:
            break
    return found


def images_of(networks: Sequence[Examined], dataset: str | None, data: Path | None) -> Dataset:
    """The data of all networks; the first says which, unless the caller does.  Raises ExamineError or DataError."""
    saved = networks[0].checkpoint.dataset
    name = dataset or saved.get("name", "")
    if not name:
        raise ExamineError(f"{networks[0].file} names no data: give --dataset, and --data for a file or folder of yours")
    is_named = data is not None or dataset is not None
    path = data or (Path(saved["path"]) if saved.get("path") and not dataset else None)
    loaded = load_dataset(name, path, size=saved.get("size", ""))
    if loaded.is_text:
        raise ExamineError(f"{loaded.label}: texts have no classes, only networks for images are looked at here")
    for network in networks:
        graph = network.checkpoint.spec.graph
        shape = (graph.input.channels, graph.input.height, graph.input.width) if isinstance(graph.input, Input) else ()
        if shape != tuple(loaded.test.pixels.shape[1:]) or graph.classes != loaded.classes:
            raise ExamineError(f"{network.file}: it reads other images than those of {loaded.label}, or names other classes")
        digest = network.checkpoint.dataset.get("digest", "")
        if digest and digest != loaded.digest() and not is_named:
            raise ExamineError(f"{network.file}: {loaded.label} holds other data than it was trained on; name the right "
                               "ones with --data")
    return loaded


def about(images: Dataset) -> dict[str, Any]:
    """What a record says of the data."""
    return {"dataset": images.label, "data": {"name": images.name, "path": images.path, "digest": images.digest()}}


def check_limit(limit: int | None) -> None:
    """Raise ExamineError for a number of images that is none."""
    if limit is not None and limit < 1:
        raise ExamineError(f"limit: {limit} is not allowed, choose 1 or more images")


@torch.no_grad()
def predictions(model: QuantNetwork, data: Dataset, limit: int | None) -> torch.Tensor:
    """The class that it names for each test image, in the arithmetic of the hardware; int64 [N]."""
    images = data.test.first(limit)
    return torch.cat([model(part.pixels.float().contiguous(memory_format=torch.channels_last)).argmax(1)
                      for part in batches(images, BATCH)])
