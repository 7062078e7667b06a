"""BitTrue: k-bit networks, how to train them and what integer hardware makes of them, to the last bit.

    import bittrue

    program = bittrue.Program.load("program.npz")
    logits = bittrue.Machine(program).run(pixels)                 # uint8 [N, height, width, channels] -> [N, classes]

Names are imported when they are first used, so that `import bittrue` needs neither torch nor numba.
"""

import importlib
from typing import Any

from sim.version import __version__

_PLACES = {
    "train": "training", "load": "training", "load_dataset": "training", "from_arrays": "training",
    "evaluate": "sim", "lower": "sim", "load_checkpoint": "sim", "Machine": "sim", "Program": "sim", "HardwareSpec": "sim",
    "Accumulator": "sim",
    "Activation": "sim.network", "AvgPool": "sim.network", "Conv": "sim.network", "Graph": "sim.network",
    "Input": "sim.network", "NetworkSpec": "sim.network", "Precision": "sim.network",
    "MODELS": "training.models", "SCHEMES": "training.schemes", "QUANTIZERS": "training.quantizers",
    "REQUANTIZERS": "sim.requantizers",
    "check_model": "training.testing", "check_quantizer": "training.testing", "check_scheme": "training.testing",
    "check_requantizer": "sim.testing",
}
"""name -> the package that it comes from"""

__all__ = ["__version__", *_PLACES]  # noqa: PLE0604 - names, all of them


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'bittrue' has no attribute {name!r}")
    value = getattr(importlib.import_module(_PLACES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
