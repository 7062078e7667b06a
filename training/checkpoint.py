"""The state of an unfinished run, from which it continues bit for bit."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sim.checkpoint import CheckpointError, load_payload, save_payload

FORMAT = "bittrue-resume-2"


@dataclass
class ResumeState:
    """Everything that the rest of a step depends on; data order and augmentation follow from seed, step and epoch."""

    step: str
    epoch: int
    model: dict[str, Any]
    optimizer: dict[str, Any]
    best: dict[str, Any]
    history: list[dict[str, Any]]
    partner: dict[str, Any]
    """Weights of the network that learns beside the student, and its best; empty if there is none."""

    def save(self, path: Path) -> None:
        """Write atomically."""
        save_payload(path, {"format": FORMAT, **self.__dict__})

    @classmethod
    def load(cls, path: Path) -> "ResumeState | None":
        """The state in a file, or None if there is no file; raises CheckpointError if it is damaged."""
        if not path.exists():
            return None
        payload = load_payload(path)
        if not isinstance(payload, dict) or payload.pop("format", None) != FORMAT:
            raise CheckpointError(f"{path}: not the state of a run; delete it to begin the step again")
        return cls(**payload)
