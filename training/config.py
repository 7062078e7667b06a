"""The whole configuration of a run: everything that decides its result."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sim.network import FLOAT_BITS, QUANTIZED_BITS, Precision
from sim.registry import short_name
from training.data import AUGMENTATIONS
from training.losses import KL_REDUCTIONS
from training.models import MODELS
from training.models.published import published_width
from training.optimizers import NESTEROV, OPTIMIZERS
from training.options import ConfigError
from training.presets import PRESETS
from training.quantizers import CALIBRATIONS, QUANTIZERS
from training.register_options import check as check_register
from training.register_options import completed
from training.schemes import SCHEMES, Step, find_scheme
from training.schemes.options import LossOptions

__all__ = ["ConfigError", "RunConfig", "differences", "options_of", "resolve"]

COSINE, LINEAR, MULTISTEP = SCHEDULES = ("cosine", "linear", "multistep")
GRADIENTS = ("float32", "bfloat16")
DEFAULTS: Mapping[str, Any] = {"dataset": "digits", "data": "", "model": "resnet20", "skip_bits": 8, "seed": 0,
                               "quantizer": "dorefa"}
"""What no preset says; the width is the model's own."""
OWN_OPTIONS = ("bits", "path", "preset", "out", "resume", "save_minutes", "device", "log", "tensorboard", "config", "load")
"""Options that are no fields of a configuration, or not under their own value."""


