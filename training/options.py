"""The options of a run: one table, from which the command line, its help and the keywords of `training.train` are made."""

import numbers
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sim.network import FLOAT_BITS
from training.presets import PRESETS
from training.schemes import SCHEMES

FLOAT = "float"
"""How a user writes FLOAT_BITS for the first and last layer."""


class ConfigError(ValueError):
    """An option with a value that is not allowed, and what is."""


@dataclass(frozen=True)
class Option:
    """One option.  `kind` is what the command line reads, `read` makes the value of it, `show` is its inverse as text."""

    name: str
    kind: type
    group: str
    help: str
    default: str = ""
    read: Callable[["Option", Any], Any] = lambda option, value: option.plain(value)
    show: Callable[[Any], Any] = lambda value: value

    @property
    def text(self) -> str:
        """As the user writes it: "kd-weight"."""
        return self.name.replace("_", "-")

    def plain(self, value: Any) -> Any:
        """`value` as the option's kind; raises ConfigError if it is another one."""
        wanted = {int: "a whole number", float: "a number", bool: "True or False"}.get(self.kind, "a text")
        if self.kind is bool and isinstance(value, bool):
            return value
        if self.kind is int and isinstance(value, numbers.Integral) and not isinstance(value, bool):
            return int(value)
        if self.kind is float and isinstance(value, numbers.Real) and not isinstance(value, bool):
            return float(value)
        if self.kind is str and isinstance(value, str):
            return value
        if self.kind is Path and isinstance(value, str | os.PathLike):
            return self._path(os.fspath(value))
        raise ConfigError(f"{self.text}: {value!r} is not allowed, give {wanted}")

    def _path(self, text: Any) -> str:
        if not isinstance(text, str) or not text or "\0" in text:
            raise ConfigError(f"{self.text}: {text!r} is not allowed, name a file or folder (. is the current folder)")
        return text


def _integers(option: Option, value: Any) -> tuple[int, ...]:
    try:
        parts = value.split(",") if isinstance(value, str) else list(value)
        if any(isinstance(part, bool | float) for part in parts):
            raise ValueError
        return tuple(int(part) for part in parts)
    except (TypeError, ValueError):
        raise ConfigError(f"{option.text}: {value!r} is not a list of whole numbers such as 32,8,4,2") from None


def _words(option: Option, value: Any) -> tuple[str, ...]:
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, Sequence) or not all(isinstance(part, str) for part in parts):
        raise ConfigError(f"{option.text}: {value!r} is not a list of names such as ss,cs,tu")
    return tuple(parts)


def _boundary(option: Option, value: Any) -> int:
    if value == FLOAT:
        return FLOAT_BITS
    if isinstance(value, str) and value.isascii() and value.isdecimal():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise ConfigError(f"{option.text}: {value!r} is not allowed, choose 2 to 8, 16 or {FLOAT}")
    return int(value)


def _numbers(option: Option, value: Any) -> tuple[float, ...]:
    try:
        parts = value.split(",") if isinstance(value, str) else [value] if isinstance(value, numbers.Real) else list(value)
        if any(isinstance(part, bool) for part in parts):
            raise ValueError
        return tuple(float(part) for part in parts)
    except (TypeError, ValueError):
        raise ConfigError(f"{option.text}: {value!r} is not a list of numbers such as 0.485,0.456,0.406") from None


def _rows(option: Option, value: Any) -> str:
    return ",".join(f"{row}={bits}" for row, bits in value.items()) if isinstance(value, Mapping) else option.plain(value)


def _tile(option: Option, value: Any) -> str:
    return str(value) if isinstance(value, numbers.Integral) and not isinstance(value, bool) else option.plain(value)


def _joined(value: Sequence[Any]) -> str:
    return ",".join(map(str, value))


def _by_preset(name: str) -> str:
    """The defaults of the presets as text, and of the schemes that have their own."""
    values = {preset: asdict(recipe)[name] for preset, recipe in PRESETS.items()}
    shown = {preset: _shown(name, value) for preset, value in values.items()}
    first, *rest = shown.items()
    text = first[1] + "".join(f", {preset} {value}" for preset, value in rest if value != first[1])
    own: dict[str, list[str]] = {}
    for scheme in SCHEMES.values():
        if name in scheme.defaults:
            own.setdefault(_shown(name, scheme.defaults[name]), []).append(scheme.name)
    return "; ".join([text, *(f"{', '.join(names)} {value}" for value, names in own.items())])


def _by_scheme(name: str, other: str) -> str:
    own = [f"{scheme.name} {scheme.defaults[name]}" for scheme in SCHEMES.values() if name in scheme.defaults]
    return ", ".join([other, *own])


def _by_model() -> str:
    from training.models.published import DEFAULT_WIDTH, PUBLISHED

    own: dict[int, list[str]] = {}
    for model, published in PUBLISHED.items():
        own.setdefault(published.width, []).append(model)
    return "; ".join([str(DEFAULT_WIDTH), *(f"{', '.join(models)} {width}" for width, models in own.items()
                                            if width != DEFAULT_WIDTH)])


