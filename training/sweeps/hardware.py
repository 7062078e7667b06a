"""Which registers and requantizers there are to evaluate on: the one place of a sweep that knows the other half."""

from collections.abc import Mapping
from typing import Any

from sim.accumulator import Accumulator, AccumulatorError
from sim.outputs import EvalError
from sim.redefined import check_definitions
from sim.registry import RegistryError
from sim.requantizers import REQUANTIZERS
from training.config import ConfigError, RunConfig


class HardwareError(ValueError):
    """An evaluation on hardware that there is not."""


def check_evaluation(options: Mapping[str, Any]) -> None:
    """Raise HardwareError for options of sim.eval that it would refuse together, after hours of training."""
    try:
        _check(options)
    except (AccumulatorError, ConfigError, EvalError, RegistryError) as error:
        raise HardwareError(str(error)) from None


def _check(options: Mapping[str, Any]) -> None:
    for key in ("overflow", "tile"):
        if key in options and not options.keys() & {"accumulator", "boundary-accumulator"}:
            raise ConfigError(f"{key}: without accumulator it changes nothing")
    tile = options.get("tile", 1)
    for key in options.keys() & {"accumulator", "boundary-accumulator"}:
        Accumulator(options[key], options.get("overflow", "wrap"), 0 if tile == "end" else tile)
    for key in options.keys() & {"bits", "boundary-bits"}:
        RunConfig.check_bits(options[key])
    check_definitions(options.get("softmax"), options.get("gelu"), options.get("norm"))
    if "requant" in options:
        REQUANTIZERS.find(options["requant"], "requant")
