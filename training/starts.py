"""First weights from a file: a checkpoint of this project, or a state dict that others have published."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from sim.checkpoint import CheckpointError, load_checkpoint
from sim.network import FLOAT_BITS, Graph, Precision
from training.options import ConfigError
from training.weights import WeightsError, first_arrays, read_state_dict

SAFETENSORS = ".safetensors"
OF_OTHERS = (SAFETENSORS, ".th", ".pth")
"""How files of others that hold first weights are called; checkpoints of this project end in .pt."""


def begin_with(file: Path, graph: Graph, model: str) -> tuple[Mapping[str, np.ndarray], Precision]:
    """Arrays by "row.array", and the precision that they were trained at.

    Of a state dict those that rows of `graph`, which is `model`'s, have under its published names.  Raises CheckpointError,
    ConfigError or OSError.
    """
    problem: CheckpointError | None = None
    if file.suffix != SAFETENSORS:
        try:
            spec = load_checkpoint(file).spec
            return spec.arrays, spec.precision
        except CheckpointError as error:  # it may be a state dict
            problem = error
    try:
        state = read_state_dict(file)
    except WeightsError as error:
        raise problem or ConfigError(f"init-from {file}: {error}") from None
    try:
        return first_arrays(graph, state, model), Precision.of(FLOAT_BITS)
    except WeightsError as error:
        raise ConfigError(f"init-from {file}: {error}") from None