def _shown(name: str, value: Any) -> str:
    if isinstance(value, tuple):
        return _joined(value) or "none"
    if name == "boundary_bits" and value == FLOAT_BITS:
        return FLOAT
    return f"{value:g}" if isinstance(value, float) else str(value)


RUN, DATA, NETWORK, RECIPE, DISTILLATION, OUTPUT = (
    "What is trained", "Data", "Network", "Recipe of every step", "Distillation", "Run and output")
GROUPS = (RUN, DATA, NETWORK, RECIPE, DISTILLATION, OUTPUT)


def _table() -> list[Option]:
    from training.data import AUGMENTATIONS, DATASETS
    from training.models import MODELS
    from training.quantizers import QUANTIZERS

    return [
        Option("scheme", str, RUN, f"{', '.join(SCHEMES)}; or your own, file.py:NAME"),
        Option("bits", int, RUN, "bits of the student's weights and activations: 1 to 8, 16, 32 (float)", "2"),
        Option("path", str, RUN, "precisions from teacher to student, for example 32,8,4,2", "the scheme's",
               _integers, _joined),
        Option("preset", str, RUN, "recipe: quick, cifar (ours), report (as published), code (as its code ran), or squad "
               "(BERT's fine-tuning)", "quick"),
        Option("seed", int, RUN, "seed of weights, order and augmentation", "0"),
        Option("config", Path, RUN, "run.json of another run, to repeat: its options, where no others are given"),
        Option("dataset", str, DATA, ", ".join(DATASETS), "digits"),
        Option("data", Path, DATA, "where the data are: a folder, or the .npz file"),
        Option("size", str, DATA, "of the images of a folder: 32, or 32x48 (height x width); of texts the "
               "tokens of a window"),
        Option("augment", str, DATA, f"{', '.join(AUGMENTATIONS)}", "the data set's, and printed"),
        Option("train_limit", int, DATA, "train on the first N images, or windows of text, only", "all"),
        Option("validation_limit", int, DATA, "choose the epoch on the first N held-out images, or questions, only", "all"),
        Option("test_limit", int, DATA, "test on the first N images, or questions, only; the record says so", "all"),
        Option("model", str, NETWORK, f"{', '.join(MODELS)}; or your own, file.py:NAME", "resnet20"),
        Option("width", int, NETWORK, "channels of the first stage", _by_model()),
        Option("float_weights", Path, NETWORK,
               "state dict whose weights the float network before the student has, as published by torchvision and others"),
        Option("mean", str, NETWORK, "of the pixels, 0 to 1, by channel, for example 0.485,0.456,0.406",
               "the data set's; with --float-weights or a converted --teacher, theirs", _numbers, _joined),
        Option("std", str, NETWORK, "standard deviation of the pixels, by channel", "as for --mean", _numbers, _joined),
        Option("quantizer", str, NETWORK, f"{', '.join(QUANTIZERS)}; or your own, file.py:NAME",
               _by_scheme("quantizer", "dorefa")),
        Option("load", str, NETWORK, "own quantizers to find first, file.py:NAME,..., for a --teacher, --individual or "
               "--init-from that has another than the student", "none", _words, _joined),
        Option("calibration", str, NETWORK, "first values of learned intervals: minmax, or mse (least squared error)",
               _by_scheme("calibration", "minmax")),
        Option("boundary_bits", str, NETWORK, "bits of the first and last layer, or float", _by_preset("boundary_bits"),
               _boundary, lambda bits: FLOAT if bits == FLOAT_BITS else bits),
        Option("skip_bits", int, NETWORK, "bits of the residual path", "8"),
        Option("activation_bits", int, NETWORK, "bits of the inner activations where they are not those of the weights: "
               "--bits 4 --activation-bits 8 is W4A8", "as the weights"),
        Option("layer_bits", str, NETWORK,
               "exceptions of the student, for example stage1_block1_conv1=4,stage1_block1_in=4", read=_rows),
        Option("accumulator_bits", int, NETWORK, "bits of the registers of inner layers that the student is trained for",
               "unlimited"),
        Option("accumulator_training", str, NETWORK, "a2q or a2q+ (weights that no sum can overflow by), or overflow (with "
               "the register's own overflows)", "a2q+"),
        Option("overflow", str, NETWORK, "wrap or saturate: what the register does in --accumulator-training overflow",
               "wrap"),
        Option("tile", str, NETWORK, "products summed before they reach that register: 1, N or end", "1", _tile),
        Option("init_from", Path, NETWORK,
               "checkpoint, state dict or .safetensors whose weights the first networks begin with: of another data set, "
               "or as others have published them"),
        Option("epochs", int, RECIPE, "epochs of each step of a ladder; more with --resume extend a run",
               _by_preset("epochs")),
        Option("batch", int, RECIPE, "images in a batch", _by_preset("batch")),
        Option("lr", float, RECIPE, "first learning rate", _by_preset("lr")),
        Option("schedule", str, RECIPE, "cosine or linear to 0; multistep: tenths at milestones", _by_preset("schedule")),
        Option("warmup", float, RECIPE, "part of a step over which cosine or linear first rises", _by_preset("warmup")),
        Option("milestones", str, RECIPE, "epochs of a multistep schedule, for example 45,90; a preset's move with --epochs",
               _by_preset("milestones"), _integers, _joined),
        Option("weight_decay", float, RECIPE, "L2 penalty; of adamw decoupled, and not of biases and norms",
               _by_preset("weight_decay")),
        Option("momentum", float, RECIPE, "momentum of SGD, the first beta of adamw", _by_preset("momentum")),
        Option("optimizer", str, RECIPE, "sgd, nesterov: SGD with Nesterov's momentum, or adamw", _by_preset("optimizer")),
        Option("clip", float, RECIPE, "largest norm of all gradients together; 0: as they are", _by_preset("clip")),
        Option("accumulate", int, RECIPE, "batches whose gradients make one step of the optimizer",
               _by_preset("accumulate")),
        Option("label_smoothing", float, RECIPE, "part of each label that all classes share",
               _by_preset("label_smoothing")),
        Option("gradients", str, RECIPE,
               "float32, or bfloat16: faster where the processor multiplies it, rounds gradients, not codes", "float32"),
        Option("teacher", Path, DISTILLATION, "checkpoint to take a step of the ladder from"),
        Option("teacher_model", str, DISTILLATION, "the teacher's architecture", "the student's"),
        Option("teacher_width", int, DISTILLATION, "the teacher's width", "the student's"),
        Option("kd_weight", float, DISTILLATION, "l, the weight of distillation", _by_preset("kd_weight")),
        Option("temperature", float, DISTILLATION, "T of the distillation loss", _by_preset("temperature")),
        Option("kl_reduction", str, DISTILLATION, "batch, or classes: the mean over classes too",
               _by_preset("kl_reduction")),
        Option("hidden_weight", float, DISTILLATION,
               "transformers: weight of the squared distance between hidden states (TernaryBERT)",
               _by_preset("hidden_weight")),
        Option("attention_weight", float, DISTILLATION, "transformers: the same of attention scores",
               _by_preset("attention_weight")),
        Option("drop_kd_after", float, DISTILLATION, "part of a step after which it learns from labels alone", "1.0"),
        Option("hard_example_weight", float, DISTILLATION, "how much more an example counts that the teacher gets wrong",
               "0"),
        Option("individual", Path, DISTILLATION, "checkpoint whose mistakes count for --hard-example-weight, too"),
        Option("phases", str, DISTILLATION, "qkd: which of ss,cs,tu run", "all", _words, _joined),
        Option("fixed_teacher", bool, DISTILLATION, "qkd: the teacher does not co-study"),
        Option("u", float, DISTILLATION, "speq: probability of high precision", "0.5"),
        Option("high_bits", int, DISTILLATION, "speq: high precision", "8"),
        Option("candidates", str, DISTILLATION, "speq: pair, or uniform from 2 to 8", "pair"),
        Option("teacher_statistics", str, DISTILLATION,
               "speq: batch norm of the teacher pass: batch, running or shared", "batch"),
        Option("self_distillation", str, DISTILLATION, "speq: cosine or kl", "cosine"),
        Option("out", Path, OUTPUT, "folder of the run", "runs/SCHEME-DATA-MODEL-BITS-SEED"),
        Option("resume", bool, OUTPUT, "continue the run in the folder, if there is one"),
        Option("save_minutes", float, OUTPUT,
               "minutes of training within an epoch after which its state is saved, too, for --resume", "10"),
        Option("device", str, OUTPUT, "cpu or cuda", "cpu"),
        Option("log", Path, OUTPUT, "file that a line of every epoch is appended to"),
        Option("tensorboard", bool, OUTPUT, "write events for tensorboard --logdir into the folder, too"),
    ]


OPTIONS: Mapping[str, Option] = MappingProxyType({option.name: option for option in _table()})


def read_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """The values of the options that are given: those that are neither None nor False.

    Names have underscores.  Raises ConfigError for a name that does not exist, with the nearest, and for a wrong kind.
    """
    import difflib

    for name in given:
        if name not in OPTIONS:
            near = difflib.get_close_matches(name, OPTIONS, 1)
            raise ConfigError(f"there is no option {name!r}" + (f", did you mean {near[0]}?" if near else ""))
    read = {name: OPTIONS[name].read(OPTIONS[name], value) for name, value in given.items() if value is not None}
    return {name: value for name, value in read.items() if value is not False}


def shown_options(read: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `read_options`, as the command line would have it, in the order of the table."""
    return {name: option.show(read[name]) for name, option in OPTIONS.items() if name in read}
