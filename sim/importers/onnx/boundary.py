"""What happens outside a program: how the arrays that a model's user has become codes, and codes become what he expects."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sim.importers.imported import ImporterError
from sim.importers.onnx.values import Codes, arranged, stored
from sim.text import printable


@dataclass(frozen=True, eq=False)
class Inlet:
    """An input of the ONNX graph: `name` there, `codes` in the program, `quantize` from the user's array to integers.

    None where the input is integers already.
    """

    name: str
    codes: Codes
    batched: bool
    quantize: Callable[[np.ndarray], np.ndarray] | None = None

    def accept(self, array: np.ndarray) -> np.ndarray:
        """An array as the ONNX model takes it -> codes [N, H, W, C] of the program.

        Raises ImporterError for integers that are no codes of it.
        """
        whole, form = array if self.quantize is None else self.quantize(array), self.codes.form
        if whole.dtype.kind in "iu" and not form.contains(whole):
            raise ImporterError(f"input {printable(self.name)}: {whole.min()} to {whole.max()} leave its codes, "
                                f"{form.min} to {form.max}")
        return stored(whole, self.codes.dims, self.codes.layout, self.batched).astype(self.codes.form.dtype)


@dataclass(frozen=True, eq=False)
class Outlet:
    """An output of the ONNX graph; `restore` makes float32 of its integers [N, H, W, C], None where it is integers."""

    name: str
    op: str
    dims: tuple[int, ...]
    layout: str
    batched: bool
    restore: Callable[[np.ndarray], np.ndarray] | None = None

    def give(self, codes: np.ndarray) -> np.ndarray:
        """Results [N, H, W, C] of the program -> the array that the ONNX model gives."""
        values = codes if self.restore is None else self.restore(codes)
        return arranged(values, self.dims, self.layout, self.batched)
