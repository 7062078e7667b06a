"""The one place that decides how kernels are compiled.

cache.py says where they are kept, threads.py when they may use threads.
"""

import functools
import types
from collections.abc import Callable
from typing import Any

import numba
from numba.core.ccallback import CFunc

from sim.kernels import threads
from sim.kernels.cache import CACHE_FOLDER, keep, source_digest
from sim.lazy import cached_property

__all__ = ["CACHE_FOLDER", "Kernel", "c_function", "inline", "kernel", "source_digest", "specialize"]


class Kernel:
    """A compiled loop: on all threads, or serial in a forked child.  Any number of Python threads may call it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self.py_func = function
        self._parallel = _compile(function, parallel=True)

    def __call__(self, *arguments: Any) -> None:
        """Run it."""
        if threads.is_free:
            self._parallel(*arguments)
        else:
            threads.launch(self._parallel, self._without_threads, arguments)

    def _without_threads(self) -> Callable[..., None]:
        return self._serial

    @cached_property
    def _serial(self) -> Callable[..., None]:
        """The same loop without threads, under a name of its own in the cache."""
        name = f"{self.py_func.__name__}_serial"
        return _compile(_copy(self.py_func, name, {}), parallel=False)


def _compile(function: Callable[..., Any], parallel: bool) -> Any:
    """IEEE arithmetic as written, no silent fast math."""
    return keep(numba.njit(parallel=parallel, fastmath=False, error_model="numpy", nogil=True)(function))


def kernel(function: Callable[..., Any]) -> Kernel:
    """Compile a loop, parallel where it says prange."""
    return Kernel(function)


def inline(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a helper that kernels call."""
    compiled: Callable[..., Any] = _compile(function, parallel=False)
    return compiled


def c_function(function: Callable[..., Any], signature: Any) -> Any:
    """Compile what C code calls by its address, which the result has as `address`."""
    compiled = keep(CFunc(function, (signature.args, signature.return_type), locals={}, options={"error_model": "numpy"}))
    compiled.compile()
    return compiled


def specialize(template: Callable[..., Any], name: str, decorate: Callable[..., Any] = kernel, **callees: Any) -> Any:
    """The loop `template`, compiled with each name in `callees` standing for that compiled function.

    No cache ever finds a closure over compiled functions again; a function of its own name and globals it does.
    """
    return decorate(_copy(template, name, callees))


def _copy(template: Callable[..., Any], name: str, names: dict[str, Any]) -> Callable[..., Any]:
    """The same code with another name, in which some global names stand for something else."""
    function = types.FunctionType(template.__code__, {**template.__globals__, **names}, name)
    function.__qualname__ = name
    function.__module__ = template.__module__
    return function
