"""Training from Python: the same options, checks and files as `python -m training.run`, results as values.

    >>> import tempfile
    >>> import training
    >>> folder = tempfile.mkdtemp()
    >>> small = {"model": "resnet8", "width": 4, "epochs": 1, "train_limit": 100}
    >>> result = training.train("individual", bits=4, out=folder + "/run", **small)
    >>> result.history[["step", "epoch"]].values.tolist()
    [['4bit', 1]]
    >>> network = training.load(result.checkpoint)  # pixels [N, C, H, W] of 0 .. 255 -> logits [N, classes]
    >>> digits = training.load_dataset("digits")
    >>> network(digits.test.pixels[:5].float()).shape
    torch.Size([5, 10])
    >>> training.train("individual", epoch=3)
    Traceback (most recent call last):
    ...
    training.options.ConfigError: there is no option 'epoch', did you mean epochs?
"""

import contextlib
import dataclasses
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sim.checkpoint import load_checkpoint
from sim.network import FLOAT_BITS
from sim.records import read_record
from sim.registry import Registry
from sim.trained import overflows_in
from training.config import RunConfig, options_of, resolve
from training.curves import draw_curves
from training.data import DATASETS, Dataset, describe_augment, load_dataset
from training.display import RunDisplay
from training.effects import refuse_unread
from training.folder import CURVES_FILE, FINAL_FILE, KIND, RECORD_FILE, RESUME_FILE, Now, digests_of, held, open_record
from training.memory import keep_freed_memory
from training.models import MODELS
from training.network import QuantNetwork
from training.options import OPTIONS, ConfigError, read_options, shown_options
from training.quantizers import QUANTIZERS
from training.record import command_line, provenance
from training.runner import SAVE_MINUTES, Runner
from training.schemes import SCHEMES, Scheme
from training.watch import Display, Silent, check_log, require_tensorboard, watched

if TYPE_CHECKING:
    import pandas as pd

MODULE = "training.run"
TABLES: Mapping[str, Registry[Any]] = {"scheme": SCHEMES, "model": MODELS, "teacher_model": MODELS, "quantizer": QUANTIZERS}
"""Options whose values are names in a table: built in, of an installed package, or of own code."""


@dataclass(frozen=True)
class TrainResult:
    """A finished run: where its files are, and what they say."""

    folder: Path
    record: dict[str, Any] = field(repr=False)

    @property
    def checkpoint(self) -> Path:
        """The student's file, for `training.load`, `sim.load_checkpoint` or `python -m sim.eval --model`."""
        return self.folder / FINAL_FILE

    @property
    def accuracy(self) -> float:
        """Of the student on the test set, in percent, in the arithmetic of the hardware; of answers to questions F1."""
        return float(self.record["test"]["accuracy"])

    @property
    def history(self) -> "pd.DataFrame":
        """A row for every epoch: step, bits, epoch, loss, validation_accuracy (percent), validation_loss, seconds, ..."""
        import pandas as pd

        return pd.DataFrame([{"step": name, "bits": step["bits"], **entry}
                             for name, step in self.record["steps"].items() for entry in step["epochs"]])

    def __repr__(self) -> str:
        config = self.record["config"]
        path = "-".join(map(str, config["path"]))
        what = f"{config['scheme']} {path} {config['model']}"
        measure = "F1" if "f1" in self.record["test"] else "%"
        return f"TrainResult({what}, {self.accuracy:.2f} {measure} on test, {str(self.folder)!r})"


def train(scheme: str | Scheme | None = None, *, dataset: str | Dataset | None = None,
          out: str | os.PathLike[str] | None = None, progress: bool = False, **options: Any) -> TrainResult:
    """Train a student by a scheme, as `python -m training.run --scheme ...` does, and return its results.

    `options` are those of the command with _ for -, such as bits=2, epochs=20, teacher="ckpt.pt", resume=True; lists may be
    sequences (path=(32, 8, 2)).  `dataset` is "digits" unless told otherwise and may be a `Dataset`, from `load_dataset` or
    `from_arrays`; `scheme`, `model`, `teacher_model` and `quantizer` may be objects of your own: a `Scheme`, a function
    (image, classes, width) -> Graph, a `Quantizer`.  `progress` shows what the command shows.

    Raises ConfigError, SchemeError, RegistryError, DataError and their like with one line that names the option,
    DivergedError if the loss is no number any more, OSError of the disk.
    """
    given: dict[str, Any] = {"scheme": scheme, "out": out, **options}
    own: list[str] = []
    for name, table in TABLES.items():
        if not isinstance(given.get(name), str | None):
            given[name] = table.name_of(given[name])
            if given[name] not in list(table) and ("__main__" in given[name] or ":" not in given[name]):
                own.append(f"{name}={given[name]}")
    data = dataset if isinstance(dataset, Dataset) else None
    if data is None:
        given["dataset"] = dataset
    else:
        for name in ("data", "size"):
            if given.get(name) is not None:
                raise ConfigError(f"{name}: the dataset is given as an object, which has its own")
        if data.name not in DATASETS:
            own.append(f"dataset={data.label}")
        elif not data.is_as_loaded:
            own.append(f"dataset={data.label}, changed since it was loaded")
        given |= {"dataset": data.name, "data": data.path or None, "size": data.size or None}
    with _random_numbers_kept():
        if not progress:
            return execute(given, Silent(), data=data, own=own)
        with RunDisplay() as display:
            return execute(given, display, data=data, own=own, say=print)


