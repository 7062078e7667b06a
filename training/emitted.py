"""Rows for the calls of a traced module: patterns such as convolution, batch norm, addition and ReLU become one row each."""

import dataclasses
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from torch import Tensor, nn

from sim.network import (
    BATCH_NORM_EPS,
    Activation,
    Add,
    AvgPool,
    Concat,
    Conv,
    Flatten,
    GlobalPool,
    Input,
    Lookup,
    MaxPool,
    Multiply,
    NetworkError,
    Pad,
    Requantize,
    Row,
    Shape,
    Shortcut,
)
from sim.values import sizes
from training.models.rows import RESIDUAL_LIMIT
from training.traced import Call

TABLES = ("hard_sigmoid", "hard_swish", "sigmoid", "silu", "tanh", "gelu", "gelu_erf")
UNSIGNED_TABLES = ("hard_sigmoid", "sigmoid")
ENDS = ("relu", "relu6")
ENDED = ("conv", "linear", "norm", "add", "multiply", "avgpool", "adaptive", "mean", "concat")
"""What ends in a ReLU that follows it."""
MULTIPLYING = ("conv", "linear")
TABLE_LIMIT = 8.0


@dataclasses.dataclass
class Emitter:
    """Emits rows in the order of calls; what a later call takes into its own row is passed over."""

    image: Input
    calls: list[Call]
    rows: list[Row] = dataclasses.field(default_factory=list)
    arrays: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    names: dict[Call, str] = dataclasses.field(default_factory=dict)
    signed: dict[str, bool] = dataclasses.field(default_factory=dict)
    shapes: dict[str, Shape] = dataclasses.field(default_factory=dict)
    wide: dict[str, float] = dataclasses.field(default_factory=dict)
    """Rows of the residual path, and what tables and products read: their limits."""

    def run(self, last: Call) -> None:
        """Rows of all calls, the result as logits where it is the sum of a layer."""
        patterns = _patterns(self.calls)
        for call in self.calls:
            if call in patterns:
                self.names[call] = self._emit(patterns[call], call is last)

    def _emit(self, pattern: "Pattern", is_last: bool) -> str:
        try:
            return EMITTERS[pattern.call.kind](self, pattern, is_last)
        except NetworkError as error:
            raise pattern.call.error(str(error)) from None

    def add(self, row: Row, call: Call, signed: bool) -> str:
        """A new row, whose shape must be what torch found."""
        self.shapes[row.name] = shape = row.output_shape(self.shapes)
        if shape != call.pixels:
            raise call.error(f"torch gives {sizes(call.pixels)}, a row {sizes(shape)}: windows that stick out have no row")
        self.rows.append(row)
        self.signed[row.name] = signed
        return row.name

    def source(self, call: Call) -> str:
        """The row that a call reads."""
        return self.names[call.sources[0]]

    def base(self, name: str) -> str:
        """The row whose codes a row copies, or itself."""
        row = next(row for row in self.rows if row.name == name)
        return name if row.ends() is not None or row.is_input or row.gives_logits else self.base(row.source)

    def widen(self, name: str, limit: float = RESIDUAL_LIMIT) -> str:
        """Give what a row reads the width of the residual path."""
        self.wide.setdefault(self.base(name), limit)
        return name

    def name(self, call: Call) -> str:
        """A row's name from the module's path, or from what torch.fx calls the result."""
        words = re.sub(r"[^a-z0-9_]", "_", (call.place.split(",")[0] if call.module is not None else call.name).lower())
        words = (words if words[:1].isalpha() else f"row_{words}")[:56]
        used, name, count = {row.name for row in self.rows}, words, 2
        while name in used:
            name, count = f"{words}_{count}", count + 1
        return name


@dataclasses.dataclass
class Pattern:
    """One row: the call that gives it its kind, its ReLU, its batch norm, and what is added to it."""

    call: Call
    function: str = "none"
    norm: Call | None = None
    skip: Call | None = None

    def activation(self, signed: bool) -> Activation:
        """Results that cannot be negative need no sign."""
        return Activation(function=self.function if self.function != "none" else "none" if signed else "relu")


def _patterns(calls: list[Call]) -> dict[Call, Pattern]:
    """The pattern that ends at each call, from the last to the first; calls inside of patterns have none.

    A flattening that only layers read is part of them: they become windows over the whole of what it reads.
    """
    read_by_others = {source for call in calls if call.kind != "linear" for source in call.sources}
    inside = {call for call in calls[:-1] if call.kind == "flatten" and call not in read_by_others}
    found: dict[Call, Pattern] = {}
    for call in reversed(calls):
        if call not in inside:
            taken: list[Call] = []
            found[call] = _pattern(call, taken)
            inside.update(taken)
    return found


