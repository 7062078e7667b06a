"""BitTrue: k-bit networks, how to train them and what integer hardware makes of them, to the last bit.

    import bittrue

    program = bittrue.Program.load("program.npz")
    logits = bittrue.Machine(program).run(pixels)                 # uint8 [N, height, width, channels] -> [N, classes]

Names are imported when they are first used, so that `import bittrue` needs neither torch nor numba.
"""

from typing import TYPE_CHECKING

from sim.lazy import lazy
from sim.version import __version__

if TYPE_CHECKING:
    from sim import Accumulator, HardwareSpec, Machine, Program, evaluate, load_checkpoint, lower
    from sim.network import Activation, AvgPool, Conv, Graph, Input, NetworkSpec, Precision
    from sim.requantizers import REQUANTIZERS
    from sim.testing import check_requantizer
    from training import from_arrays, load, load_dataset, train
    from training.models import MODELS
    from training.quantizers import QUANTIZERS
    from training.schemes import SCHEMES
    from training.testing import check_model, check_quantizer, check_scheme

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

__all__ = [
    "MODELS",
    "QUANTIZERS",
    "REQUANTIZERS",
    "SCHEMES",
    "Accumulator",
    "Activation",
    "AvgPool",
    "Conv",
    "Graph",
    "HardwareSpec",
    "Input",
    "Machine",
    "NetworkSpec",
    "Precision",
    "Program",
    "__version__",
    "check_model",
    "check_quantizer",
    "check_requantizer",
    "check_scheme",
    "evaluate",
    "from_arrays",
    "load",
    "load_checkpoint",
    "load_dataset",
    "lower",
    "train",
]


__getattr__, __dir__ = lazy(__name__, _PLACES)
