"""The same network with its softmax, GELU and norms computed by other definitions: those of another's hardware, by name."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from sim.definitions import NORMS, SOFTMAXES
from sim.functions import SCALED
from sim.network import Graph, LayerNorm, Lookup, NetworkError, Recode, Row, Softmax
from sim.ops.layernorm import BIASLESS
from sim.outputs import EvalError
from sim.registry import RegistryError

WIDE_BITS, WIDE_STEP = 16, 2.0**-8
"""Codes for what papers compute in 32 bits: they hold all arguments that matter, up to 128."""


@dataclass(frozen=True)
class Unit:
    """A softmax unit: its definition, codes that it reads (0 bits: as they come), the width that it gives (0: the role's).

    Definitions that take certain formats or scales alone read codes that are made for them (row `recode`).
    """

    definition: str
    reads_bits: int = 0
    reads_step: float = 1.0
    gives_bits: int = 0


SOFTMAX_UNITS: Mapping[str, Unit] = MappingProxyType({
    "exact": Unit("exact"),
    "ibert": Unit("ibert", WIDE_BITS, WIDE_STEP),
    "gemmlowp": Unit("gemmlowp", 8, 0.0, 8),
    "itamax": Unit("itamax", 8, math.log(2.0) / 32),
    "itapartialmax": Unit("itapartialmax", 8, math.log(2.0) / 32, 8),
    "log2": Unit("log2shift", WIDE_BITS, WIDE_STEP, 16)})
"""By the name that an option has.  TensorFlow Lite's reads 8 bits of any scale and gives 8; ITA's reads 8 bits worth
ln 2 / 32, so that scores are clipped to +-2.75; I-BERT's and FQ-ViT's read 32 bits in their papers; FQ-ViT gives exponents
of 4 bits."""
GELUS: Mapping[str, str] = MappingProxyType({"exact": "gelu_erf", "tanh": "gelu", "ibert": "igelu"})
"""By the name that an option has: GELU itself and its tanh form as tables, and I-BERT's parabola."""


def redefined(graph: Graph, softmax: str | None = None, gelu: str | None = None, norm: str | None = None) -> Graph:
    """The same rows, in which every softmax, GELU and norm is another's; None leaves them as they are.

    Raises EvalError for an unknown name, and where a network has nothing that is named so.
    """
    check_definitions(softmax, gelu, norm)
    rows: list[Row] = []
    found = set()
    for row in graph.rows:
        if softmax is not None and isinstance(row, Softmax):
            rows += _softmax(row, SOFTMAX_UNITS.get(softmax, Unit(softmax)))
            found.add("softmax")
        elif gelu is not None and isinstance(row, Lookup) and row.function in GELUS.values():
            rows += _gelu(row, GELUS[gelu])
            found.add("gelu")
        elif norm is not None and isinstance(row, LayerNorm):
            rows.append(dataclasses.replace(row, definition=norm))
            found.add("norm")
        else:
            rows.append(row)
    for option, name in (("softmax", softmax), ("gelu", gelu), ("norm", norm)):
        if name is not None and option not in found:
            raise EvalError(f"{option}: this network has none, leave the option out")
    try:
        return Graph(tuple(rows), graph.outputs)
    except NetworkError as error:
        raise EvalError(f"softmax, gelu, norm: {error}") from None


def check_definitions(softmax: str | None, gelu: str | None, norm: str | None) -> None:
    """Raise EvalError for a name that nothing has."""
    if softmax is not None and softmax not in SOFTMAX_UNITS:
        try:
            SOFTMAXES.known(softmax)
        except RegistryError as error:
            raise EvalError(str(error)) from None
    if gelu is not None and gelu not in GELUS:
        raise EvalError(f"gelu: {gelu!r} is unknown, choose one of {', '.join(GELUS)}")
    if norm is not None:
        try:
            NORMS.known(norm)
        except RegistryError as error:
            raise EvalError(str(error)) from None
        if norm in BIASLESS:
            raise EvalError(f"norm: {norm} has no bias, which the norms of this network have learned")


def _gelu(row: Lookup, function: str) -> list[Row]:
    """With codes of its own, if it is one of integers, of which coarse codes are no arguments."""
    if function not in SCALED:
        return [dataclasses.replace(row, function=function)]
    recode = Recode(f"{row.name}_unit", row.source, WIDE_BITS, WIDE_STEP)
    return [recode, dataclasses.replace(row, source=recode.name, function=function)]


def definitions_of(graph: Graph) -> dict[str, str]:
    """By which definitions a network computes, by the names of the options: "mixed" where it has several of a kind.

    >>> from sim.network import Input
    >>> image = Input("image", "", 1, 1, 2, (0.5, 0.5), (0.5, 0.5))
    >>> definitions_of(Graph((image, Softmax("y", "image", "ibert", "boundary"))))
    {'softmax': 'ibert'}
    """
    units = {unit.definition: name for name, unit in SOFTMAX_UNITS.items()}
    functions = {function: name for name, function in GELUS.items()}
    found: dict[str, set[str]] = {"softmax": set(), "gelu": set(), "norm": set()}
    for row in graph.rows:
        if isinstance(row, Softmax):
            found["softmax"].add(units.get(row.definition, row.definition))
        elif isinstance(row, Lookup) and row.function in functions:
            found["gelu"].add(functions[row.function])
        elif isinstance(row, LayerNorm):
            found["norm"].add(row.definition)
    return {kind: names.pop() if len(names) == 1 else "mixed" for kind, names in found.items() if names}


def _softmax(row: Softmax, unit: Unit) -> list[Row]:
    """With what makes the codes that the unit reads, if it reads only certain ones."""
    if not unit.reads_bits:
        return [dataclasses.replace(row, definition=unit.definition, bits=unit.gives_bits)]
    recode = Recode(f"{row.name}_unit", row.source, unit.reads_bits, unit.reads_step)
    return [recode, dataclasses.replace(row, source=recode.name, definition=unit.definition, bits=unit.gives_bits)]
