"""What may be compared: a program that is run, a checkpoint's torch model, tensors that somebody stored."""

from collections.abc import Collection, Mapping
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from sim.difference.axes import codes, fitted
from sim.difference.errors import DiffError
from sim.hardware import HardwareSpec
from sim.lowering import lower
from sim.machine import Machine
from sim.program import Program
from sim.subject import Subject
from sim.text import printable
from sim.traces import Trace
from sim.tracing import TorchModel, machine_tensors, tensor_names, torch_names, whole

if TYPE_CHECKING:
    from sim.network import NetworkSpec


class Side:
    """One of two: `text` says what it is; `notes` what is worth a line."""

    text: str
    notes: tuple[str, ...] = ()

    @property
    def subject(self) -> Subject | None:
        """What is run, where something is."""
        return None

    @property
    def machine(self) -> Machine | None:
        """What can say whether an operation itself differs, or only what it reads: a program of this side, ready to run."""
        return None

    @property
    def pixels(self) -> np.ndarray | None:
        """The images that it is of, if it holds them."""
        return None

    @property
    def images(self) -> int | None:
        """How many images it has; None: as many as there are."""
        return None

    def names(self) -> list[str]:
        """Every tensor, in order."""
        raise NotImplementedError

    def tensors(self, pixels: np.ndarray, start: int, names: Collection[str]) -> dict[str, np.ndarray]:
        """Those of `names` that it has, [N, H, W, C], of images `start` and following, whose pixels are given."""
        raise NotImplementedError


class Simulated(Side):
    """A program in the simulator."""

    def __init__(self, text: str, subject: Subject) -> None:
        self.text, self._subject, self._machine = text, subject, Machine(subject.program)
        self.notes = subject.notes

    @property
    def subject(self) -> Subject:
        """As it was read."""
        return self._subject

    @property
    def machine(self) -> Machine:
        """It, running."""
        return self._machine

    def names(self) -> list[str]:
        """Of its program."""
        return tensor_names(self._subject.program)

    def tensors(self, pixels: np.ndarray, start: int, names: Collection[str]) -> dict[str, np.ndarray]:
        """Runs."""
        return machine_tensors(self._machine, pixels, names)


class Torch(Side):
    """The fake-quantized torch model of a checkpoint.

    Its program, for questions of cause, is what it is lowered to under `fp32`, which equals it in every code (contract C4).
    """

    def __init__(self, text: str, subject: Subject) -> None:
        if subject.spec is None:
            raise DiffError(f"{printable(text)}: only a checkpoint has a torch model")
        self.text, self._subject, self.notes = text, subject, subject.notes
        self.spec: NetworkSpec = subject.spec
        self._model = TorchModel(self.spec)

    @property
    def subject(self) -> Subject:
        """The checkpoint."""
        return self._subject

    @cached_property
    def _lowered(self) -> Machine:
        return Machine(lower(self.spec, HardwareSpec()))

    @property
    def machine(self) -> Machine:
        """The program that equals it."""
        return self._lowered

    def names(self) -> list[str]:
        """Of its rows."""
        return torch_names(self.spec)

    def tensors(self, pixels: np.ndarray, start: int, names: Collection[str]) -> dict[str, np.ndarray]:
        """Runs."""
        return self._model.tensors(pixels, names)


class Stored(Side):
    """Tensors of a trace, ours or another's; those of others are read in the order of axes that fits (`fit`)."""

    def __init__(self, text: str, trace: Trace) -> None:
        self.text, self._trace = text, trace
        self._tensors: dict[str, np.ndarray] = dict(trace.tensors)
        self.is_settled = trace.is_ours
        """Whether axes stand as they do in a program."""
        self._images: int | None = self._count() if trace.is_ours else None
        self.told: dict[str, str] = {}

    def _count(self) -> int:
        counts = {len(array) for array in self._tensors.values()}
        if len(counts) > 1:
            raise DiffError(f"{printable(self.text)}: its tensors are of {' and '.join(map(str, sorted(counts)))} images")
        return counts.pop()

    @property
    def pixels(self) -> np.ndarray | None:
        """As stored."""
        return self._trace.pixels

    @property
    def images(self) -> int | None:
        """As stored; of arrays of others only once they are fitted."""
        return self._images

    def names(self) -> list[str]:
        """Of its arrays."""
        return list(self._tensors)

    def renamed(self, names: Collection[str]) -> None:
        """Take names that a file system changed (/ as _) for those that they are of."""
        for name in names:
            plain = name.replace("/", "_")
            if name not in self._tensors and plain in self._tensors and plain not in names:
                self._tensors[name] = self._tensors.pop(plain)

    def only(self, name: str) -> None:
        """Call the one array that there is by this name.  Raises DiffError if there are more."""
        if name in self._tensors:
            return
        if len(self._tensors) > 1:
            raise DiffError(f"layer: {printable(name)} is none of {', '.join(map(printable, self._tensors))} in "
                            f"{printable(self.text)}")
        self._tensors = {name: next(iter(self._tensors.values()))}

    def settle(self) -> None:
        """Take arrays of another's as they are, axes that are missing as 1.  Raises DiffError for more than four."""
        for name, array in self._tensors.items():
            if array.ndim > 4:
                raise DiffError(f"{printable(name)}: {list(array.shape)} has more axes than images, rows, columns, channels")
            sides = array.shape if array.ndim else (1,)
            self._tensors[name] = whole(array.reshape(sides[:1] + (1,) * (4 - len(sides)) + sides[1:]))
        self.is_settled, self._images = True, self._count()

    def count_for(self, sizes: Mapping[str, int]) -> None:
        """How many images these are, from the numbers that a tensor has for each.  Raises DiffError."""
        if self._images is not None:
            return
        counts = {}
        for name, size in sizes.items():
            if name in self._tensors:
                counts[name], rest = divmod(self._tensors[name].size, size)
                if rest or not counts[name]:
                    raise DiffError(f"{printable(name)}: {printable(self.text)} has {self._tensors[name].size:,} numbers "
                                    f"{list(self._tensors[name].shape)}, one image has {size:,}")
        if len(set(counts.values())) > 1:
            found = " and ".join(map(str, sorted(set(counts.values()))))
            raise DiffError(f"{printable(self.text)}: its tensors are of {found} images")
        self._images = next(iter(counts.values()), None)

    def fit(self, name: str, expected: np.ndarray, program: Program | None) -> None:
        """Turn an array of another's the way in which it differs least from `expected` [n, H, W, C].  Raises DiffError."""
        if self.is_settled or name in self.told:
            return
        op = next((op for op in program.ops if op.name == name), None) if program is not None else None
        array, did = self._tensors[name], ""
        if expected.dtype.kind in "iu":
            scale = None if program is None or op is None else program.scales.get(name)
            array, did = codes(name, array, scale, 0 if op is None else op.zero_point)
        height, width, channels = expected.shape[1:]
        order, self._tensors[name] = fitted(name, array, (height, width, channels), expected)
        words = [f"its axes are {order.told}" if order.told else "", did]
        self.told[name] = ", ".join(word for word in words if word)

    def tensors(self, pixels: np.ndarray, start: int, names: Collection[str]) -> dict[str, np.ndarray]:
        """Part of what is stored."""
        return {name: array[start : start + len(pixels)] for name, array in self._tensors.items() if name in names}
