"""Lowering: a trained network and a piece of hardware become an integer program."""

from sim.formats import FormatError
from sim.hardware import HardwareSpec
from sim.network import NetworkError, NetworkSpec
from sim.ops.lowering import Lowering
from sim.program import Program, ProgramError
from sim.quantizers import QUANTIZERS, QuantizerError
from sim.registry import RegistryError
from sim.requantizers.requantizer import RequantizeError
from sim.text import printable


class LowerError(ValueError):
    """A network that this hardware cannot run, which row, and why."""


def lower(spec: NetworkSpec, hardware: HardwareSpec | None = None) -> Program:
    """The integer program of `spec`, at its precision, on `hardware` (default: unlimited accumulators, fp32).

    A network of one layer, on images of 4x6 gray pixels, with 8-bit weights:

    >>> import numpy as np
    >>> from sim.network import Conv, Graph, Input, NetworkSpec, Precision
    >>> image = Input("image", height=4, width=6, channels=1, mean=(0.5,), std=(0.5,))
    >>> layer = Conv("logits", "image", channels=3, kernel=4, stride=4, role="boundary", norm=False)
    >>> graph = Graph((image, layer))
    >>> weights = np.linspace(-1, 1, 48, dtype=np.float32).reshape(3, 1, 4, 4)
    >>> spec = NetworkSpec(graph, {"logits.weight": weights}, Precision(8), "dorefa")
    >>> lower(spec, HardwareSpec())
    <Program: 4x6x1 u8 pixels -> 3 logits, 2 operations, 48 MACs, weights 8 bits, codes 8 bits, fp32>

    `load_checkpoint("ckpt.pt").spec` is the spec of a trained network.  Raises LowerError for what this hardware cannot
    run, and for anything that is no spec.
    """
    hardware = HardwareSpec() if hardware is None else hardware
    for what, value, wanted in (("spec", spec, NetworkSpec), ("hardware", hardware, HardwareSpec)):
        if not isinstance(value, wanted):
            hint = ", take its .spec" if isinstance(getattr(value, "spec", None), NetworkSpec) else ""
            raise LowerError(f"{what}: a {wanted.__name__} is wanted, not a {type(value).__name__}{hint}")
    if not spec.precision.is_integer:
        raise LowerError(f"a network with float layers ({spec.precision}) has no integer program: choose its bits")
    try:
        QUANTIZERS.known(spec.quantizer)
    except RegistryError as error:
        raise LowerError(str(error)) from None
    lowering = Lowering(spec, hardware)
    for row in spec.graph.rows:
        try:
            lowering.add(row)
        except (RequantizeError, ProgramError, QuantizerError, NetworkError, FormatError) as error:
            raise LowerError(f"{row.name}: {error}") from None
    limited = [op.name for op in lowering.ops.values() if op.accumulates]
    if unknown := [name for name in hardware.layers if name not in limited]:
        raise LowerError(f"registers: {printable(unknown[0])} is no layer with registers, there are {', '.join(limited)}")
    return Program(tuple(lowering.ops.values()), spec.graph.outputs, dict(lowering.scales))
