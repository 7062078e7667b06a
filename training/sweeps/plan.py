"""One job of a grid, checked: its configuration, what its runs will do, and whose checkpoints they take."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sim.network import FLOAT_BITS, Graph, Row
from training.config import RunConfig
from training.effects import Run
from training.folder import FINAL_FILE
from training.sweeps.grid import Grid, Job


@dataclass(frozen=True)
class Reference:
    """The checkpoint of a job: of its student, or of a step that it trains on the way."""

    grid: str
    job: str
    step: str = ""

    @property
    def file(self) -> str:
        """In the folder of its run."""
        return f"{self.step}.pt" if self.step else FINAL_FILE

    def text(self, home: str) -> str:
        """As a grid of the name `home` writes it."""
        return (f"{self.grid}/" if self.grid != home else "") + self.job + (f":{self.step}" if self.step else "")


@dataclass(frozen=True)
class Data:
    """What of a data set decides the shape of a network, and how many images there are to train on."""

    first: Row
    """Of its networks."""
    classes: int
    images: int = 0
    augment: str = ""
    size: str = ""
    missing: str = ""
    """Why the rest is a guess; empty if it is not."""


@dataclass(frozen=True)
class Plan:
    """One job, checked: its options as they are read, without seed and checkpoints, and what its runs will do."""

    grid: Grid
    job: Job
    options: Mapping[str, Any]
    references: Mapping[str, Reference]
    config: RunConfig
    run: Run
    graphs: Mapping[str, Graph]
    data: Data
    path_epochs: int | None
    """Along the path, with those of its teachers; None if a teacher comes from elsewhere."""
    told: Mapping[str, Reference]
    """The references as the grid has them, where a ladder goes on from another one's step."""

    @property
    def epochs(self) -> int:
        """Of its own runs."""
        return sum(self.config.epochs_of(step) for step in self.run.trained)

    @property
    def is_quantized(self) -> bool:
        """Whether its student is evaluated on integers."""
        return self.config.bits != FLOAT_BITS

    def checkpoint(self, step: str) -> tuple[int, Graph] | None:
        """Width and network of its student ("") or of a step; None if there is no such step."""
        if not step:
            last = self.run.plan[-1]
            return last.bits, self.graphs[last.network]
        for each in self.run.plan:
            if each.name == step:
                return each.bits, self.graphs[each.network]
            if each.partner is not None and each.partner_name == step:
                return FLOAT_BITS, self.graphs["teacher"]
        return None

    def epochs_until(self, step: str) -> int | None:
        """Along the path to its student or a step."""
        if not step or self.path_epochs is None:
            return self.path_epochs
        later = 0
        for each in reversed(self.run.plan):
            if step in (each.name, each.partner_name):
                break
            later += self.config.epochs_of(each) if each in self.run.trained else 0
        return self.path_epochs - later