_KEPT: list[torch.Tensor] = []
_RUNS: list[object] = []
_LOCK = threading.Lock()


@contextlib.contextmanager
def _random_numbers_kept() -> Iterator[None]:
    """A caller's random numbers are the caller's: torch's generator after the last of several runs is as before the first.

    Runs in several threads share it, so that no run's results depend on it; only objectives of one's own may draw from it.
    """
    run = object()
    with _LOCK:
        if not _RUNS:
            _KEPT[:] = [torch.get_rng_state()]
        _RUNS.append(run)
    try:
        yield
    finally:
        with _LOCK:
            _RUNS.remove(run)
            if not _RUNS:
                torch.set_rng_state(_KEPT.pop())


def load(path: str | os.PathLike[str]) -> QuantNetwork:
    """The trained network in a checkpoint, in eval mode: pixels float [N, C, H, W] of 0 .. 255 -> logits [N, classes].

    One of texts takes ids, whole numbers [N, tokens], and gives logits [N, 2, tokens, 1] of an answer's begin and end.

    Its forward pass is the arithmetic of the hardware, to the last bit.  Raises CheckpointError or OSError; a quantizer of
    your own must have been found before (`training.quantizers.QUANTIZERS.find`).  One that was trained with the overflows of
    a register (--accumulator-training overflow) computes with them; `network.limit(None)` takes the register away.
    """
    checkpoint = load_checkpoint(Path(path))
    network = QuantNetwork.from_spec(checkpoint.spec)
    network.limit(overflows_in(checkpoint.training))
    return network


def execute(given: Mapping[str, Any], display: Display, *, data: Dataset | None = None, own: list[str] | None = None,
            say: Callable[[str], object] = lambda line: None) -> TrainResult:
    """The one path from options to results, of the command and of `train`.

    `given` are options as `read_options` takes them, `data` a data set that is loaded already, `own` what of it no
    command can name; `say` gets a line for whatever was decided for the user.
    """
    typed = read_options(given)
    keep_freed_memory()
    options, repeats = _repeated(typed)
    for name, table in TABLES.items():
        if name in options:
            look_up = table.find if name in typed else table.known  # no code is loaded because a record names it
            look_up(options[name], OPTIONS[name].text)
    for name in typed.get("load", ()):
        QUANTIZERS.find(name, "load")
    config, notes = resolve(options)
    if options.get("tensorboard"):
        require_tensorboard()
    folder = Path(options.get("out") or config.default_out)
    check_log(options, folder)
    device = _device(options.get("device", "cpu"))
    images = data or load_dataset(config.dataset, Path(config.data) if config.data else None, size=config.size)
    config = dataclasses.replace(config, augment=config.augment or images.augment, size=images.size)
    runner = Runner(config, images, folder, device, display, save_minutes=_minutes(options))
    refuse_unread([name for name in typed if name != "config"], runner.plan)
    now = _now(config, runner, typed, own or [], str(device))
    with held(folder):
        runner.record = open_record(folder, now, bool(options.get("resume")))
        if runner.record["status"] == "finished":
            (folder / RESUME_FILE).unlink(missing_ok=True)
            runner.restore_final()
            for name in ("log", "tensorboard"):
                if name in typed:
                    say(f"{name}: the run in {folder} is finished, nothing is trained and nothing is written there")
        else:
            for note in (*notes, *repeats, *_notes(config, images, typed, runner)):
                say(note)
            with watched(display, options.get("log", ""), folder if options.get("tensorboard") else None) as runner.display:
                runner.run()
        if not (folder / CURVES_FILE).exists() or runner.record.get("extended"):
            _draw(runner.record, folder / CURVES_FILE, say)
    return TrainResult(folder, read_record(folder / RECORD_FILE, KIND))


