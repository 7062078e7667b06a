"""Carries out the plan of a scheme: step by step, resumable at any moment, each step a checkpoint of its own."""

import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from sim.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from sim.network import Graph, Input, NetworkSpec
from training.checkpoint import ResumeState
from training.config import ConfigError, RunConfig
from training.data import Dataset, shuffled_batches
from training.loop import DivergedError, evaluate, learning_rate, train_epoch
from training.losses import hinton_loss
from training.models import MODELS
from training.network import QuantNetwork
from training.record import write_json
from training.schemes import Step, find_scheme

RESUME_FILE = "resume.pt"
RECORD_FILE = "run.json"
FINAL_FILE = "ckpt.pt"


class Display(Protocol):
    """What a run shows while it goes on."""

    def begin(self, step: str, epochs: int, images: int, done: int) -> None:
        """A step begins, `done` of its epochs already behind it."""

    def advance(self, images: int, loss: float) -> None:
        """A batch is done."""

    def epoch(self, entry: dict[str, Any]) -> None:
        """An epoch is done."""


@dataclass
class Runner:
    """One run of `config` into the folder `out`."""

    config: RunConfig
    dataset: Dataset
    out: Path
    device: torch.device
    display: Display
    record: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        channels, height, width = self.dataset.train.pixels.shape[1:]
        image = Input("image", "", height, width, channels, self.dataset.mean, self.dataset.std)
        self.graph: Graph = MODELS[self.config.model](image, self.dataset.classes, self.config.width)
        self.train = self.dataset.train.first(self.config.train_limit).to(self.device)
        self.validation = self.dataset.validation.to(self.device)

    def run(self) -> QuantNetwork:
        """Train what is not trained yet, test the student once, write `ckpt.pt` and the record."""
        steps = find_scheme(self.config.scheme).plan(self.config.path)
        self.record.setdefault("steps", {})
        self._write_record("running")
        first = self._adopt_teacher(steps)
        for index, step in enumerate(steps):
            if index >= first and not self._file(step.name).exists():
                self._train_step(index, step)
        student = self._load(steps[-1].name)
        test_accuracy, test_loss = evaluate(student, self.dataset.test.to(self.device))
        save_checkpoint(self.out / FINAL_FILE, load_checkpoint(self._file(steps[-1].name)))
        self.record["test"] = {"accuracy": test_accuracy, "loss": test_loss, "images": len(self.dataset.test)}
        self._write_record("finished")
        (self.out / RESUME_FILE).unlink(missing_ok=True)
        return student

    def _adopt_teacher(self, steps: list[Step]) -> int:
        """Let a given teacher stand in for the step of its width and all before it; returns the first step to train."""
        if not self.config.teacher:
            return 0
        given = load_checkpoint(Path(self.config.teacher))
        bits = given.spec.precision.inner
        if bits not in self.config.path[:-1]:
            path = ",".join(map(str, self.config.path))
            raise ConfigError(f"teacher {self.config.teacher} has {bits} bits and the path is {path}: "
                              "name a path through it")
        if given.spec.graph != self.graph:
            raise ConfigError(f"teacher {self.config.teacher} is another network, or was trained on other data")
        index, adopted = next((index, step) for index, step in enumerate(steps) if step.bits == bits)
        self.record["steps"].setdefault(adopted.name, {
            "bits": bits, "from": self.config.teacher, "precision": str(given.spec.precision), "epochs": []})
        if not self._file(adopted.name).exists():
            save_checkpoint(self._file(adopted.name), given)
        return index + 1

    def _train_step(self, index: int, step: Step) -> None:
        config = self.config
        torch.manual_seed(_seed(config.seed, index, 0))
        model = QuantNetwork(self.graph, config.precision(step.bits), config.quantizer).channels_last().to(self.device)
        teacher = self._load(step.teacher) if step.teacher else None
        if teacher is not None:
            model.start_from(teacher)
        optimizer = torch.optim.SGD(model.parameters(), config.lr, config.momentum, weight_decay=config.weight_decay)
        state = self._resume(step, model, optimizer)
        self.display.begin(step.name, config.epochs, len(self.train), state.epoch)
        loss_of = partial(hinton_loss, weight=config.kd_weight, temperature=config.temperature,
                          reduction=config.kl_reduction)
        per_epoch = -(-len(self.train) // config.batch)
        for epoch in range(state.epoch, config.epochs):
            started = time.perf_counter()
            data = shuffled_batches(self.train, config.batch, padding=self.dataset.crop_padding,
                                    flip=self.dataset.flip, seed=_seed(config.seed, index, epoch + 1))

            def rate_at(batch: int, epoch: int = epoch) -> float:
                return learning_rate(config.lr, config.schedule, config.milestones, epoch + batch / per_epoch,
                                     config.epochs)

            try:
                loss = train_epoch(model, teacher, data, loss_of, optimizer, rate_at, self.display.advance)
            except DivergedError as error:
                self._write_record("diverged")
                raise DivergedError(f"{step.name}, epoch {epoch + 1}: {error}; {self._kept(state)}") from None
            seconds = time.perf_counter() - started
            accuracy, validation_loss = evaluate(model, self.validation)
            entry = {"epoch": epoch + 1, "loss": loss, "validation_accuracy": accuracy,
                     "validation_loss": validation_loss, "images_per_second": len(self.train) / seconds,
                     "seconds": time.perf_counter() - started}
            state.history.append(entry)
            state.epoch, state.model, state.optimizer = epoch + 1, model.state_dict(), optimizer.state_dict()
            if (accuracy, -validation_loss) >= (state.best["accuracy"], -state.best["loss"]):
                weights = {key: value.clone() for key, value in model.state_dict().items()}
                state.best = {"accuracy": accuracy, "loss": validation_loss, "epoch": epoch + 1, "model": weights}
            state.save(self.out / RESUME_FILE)
            self._note(step, state)
            self.display.epoch(entry)
        model.load_state_dict(state.best["model"])
        save_checkpoint(self._file(step.name), self._checkpoint(model.spec(), step))

    def _resume(self, step: Step, model: QuantNetwork, optimizer: torch.optim.Optimizer) -> ResumeState:
        state = ResumeState.load(self.out / RESUME_FILE)
        if state is None or state.step != step.name:
            return ResumeState(step.name, 0, {}, {}, {"accuracy": -1.0, "loss": 0.0, "epoch": 0, "model": {}}, [])
        model.load_state_dict(state.model)
        optimizer.load_state_dict(state.optimizer)
        self._note(step, state)  # the run may have been killed between saving the state and noting it
        return state

    def _note(self, step: Step, state: ResumeState) -> None:
        self.record["steps"][step.name] = {
            "bits": step.bits, "teacher": step.teacher, "epochs": state.history,
            "best": {key: state.best[key] for key in ("accuracy", "loss", "epoch")}}
        self._write_record("running")

    def _write_record(self, status: str) -> None:
        self.record["status"] = status
        write_json(self.out / RECORD_FILE, self.record)

    def _kept(self, state: ResumeState) -> str:
        if not state.best["epoch"]:
            return "no epoch was finished, so there is no checkpoint of this step"
        return f"{self.out / RESUME_FILE} keeps epoch {state.epoch} and the best, {state.best['epoch']}"

    def _checkpoint(self, spec: NetworkSpec, step: Step) -> Checkpoint:
        dataset = {"name": self.dataset.name, "path": self.dataset.path, "label": self.dataset.label}
        return Checkpoint(spec, dataset, {**self.config.to_json(), "step": step.name})

    def _file(self, step: str) -> Path:
        return self.out / f"{step}.pt"

    def _load(self, step: str) -> QuantNetwork:
        return QuantNetwork.from_spec(load_checkpoint(self._file(step)).spec).to(self.device)


def _seed(*parts: int) -> int:
    """One number from several, so that steps and epochs have independent randomness."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))
