"""A torch module as a list of plain calls: traced through torch.fx, run once for its shapes, everything named.

What each call is stands in the tables below; what is in none of them is refused with the module's path and source line.
"""

import operator
import re
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from sim.formats import Shape


class ConvertError(ValueError):
    """What of a module is no row, where in the module, and in which line of its source."""


IDENTITY = "identity"
MODULES: Mapping[type, str] = MappingProxyType({
    nn.Conv2d: "conv", nn.Linear: "linear", nn.BatchNorm2d: "norm", nn.BatchNorm1d: "norm",
    nn.ReLU: "relu", nn.ReLU6: "relu6", nn.SiLU: "silu", nn.GELU: "gelu", nn.Hardswish: "hard_swish",
    nn.Hardsigmoid: "hard_sigmoid", nn.Sigmoid: "sigmoid", nn.Tanh: "tanh",
    nn.MaxPool2d: "maxpool", nn.AvgPool2d: "avgpool", nn.AdaptiveAvgPool2d: "adaptive",
    nn.ZeroPad2d: "zeropad", nn.Flatten: "flatten",
    **dict.fromkeys((nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout), IDENTITY)})
FUNCTIONS: Mapping[Any, str] = MappingProxyType({
    **dict.fromkeys((operator.add, operator.iadd, torch.add), "add"),
    **dict.fromkeys((operator.mul, operator.imul, torch.mul, torch.multiply), "multiply"),
    **dict.fromkeys((F.relu, torch.relu, F.relu_, torch.relu_), "relu"), F.relu6: "relu6", F.silu: "silu", F.gelu: "gelu",
    F.hardswish: "hard_swish", F.hardsigmoid: "hard_sigmoid",
    **dict.fromkeys((F.sigmoid, torch.sigmoid), "sigmoid"), **dict.fromkeys((F.tanh, torch.tanh), "tanh"),
    F.max_pool2d: "maxpool", torch.max_pool2d: "maxpool", F.avg_pool2d: "avgpool", F.adaptive_avg_pool2d: "adaptive",
    F.pad: "pad", torch.cat: "concat", torch.concat: "concat", torch.flatten: "flatten", torch.reshape: "flatten",
    torch.mean: "mean", operator.getitem: "slice", F.dropout: "dropout", F.dropout2d: "dropout"})
METHODS: Mapping[str, str] = MappingProxyType({
    **dict.fromkeys(("add", "add_"), "add"), **dict.fromkeys(("mul", "mul_"), "multiply"),
    **dict.fromkeys(("relu", "relu_"), "relu"), "sigmoid": "sigmoid", "tanh": "tanh", "mean": "mean",
    **dict.fromkeys(("flatten", "view", "reshape"), "flatten"), **dict.fromkeys(("contiguous", "clone"), IDENTITY)})
NAMED: Mapping[str, str] = MappingProxyType({"stochastic_depth": IDENTITY})
"""Functions of other packages, by name."""
SETTINGS: Mapping[str, tuple[tuple[str, Any], ...]] = MappingProxyType({
    "maxpool": (("kernel_size", None), ("stride", None), ("padding", 0), ("dilation", 1), ("ceil_mode", False),
                ("return_indices", False)),
    "avgpool": (("kernel_size", None), ("stride", None), ("padding", 0), ("ceil_mode", False),
                ("count_include_pad", True), ("divisor_override", None)),
    "adaptive": (("output_size", None),), "gelu": (("approximate", "none"),),
    "pad": (("pad", ()), ("mode", "constant"), ("value", None)), "zeropad": (("padding", ()),),
    "mean": (("dim", None), ("keepdim", False)), "slice": (("index", ()),), "concat": (("dim", 0),),
    "dropout": (("p", 0.5), ("training", True)),
    **dict.fromkeys(("add", "multiply"), (("other", None), ("alpha", 1)))})
"""What a call of each kind is told beside its tensors, and torch's defaults: attributes of a module, arguments of a call."""


@dataclass(eq=False)
class Call:
    """One call: its kind, the calls it reads, how often others read it, the module if it is one's."""

    kind: str
    name: str
    place: str
    shape: tuple[int, ...]
    """Of its result without the batch: (channels, height, width), or (features,)."""
    sources: list["Call"] = field(default_factory=list)
    module: Any = None
    settings: dict[str, Any] = field(default_factory=dict)
    reads: int = 0

    @property
    def pixels(self) -> Shape:
        """(height, width, channels), features as channels of one pixel."""
        if len(self.shape) == 1:
            return 1, 1, self.shape[0]
        if len(self.shape) == 3:
            return self.shape[1], self.shape[2], self.shape[0]
        raise self.error(f"a result of {len(self.shape)} axes beside the batch has no row")

    def error(self, reason: str) -> ConvertError:
        """The error that names this call."""
        return ConvertError(f"{self.place}: {reason}")


def trace(module: nn.Module, image_shape: Shape) -> tuple[list[Call], Call]:
    """The calls of a module for images [1, channels, height, width], the input first, and the one that it returns.

    The module is put into eval mode for it.  Raises ConvertError for control flow that depends on values, for calls that no
    table above names, and for results that are no single tensor.
    """
    tracer = fx.Tracer()
    tracer.record_stack_traces = True
    was_training = module.training
    module.eval()
    try:
        graph = tracer.trace(module)
        height, width, channels = image_shape
        seen = _run(fx.GraphModule(module, graph), torch.zeros(1, channels, height, width))
    except ConvertError:
        raise
    except Exception as error:  # code of the user's own
        raise ConvertError(f"{type(module).__name__}: torch.fx cannot trace it ({type(error).__name__}: {error}); "
                           f"{_own_line(traceback.extract_tb(error.__traceback__))}") from error
    finally:
        module.train(was_training)
    return _calls(module, graph, seen)


