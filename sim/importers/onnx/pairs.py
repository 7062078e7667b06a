"""Two quantizers one behind the other: ONNX Runtime makes one of them, with a scale and a zero point of its own.

Q1 -> DQ1 -> Q2 -> DQ2 becomes Q1 -> DQ2 where nothing else reads what is between, each pair has one scale and one zero point
that it says, and all zero points are of one type.  Both then have the numbers that both pairs have:

    low = max of f32((min - zero) scale), high = min of f32((max - zero) scale)
    scale = f32(f32(high - low) / (max - min)), zero = f32(min - f32(low / scale)), half away from zero

It does so before it fuses operators, in the order of the graph, again and again: of four pairs the first two become one, and
the last two, then what is left.  What changes nothing (an Identity, a Dropout, adding 0, multiplying by 1) is gone by then.
Equal pairs keep their numbers.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from sim.importers.onnx.model import NARROW, Constant, Model, Node

EQUAL = np.float32(1e-20)
"""Scales that are nearer to each other count as equal."""
_NEUTRAL = {"Add": (0.0, (0, 1)), "Sub": (0.0, (1,)), "Mul": (1.0, (0, 1)), "Div": (1.0, (1,))}
"""The constant that changes nothing, and where it may stand."""
_FLOAT = 1
Pair = tuple[np.float32, Constant]
"""Scale and zero point of a quantizer."""


def merged(model: Model) -> Model:
    """The model with such pairs merged.  Raises ImporterError where what is left would be no quantizer."""
    return _Merging(model).done()


class _Merging:
    """`through` are tensors that are others under another name, `readers` nodes by the tensor that they read so."""

    def __init__(self, model: Model) -> None:
        self.model, self.nodes, self.gone = model, list(model.nodes), set[int]()
        self.constants = dict(model.constants)
        self.through: dict[str, str] = {}
        self.maker: dict[str, int] = {}
        self.readers: dict[str, list[int]] = {}
        for index, node in enumerate(self.nodes):
            copied = self._copied(node)
            if copied:
                self.through[node.outputs[0]] = self._source(copied)
                continue
            self.maker |= dict.fromkeys(node.outputs, index)
            for name in filter(None, node.inputs):
                self.readers.setdefault(self._source(name), []).append(index)
        self.surface = {self._source(info.name) for info in model.outputs}

    def done(self) -> Model:
        """In the order of the graph, until nothing changes; what was merged just now waits for the next time."""
        before = -1
        while len(self.gone) > before:
            before, made = len(self.gone), set[int]()
            for index, node in enumerate(self.nodes):
                if node.kind == "DequantizeLinear" and node.outputs and index not in self.gone | made:
                    made.update(self._merge(index))
        if not self.gone:
            return self.model
        left = tuple(node for index, node in enumerate(self.nodes) if index not in self.gone)
        return dataclasses.replace(self.model, nodes=left, constants=self.constants)

    def _source(self, name: str) -> str:
        return self.through.get(name, name)

    def _copied(self, node: Node) -> str:
        """The input that an operator copies, or nothing."""
        if len([name for name in node.outputs if name]) != 1 or not node.inputs or node.inputs[0] in self.constants:
            return ""
        if node.kind in ("Identity", "Dropout") or (node.kind == "Cast" and node.attributes.get("to") == _FLOAT
                                                    and self._is_real(node.inputs[0])):
            return node.inputs[0]
        neutral, slots = _NEUTRAL.get(node.kind, (0.0, ()))
        for slot in slots if len(node.inputs) == 2 else ():
            told = self.constants.get(node.inputs[slot])
            if told is not None and told.type == "float" and told.array.size == 1 and told.array.reshape(()) == neutral:
                return node.inputs[1 - slot]
        return ""

    def _is_real(self, name: str) -> bool:
        maker = self.maker.get(self._source(name))
        return maker is not None and self.nodes[maker].kind == "DequantizeLinear"

    def _one_reader(self, name: str) -> int | None:
        found = self.readers.get(name, [])
        return found[0] if len(found) == 1 and name not in self.surface else None

    def _merge(self, index: int) -> Sequence[int]:
        """DQ1 and Q2 go, if all is as ONNX Runtime wants it; gives the DQ2 that stay instead."""
        inner = self.nodes[index]
        first = self.maker.get(self._source(inner.inputs[0]))
        behind = self._one_reader(inner.outputs[0])
        if first is None or behind is None or self.nodes[first].kind != "QuantizeLinear" \
                or self._one_reader(self.nodes[first].outputs[0]) != index or self.nodes[first].inputs[0] in self.constants:
            return ()
        second, codes = self.nodes[behind], self.nodes[first].outputs[0]
        last = self.readers.get(second.outputs[0], [])
        chain = [self.nodes[first], inner, second, *(self.nodes[place] for place in last)]
        if second.kind != "QuantizeLinear" or not last or second.outputs[0] in self.surface or not self._in_line(chain):
            return ()
        pairs = [self._pair(node) for node in chain]
        if any(pair is None for pair in pairs) or not _fit(pairs):
            return ()
        told = _narrowed(second, pairs[0], pairs[2])  # type: ignore[arg-type]
        for place in (first, *last):
            node = self.nodes[place]
            numbers = node.inputs[1:3] if told is None else self._named(node.outputs[0], told)
            self.nodes[place] = dataclasses.replace(node, inputs=(node.inputs[0] if place == first else codes, *numbers))
        self.readers[codes] = last
        ends = {inner.outputs[0], second.outputs[0]}
        self.gone |= {index, behind} | {place for place, node in enumerate(self.nodes)
                                        if node.outputs and self.through.get(node.outputs[0]) in ends}
        return last

    def _in_line(self, chain: list[Node]) -> bool:
        """Whether each reads the codes or numbers of the one before it, and nothing else of it."""
        first, inner, second, *last = chain
        before = [first.outputs[0], inner.outputs[0], *([second.outputs[0]] * len(last))]
        return all(node.kind == "DequantizeLinear" for node in last) and before == [
            self._source(node.inputs[0]) for node in (inner, second, *last)]

    def _pair(self, node: Node) -> Pair | None:
        """None where there are several numbers, or no zero point is named."""
        if len(node.inputs) < 3 or not node.inputs[2]:
            return None
        scale, zero = (self.constants.get(name) for name in node.inputs[1:3])
        if scale is None or zero is None:
            raise node.fail("between two quantizers scale and zero point must be in the file: ONNX Runtime may merge them")
        if scale.array.size != 1 or zero.array.size != 1 or scale.type != "float" or zero.array.dtype.kind not in "iu" \
                or zero.array.dtype.itemsize > 2 or zero.type in NARROW:
            return None
        return np.float32(scale.array.reshape(())), zero

    def _named(self, output: str, told: tuple[np.float32, np.ndarray, str]) -> tuple[str, str]:
        scale, zero, kind = told
        names = f"{output}/merged scale", f"{output}/merged zero point"
        self.constants[names[0]] = Constant(np.array(scale, np.float32), "float")
        self.constants[names[1]] = Constant(zero, kind)
        return names


def _number(pair: Pair) -> int:
    return int(pair[1].array.reshape(()))


def _fit(pairs: list[Any]) -> bool:
    """Whether the first two are a pair, the others one, too, and all zero points have one type."""
    first, inner, second, *last = pairs
    same = [(first, inner), *((second, each) for each in last)]
    return all((a[0], _number(a)) == (b[0], _number(b)) for a, b in same) and len({pair[1].type for pair in pairs}) == 1


def _narrowed(node: Node, a: Pair, b: Pair) -> tuple[np.float32, np.ndarray, str] | None:
    """Scale, zero point and type of what both can say; None where the numbers stay.  Raises ImporterError for no number."""
    zeros = _number(a), _number(b)
    if zeros[0] == zeros[1] and abs(a[0] - b[0]) < EQUAL:
        return None
    info = np.iinfo(a[1].array.dtype)
    low = max(np.float32(info.min - zero) * scale for zero, scale in zip(zeros, (a[0], b[0]), strict=True))
    high = min(np.float32(info.max - zero) * scale for zero, scale in zip(zeros, (a[0], b[0]), strict=True))
    scale = np.float32(np.float32(high - low) / np.float32(info.max - info.min))
    if not 0.0 < scale < np.inf:
        raise node.fail("shares no number but 0 with the quantizer before it: ONNX Runtime merges both, with a scale of "
                        f"{scale}")
    real = float(np.float32(info.min) - np.float32(low / scale))
    zero = math.copysign(math.floor(abs(real) + 0.5), real)
    return scale, np.array(int(zero)).astype(a[1].array.dtype), a[1].type
