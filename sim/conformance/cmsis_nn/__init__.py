"""CMSIS-NN's own unit tests: Arm's kernels for small processors, with TensorFlow Lite's arithmetic."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sim.conformance.case import Case, Golden, UnsupportedError
from sim.conformance.cmsis_nn import goldens
from sim.conformance.cmsis_nn.entry import ARRAY, NUMBER, Entry, from_archive, from_headers, names_in_headers
from sim.conformance.folder import Folder, read_text

MARK = "test_data.h"
"""The header that every folder of a test has."""
INCLUDE = re.compile(r'^[ \t]*#include[ \t]+"(\w+\.h)"', re.MULTILINE)

REAL = re.compile(r"_f(16|32)(_|$)")
"""In the name of a test of real numbers."""


@dataclass(frozen=True)
class Kind:
    """A kind of test: the names by which it is told, where its own name does not, and how a golden case is made of it.

    `make` None: `reason` says why there is none.
    """

    begins: tuple[str, ...] = ()
    names: frozenset[str] = frozenset()
    make: Callable[[Entry], Golden] | None = None
    reason: str = ""

    def fits(self, name: str, names: frozenset[str]) -> bool:
        """Whether a test of that name, with numbers and arrays of these names, is one."""
        return name.startswith(self.begins) if self.begins else self.names <= names


def _of(*names: str) -> frozenset[str]:
    return frozenset(names)


KINDS: Mapping[str, Kind] = {
    "svdf": Kind(("svdf",), reason="SVDF has state between calls"),
    "lstm": Kind(("lstm",), reason="LSTM has state between steps"),
    "transposed conv": Kind(("transpose_conv", "reverse_transpose_conv"), reason="transposed convolution"),
    "network": Kind(names=_of("layer_1_conv_2d_weights"), make=goldens.network),
    "batch matmul": Kind(names=_of("lhs_input_tensor", "rhs_input_tensor"), make=goldens.matmul),
    "softmax": Kind(names=_of("ROW_SIZE", "NUM_ROWS"), make=goldens.softmax),
    "pad": Kind(names=_of("PAD_VALUE"), make=goldens.pad),
    "transpose": Kind(names=_of("PERM_SIZE"), make=goldens.transpose),
    "maximum": Kind(("maximum",), make=goldens.compare),
    "minimum": Kind(("minimum",), make=goldens.compare),
    "average pool": Kind(("avgpool",), make=goldens.average),
    "max pool": Kind(("maxpool",), make=goldens.largest),
    "add": Kind(names=_of("LEFT_SHIFT", "INPUT1_MULT"), make=goldens.add),
    "multiply": Kind(names=_of("input1", "input2", "OUTPUT_MULT"), make=goldens.multiply),
    "fully connected": Kind(names=_of("ACCUMULATION_DEPTH"), make=goldens.fully_connected),
    "depthwise": Kind(names=_of("CH_MULT"), make=goldens.convolution),
    "conv": Kind(names=_of("FILTER_X", "weights"), make=goldens.convolution),
    "conv int4": Kind(names=_of("FILTER_X", "input_weights"), make=goldens.convolution),
}
"""The first that fits is it."""


def find(folder: Folder) -> Iterator[Case]:
    """Archives with keys def/NAME and arr/NAME, and folders of headers as the library's repository has them."""
    for path, keys in folder.archives.items():
        names = {key.removeprefix(NUMBER).removeprefix(ARRAY) for key in keys}
        if any(key.startswith(NUMBER) for key in keys) and any(key.startswith(ARRAY) for key in keys):
            yield _case(path.stem, frozenset(names), partial(from_archive, path))
    for parent, files in folder.folders.items():
        if parent / MARK in files:
            yield _found(parent, files)


def _found(parent: Path, files: list[Path]) -> Case:
    """A folder of headers, of which those count that the test includes: some are of an earlier one."""
    try:
        included = INCLUDE.findall(read_text(parent / MARK))
        headers = [file for file in files if file.name in included]
        names = names_in_headers(parent, headers)
    except UnsupportedError as error:
        return Case(parent.name, "unknown", _refusing(str(error)))
    return _case(parent.name, names, lambda: from_headers(parent, headers))


def _case(name: str, names: frozenset[str], read: Callable[[], Entry]) -> Case:
    """The case of a test, by its kind."""
    if REAL.search(name):
        return Case(name, "real numbers", _refusing("a test of floating point, not of integers"))
    for operation, kind in KINDS.items():
        if kind.fits(name, names):
            make = _refusing(kind.reason) if kind.make is None else partial(_made, kind.make, read)
            return Case(name, operation, make)
    return Case(name, "unknown", _refusing("a test of no kind that is known"))


def _made(make: Callable[[Entry], Golden], read: Callable[[], Entry]) -> Golden:
    return make(read())


def _refusing(reason: str) -> Callable[[], Golden]:
    def make() -> Golden:
        raise UnsupportedError(reason)
    return make