def _pattern(end: Call, taken: list[Call]) -> Pattern:
    call, function = end, "none"

    def step(to: Call) -> Call:
        taken.append(to)
        return to

    if call.kind in ENDS and call.sources[0].reads == 1 and call.sources[0].kind in ENDED:
        call, function = step(call.sources[0]), call.kind
    if call.kind == "flatten":
        return Pattern(call)
    if call.kind == "add" and len(call.sources) == 2 and call.sources[0] is not call.sources[1]:
        for main, skip in (call.sources, call.sources[::-1]):
            layer = main.sources[0] if main.kind == "norm" and main.sources[0].reads == 1 else main
            if main.reads == 1 and layer.kind in MULTIPLYING and main.pixels == skip.pixels:
                step(main)
                if layer is not main:
                    step(layer)
                return Pattern(layer, function, main if layer is not main else None, skip)
    if call.kind == "norm" and call.sources[0].kind in MULTIPLYING and call.sources[0].reads == 1:
        return Pattern(step(call.sources[0]), function, call)
    if call.kind == "norm":
        return Pattern(call, function, call)
    return Pattern(call, function)


def _pair(call: Call, name: str, value: Any) -> tuple[int, int]:
    """A setting for both sides."""
    pair = tuple(value) if isinstance(value, list | tuple) else (value, value)
    if len(pair) == 1:
        pair *= 2
    if len(pair) != 2 or not all(isinstance(part, int) for part in pair):
        raise call.error(f"{name} {value!r} has no row")
    return pair


def _one(call: Call, name: str, value: Any) -> int:
    """A setting that a row has for both sides together."""
    first, second = _pair(call, name, value)
    if first != second:
        raise call.error(f"{name} {value!r}: a row has the same along both sides")
    return first


def _array(tensor: Tensor | None, otherwise: float = 0.0, size: int = 0) -> np.ndarray:
    if tensor is None:
        return np.full(size, otherwise, np.float32)
    return np.ascontiguousarray(tensor.detach().cpu().float().numpy())


def _layer(to: Emitter, pattern: Pattern, is_last: bool) -> str:
    call, module = pattern.call, pattern.call.module
    source = call.sources[0]
    if source not in to.names:
        source = source.sources[0]  # a flattening is part of the layer
    name = to.name(call)
    weight = _array(module.weight)
    if call.kind == "linear":
        height, width, depth = source.pixels
        if height * width * depth != weight.shape[1]:
            raise call.error(f"a layer on the last axis of {source.shape} has no row")
        weight = weight.reshape(len(weight), depth, height, width)
        geometry: dict[str, Any] = {"kernel": height, "kernel_width": width if width != height else 0}
    else:
        geometry = _geometry(call, module)
    arrays = {"weight": weight}
    bias = None if module.bias is None else _array(module.bias)
    if pattern.norm is not None:
        arrays |= _norm(pattern.norm, bias)
    elif bias is not None:
        arrays["bias"] = bias
    is_logits = is_last and pattern.function == "none" and pattern.skip is None and call.reads == 1
    signed = pattern.function == "none"
    row = Conv(name, to.names[source], len(weight), norm=pattern.norm is not None, bias="bias" in arrays,
               skip="" if pattern.skip is None else to.names[pattern.skip],
               activation=None if is_logits else pattern.activation(signed), eps=_eps(pattern.norm), **geometry)
    to.arrays |= {f"{name}.{key}": array for key, array in arrays.items()}
    to.add(row, pattern.norm or call, signed)
    if pattern.skip is not None:
        to.widen(to.names[pattern.skip])
        to.widen(name)
    return name


