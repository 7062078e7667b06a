"""The state of a step inside an epoch, saved now and then: epochs may take hours, and a run that is killed goes on there."""

import dataclasses
import time
from pathlib import Path

import torch

from sim.checkpoint import CheckpointError
from training.checkpoint import ADVICE, ResumeState
from training.loop import Passed
from training.schemes.objectives import Lesson

SECONDS = 60.0


class Within:
    """Keeps the state of the epoch after `state.epoch` in `file`, every so many minutes, and goes on from what `state` says.

    Order and augmentation of the data follow from seeds and are drawn again; the generators of `lesson` and of torch, which
    objectives draw from, are kept.
    """

    def __init__(self, file: Path, state: ResumeState, lesson: Lesson, optimizer: torch.optim.Optimizer,
                 minutes: float) -> None:
        self.file, self.state, self.lesson, self.optimizer, self.minutes = file, state, lesson, optimizer, minutes
        before, state.within = state.within, {}
        self.passed = Passed()
        self.began = self.saved = time.perf_counter()
        if before:
            self.passed = Passed(before["batches"], before["examples"], before["loss"])
            self.began -= before["seconds"]
            try:
                lesson.generator.set_state(before["lesson"])
                torch.set_rng_state(before["torch"])
            except RuntimeError:  # of a generator of another kind
                raise CheckpointError(f"{file}: its generators are damaged; {ADVICE}") from None

    @property
    def seconds(self) -> float:
        """Of this epoch so far, without those between a kill and its resume."""
        return time.perf_counter() - self.began

    def kept(self, passed: Passed) -> None:
        """Save the state if it is time to."""
        if time.perf_counter() - self.saved < self.minutes * SECONDS:
            return
        partner = {} if self.lesson.partner is None else {**self.state.partner, "model": self.lesson.partner.state_dict()}
        dataclasses.replace(
            self.state, model=self.lesson.student.state_dict(), optimizer=self.optimizer.state_dict(), partner=partner,
            within={"batches": passed.batches, "examples": passed.examples, "loss": passed.loss, "seconds": self.seconds,
                    "lesson": self.lesson.generator.get_state(), "torch": torch.get_rng_state()}).save(self.file)
        self.saved = time.perf_counter()