def _run(graph: fx.GraphModule, image: Tensor) -> dict[str, Any]:
    """What every node gives for a black image."""
    seen: dict[str, Any] = {}

    class Recorder(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            seen[n.name] = super().run_node(n)
            return seen[n.name]

    with torch.no_grad():
        Recorder(graph).run(image)
    return seen


def _calls(module: nn.Module, graph: fx.Graph, seen: Mapping[str, Any]) -> tuple[list[Call], Call]:
    calls: dict[str, Call] = {}
    order: list[Call] = []
    result: Any = None
    for node in graph.nodes:
        if node.op == "output":
            result = node.args[0]
        elif isinstance(seen[node.name], tuple | list) and any(isinstance(part, Tensor) for part in seen[node.name]):
            raise ConvertError(f"{_place(node)}: {_shown(node)} gives several tensors, a row gives one")
        elif isinstance(seen[node.name], Tensor) and node.op != "get_attr":
            calls[node.name] = call = _call(module, node, seen, calls)
            if call.kind == IDENTITY or _is_dropout(call) or _is_flat_already(call):
                calls[node.name] = call.sources[0]
            else:
                order.append(call)
    if not isinstance(result, fx.Node) or result.name not in calls:
        raise ConvertError(f"{type(module).__name__}: it returns {result}, one tensor is wanted")
    last = calls[result.name]
    order = _reached(order, last)
    for call in order:
        for source in call.sources:
            source.reads += 1
    last.reads += 1
    return order, last


def _is_dropout(call: Call) -> bool:
    """One that is off in eval mode."""
    if call.kind == "dropout" and call.settings["training"]:
        raise call.error("a dropout that is told training=True, or nothing, drops in eval mode, too")
    return call.kind == "dropout"


def _is_flat_already(call: Call) -> bool:
    """A flattening of one pixel."""
    return call.kind == "flatten" and len(call.shape) == 1 and call.sources[0].pixels[:2] == (1, 1)


def _reached(order: list[Call], last: Call) -> list[Call]:
    """Calls that the result depends on, and the input."""
    needed, waiting = {id(order[0])}, [last]
    while waiting:
        call = waiting.pop()
        if id(call) not in needed:
            needed.add(id(call))
            waiting += call.sources
    return [call for call in order if id(call) in needed]


def _call(module: nn.Module, node: fx.Node, seen: Mapping[str, Any], calls: Mapping[str, Call]) -> Call:
    place = _place(node)
    kind, own = _kind(module, node, place)
    tensors = [arg for arg in _flat((node.args, node.kwargs)) if isinstance(arg, fx.Node) and arg.name in calls]
    call = Call(kind, node.name, place, tuple(seen[node.name].shape[1:]), [calls[arg.name] for arg in tensors], own)
    call.settings = _settings(kind, node, own, seen)
    if kind != "input" and not call.sources:
        raise call.error("it reads no result of another call")
    if others := [arg for arg in _flat((node.args, node.kwargs)) if isinstance(arg, fx.Node) and arg not in tensors
                  and isinstance(seen[arg.name], Tensor)]:
        raise call.error(f"{_shown(node)} reads the tensor {others[0].target}, which no row can hold")
    return call


def _kind(module: nn.Module, node: fx.Node, place: str) -> tuple[str, Any]:
    if node.op == "placeholder":
        return "input", None
    own = module.get_submodule(str(node.target)) if node.op == "call_module" else None
    if node.op == "call_module":
        kind = MODULES.get(type(own))
    elif node.op == "call_function":
        kind = FUNCTIONS.get(node.target) or NAMED.get(getattr(node.target, "__name__", ""))
    else:
        kind = METHODS.get(str(node.target))
    if kind is None:
        raise ConvertError(f"{place}: {type(own).__name__ if own is not None else _shown(node)} has no row")
    return kind, own


def _settings(kind: str, node: fx.Node, own: Any, seen: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers that the program computes, such as sizes, are those of the traced image."""
    def plain(value: Any) -> Any:
        return seen[value.name] if isinstance(value, fx.Node) and not isinstance(seen[value.name], Tensor) else value

    names = SETTINGS.get(kind, ())
    if own is not None:
        return {name: getattr(own, name, default) for name, default in names}
    args = fx.node.map_aggregate(node.args[1:], plain)
    given = dict(zip((name for name, _ in names), args, strict=False))
    return dict(names) | given | {name: plain(value) for name, value in node.kwargs.items()}


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for part in value:
            yield from _flat(part)
    else:
        yield value


def _shown(node: fx.Node) -> str:
    target: Any = node.target
    return f"{target}()" if isinstance(target, str) else f"{getattr(target, '__name__', target)}()"


def _place(node: fx.Node) -> str:
    """The module's path and the line of its source."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path = str(node.target) if node.op == "call_module" else str(stack[-1][0]) if stack else ""
    found = re.findall(r'File "([^"]+)", line (\d+)', node.stack_trace or "")
    lines = [f"{file}, line {line}" for file, line in found if "/torch/" not in file]
    return ", ".join([path or "module", *lines[-1:]])


def _own_line(frames: traceback.StackSummary) -> str:
    lines = [f"{frame.filename}, line {frame.lineno}" for frame in frames if "/torch/" not in frame.filename]
    return lines[-1] if lines else "no line of its source"


