"""Post-training quantization: no training after the float network, the baseline of every other scheme.

Intervals have the least squared error on weights and on what a batch of training images makes of the activations; batch-norm
statistics are gathered anew with quantized layers, from training images without labels.
"""

from types import MappingProxyType

from training.schemes.kd import FLOAT
from training.schemes.objectives import labels_only
from training.schemes.scheme import Path, Scheme, SchemeOptions, Step, check_from_float, from_float


def _plan(path: Path, options: SchemeOptions) -> list[Step]:
    return [Step(FLOAT, 32, None, labels_only),
            Step(f"{path[-1]}bit", path[-1], None, labels_only, start=FLOAT, trains=False)]


PTQ = Scheme("ptq", "calibrated float network, no training", from_float, check_from_float("ptq"), _plan,
             MappingProxyType({"quantizer": "interval_channel", "calibration": "mse"}))
