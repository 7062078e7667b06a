"""A .tflite graph on its way to a program: what is known of its tensors, and what operators need to ask."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from sim.formats import IntFormat, Shape
from sim.importers.builder import Builder, image_of
from sim.importers.imported import ImporterError
from sim.importers.tflite.file import Model, Operator, Tensor
from sim.ops.requantize import TableOp

if TYPE_CHECKING:
    from sim.profiles import Profile, Rule

FORMATS = {"INT8": IntFormat(8, signed=True), "INT16": IntFormat(16, signed=True)}
"""Of activations."""
WEIGHTS = ("INT8", "INT4")
RELU, RELU_N1_TO_1, RELU6 = 1, 2, 3
"""Fused activations by their number in the schema; 0 is none."""


class Graph:
    """The model, the operations made of it so far (`build`), and which of them gives which tensor (`names`).

    A tensor of any number of axes is an image here, its batch of 1 left out; numbers stay in their order.
    """

    def __init__(self, model: Model, profile: "Profile") -> None:
        self.model, self.profile = model, profile
        self.build = Builder(profile)
        self.names: dict[int, str] = {}
        self.notes: list[str] = []

    def rule(self, kind: str) -> "Rule":
        """How the profile computes operations of a kind."""
        return self.profile.rule(kind)

    def tensor(self, node: Operator, index: int) -> Tensor:
        """An input that there must be.  Raises ImporterError."""
        if not 0 <= index < len(node.inputs) or node.inputs[index] < 0:
            raise ImporterError(f"{node}: has no input {index}")
        return self.model.tensors[node.inputs[index]]

    def has(self, node: Operator, index: int) -> bool:
        """Whether there is such an input."""
        return index < len(node.inputs) and node.inputs[index] >= 0

    def result(self, node: Operator, index: int = 0) -> Tensor:
        """An output that there must be."""
        if index >= len(node.outputs):
            raise ImporterError(f"{node}: has no output {index}")
        return self.model.tensors[node.outputs[index]]

    def codes(self, node: Operator, index: int) -> str:
        """The operation that gives an input; a constant becomes one."""
        tensor = self.tensor(node, index)
        if tensor.number not in self.names:
            if tensor.data is None:
                raise ImporterError(f"{node}: reads {tensor}, which nothing writes before it")
            codes = np.asarray(tensor.data, self.form(tensor).dtype).reshape(self.image(tensor))
            self.names[tensor.number] = self.build.constant(
                f"t{tensor.number}_constant", codes, self.form(tensor), float(self.scale(tensor)), self.zero(tensor)
            )
        return self.names[tensor.number]

    def read(self, tensor: Tensor, called: Tensor) -> None:
        """Make the codes of a tensor an input of the program; another tensor of the file may have its name."""
        self.names[tensor.number] = self.build.codes_input(
            called.name or f"t{called.number}",
            self.image(tensor),
            self.form(tensor),
            float(self.scale(tensor)),
            self.zero(tensor),
        )

    def constant(self, node: Operator, index: int, types: Sequence[str] = ("INT32", "INT64")) -> np.ndarray:
        """An input that is a constant of one of some types."""
        tensor = self.tensor(node, index)
        if tensor.data is None or tensor.type not in types:
            raise ImporterError(
                f"{node}: its input {index} is {tensor.type} "
                f"{'of another operator' if tensor.data is None else 'constant'}, supported is a constant of "
                f"{' or '.join(types)}"
            )
        return tensor.data

    def option(self, node: Operator, name: str, default: int = 0) -> int:
        """An option of an operator that is a whole number."""
        return int(node.options.get(name, default))

    def form(self, tensor: Tensor) -> IntFormat:
        """The format of an activation's codes."""
        if tensor.type not in FORMATS or not tensor.scales.size:
            raise ImporterError(
                f"{tensor} is {tensor.type}{'' if tensor.scales.size else ' without a scale'}, supported are "
                f"quantized {' and '.join(FORMATS)}"
            )
        return FORMATS[tensor.type]

    def scale(self, tensor: Tensor) -> np.float32:
        """What one code stands for, float32."""
        if tensor.scales.size != 1:
            raise ImporterError(f"{tensor} has {tensor.scales.size} scales, activations have one")
        return np.float32(tensor.scales[0])

    def zero(self, tensor: Tensor) -> int:
        """The code that stands for 0."""
        zero = int(tensor.zeros[0]) if tensor.zeros.size == 1 else None
        if zero is None or not self.form(tensor).min <= zero <= self.form(tensor).max:
            raise ImporterError(
                f"{tensor} has the zero points {tensor.zeros[:4].tolist()}, an activation has one that is a code"
            )
        return zero

    def image(self, tensor: Tensor) -> Shape:
        """(height, width, channels) of a tensor of any number of axes."""
        return image_of(sides_of(tensor))

    def image_read(self, node: Operator) -> Shape:
        """(height, width, channels) of the first input.  Raises ImporterError unless those and a batch of 1 are its axes."""
        tensor = self.tensor(node, 0)
        if len(tensor.shape) != 4 or tensor.shape[0] != 1:
            raise ImporterError(f"{node}: reads {list(tensor.shape)}, supported are 4 axes with a batch of 1")
        return self.image(tensor)

    def same(self, node: Operator, *tensors: Tensor) -> None:
        """Raise ImporterError unless tensors have one type, scale and zero point, as operators that copy codes want it."""
        first = tensors[0]
        for tensor in tensors[1:]:
            if (tensor.type, self.scale(tensor), self.zero(tensor)) != (first.type, self.scale(first), self.zero(first)):
                raise ImporterError(
                    f"{node}: {first} and {tensor} differ in type, scale or zero point, which it only copies"
                )

    def limits(self, node: Operator, tensor: Tensor, activation: int) -> tuple[int, ...]:
        """Least and largest code of a fused activation; empty where those of the format are."""
        form, scale, zero = self.form(tensor), self.scale(tensor), self.zero(tensor)
        bounds = {0: (None, None), RELU: (0.0, None), RELU_N1_TO_1: (-1.0, 1.0), RELU6: (0.0, 6.0)}.get(activation)
        if bounds is None:
            raise ImporterError(
                f"{node}: its fused activation {activation} is not supported: none, RELU, RELU_N1_TO_1 and RELU6 are"
            )
        low, high = (None if bound is None else zero + half_away(float(np.float32(bound) / scale)) for bound in bounds)
        low = form.min if low is None else min(max(form.min, low), form.max)
        high = form.max if high is None else max(min(form.max, high), low)
        return () if (low, high) == (form.min, form.max) else (low, high)

    def is_last(self, tensor: Tensor) -> bool:
        """Whether a tensor is an output that no operator reads."""
        is_read = any(tensor.number in node.inputs for node in self.model.operators)
        return tensor.number in self.model.outputs and not is_read

    def put(self, node: Operator, name: str, index: int = 0) -> None:
        """Note which operation gives an output, and compare its shape with the file's."""
        tensor = self.result(node, index)
        if self.build.shape(name) != self.image(tensor):
            raise ImporterError(f"{node}: gives {self.build.shape(name)}, the file says {list(tensor.shape)} of {tensor}")
        self.names[tensor.number] = name

    def name(self, node: Operator, index: int = 0) -> str:
        """What to call the operation that gives an output."""
        return f"t{self.result(node, index).number}_{node.code.lower()}"

    def table(self, name: str, source: str, codes: np.ndarray, form: IntFormat, scale: float, zero: int) -> str:
        """Codes looked up, an entry for each code of `source`."""
        return self.build.add(
            TableOp(
                name,
                source,
                self.build.shape(source),
                form,
                np.asarray(codes).astype(form.dtype),
                self.build.format(source).min,
                zero_point=zero,
            ),
            scale,
        )

    def relabeled(self, name: str, source: str, zero: int) -> str:
        """The same codes with another one standing for 0; `source` itself where that is so already."""
        if self.build.zero(source) == zero:
            return source
        form = self.build.format(source)
        return self.table(name, source, np.arange(form.min, form.max + 1), form, self.build.scale(source), zero)

    def reshaped(self, name: str, source: str, sides: Sequence[int]) -> str:
        """Numbers in their order, in another shape of any number of axes; `source` itself where it has it."""
        return self.build.move(name, source, (math.prod(sides),), (0,), sides)

    def clamped(self, name: str, source: str, limits: tuple[int, ...]) -> str:
        """Codes within limits; `source` itself where there are none."""
        if not limits:
            return source
        form = self.build.format(source)
        return self.table(
            name,
            source,
            np.arange(form.min, form.max + 1).clip(limits[0], limits[1]),
            form,
            self.build.scale(source),
            self.build.zero(source),
        )


def sides_of(tensor: Tensor) -> tuple[int, ...]:
    """Of a tensor without its batch axis, where that is there and 1."""
    return tensor.shape[1:] if len(tensor.shape) > 1 and tensor.shape[0] == 1 else tensor.shape


def from_front(axis: int, count: int) -> int:
    """An axis of `count` (or a place in a side of so many) by its number from the front; below 0 it is one from the end."""
    return axis + count if axis < 0 else axis


def half_away(value: float) -> int:
    """The nearest integer, ties away from 0."""
    return math.floor(abs(value) + 0.5) * (1 if value >= 0 else -1)