def _repeated(typed: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The options of the record that `config` names, where no others are given, and notes on what they do not repeat."""
    if "config" not in typed:
        return dict(typed), []
    record = read_record(typed["config"], KIND)
    try:
        options = options_of(record["config"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"config: {typed['config']} is no record of a run that can be repeated ({error!r})") from None
    if "bits" in typed and "path" not in typed:
        del options["path"]
    if "augment" not in typed and {"dataset", "data"} & typed.keys():
        options.pop("augment", None)  # another data set has its own
    notes = []
    if steps := record.get("extended"):
        epochs = ", ".join(f"from {step.get('from')} to {step.get('to')}" for step in steps if isinstance(step, dict))
        notes.append(f"config: the run of {typed['config']} was extended {epochs} epochs; this one has all of its "
                     "epochs from the start, its rates and weights are others")
    return options | dict(typed), notes


def _device(name: str) -> torch.device:
    if name == "cpu" or (name.split(":", maxsplit=1)[0] == "cuda" and torch.cuda.is_available()):
        try:
            return torch.device(name)
        except RuntimeError:
            pass
    choices = "cpu or cuda" if torch.cuda.is_available() else "cpu"
    raise ConfigError(f"device: {name!r} is not available here, choose {choices}")


def _minutes(options: Mapping[str, Any]) -> float:
    minutes = options.get("save_minutes", SAVE_MINUTES)
    if not 0.0 <= minutes <= 1e6:
        raise ConfigError(f"save-minutes: {minutes} is not allowed, choose 0 (after every step) to 1e6")
    return float(minutes)


def _now(config: RunConfig, runner: Runner, typed: Mapping[str, Any], own: list[str], device: str) -> Now:
    data = runner.dataset
    about = {"label": data.label, "task": data.task, "digest": runner.digest, "size": data.size, "classes": data.classes,
             "class_names": list(data.class_names), "notes": list(data.notes),
             "images": [len(data.train), len(data.validation), len(data.test)]}
    last = config.plan()[-1]
    return Now(config.to_json(), about, digests_of(config.to_json()),
               provenance(_command(typed, own), device), config.origins(), config.epochs_of(last) if last.trains else 0)


def _command(typed: Mapping[str, Any], own: list[str]) -> str:
    """The command that a shell runs again; of what no shell can name, the call and a word on it."""
    shown = shown_options(typed)
    if own:
        call = ", ".join(f"{name}={value!r}" for name, value in shown.items())
        return f"training.train({call})  # from Python, with objects of its own: {', '.join(own)}"
    return command_line(MODULE, shown)


def _notes(config: RunConfig, images: Dataset, typed: Mapping[str, Any], runner: Runner) -> list[str]:
    notes = list(images.notes)
    if not images.is_text:
        height, width = images.train.pixels.shape[2:]
        whose = "" if "augment" in typed else f" (the default of --dataset {images.name}, --augment changes it)"
        notes.append(f"augmentation {describe_augment(config.augment, height, width)}{whose}")
    if "seed" in typed and not runner.plan.trained and all(step.start for step in runner.wanted):
        notes.append("seed: this run trains nothing and draws nothing, every seed gives the same network")
    begins_float = any(step.start and step.bits != FLOAT_BITS for step in runner.wanted)
    if begins_float and runner.plan.has_no_norms and not QUANTIZERS[config.quantizer].keeps_size:
        notes.append(f"quantizer: weights of {config.quantizer} forget how large the float ones were, which only a batch "
                     f"norm makes good, and {config.model} has none: interval_channel or sawb keep it")
    counted = {"train_limit": (len(images.train), f"training {runner.task.inputs}"),
               "validation_limit": (runner.task.measures.count(images.validation), f"{runner.task.measures.unit} held out"),
               "test_limit": (runner.task.measures.count(images.test), f"test {runner.task.measures.unit}")}
    notes += [f"{name.replace('_', '-')}: {limit} limits nothing, there are {count} {what}"
              for name, (count, what) in counted.items() if (limit := getattr(config, name)) is not None and limit > count]
    return notes


def _draw(record: Mapping[str, Any], file: Path, say: Callable[[str], object]) -> None:
    try:
        draw_curves(record, file)
    except Exception as error:  # a picture is never worth a run
        say(f"the learning curves could not be drawn ({type(error).__name__}: {error})")
