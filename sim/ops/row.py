"""What every operation is in the float network: a row, the rows it reads, the arrays that training fills."""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from sim.formats import IntFormat, Shape, is_whole
from sim.ops.op import MAX_SIZE, Op, Window, sources_of
from sim.values import LATER, is_stored, sizes

if TYPE_CHECKING:
    from sim.ops.lowering import Lowering

ROLES = ("inner", "boundary", "skip")
LIMITS = (1e-6, 1e6)
"""Allowed clips of an activation."""
FUNCTIONS = ("relu", "relu6", "none")


class NetworkError(ValueError):
    """A description that is not a network, with the row that is wrong."""


@dataclass(frozen=True)
class Activation:
    """The end of a row: `function`, then codes, the largest of which stands for `limit` unless the quantizer knows better.

    Behind "relu" and "relu6" codes are unsigned; with "none" results keep their sign, and codes are signed and narrow.  In a
    float network it is the function alone.
    """

    role: str = "inner"
    limit: float = 1.0
    function: str = field(default="relu", metadata=LATER)

    def __post_init__(self) -> None:
        check_role(self.role)
        if not isinstance(self.limit, float) or not LIMITS[0] <= self.limit <= LIMITS[1]:
            raise NetworkError(f"activation: limit must be from {LIMITS[0]:g} to {LIMITS[1]:g}, not {self.limit!r}")
        if self.function not in FUNCTIONS:
            raise NetworkError(f"activation: function {self.function!r} is unknown, choose one of {', '.join(FUNCTIONS)}")

    @property
    def signed(self) -> bool:
        """Whether results keep their sign."""
        return self.function == "none"

    def format(self, bits: int) -> IntFormat:
        """Of its codes.  Raises NetworkError where signed codes would all be 0."""
        if self.signed and bits == 1:
            raise NetworkError("signed activations have no level at 1 bit, choose 2 or more")
        return IntFormat(bits, self.signed, narrow=self.signed)

    def magnitude_bits(self, bits: int) -> int:
        """Bits without the sign: the largest code is 2^magnitude_bits - 1."""
        return bits - self.signed


@dataclass(frozen=True)
class Row:
    """What every row has: a name, unique in its graph, and the row it reads."""

    kind: ClassVar[str]
    is_input: ClassVar[bool] = False
    """Whether it reads what the user hands over."""
    is_constant: ClassVar[bool] = False
    """Whether it reads nothing at all."""
    gives_logits: ClassVar[bool] = False
    """Whether it may end in numbers that are no codes."""
    gives_ids: ClassVar[bool] = False
    reads_ids: ClassVar[bool] = False
    """Ids of tokens are no numbers to compute with: what gives them is read by what reads them alone."""
    name: str
    source: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not re.fullmatch(r"[a-z][a-z0-9_]{0,63}", self.name):
            raise NetworkError(f"row name {self.name!r} must be lower-case letters, digits and _, at most 64")

    def sources(self) -> tuple[str, ...]:
        """Names of the rows this one reads: `source`, and `other` if it has such a field."""
        return sources_of(self)

    def id_sources(self) -> tuple[str, ...]:
        """Names of the rows that it reads ids from."""
        return self.sources() if self.reads_ids else ()

    def output_shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """(height, width, channels) of the output, given those of the sources."""
        raise NotImplementedError

    def array_shapes(self, shapes: Mapping[str, Shape]) -> dict[str, tuple[int, ...]]:
        """The float arrays that belong to this row, by name, and their shapes."""
        return {}

    def ends(self) -> Activation | None:
        """How its results become codes: its field `activation`; None where they are copied, or are logits."""
        return getattr(self, "activation", None)

    def has_role(self, role: str) -> bool:
        """Whether its weights or its output have this role."""
        end = self.ends()
        return role in (self.weight_role, None if end is None else end.role)

    @property
    def weight_role(self) -> str | None:
        """The role of its weights; None if it has none that are quantized."""
        return None

    @property
    def register_role(self) -> str | None:
        """The role of the register that its products are summed in; None if it sums none."""
        return None

    @property
    def weight_channels(self) -> int:
        """Channels of its weights that may have scales of their own."""
        return 1

    def lower(self, to: "Lowering") -> tuple[Op, float]:
        """The integer operation, and what one code of its output stands for."""
        raise NotImplementedError

    def _sizes(self, **sizes: int) -> None:
        check_sizes(self, **sizes)


def check_sizes(row: Row, **sizes: int) -> None:
    """Raise NetworkError unless sides, strides and the like are whole numbers of a size that is believed."""
    for key, value in sizes.items():
        least = 0 if key == "padding" else 1
        if not is_whole(value) or not least <= value <= MAX_SIZE:
            raise NetworkError(f"{row.name}: {key} must be a whole number from {least} to {MAX_SIZE}, not {value!r}")


def check_role(role: Any) -> None:
    """Raise NetworkError unless there is such a role."""
    if role not in ROLES:
        raise NetworkError(f"role {role!r} is unknown, choose one of {', '.join(ROLES)}")


