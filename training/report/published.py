"""Figures that others have published, with how they were measured: published.toml."""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FILE = Path(__file__).resolve().parent / "published.toml"
MARKS = {"P": "the paper itself", "C": "its code or checkpoints", "S": "second hand"}
_LETTERS = str.maketrans("", "", " -_")


@dataclass(frozen=True)
class Figure:
    """Top-1 accuracy in percent; `scheme` is empty where the method is none of ours."""

    by: str
    protocol: str
    marks: str
    data: str
    model: str
    scheme: str
    bits: int
    value: float

    @property
    def source(self) -> str:
        """Where the figure was read."""
        return ", ".join(MARKS[mark] for mark in self.marks)


@cache
def figures() -> tuple[Figure, ...]:
    """All of the file, in its order."""
    content = tomllib.loads(FILE.read_text(encoding="utf-8"))
    return tuple(
        Figure(group["by"], group["protocol"], group["marks"], group["data"], group["model"], entry.get("scheme", ""),
               int(entry["bits"]), float(entry["value"]))
        for group in content["figures"] for entry in group["accuracy"])


def is_of(figure: Figure, dataset: str, model: str) -> bool:
    """Whether it is of that network on those images: "CIFAR-10" is "cifar10", and not "CIFAR-10 (JPEG-75)"."""
    return figure.model == model and _plain(figure.data) == _plain(dataset)


def of(dataset: str, model: str, bits: int) -> list[Figure]:
    """Those of a network at a width."""
    return [figure for figure in figures() if figure.bits == bits and is_of(figure, dataset, model)]


def _plain(name: str) -> str:
    return name.lower().translate(_LETTERS)