@dataclass(frozen=True, kw_only=True)
class RunConfig(LossOptions):
    """One run: a recipe, what it is applied to, what its scheme is told.  Equal ones give equal weights on one machine."""

    scheme: str
    dataset: str
    data: str
    model: str
    width: int
    preset: str
    skip_bits: int
    quantizer: str
    seed: int
    train_limit: int | None = None
    validation_limit: int | None = None
    test_limit: int | None = None
    """Of texts these two count questions."""
    teacher: str = ""
    init_from: str = ""
    calibration: str = "minmax"
    layer_bits: str = ""
    """Exceptions of the student, "row=bits,row=bits"."""
    activation_bits: int = 0
    """Width of the inner activations of quantized networks; 0: that of the weights."""
    augment: str = ""
    """What training images go through; "" stands for the data set's default."""
    size: str = ""
    """Of the images of a folder."""
    float_weights: str = ""
    """State dict file of the float network before the student."""
    mean: tuple[float, ...] = ()
    """Of the pixels, by channel; the data set's if it is empty, or that of float weights."""
    std: tuple[float, ...] = ()
    gradients: str = "float32"
    """What the gradients of convolutions are multiplied in; no code of the forward pass depends on it."""
    accumulator_bits: int = 0
    """Of the registers of inner layers that the student is trained for; 0: none."""
    accumulator_training: str = ""
    """How: one of training.register_options.METHODS."""
    overflow: str = "wrap"
    """What the register does where it is trained with its overflows."""
    tile: str = "1"
    """Products that are summed before that register is consulted, or "end"."""

    def __post_init__(self) -> None:
        for bits in self.path:
            self.check_bits(bits)
        for bits in self.path:
            self.precision(bits)
        self.plan()
        MODELS.known(self.model)
        QUANTIZERS.known(self.quantizer)
        if self.teacher_model:
            MODELS.known(self.teacher_model, "teacher-model")
        for key, table in (("schedule", SCHEDULES), ("kl_reduction", KL_REDUCTIONS), ("calibration", CALIBRATIONS),
                           ("gradients", GRADIENTS), ("optimizer", OPTIMIZERS), ("augment", ("", *AUGMENTATIONS))):
            value = getattr(self, key)
            if value not in table:
                raise ConfigError(f"{key.replace('_', '-')}: {value!r} is unknown, choose one of {', '.join(table)}")
        for bits in self.path:
            self._check_quantizer(bits)
        if self.scheme == "speq" and self.quantizer in ("lsq", "lsq_channel", "a2q_lsq", "a2q+_lsq"):
            raise ConfigError("quantizer: more bits make steps of lsq no finer, so speq's teacher needs another quantizer")
        for key, low, high in (("width", 1, 1024), ("epochs", 1, 100_000), ("batch", 2, 65536), ("lr", 0.0, 1e6),
                               ("weight_decay", 0.0, 1e3), ("momentum", 0.0, 1.0), ("warmup", 0.0, 0.9),
                               ("label_smoothing", 0.0, 0.9), ("kd_weight", 0.0, 100.0), ("clip", 0.0, 1e6),
                               ("accumulate", 1, 4096), ("hidden_weight", 0.0, 1e6), ("attention_weight", 0.0, 1e6),
                               ("temperature", 1e-3, 1e3), ("seed", 0, 2**31 - 1)):
            value = getattr(self, key)
            if not low <= value <= high:
                raise ConfigError(f"{key.replace('_', '-')}: {value} is not allowed, choose {low} to {high}")
        for key, least in (("train_limit", 2), ("validation_limit", 1), ("test_limit", 1)):
            if (limit := getattr(self, key)) is not None and limit < least:
                raise ConfigError(f"{key.replace('_', '-')}: {limit} is not allowed, choose {least} or more")
        if self.optimizer == NESTEROV and not self.momentum:
            raise ConfigError("optimizer: nesterov needs a momentum above 0")
        self._check_milestones()
        self._check_distillation()
        self._check_weights()
        check_register(self)

    def _check_weights(self) -> None:
        if self.float_weights and (other := next((key for key in ("teacher", "init_from") if getattr(self, key)), "")):
            raise ConfigError(f"float-weights: {other.replace('_', '-')} gives the first weights, leave one of them out")
        if bool(self.mean) != bool(self.std):
            raise ConfigError("mean, std: give both, or none")

    def _check_milestones(self) -> None:
        shown = ",".join(map(str, self.milestones))
        if self.schedule != MULTISTEP and self.milestones:
            raise ConfigError(f"milestones: a {self.schedule} schedule has none, {shown} would change nothing: "
                              "add --schedule multistep")
        if self.schedule == MULTISTEP and not self.milestones:
            raise ConfigError("schedule: the rate of multistep falls at milestones only, add --milestones, for example "
                              f"{max(1, self.epochs // 2)}")
        rising = all(low < high for low, high in zip(self.milestones, self.milestones[1:], strict=False))
        if not rising or any(not 0 < milestone < self.epochs for milestone in self.milestones):
            raise ConfigError(f"milestones: {shown} is not allowed, choose rising epochs after 0 and before "
                              f"--epochs {self.epochs}, where the run ends")

    def _check_distillation(self) -> None:
        if self.kd_weight > 1.0 and any(step.trains and getattr(step.objective, "mixes_labels", False)
                                        for step in self.plan()):
            raise ConfigError(f"kd-weight: {self.kd_weight} would give the labels a negative weight, the loss of scheme "
                              f"{self.scheme} is (1 - l) CE + l KL: choose 0 to 1")
        if (self.teacher_model or self.teacher_width) and \
                (self.teacher_model or self.model, self.teacher_width or self.width) == (self.model, self.width):
            raise ConfigError(f"teacher-model, teacher-width: {self.model} of width {self.width} is the student's own "
                              "network, which teaches unless told otherwise: leave them out")

    @property
    def is_given_weights(self) -> bool:
        """Whether the first networks begin with weights of a checkpoint."""
        return bool(self.init_from)

    @staticmethod
    def check_bits(bits: int) -> None:
        """Raise ConfigError for a width that does not exist."""
        if bits not in (*QUANTIZED_BITS, FLOAT_BITS):
            raise ConfigError(f"bits: {bits} is not allowed, choose 1 to 8, 16 or 32 (float)")

    def plan(self) -> list[Step]:
        """The steps of this run.  Raises SchemeError for options that make no sense together."""
        return find_scheme(self.scheme).plan(self.path, self)

    def epochs_of(self, step: Step) -> int:
        """How many epochs a step has."""
        return max(1, round(self.epochs * step.share))

    def is_student(self, step: Step) -> bool:
        """Whether a step trains the student, or one on the way to it, and not a float network before."""
        return step.bits != FLOAT_BITS or step.name == self.plan()[-1].name

    def _check_quantizer(self, bits: int) -> None:
        precision = self.precision(bits)
        rules = QUANTIZERS[self.quantizer]
        learns = rules.activation_parameters() or rules.weight_parameters(1)
        if learns and precision.boundary == FLOAT_BITS != precision.inner:
            raise ConfigError(f"boundary-bits: quantizer {self.quantizer} learns these layers, too: choose 2 to 8, or 16")
        for width in {precision.inner, precision.boundary, *(widths[0] for _, *widths in precision.layers)} - {FLOAT_BITS}:
            QUANTIZERS[self.quantizer].check(width)

    def precision(self, bits: int) -> Precision:
        """The precision of the step of that width; exceptions are the student's."""
        precision = Precision.of(bits, self.boundary_bits, self.skip_bits, self.activation_bits)
        return dataclasses.replace(precision, layers=self._layers()) if bits == self.bits else precision

    def _layers(self) -> tuple[tuple[str, int], ...]:
        if not self.layer_bits:
            return ()
        pairs = [pair.split("=") for pair in self.layer_bits.split(",")]
        if self.bits == FLOAT_BITS or not all(
                len(pair) == 2 and pair[1].isascii() and pair[1].isdecimal() for pair in pairs):
            raise ConfigError(f"layer-bits: {self.layer_bits!r} is not a list for a quantized student, such as "
                              "stage1_block1_conv1=4,stage1_block2_in=4")
        if same := [row for row, bits in pairs if int(bits) == self.bits]:
            raise ConfigError(f"layer-bits: {same[0]} has {self.bits} bits anyway, as every inner row of the student")
        return tuple((row, int(bits)) for row, bits in pairs)

    @property
    def default_out(self) -> Path:
        """Where the run goes unless told otherwise."""
        name = Path(self.data).stem if self.data and self.dataset in ("npz", "folder") else self.dataset
        words = (short_name(self.scheme), name, short_name(self.model), f"{self.bits}bit", f"seed{self.seed}")
        return Path("runs") / "-".join(words)

    def origins(self) -> dict[str, dict[str, Any]]:
        """Where code that is not built in came from, by option; of a scheme its defaults, too: {option: value}."""
        named: dict[str, dict[str, Any]] = {
            "model": MODELS.origin(self.model), "teacher_model": MODELS.origin(self.teacher_model),
            "scheme": SCHEMES.origin(self.scheme), "quantizer": QUANTIZERS.origin(self.quantizer)}
        if named["scheme"]:
            named["scheme"]["defaults"] = {option: list(value) if isinstance(value, tuple) else value
                                           for option, value in find_scheme(self.scheme).defaults.items()}
        return {option: origin for option, origin in named.items() if origin}

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {key: list(value) if isinstance(value, tuple) else value
                for key, value in dataclasses.asdict(self).items()}