def _geometry(call: Call, module: nn.Conv2d) -> dict[str, Any]:
    kernel, stride = _pair(call, "kernel_size", module.kernel_size), _pair(call, "stride", module.stride)
    dilation = _one(call, "dilation", module.dilation)
    if module.padding_mode != "zeros":
        raise call.error(f"padding_mode {module.padding_mode!r} has no row")
    fields: dict[str, Any] = {
        "kernel": kernel[0], "stride": stride[0], "groups": module.groups, "dilation": dilation,
        "kernel_width": kernel[1] if kernel[1] != kernel[0] else 0,
        "stride_width": stride[1] if stride[1] != stride[0] else 0}
    if module.padding == "same":
        totals = [dilation * (side - 1) for side in kernel]
        (top, bottom), (left, right) = ((total // 2, total - total // 2) for total in totals)
    else:
        down, across = (0, 0) if module.padding == "valid" else _pair(call, "padding", module.padding)
        top, bottom, left, right = down, down, across, across
    return fields | ({"padding": top} if top == bottom == left == right else {"paddings": (top, bottom, left, right)})


def _eps(norm: Call | None) -> float:
    return BATCH_NORM_EPS if norm is None else float(norm.module.eps)


def _norm(call: Call, bias: np.ndarray | None) -> dict[str, np.ndarray]:
    """Arrays of a batch norm; the bias of the layer before it moves its mean."""
    module = call.module
    if module.running_mean is None:
        raise call.error("a batch norm without running statistics has no row")
    size = module.num_features
    mean = _array(module.running_mean)
    arrays = {"weight": _array(module.weight, 1.0, size), "bias": _array(module.bias, 0.0, size),
              "running_mean": mean if bias is None else mean - bias, "running_var": _array(module.running_var)}
    return {f"norm.{key}": array for key, array in arrays.items()}


def _lone_norm(to: Emitter, pattern: Pattern, is_last: bool) -> str:
    """A batch norm behind anything else: a convolution of one weight per channel, which is 1."""
    call = pattern.call
    size, name = call.module.num_features, to.name(call)
    arrays = {"weight": np.ones((size, 1, 1, 1), np.float32), **_norm(call, None)}
    to.arrays |= {f"{name}.{key}": array for key, array in arrays.items()}
    signed = pattern.function == "none"
    row = Conv(name, to.source(call), size, groups=size, activation=pattern.activation(signed), eps=_eps(call))
    return to.add(row, call, signed)


def _function(to: Emitter, pattern: Pattern, is_last: bool) -> str:
    """A ReLU behind something that has no end of its own."""
    call = pattern.call
    return to.add(Requantize(to.name(call), to.source(call), Activation(function=call.kind)), call, False)


def _table(to: Emitter, pattern: Pattern, is_last: bool) -> str:
    call = pattern.call
    function = call.kind
    if function == "gelu" and call.settings["approximate"] == "none":
        function = "gelu_erf"
    signed = function not in UNSIGNED_TABLES
    source = to.widen(to.source(call), TABLE_LIMIT)
    return to.add(Lookup(to.name(call), source, function, pattern.activation(signed)), call, signed)


def _add(to: Emitter, pattern: Pattern, is_last: bool) -> str:
    first, second, signed = _two(to, pattern.call)
    name = to.add(Add(to.name(pattern.call), first, second, pattern.activation(signed)), pattern.call, signed)
    for row in (first, second, name):
        to.widen(row)
    return name


def _multiply(to: Emitter, pattern: Pattern, is_last: bool) -> str:
    first, second, signed = _two(to, pattern.call)
    to.widen(second, RESIDUAL_LIMIT if to.signed[second] else 1.0)
    return to.add(Multiply(to.name(pattern.call), first, second, pattern.activation(signed)), pattern.call, signed)


def _two(to: Emitter, call: Call) -> tuple[str, str, bool]:
    """Two rows, factors of one pixel last, and whether results have a sign."""
    if len(call.sources) != 2 or call.settings["alpha"] != 1:
        raise call.error("a number and a tensor together have no row, only two tensors")
    first, second = call.sources
    if first.pixels[:2] == (1, 1) != second.pixels[:2]:
        first, second = second, first
    return to.names[first], to.names[second], to.signed[to.names[first]] or to.signed[to.names[second]]


def _maxpool(to: Emitter, pattern: Pattern, is_last: bool) -> str:
    call = pattern.call
    rows, columns = _pair(call, "kernel_size", call.settings["kernel_size"])
    stride = call.settings["stride"] or (rows, columns)
    if call.settings["dilation"] not in (1, (1, 1)) or call.settings["return_indices"]:
        raise call.error("a maximum with dilation or indices has no row")
    return to.add(MaxPool(to.name(call), to.source(call), rows, _one(call, "stride", stride),
                          _one(call, "padding", call.settings["padding"]), columns if columns != rows else 0),
                  call, to.signed[to.source(call)])


def _avgpool(to: Emitter, pattern: Pattern, is_last: bool) -> str:
    call = pattern.call
    rows, columns = _pair(call, "kernel_size", call.settings["kernel_size"])
    stride = call.settings["stride"] or (rows, columns)
    padding = _one(call, "padding", call.settings["padding"])
    if call.settings["divisor_override"] is not None or (padding and not call.settings["count_include_pad"]):
        raise call.error("an average whose divisor is not the whole window has no row")
    if call.pixels[:2] == (1, 1) and call.sources[0].pixels[:2] == (rows, columns):
        stride = 1  # there is one window
    return _averaged(to, pattern, (rows, columns), _one(call, "stride", stride), padding)


def _averaged(to: Emitter, pattern: Pattern, window: tuple[int, int], stride: int, padding: int = 0) -> str:
    call, source = pattern.call, to.source(pattern.call)
    row = AvgPool(to.name(call), source, window[0], stride, padding, pattern.activation(to.signed[source]), window[1])
    return to.add(row, call, to.signed[source])


def _adaptive(to: Emitter, pattern: Pattern, is_last: bool) -> str:
    call = pattern.call
    (height, width, _), (rows, columns, _) = call.sources[0].pixels, call.pixels
    if (rows, columns) == (1, 1):
        return _global(to, pattern)
    if height % rows or width % columns:
        raise call.error(f"an average of {height}x{width} to {rows}x{columns} pixels has windows of several sizes, no row")
    if (height, width) == (rows, columns) and pattern.function == "none":
        return to.source(call)
    window = height // rows, width // columns
    return _averaged(to, pattern, window, _one(call, "stride", window))


def _global(to: Emitter, pattern: Pattern) -> str:
    call, source = pattern.call, to.source(pattern.call)
    return to.add(GlobalPool(to.name(call), source, pattern.activation(to.signed[source])), call, to.signed[source])


def _mean(to: Emitter, pattern: Pattern, is_last: bool) -> str:
    call, dims = pattern.call, pattern.call.settings["dim"]
    axes = {axis % 4 for axis in (dims if isinstance(dims, list | tuple) else [dims]) if isinstance(axis, int)}
    if axes != {2, 3} or len(call.sources[0].shape) != 3:
        raise call.error(f"a mean over {dims} has no row, only one over height and width")
    return _global(to, pattern)


def _concat(to: Emitter, pattern: Pattern, is_last: bool) -> str:
    call = pattern.call
    if call.settings["dim"] not in (1, -len(call.shape)):
        raise call.error("tensors joined along another axis than channels have no row")
    first, *others = (to.names[source] for source in call.sources)
    signed = any(to.signed[to.names[source]] for source in call.sources)
    return to.add(Concat(to.name(call), first, tuple(others), pattern.activation(signed)), call, signed)


def _pad(to: Emitter, pattern: Pattern, is_last: bool) -> str:
    call = pattern.call
    given: Any = call.settings["pad" if call.kind == "pad" else "padding"]
    amounts = [given] * 4 if isinstance(given, int) else list(given)
    if call.settings.get("mode", "constant") != "constant" or call.settings.get("value") not in (None, 0, 0.0):
        raise call.error("a border of anything but 0 has no row")
    source, signed = to.source(call), to.signed[to.source(call)]
    left, right, top, bottom, before, after = amounts + [0] * (6 - len(amounts))
    if (before, after) != (0, 0):
        added = before + after
        if (left, right, top, bottom) != (0, 0, 0, 0) or before != added // 2:
            raise call.error("added channels that do not lie half before, half after the old ones have no row")
        return to.add(Shortcut(to.name(call), source, call.pixels[2], 1), call, signed)
    return to.add(Pad(to.name(call), source, (top, bottom, left, right)), call, signed)


def _slice(to: Emitter, pattern: Pattern, is_last: bool) -> str:
    """x[:, :, ::2, ::2], the strides of shortcuts A."""
    call, index = pattern.call, pattern.call.settings["index"]
    parts = index if isinstance(index, tuple) else (index,)
    steps = [part.step or 1 for part in parts if isinstance(part, slice) and part.start is None and part.stop is None]
    if len(steps) != 4 or len(parts) != 4 or steps[:2] != [1, 1] or steps[2] != steps[3]:
        raise call.error(f"an index {index!r} has no row, only every n-th pixel along both sides")
    source = to.source(call)
    return to.add(Shortcut(to.name(call), source, call.pixels[2], steps[2]), call, to.signed[source])


def _flatten(to: Emitter, pattern: Pattern, is_last: bool) -> str:
    call = pattern.call
    if len(call.shape) != 1:
        raise call.error(f"a reshaping to {call.shape} has no row, only one to features")
    return to.add(Flatten(to.name(call), to.source(call)), call, to.signed[to.source(call)])


def _input(to: Emitter, pattern: Pattern, is_last: bool) -> str:
    if to.rows:
        raise pattern.call.error("a second input has no row")
    return to.add(to.image, pattern.call, True)


EMITTERS: Mapping[str, Callable[[Emitter, Pattern, bool], str]] = MappingProxyType({
    "input": _input, "conv": _layer, "linear": _layer, "norm": _lone_norm, "relu": _function, "relu6": _function,
    **dict.fromkeys(TABLES, _table), "add": _add, "multiply": _multiply, "maxpool": _maxpool, "avgpool": _avgpool,
    "adaptive": _adaptive, "mean": _mean, "concat": _concat, "pad": _pad, "zeropad": _pad, "slice": _slice,
    "flatten": _flatten})
