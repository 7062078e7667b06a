"""The state of an unfinished run, from which it continues bit for bit."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sim.checkpoint import CheckpointError, check_digest, is_plain, load_payload, save_payload
from sim.text import printable

FORMAT = "bittrue-resume-4"
BETWEEN_EPOCHS = "bittrue-resume-3"
"""The same without "within": saved between epochs only; still read."""
BEFORE = "bittrue-resume-2"
"""And without a digest; still read."""
ADVICE = "delete it to begin the step again"


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
    within: dict[str, Any] = field(default_factory=dict)
    """How far the epoch after `epoch` is, and the generators then; empty between epochs."""
    checked: bool = field(default=True, compare=False)
    """False if it was read from a file of before that carries no digest."""

    def save(self, path: Path | str) -> None:
        """Write atomically, with a digest of all of it."""
        save_payload(path, {"format": FORMAT, **{key: getattr(self, key) for key in _CHECKS}})

    @classmethod
    def load(cls, path: Path | str) -> "ResumeState | None":
        """The state in a file, or None if there is no file; raises CheckpointError with one line if it is damaged."""
        if not Path(path).exists():
            return None
        payload = load_payload(path)
        if not isinstance(payload, dict) or str(payload.get("format")) not in (FORMAT, BETWEEN_EPOCHS, BEFORE):
            raise CheckpointError(f"{printable(path)}: not the state of a run; {ADVICE}")
        try:
            if is_checked := payload["format"] != BEFORE:
                check_digest(payload)
            if payload.pop("format") != FORMAT:
                payload.setdefault("within", {})
            _check(payload)
        except CheckpointError as error:
            raise CheckpointError(f"{printable(path)}: {error}; {ADVICE}") from None
        except Exception as error:  # plain data of a shape that nobody thought of
            raise CheckpointError(f"{printable(path)}: malformed ({type(error).__name__}); {ADVICE}") from None
        return cls(**payload, checked=is_checked)

    def restore(self, student: nn.Module, partner: nn.Module | None, optimizer: torch.optim.Optimizer) -> None:
        """Put the state into the networks and the optimizer of its step.

        Raises CheckpointError, before anything is changed, if it is the state of other ones.
        """
        _check_weights(self.model, student, "student")
        _check_best(self.best, student, "student")
        if (partner is None) != (not self.partner):
            raise CheckpointError(f"the state is of a step with{'' if self.partner else 'out'} a second network; {ADVICE}")
        if partner is not None:
            _check_weights(self.partner["model"], partner, "second network")
            _check_best(self.partner["best"], partner, "second network")
        _check_optimizer(self.optimizer, optimizer)
        student.load_state_dict(self.model)
        if partner is not None:
            partner.load_state_dict(self.partner["model"])
        optimizer.load_state_dict(self.optimizer)


def _check(payload: Mapping[str, Any]) -> None:
    """Types of everything, and that the numbers fit together."""
    if payload.keys() != _CHECKS.keys():
        raise CheckpointError("entries are missing or unknown")
    for key, is_right in _CHECKS.items():
        if not is_right(payload[key]):
            raise CheckpointError(f"its entry {key} is damaged")
    epochs = [entry["epoch"] for entry in payload["history"]]
    is_begun = bool(payload["epoch"] or payload["within"])
    if epochs != list(range(1, payload["epoch"] + 1)) or not payload["best"]["epoch"] <= payload["epoch"] or not is_begun:
        raise CheckpointError("its epochs do not fit together")


def _is_whole(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_weights(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(key, str) and is_plain(part) for key, part in value.items())


def _is_best(value: Any) -> bool:
    return (isinstance(value, dict) and value.keys() == {"accuracy", "loss", "epoch", "model"}
            and type(value["accuracy"]) is type(value["loss"]) is float and _is_whole(value["epoch"])
            and _is_weights(value["model"]))


def _is_partner(value: Any) -> bool:
    return value == {} or (isinstance(value, dict) and value.keys() == {"model", "best"}
                           and _is_weights(value["model"]) and _is_best(value["best"]))


def _is_history(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(entry, dict) and _is_whole(entry.get("epoch")) and type(entry.get("validation_accuracy")) is float
        and all(type(key) is str and type(part) in _SINGLE for key, part in entry.items()) for entry in value)


def _is_within(value: Any) -> bool:
    """Between epochs, or inside of one: counts, sums and the states of generators."""
    counts = ("batches", "examples", "loss", "seconds")
    return value == {} or (isinstance(value, dict) and value.keys() == {*counts, *GENERATORS}
                           and _is_whole(value["batches"]) and _is_whole(value["examples"])
                           and type(value["loss"]) is type(value["seconds"]) is float
                           and all(is_plain(value[name]) and value[name].dtype == torch.uint8 for name in GENERATORS))


GENERATORS = ("lesson", "torch")
"""Of which an inside state has the states: the step's own, and that of torch, for objectives of one's own."""
_SINGLE = (int, float, str, bool, type(None))


def _is_optimizer(value: Any) -> bool:
    return (isinstance(value, dict) and value.keys() == {"state", "param_groups"} and isinstance(value["state"], dict)
            and isinstance(value["param_groups"], list)
            and all(isinstance(part, dict) for part in [*value["state"].values(), *value["param_groups"]]))


_CHECKS = {"step": lambda value: isinstance(value, str), "epoch": _is_whole, "model": _is_weights,
           "optimizer": _is_optimizer, "best": _is_best, "history": _is_history, "partner": _is_partner,
           "within": _is_within}
"""Every entry of a file, and whether it is what it should be."""


def _check_weights(weights: Mapping[str, torch.Tensor], network: nn.Module, whose: str) -> None:
    if _shapes(weights) != _shapes(network.state_dict()):
        raise CheckpointError(f"the weights of the {whose} in the state are those of another network; {ADVICE}")


def _check_best(best: Mapping[str, Any], network: nn.Module, whose: str) -> None:
    """Nothing is the best before an epoch is done."""
    if best["epoch"] or best["model"]:
        _check_weights(best["model"], network, whose)


def _check_optimizer(state: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> None:
    """Equal groups with numbers of the same types, and for each parameter numbers of its shape."""
    mine = optimizer.state_dict()["param_groups"]
    groups = state["param_groups"]
    fits = len(mine) == len(groups) and all(
        group.keys() == other.keys() and group["params"] == other["params"]
        and all(_is_alike(group[key], other[key]) for key in group.keys() - {"params"})
        for group, other in zip(mine, groups, strict=True))
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for index, values in state["state"].items():
        fits = fits and _is_whole(index) and index < len(parameters) and all(
            value is None or (is_plain(value) and _shape(value) in (_shape(parameters[index]), _SCALAR))
            for value in values.values())
    if not fits:
        raise CheckpointError(f"the state is that of another optimizer; {ADVICE}")


def _is_alike(mine: Any, other: Any) -> bool:
    """Rates change while a step goes on, their types do not; a file has lists for tuples."""
    return type(mine) is type(other) or {type(mine), type(other)} in ({int, float}, {list, tuple})


def _shape(tensor: torch.Tensor) -> tuple[torch.dtype, torch.Size]:
    return tensor.dtype, tensor.shape


_SCALAR = (torch.float32, torch.Size([]))


def _shapes(tensors: Mapping[str, torch.Tensor]) -> dict[str, tuple[torch.dtype, torch.Size]]:
    return {name: _shape(tensor) for name, tensor in tensors.items()}
