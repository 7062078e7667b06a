"""The whole configuration of a run: everything that decides its result."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sim.network import FLOAT_BITS, QUANTIZED_BITS, Precision
from training.data import AUGMENTATIONS
from training.losses import KL_REDUCTIONS
from training.models import MODELS
from training.presets import Recipe
from training.quantizers import CALIBRATIONS, QUANTIZERS
from training.schemes import SchemeOptions, Step, find_scheme

SCHEDULES = ("cosine", "multistep")
GRADIENTS = ("float32", "bfloat16")


class ConfigError(ValueError):
    """An option with a value that is not allowed, and what is."""


@dataclass(frozen=True, kw_only=True)
class RunConfig(Recipe, SchemeOptions):
    """One run: a recipe, what it is applied to, what its scheme is told.  Equal ones give equal weights on one machine."""

    scheme: str
    dataset: str
    data: str
    model: str
    width: int
    path: tuple[int, ...]
    preset: str
    skip_bits: int
    quantizer: str
    seed: int
    train_limit: int | None = None
    teacher: str = ""
    init_from: str = ""
    calibration: str = "minmax"
    layer_bits: str = ""
    """Exceptions of the student, "row=bits,row=bits"."""
    gradients: str = "float32"
    """What the gradients of convolutions are multiplied in; no code of the forward pass depends on it."""
    augment: str = ""
    """What training images go through; "" stands for the data set's default."""

    def __post_init__(self) -> None:
        for bits in self.path:
            self.check_bits(bits)
        for bits in self.path:
            self.precision(bits)
        self.plan()
        for key, table in (("model", MODELS), ("quantizer", QUANTIZERS), ("schedule", SCHEDULES),
                           ("kl_reduction", KL_REDUCTIONS), ("calibration", CALIBRATIONS),
                           ("gradients", GRADIENTS), ("augment", ("", *AUGMENTATIONS))):
            value = getattr(self, key)
            if value not in table:
                raise ConfigError(f"{key.replace('_', '-')}: {value!r} is unknown, choose one of {', '.join(table)}")
        if self.teacher_model not in ("", *MODELS):
            raise ConfigError(f"teacher-model: {self.teacher_model!r} is unknown, choose one of {', '.join(MODELS)}")
        for bits in self.path:
            self._check_quantizer(bits)
        if self.scheme == "speq" and self.quantizer.startswith("lsq"):
            raise ConfigError("quantizer: more bits make steps of lsq no finer, so speq's teacher needs another quantizer")
        for key, low, high in (("width", 1, 1024), ("epochs", 1, 100_000), ("batch", 2, 65536), ("lr", 0.0, 1e6),
                               ("weight_decay", 0.0, 1e3), ("momentum", 0.0, 1.0), ("kd_weight", 0.0, 100.0),
                               ("temperature", 1e-3, 1e3), ("seed", 0, 2**31 - 1)):
            value = getattr(self, key)
            if not low <= value <= high:
                raise ConfigError(f"{key.replace('_', '-')}: {value} is not allowed, choose {low} to {high}")
        if self.train_limit is not None and self.train_limit < 2:
            raise ConfigError(f"train-limit: {self.train_limit} is not allowed, choose 2 or more images")

    @staticmethod
    def check_bits(bits: int) -> None:
        """Raise ConfigError for a width that does not exist."""
        if bits not in (*QUANTIZED_BITS, FLOAT_BITS):
            raise ConfigError(f"bits: {bits} is not allowed, choose 1 to 8, 16 or 32 (float)")

    @property
    def bits(self) -> int:
        """Bits of the student."""
        return self.path[-1]

    def plan(self) -> list[Step]:
        """The steps of this run.  Raises SchemeError for options that make no sense together."""
        return find_scheme(self.scheme).plan(self.path, self)

    def _check_quantizer(self, bits: int) -> None:
        precision = self.precision(bits)
        if QUANTIZERS[self.quantizer].activation_parameters() and precision.boundary == FLOAT_BITS != precision.inner:
            raise ConfigError(f"boundary-bits: quantizer {self.quantizer} learns these layers, too: choose 2 to 8, or 16")
        for width in {precision.inner, precision.boundary, *(bits for _, bits in precision.layers)} - {FLOAT_BITS}:
            QUANTIZERS[self.quantizer].check(width)

    def precision(self, bits: int) -> Precision:
        """The precision of the step of that width; exceptions are the student's."""
        precision = Precision.of(bits, self.boundary_bits, self.skip_bits)
        return dataclasses.replace(precision, layers=self._layers()) if bits == self.bits else precision

    def _layers(self) -> tuple[tuple[str, int], ...]:
        if not self.layer_bits:
            return ()
        pairs = [pair.split("=") for pair in self.layer_bits.split(",")]
        if self.bits == FLOAT_BITS or not all(len(pair) == 2 and pair[1].isdecimal() for pair in pairs):
            raise ConfigError(f"layer-bits: {self.layer_bits!r} is not a list for a quantized student, such as "
                              "stage1_block1_conv1=4,stage1_block2_in=4")
        return tuple((row, int(bits)) for row, bits in pairs)

    @property
    def default_out(self) -> Path:
        """Where the run goes unless told otherwise."""
        name = Path(self.data).stem if self.dataset == "npz" else self.dataset
        return Path("runs") / f"{self.scheme}-{name}-{self.model}-{self.bits}bit-seed{self.seed}"

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {key: list(value) if isinstance(value, tuple) else value
                for key, value in dataclasses.asdict(self).items()}


def differences(mine: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """Keys whose values differ, with both values."""
    return [f"{key} {theirs.get(key)!r} there, {mine.get(key)!r} now"
            for key in sorted(mine.keys() | theirs.keys()) if mine.get(key) != theirs.get(key)]