def window_sides(row: Any, taps: tuple[int, int], height: int, width: int) -> tuple[int, int]:
    """Positions of a window of so many rows and columns that moves by `row.stride` over an image padded by `row.padding`."""
    return window_positions(row, Window(taps, (row.stride,) * 2, 1, (row.padding,) * 4), height, width)


def window_positions(row: Row, window: Window, height: int, width: int) -> tuple[int, int]:
    """Positions of a row's window down and across; NetworkError if it does not fit."""
    rows, columns = window.sides(height, width)
    if min(rows, columns) < 1:
        size = window.taps[0] if window.taps[0] == window.taps[1] else sizes(window.taps)
        raise NetworkError(f"{row.name}: kernel {size} is larger than its padded input {height}x{width}")
    return rows, columns


def check_window(row: Any) -> None:
    """Fields of windows that are not square: NetworkError unless they are sizes; one way to say the same is kept.

    `kernel_width` and `stride_width` are 0 where they are as `kernel` and `stride`; `paddings` (top, bottom, left, right) is
    empty where all are `padding`.
    """
    for name, like in (("kernel_width", "kernel"), ("stride_width", "stride")):
        if is_whole(value := getattr(row, name)) and value in (0, getattr(row, like)):
            object.__setattr__(row, name, 0)
        else:
            check_sizes(row, **{name: value})
    check_sizes(row, dilation=row.dilation)
    if not isinstance(row.paddings, tuple) or len(row.paddings) not in (0, 4):
        raise NetworkError(f"{row.name}: paddings must be four numbers, top, bottom, left, right, not {row.paddings!r}")
    for value in row.paddings:
        check_sizes(row, padding=value)
    if row.paddings and row.padding:
        raise NetworkError(f"{row.name}: padding {row.padding} and paddings {row.paddings}: set one of them")
    if row.paddings and set(row.paddings) == {row.paddings[0]}:
        object.__setattr__(row, "padding", row.paddings[0])
        object.__setattr__(row, "paddings", ())


def row_to_json(row: Row) -> dict[str, Any]:
    """A row as a plain dictionary, without what later versions added and it does not use."""
    return {"kind": row.kind, **_to_json(row)}


def _to_json(value: Any) -> dict[str, Any]:
    entries = {f.name: (f, getattr(value, f.name)) for f in dataclasses.fields(value)}
    return {name: _to_json(part) if isinstance(part, Activation) else part
            for name, (entry, part) in entries.items() if is_stored(entry, part)}


def row_from_json(kinds: Mapping[str, type[Row]], data: Any) -> Row:
    """The inverse of `row_to_json`; raises NetworkError on anything that it could not have written."""
    if not isinstance(data, dict) or not isinstance(data.get("kind"), str) or data["kind"] not in kinds:
        raise NetworkError(f"a row of unknown kind, choose one of {', '.join(kinds)}")
    kind = kinds[data["kind"]]
    fields = {f.name: f for f in dataclasses.fields(kind)}
    values = {key: value for key, value in data.items() if key != "kind"}
    if unknown := sorted(map(str, values.keys() - fields.keys())):
        raise NetworkError(f"{data.get('name')}: unknown entry {unknown[0]!r}")
    try:
        return kind(**{key: _field(data.get("name"), fields[key], value) for key, value in values.items()})
    except TypeError as error:
        raise NetworkError(f"{data.get('name')}: {error}") from None


def _field(name: Any, entry: "dataclasses.Field[Any]", value: Any) -> Any:
    """One field of a row as its type says; numbers are checked by the row itself."""
    wanted = str(entry.type if isinstance(entry.type, str) else getattr(entry.type, "__name__", entry.type))
    if "Activation" in str(entry.type):
        return _activation(name, value, optional="None" in str(entry.type))
    if "tuple" in str(entry.type):
        return _numbers_or_names(name, entry, value)
    kinds = {"str": str, "bool": bool}
    if wanted in kinds and not isinstance(value, kinds[wanted]):
        raise NetworkError(f"{name}: {entry.name} must be a {wanted}, not {value!r}")
    return value


def _numbers_or_names(name: Any, entry: "dataclasses.Field[Any]", value: Any) -> tuple[Any, ...]:
    """A tuple of what its type says: texts, or numbers, which the row itself checks."""
    wanted: Any = str if "str" in str(entry.type) else (int, float)
    if not isinstance(value, list | tuple) or not all(isinstance(v, wanted) and not isinstance(v, bool) for v in value):
        kind = "texts" if wanted is str else "numbers"
        raise NetworkError(f"{name}: {entry.name} must be a list of {kind}, not {value!r}")
    return tuple(value)


def _activation(name: Any, value: Any, optional: bool) -> Activation | None:
    if isinstance(value, dict):
        if not {"role", "limit"} <= value.keys() <= {"role", "limit", "function"}:
            raise NetworkError(f"{name}: an activation has a role, a limit and perhaps a function, nothing else")
        value = Activation(**value)
    if not isinstance(value, Activation) and not (optional and value is None):
        raise NetworkError(f"{name}: not an activation: {value!r}")
    return value
