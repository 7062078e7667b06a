"""Names of a package that are imported when they are first used."""

import importlib
import os
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

T = TypeVar("T")
IMPORTING = threading.RLock()
"""Held while a module is imported, and across forks: a child would wait for ever for a module that another thread was at."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=IMPORTING.acquire, after_in_parent=IMPORTING.release, after_in_child=IMPORTING.release)


def lazy(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The `__getattr__` and `__dir__` of a package whose names come from other modules, name -> full module name."""
    namespace = vars(sys.modules[package])

    def getattr_(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        with IMPORTING:
            value = getattr(importlib.import_module(homes[name]), name)
        namespace[name] = value
        return value

    def dir_() -> list[str]:
        return sorted({*namespace, *homes})

    return getattr_, dir_


class cached_property(Generic[T]):  # noqa: N801 - named as what it stands for
    """functools.cached_property without its lock, which Python has until 3.11.

    There is one lock for all objects of a class; a child of a fork would wait for ever for a thread that held it.  Two
    threads may compute a value at once, and either will do.
    """

    def __init__(self, function: Callable[[Any], T]) -> None:
        self.function = function
        self.__doc__ = function.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: Any, owner: type | None = None) -> T:
        if instance is None:
            return self  # type: ignore[return-value]
        value: T = self.function(instance)
        instance.__dict__[self.name] = value
        return value
