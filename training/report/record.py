"""One record, and what it says of itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sim.trained import overflows_in

KINDS = TRAINING, EVALUATION, PERFORMANCE, CONFORMANCE, GRID, MISTAKES, PROFILE, RUNTIMES, REGISTERS, WIDTHS = (
    "training", "evaluation", "performance", "conformance", "grid", "mistakes", "profile", "runtimes", "registers", "widths")


class TableError(ValueError):
    """A record that is missing or not what it should be."""


@dataclass(frozen=True)
class Record:
    """One file's content, never changed."""

    file: Path
    content: Mapping[str, Any]

    def __getitem__(self, key: str) -> Any:
        return self.content[key]

    def get(self, key: str, default: Any = None) -> Any:
        """As of a dict."""
        return self.content.get(key, default)

    @property
    def training(self) -> Mapping[str, Any]:
        """Of an evaluation: how its network was trained, empty if that is not known."""
        return dict(self.get("training") or {})

    @property
    def data_digest(self) -> str:
        """Of the data, empty if it was not recorded."""
        data = self.get("data")
        digest = self.get("data_digest") or (data.get("digest") if isinstance(data, dict) else "")
        return str(digest or "").removeprefix("sha256:")

    @property
    def model_digest(self) -> str:
        """Of an evaluation: of the file of its network, empty if it was not recorded."""
        return str(self.get("model_digest") or "")

    @property
    def is_program(self) -> bool:
        """An evaluation of a program: it has registers in its layers and does not know what it was lowered from."""
        return not self.get("hardware_spec")

    @property
    def is_of_texts(self) -> bool:
        """Of a network that answers questions, in which accuracy stands for F1."""
        result = self.get("result") or self.get("test") or {}
        return isinstance(result, dict) and "f1" in result

    @property
    def precision(self) -> Mapping[str, Any]:
        """Of an evaluation: the widths it ran at, empty for a program that does not say."""
        return dict(self.get("precision") or {})

    @property
    def hardware_spec(self) -> Mapping[str, Any]:
        """Of an evaluation: its registers and requantizer; of a program the registers of its layers."""
        if self.get("hardware_spec"):
            return dict(self["hardware_spec"])
        limited = [layer["accumulator"] for layer in self["layers"]
                   if layer["accumulator"]["bits"] is not None or layer["accumulator"].get("before")]
        first = limited[0] if limited else {"bits": None, "overflow": "wrap", "tile": 1}
        return {"accumulator": first, "boundary_accumulator": {**first, "bits": None}, "requant": "as in the program"}

    @property
    def unlimited(self) -> bool:
        """An evaluation whose registers hold every sum."""
        spec = self.hardware_spec
        return not spec.get("layers") and all(
            spec[name]["bits"] is None and not spec[name].get("before") for name in ("accumulator", "boundary_accumulator"))

    @property
    def _is_on_own_register(self) -> bool:
        """Whether registers hold every sum, or are those whose overflows were part of the training."""
        own = overflows_in(self.training)
        if own is None:
            return self.unlimited
        inner, outer = (self.hardware_spec[name] for name in ("accumulator", "boundary_accumulator"))
        return outer["bits"] is None and inner == {"bits": own.bits, "overflow": own.overflow, "tile": own.tile}

    @property
    def as_trained(self) -> bool:
        """An evaluation of a network as it was trained, on hardware that adds nothing to it."""
        return (bool(self.training) and not self.get("redefined") and self._is_on_own_register and
                self.hardware_spec["requant"] == "fp32" and self.precision == self.get("trained_precision"))

    def is_of_student_of(self, run: "Record") -> bool:
        """An evaluation of the network that the last step of a run of its configuration left, whatever steps are called."""
        step = self.training.get("step", "")  # checkpoints from before there were steps name none
        return not step or step == next(reversed(run.get("steps") or {}), None)
