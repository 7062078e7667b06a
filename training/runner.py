"""Carries out the plan of a scheme: step by step, resumable at any moment, each step a checkpoint of its own."""

import math
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sim.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from sim.network import FLOAT_BITS, NetworkSpec
from sim.records import write_record
from sim.registry import is_own
from training.checkpoint import ResumeState
from training.config import ConfigError, RunConfig
from training.cost import forward
from training.data import Dataset, shuffled_batches
from training.effects import Run
from training.folder import FINAL_FILE, RECORD_FILE, RESUME_FILE, note_epochs
from training.layers import weights_from
from training.loop import DivergedError, Pace, gather_statistics, learning_rate, measure, train_epoch
from training.models.published import PUBLISHED
from training.network import QuantNetwork
from training.optimizers import optimizer_of
from training.plans import adopted_step, check_takes_teacher, graphs_of, published_step, wanted_steps
from training.registers import attach
from training.schemes import Step
from training.schemes.objectives import Lesson
from training.starts import begin_with
from training.tasks import TASKS
from training.watch import Display
from training.weights import WeightsError, float_network, read_state_dict
from training.within import Within

__all__ = ["FINAL_FILE", "RECORD_FILE", "RESUME_FILE", "Display", "Runner"]

CALIBRATION_IMAGES = 256
SAVE_MINUTES = 10.0
"""Of training within an epoch, after which its state is saved."""
_NO_BEST: dict[str, Any] = {"accuracy": -1.0, "loss": 0.0, "epoch": 0, "model": {}}