def resolve(given: Mapping[str, Any]) -> tuple[RunConfig, list[str]]:
    """The configuration of options as `read_options` gives them, and notes on what became of a preset's values.

    Raises ConfigError, SchemeError, NetworkError or QuantizerError.
    """
    if "scheme" not in given:
        raise ConfigError("scheme: none is given, name one with --scheme")
    preset = given.get("preset", "quick")
    if preset not in PRESETS:
        raise ConfigError(f"preset: {preset!r} is unknown, choose one of {', '.join(PRESETS)}")
    recipe = {**DEFAULTS, **dataclasses.asdict(PRESETS[preset]), **find_scheme(given["scheme"]).defaults}
    recipe |= {key: value for key, value in given.items() if key not in OWN_OPTIONS}
    recipe.setdefault("width", published_width(recipe["model"]))
    recipe |= completed(recipe)
    notes: list[str] = []
    if "milestones" not in given:
        recipe["milestones"], notes = _preset_milestones(preset, recipe)
    return RunConfig(path=_path(given), preset=preset, **recipe), notes


def options_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The options that make this configuration: what its preset and scheme do not say.  The inverse of `resolve`."""
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in config.items()}
    made = {**dataclasses.asdict(PRESETS[values["preset"]]), **find_scheme(values["scheme"]).defaults}
    base = {key: values[key] for key in ("scheme", "preset", "path")}
    base |= {"model": values["model"]} if values["model"] != DEFAULTS["model"] else {}
    base |= {key: values[key] for key in ("epochs", "schedule") if values[key] != made[key]}
    if values["schedule"] == MULTISTEP and not made["milestones"]:
        base["milestones"] = values["milestones"]
    plain = vars(resolve(base)[0])
    return base | {key: value for key, value in values.items() if value != plain.get(key, value)}


def _preset_milestones(preset: str, recipe: Mapping[str, Any]) -> tuple[tuple[float, ...], list[str]]:
    """A preset's milestones in proportion to the epochs: 45 of 180 are 5 of 20."""
    made, epochs = PRESETS[preset], recipe["epochs"]
    if recipe["schedule"] != MULTISTEP or not made.milestones:
        return (), []
    if epochs == made.epochs:
        return made.milestones, []
    scaled = tuple(_whole(milestone * epochs / made.epochs) for milestone in made.milestones)
    return scaled, [f"milestones: {_listed(scaled)} of {epochs} epochs, in proportion to {_listed(made.milestones)} of "
                    f"{made.epochs} in preset {preset}"]


def _path(given: Mapping[str, Any]) -> tuple[int, ...]:
    bits, path = given.get("bits"), given.get("path")
    if path is None:
        student = 2 if bits is None else bits
        RunConfig.check_bits(student)
        return find_scheme(given["scheme"]).default_path(student)
    if bits is not None and path and path[-1] != bits:
        raise ConfigError(f"path {_listed(path)} ends at {path[-1]} bits, --bits says {bits}")
    return tuple(path)


def _whole(value: float) -> float:
    return int(value) if value == int(value) else round(value, 6)


def _listed(values: Any) -> str:
    return ",".join(f"{value:g}" for value in values)


def differences(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """Keys whose values differ, with both values."""
    return [f"{key} {theirs.get(key)!r} there, {mine.get(key)!r} now"
            for key in sorted(mine.keys() | theirs.keys()) if mine.get(key) != theirs.get(key)]