@dataclass
class Runner:
    """One run of `config` into the folder `out`."""

    config: RunConfig
    dataset: Dataset
    out: Path
    device: torch.device
    display: Display
    record: dict[str, Any] = field(default_factory=dict)
    save_minutes: float = SAVE_MINUTES

    def __post_init__(self) -> None:
        config = self.config
        self.task = TASKS[self.dataset.task]
        self._check_task()
        self.graphs = graphs_of(config, self.dataset.first_row(*self._normalization()), self.dataset.classes)
        self.train = self.dataset.train.first(self.config.train_limit).to(self.device)
        self.validation = self.dataset.validation.first(self.config.validation_limit).to(self.device)
        self.test = self.dataset.test.first(self.config.test_limit)
        self.individual = self._individual()
        self.steps = config.plan()
        self.adopted, self.given = self._adopted()
        self.wanted = wanted_steps(config, self.steps, self.adopted)
        if config.init_from:  # before there is a record: it may not fit
            with weights_from(torch.Generator()):
                self._transfer(self._network("student", config.bits))
            del self.record["transferred"]

    def _check_task(self) -> None:
        """Raise ConfigError for an option that makes no sense for these data."""
        for name, (plain, why) in self.task.refused.items():
            if (value := getattr(self.config, name)) and value != plain:
                text = name.replace("_", "-")
                raise ConfigError(f"{text}: {value} makes no sense for data set {self.dataset.name}, {why}: leave it out")

    def _normalization(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and deviation of the pixels: as told, as of the weights that others have trained, or the data set's."""
        config = self.config
        if config.mean or self.dataset.is_text:
            return config.mean, config.std
        known = PUBLISHED.get(config.teacher_model or config.model)
        if config.float_weights and known and len(known.mean) == len(self.dataset.mean):
            return known.mean, known.std
        if self._teacher is not None and not self._teacher.dataset["name"]:  # training.convert made it
            return self._teacher.spec.graph.input.mean, self._teacher.spec.graph.input.std
        return self.dataset.mean, self.dataset.std

    @property
    def plan(self) -> Run:
        """What this run is about to do, for those who ask whether an option matters to it."""
        return Run(self.config, self.graphs["student"], self.steps, self.wanted)

    @cached_property
    def digest(self) -> str:
        """Of the data."""
        return self.dataset.digest()

    def run(self) -> QuantNetwork:
        """Train what is not trained yet, test the student once, write `ckpt.pt` and the record.

        The record is written before each file that it speaks of, so that a run that is killed anywhere can be continued.
        """
        self.record.setdefault("steps", {})
        self.record.setdefault("macs", {which: forward(graph) for which, graph in self.graphs.items()})
        self._check_files()
        if self.given is not None:
            self.record["steps"].setdefault(self.adopted, {
                "bits": self.given.spec.precision.inner, "from": self.config.teacher or self.config.float_weights,
                "precision": str(self.given.spec.precision), "epochs": []})
        self._write_record("running")
        if self.given is not None and not self._file(self.adopted).exists():
            save_checkpoint(self._file(self.adopted), self.given)
        for index, step in enumerate(self.steps):
            if step in self.wanted and not self._is_done(step):
                (self._train_step if step.trains else self._calibrate_step)(index, step)
        student = self._load(self.steps[-1].name)
        measures, loss = measure(student, self.test.to(self.device), self.task)
        save_checkpoint(self.out / FINAL_FILE, load_checkpoint(self._file(self.steps[-1].name), self._own_quantizer))
        self.record["test"] = {"accuracy": measures[self.task.measures.main], "loss": loss, **self._beside(measures),
                               "images": self.task.measures.count(self.test)}
        self._write_record("finished")
        (self.out / RESUME_FILE).unlink(missing_ok=True)
        return student

    def restore_final(self) -> None:
        """Make a finished run's `ckpt.pt` anew from its last step's file if it is gone; ConfigError if both are."""
        final, last = self.out / FINAL_FILE, self._file(self.steps[-1].name)
        if not final.exists():
            if not last.exists():
                raise ConfigError(f"{self.out}: its run is finished, but {FINAL_FILE} and {last.name} are gone: restore "
                                  "one of them or choose another --out")
            save_checkpoint(final, load_checkpoint(last, self._own_quantizer))

    def _check_files(self) -> None:
        """Raise ConfigError, before the record is changed, unless the files of the steps fit the networks of now."""
        last = self._file(self.steps[-1].name)
        if any(entry.get("of") == "finished" for entry in self.record.get("extended", [])) and not last.exists():
            if not (self.out / FINAL_FILE).exists():
                raise ConfigError(f"{self.out}: {last.name}, which more epochs would go on from, is gone: restore it or "
                                  "choose another --out")
            save_checkpoint(last, load_checkpoint(self.out / FINAL_FILE, self._own_quantizer))
        networks = {step.name: step.network for step in self.steps}
        networks |= {step.partner_name: "teacher" for step in self.steps if step.partner is not None}
        for name, which in networks.items():
            file = self._file(name)
            if not file.exists() or name == self.adopted:
                continue
            try:
                fits = self._load(name).graph == self.graphs[which]
            except RuntimeError:  # weights of other shapes than the quantizer has now
                fits = False
            if not fits:
                raise ConfigError(f"{file}: its network is another one than {self.config.model} with quantizer "
                                  f"{self.config.quantizer} is now: restore your code or choose another --out")

    @property
    def _own_quantizer(self) -> str:
        """The quantizer's name where it is own code, which may have been named from another folder."""
        return self.config.quantizer if is_own(self.config.quantizer) else ""

    def _is_done(self, step: Step) -> bool:
        """Whether there is a checkpoint of all the epochs that are planned; those of an extended run may be more."""
        noted = self.record["steps"].get(step.name, {})
        return self._file(step.name).exists() and len(noted.get("epochs", [])) >= noted.get("planned", 0)

    @cached_property
    def _teacher(self) -> Checkpoint | None:
        """The checkpoint that a user gives for a step before the student."""
        if not self.config.teacher:
            return None
        check_takes_teacher(self.config, self.config.plan())
        return load_checkpoint(Path(self.config.teacher))

    def _adopted(self) -> tuple[str, Checkpoint | None]:
        """The name of the step of its width and architecture that a given teacher stands in for, and it; or neither."""
        if self.config.float_weights:
            return self._published(self.steps[:-1])
        given = self._teacher
        if given is None:
            return "", None
        return adopted_step(self.config, self.steps, self.graphs, given.spec.precision.inner, given.spec.graph), given

    def _published(self, before: list[Step]) -> tuple[str, Checkpoint]:
        """The float step before the student, and the weights of others for it."""
        config = self.config
        step = published_step(config, before)
        model = config.model if step.network == "student" else config.teacher_model or config.model
        try:
            spec = float_network(self.graphs[step.network], read_state_dict(config.float_weights), model)
        except WeightsError as error:
            raise ConfigError(f"float-weights {config.float_weights}: {error}") from None
        return step.name, self._checkpoint(spec, step.name)

    def _both(self, step: Step, index: int) -> tuple[QuantNetwork, QuantNetwork | None]:
        """The network of a step before its first epoch, and its partner if it has one.

        Their weights come from a generator of their own: other threads draw from torch's.
        """
        seed = _seed(self.config.seed, index, 0)
        torch.manual_seed(seed)  # for objectives of one's own that draw from it
        with weights_from(torch.Generator().manual_seed(seed)):
            return self._new(step), None if step.partner is None else self._network("teacher", FLOAT_BITS)

    def _new(self, step: Step) -> QuantNetwork:
        config = self.config
        model = self._network(step.network, step.bits)
        if step.start:
            before = self._load(step.start)
            model.start_from(before)
            is_ready = (before.quantizer, before.precision) == (model.quantizer, model.precision)
        else:
            is_ready = False
            if config.init_from and step.network == "student":
                self._transfer(model)
        if not is_ready:
            model.calibrate(self.train.first(max(config.batch, CALIBRATION_IMAGES)).ready(), config.calibration)
        return model

    def _network(self, which: str, bits: int) -> QuantNetwork:
        network = QuantNetwork(self.graphs[which], self.config.precision(bits), self.config.quantizer)
        network.multiply_gradients_as(getattr(torch, self.config.gradients))
        return attach(network.channels_last().to(self.device), self.config)

    def _transfer(self, model: QuantNetwork) -> None:
        """Begin with the weights of another data set's network, or of others, all that fit."""
        arrays, precision = begin_with(Path(self.config.init_from), model.graph, self.config.model)
        left = model.adapt_from(arrays)
        if precision != model.precision:
            model.reset_statistics()
        layers = {row.name for row in model.graph.rows if row.weight_role is not None}
        rows = sorted(name for name in layers if f"{name}.weight" in left)
        if len(rows) == len(layers):
            raise ConfigError(f"init-from {self.config.init_from}: no layer of it fits {self.config.model}")
        self.record["transferred"] = {"from": self.config.init_from, "new_layers": rows}

    def _calibrate_step(self, index: int, step: Step) -> None:
        """A step without training."""
        started = time.perf_counter()
        self.display.begin(step.name, 1, len(self.train), 0, self.task.inputs)
        model, _ = self._both(step, index)
        statistics, (accuracy, loss, more) = self._choose_statistics(model, step)
        seconds = time.perf_counter() - started
        entry = {"epoch": 1, "loss": loss, "validation_accuracy": accuracy, "validation_loss": loss, **more,
                 "images_per_second": len(self.train) / seconds, "seconds": seconds}
        best = {"accuracy": accuracy, "loss": loss, "epoch": 1}
        entry["session"] = self._session
        self.record["steps"][step.name] = {"bits": step.bits, "teacher": None, "epochs": [entry], "best": best,
                                             "statistics": statistics}
        self._write_record("running")
        save_checkpoint(self._file(step.name), self._checkpoint(model.spec(), step.name))
        self.display.epoch(entry)

    def _choose_statistics(self, model: QuantNetwork, step: Step) -> tuple[str, tuple[float, float, dict[str, float]]]:
        """Of the batch norms: "gathered" at this precision, or "kept" as the float network has them; and `_held_out`.

        Those with the smaller loss on the validation images stay.  At many bits kept ones are better, as they belong to the
        images that the weights were trained on, augmentation included; at few bits nothing is as it was.
        """
        gather_statistics(model, self.train, self.config.batch)
        found = self._held_out(model)
        if not step.start or not model.statistics():
            return "kept" if step.start else "gathered", found
        gathered = model.statistics()
        model.take_statistics(self._load(step.start).statistics())
        kept = self._held_out(model)
        if kept[1] <= found[1]:
            return "kept", kept
        model.take_statistics(gathered)
        return "gathered", found

    def _train_step(self, index: int, step: Step) -> None:
        config = self.config
        epochs = config.epochs_of(step)
        model, partner = self._both(step, index)
        if partner is not None and step.partner:
            partner.start_from(self._load(step.partner))
        optimizer = optimizer_of([model, *([partner] if partner is not None else [])], config)
        lesson = Lesson(config, model, self._load(step.teacher) if step.teacher else None, partner,
                        self.individual if config.is_student(step) else None, torch.Generator(), task=self.task)
        state = self._resume(step, lesson, optimizer)
        self.display.begin(step.name, epochs, len(self.train),
                           state.epoch + state.within.get("examples", 0) / len(self.train), self.task.inputs)
        for epoch in range(state.epoch, epochs):
            seed = _seed(config.seed, index, epoch + 1)
            data = shuffled_batches(self.train, config.batch, augment=config.augment or self.dataset.augment, seed=seed)
            lesson.generator.manual_seed(_seed(seed, 1))
            within = Within(self.out / RESUME_FILE, state, lesson, optimizer, self.save_minutes)
            try:
                loss = train_epoch(lesson, step.objective, data, optimizer, self._pace(step, epoch, within), within.passed)
            except DivergedError as error:
                self._write_record("diverged")
                raise DivergedError(f"{step.name}, epoch {epoch + 1}: {error}; {self._kept(state)}") from None
            seconds = within.seconds
            accuracy, validation_loss, more = self._validate(model, step.name, epoch + 1, state)
            entry = {"epoch": epoch + 1, "loss": loss, "validation_accuracy": accuracy,
                     "validation_loss": validation_loss, **more, "images_per_second": len(self.train) / seconds,
                     "seconds": within.seconds, "session": self._session}
            if partner is not None:
                entry["teacher_validation_accuracy"], teacher_loss, _ = self._validate(
                    partner, step.partner_name, epoch + 1, state)
                state.partner["model"] = partner.state_dict()
                _keep_best(state.partner["best"], partner, entry["teacher_validation_accuracy"], teacher_loss, epoch + 1)
            state.epoch, state.model, state.optimizer = epoch + 1, model.state_dict(), optimizer.state_dict()
            _keep_best(state.best, model, accuracy, validation_loss, epoch + 1)
            state.history.append(entry)
            state.save(self.out / RESUME_FILE)
            self._note(step, state)
            self.display.epoch(entry)
        if partner is not None:
            partner.load_state_dict(state.partner["best"]["model"])
            save_checkpoint(self._file(step.partner_name), self._checkpoint(partner.spec(), step.partner_name))
        model.load_state_dict(state.best["model"])
        save_checkpoint(self._file(step.name), self._checkpoint(model.spec(), step.name))

    def _pace(self, step: Step, epoch: int, within: Within) -> Pace:
        """Rates and progress of an epoch, and who hears of it."""
        config, epochs = self.config, self.config.epochs_of(step)
        per_epoch = -(-len(self.train) // config.batch)
        milestones = tuple(milestone * step.share for milestone in config.milestones)

        def rate(batch: int) -> float:
            return learning_rate(config, milestones, epoch + batch / per_epoch, epochs)

        def progress(batch: int) -> float:
            return (epoch + batch / per_epoch) / epochs

        return Pace(rate, progress, self.display.advance, within.kept)

    def _validate(self, model: QuantNetwork, name: str, epoch: int, state: ResumeState
                  ) -> tuple[float, float, dict[str, float]]:
        """As `_held_out`.  Raises DivergedError before anything of a broken epoch is kept."""
        found = self._held_out(model)
        if not math.isfinite(found[1]):
            self._write_record("diverged")
            raise DivergedError(f"{name}, epoch {epoch}: the validation loss became {found[1]}; {self._kept(state)}")
        return found

    def _held_out(self, model: QuantNetwork) -> tuple[float, float, dict[str, float]]:
        """Main measure, loss, and what else is measured, on what is held out."""
        measures, loss = measure(model, self.validation, self.task)
        more = {f"validation_{name}": value for name, value in self._beside(measures).items()}
        return measures[self.task.measures.main], loss, more

    def _beside(self, measures: dict[str, float]) -> dict[str, float]:
        """What records hold beside "accuracy", which is the main measure whatever it is called."""
        return measures if len(measures) > 1 else {}

    def _individual(self) -> QuantNetwork | None:
        """The network whose mistakes count; it must see the same images and name the same classes."""
        if not self.config.individual:
            return None
        spec, mine = load_checkpoint(Path(self.config.individual)).spec, self.graphs["student"]
        if spec.graph.input != mine.input or spec.graph.classes != mine.classes:
            raise ConfigError(f"individual {self.config.individual}: this network was trained on other data")
        return QuantNetwork.from_spec(spec).to(self.device)

    def _resume(self, step: Step, lesson: Lesson, optimizer: torch.optim.Optimizer) -> ResumeState:
        """Where the step goes on: at the state that was saved last, at its beginning, or at a finished run's checkpoint."""
        state = ResumeState.load(self.out / RESUME_FILE)
        if state is None or state.step != step.name:
            if self._file(step.name).exists():
                return self._finished(step, lesson)
            partner = {} if lesson.partner is None else {"model": {}, "best": dict(_NO_BEST)}
            return ResumeState(step.name, 0, {}, {}, dict(_NO_BEST), [], partner)
        state.restore(lesson.student, lesson.partner, optimizer)
        if state.epoch:
            self._note(step, state)  # the run may have been killed between saving the state and noting it
        return state

    def _finished(self, step: Step, lesson: Lesson) -> ResumeState:
        """The state of a step that was at its end: its best weights, and an optimizer that begins anew."""
        noted = self.record["steps"][step.name]
        lesson.student.load_state_dict(self._load(step.name).state_dict())
        best = {**noted["best"], "model": _copied(lesson.student)}
        partner = {}
        if lesson.partner is not None:
            lesson.partner.load_state_dict(self._load(step.partner_name).state_dict())
            partner = {"model": {}, "best": {**noted["teacher_best"], "model": _copied(lesson.partner)}}
        return ResumeState(step.name, len(noted["epochs"]), {}, {}, best, list(noted["epochs"]), partner)

    def _note(self, step: Step, state: ResumeState) -> None:
        self.record["steps"][step.name] = {
            "bits": step.bits, "teacher": step.teacher, "planned": self.config.epochs_of(step), "epochs": state.history,
            "best": {key: state.best[key] for key in ("accuracy", "loss", "epoch")}}
        if state.partner:
            best = state.partner["best"]
            self.record["steps"][step.name]["teacher_best"] = {key: best[key] for key in ("accuracy", "loss", "epoch")}
        self._write_record("running")

    @property
    def _session(self) -> int:
        """The number of this session in the record."""
        return max(0, len(self.record.get("sessions", [])) - 1)

    def _write_record(self, status: str) -> None:
        self.record["status"] = status
        note_epochs(self.record)
        write_record(self.out / RECORD_FILE, self.record)

    def _kept(self, state: ResumeState) -> str:
        if not state.best["epoch"]:
            return "no epoch was finished, so there is no checkpoint of this step"
        return f"{self.out / RESUME_FILE} keeps epoch {state.epoch} and the best, {state.best['epoch']}"

    def _checkpoint(self, spec: NetworkSpec, step: str) -> Checkpoint:
        dataset = {"name": self.dataset.name, "path": self.dataset.path, "label": self.dataset.label,
                   "digest": self.digest, "size": self.dataset.size}
        told = {"own_code": self.config.origins(), "extended": self.record.get("extended", [])}
        return Checkpoint(spec, dataset, {
            **self.config.to_json(), "step": step, **{key: value for key, value in told.items() if value}})

    def _file(self, step: str) -> Path:
        return self.out / f"{step}.pt"

    def _load(self, step: str) -> QuantNetwork:
        quantizer = "" if step == self.adopted else self._own_quantizer
        return attach(QuantNetwork.from_spec(load_checkpoint(self._file(step), quantizer).spec).to(self.device), self.config)


def _keep_best(best: dict[str, Any], model: QuantNetwork, accuracy: float, loss: float, epoch: int) -> None:
    """Remember the weights if they are the best so far; of equals the later."""
    if (accuracy, -loss) >= (best["accuracy"], -best["loss"]):
        best.update(accuracy=accuracy, loss=loss, epoch=epoch, model=_copied(model))


def _copied(model: QuantNetwork) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in model.state_dict().items()}


def _seed(*parts: int) -> int:
    """One number from several, so that steps and epochs have independent randomness."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))
