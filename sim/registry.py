"""Tables of things by name that a user can add to without editing the package.

A name is one of three: built in; one that an installed package declares (an entry point of the table's group); or the user's
own code, "file.py:NAME" or "package.module:NAME".  Code is loaded only by `find`, so only because somebody named it on a
command line or in Python; what a checkpoint, a record or a program says goes through `known`, which loads nothing.
"""

import difflib
import functools
import hashlib
import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, Generic, TypeVar

T = TypeVar("T")
MOST_NAMED = 12
"""Names that an error lists."""
_PLAIN = (bool, int, float, complex, bytes, bytearray, tuple, list, dict, set, frozenset)
"""No kind of thing that a table holds; some module has a name for many a small number."""


class RegistryError(ValueError):
    """A name that stands for nothing, or for something else than is wanted, in one line."""


class Registry(Mapping[str, T], Generic[T]):
    """A read-only mapping of the built-in names, in which found and added ones can be looked up, too.

    Iteration and length are those of what is built in.  `kind` is the option's name in errors, `group` the entry points' and
    `check` turns (name, object) into what the table holds or raises RegistryError.
    """

    def __init__(self, kind: str, built_in: Mapping[str, T], group: str, check: Callable[[str, Any], T]) -> None:
        self.kind, self.group = kind, group
        self._built_in, self._check = MappingProxyType(dict(built_in)), check
        self._found: dict[str, T] = {}
        self._objects: dict[str, object] = {}
        self._origins: dict[str, dict[str, str]] = {}
        self._given: set[str] = set()

    def __getitem__(self, name: str) -> T:
        return self._built_in[name] if name in self._built_in else self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._built_in)

    def __len__(self) -> int:
        return len(self._built_in)

    def __repr__(self) -> str:
        return f"Registry({self.kind!r}: {', '.join((*self._built_in, *self._found))})"

    def find(self, name: str, option: str = "") -> T:
        """What a user's name stands for, loaded if need be.  Raises RegistryError, which begins with `option` (or `kind`).

        A relative path is relative to the current folder; a file that is loaded already is not loaded again.
        """
        try:
            if name in self:
                return self[name]
            value, file = self._load(name)
            self._hold(name, value, file)
            return self[name]
        except RegistryError as error:
            raise RegistryError(f"{option or self.kind}: {error}") from error.__cause__

    def known(self, name: str, option: str = "") -> T:
        """The same without loading anything: for names that stand in files.  Raises RegistryError, which says what to do."""
        if name in self:
            return self[name]
        option = option or self.kind
        if is_own(name) or name in self._plugins():
            raise RegistryError(f"{option}: {name!r} is code of your own, which is loaded only where you name it: "
                                f"add --{option} {name!r}, or in Python find it first")
        raise RegistryError(f"{option}: {self._unknown(name)}")

    def add(self, name: str, value: Any, *, replace: bool = False) -> T:
        """Hold `value` under a name that is not taken, with `replace` under any not built in.  Raises RegistryError."""
        try:
            self._hold(name, value, _file_of(value), replace)
        except RegistryError as error:
            raise RegistryError(f"{self.kind}: {error}") from error.__cause__
        return self[name]

    def name_of(self, value: Any) -> str:
        """The name of an object, added as "module:NAME" if need be; a name is found and given back, or RegistryError.

        An object takes the place of one that was given before it and has its name, as a function does that a notebook
        defines again; what was found by its name keeps it.
        """
        if isinstance(value, str):
            self.find(value)
            return value
        if value is None or isinstance(value, _PLAIN):
            raise RegistryError(f"{self.kind}: a value of type {type(value).__name__} is not allowed, give a name or an "
                                "object of your own")
        name = next((name for name, held in (*self._built_in.items(), *self._objects.items()) if held is value), "")
        if not name:
            try:
                name, module = _text_of(value)
                self._hold(name, value, getattr(module, "__file__", None), name in self._given)
            except RegistryError as error:
                raise RegistryError(f"{self.kind}: {error}") from error.__cause__
            self._given.add(name)
            if module.__name__ == "__main__" and (source := _source(value)):
                self._origins[name]["source"] = source
        return name

    def origin(self, name: str) -> dict[str, str]:
        """Where own code came from: its name and the SHA-256 of its file as it was read; empty for what is built in.

        Of a function or class of the running script or notebook, "source" is that of its own text.
        """
        return dict(self._origins.get(name, {}))

    def _hold(self, name: str, value: Any, file: str | None, replace: bool = False) -> None:
        if self._objects.get(name) is value:
            return
        checked = self._check(name, value)
        may_replace = replace and name not in self._built_in
        if not may_replace and self.get(name, checked) is not checked:
            raise RegistryError(f"the name {name!r} is taken")
        if may_replace or name not in self:
            self._found[name], self._objects[name] = checked, value
            self._origins[name] = {"name": name, "sha256": _digest(file)}

    def _load(self, name: str) -> tuple[Any, str | None]:
        if is_own(name):
            return _own(name)
        plugins = self._plugins().get(name, [])
        if not plugins:
            raise RegistryError(self._unknown(name))
        if len(plugins) > 1:
            raise RegistryError(f"more than one package offers {name!r}: {', '.join(p.value for p in plugins)}; "
                                "name one of these")
        return _own(plugins[0].value, f"{name!r} of package {plugins[0].dist.name if plugins[0].dist else '?'}: ")

    def _plugins(self) -> dict[str, list[metadata.EntryPoint]]:
        """What installed packages declare, by name; nothing of it is loaded, and what cannot be read is passed over."""
        found: dict[str, list[metadata.EntryPoint]] = {}
        for distribution in metadata.distributions():
            try:
                points = distribution.entry_points.select(group=self.group)
            except Exception:  # damaged metadata of one package must not hurt another
                continue
            for point in points:
                if point not in found.setdefault(point.name, []):
                    found[point.name].append(point)
        return found

    def _unknown(self, name: str) -> str:
        names = (*self._built_in, *self._plugins(), *(n for n in self._found if not is_own(n)))
        if name.endswith(".py") or Path(name).is_file():
            return f"{name!r} is a file: say what in it, {name}:NAME"
        near = difflib.get_close_matches(name, names, 1)
        return f"{name!r} is unknown, " + (f"did you mean {near[0]}?" if near else
                                           f"choose one of {', '.join(names)}, or your own as file.py:NAME")


def is_own(name: str) -> bool:
    """Whether a name is that of a user's own code, "file.py:NAME" or "package.module:NAME"."""
    return ":" in name


def short_name(name: str) -> str:
    """A name that can be part of a file's: "nets/vgg.py:build" is vgg-build, what is built in stays as it is."""
    place, _, attribute = name.rpartition(":")
    stem = Path(place).stem if place.endswith(".py") else place.rpartition(".")[2]
    return f"{stem}-{attribute}" if place else name


def load_file(path: Path) -> ModuleType:
    """The module in a file, executed at most once in a process.  Raises RegistryError that names exception and line."""
    path = path.absolute()
    if not path.is_file():
        raise RegistryError(f"{str(path)!r}: " + ("not a file" if path.exists() else "no such file"))
    real = path.resolve()
    for module in list(sys.modules.values()):  # imported by its name, or the running script
        file = getattr(module, "__dict__", {}).get("__file__")
        if isinstance(file, str) and os.path.realpath(file) == str(real):
            return module
    name = f"own_{hashlib.sha256(str(real).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, real)
    if spec is None or spec.loader is None:
        raise RegistryError(f"{str(path)!r}: not a Python file, its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it runs, as an import does: dataclasses look there
    _also_import_from(real.parent)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise RegistryError(f"{str(path)!r}{where(error, real)}") from error
    return module


def load_module(name: str) -> ModuleType:
    """A module by its dotted name, also from the current folder.  Raises RegistryError that names exception and line."""
    if not all(part.isidentifier() for part in name.split(".")):
        raise RegistryError(f"{name!r} is neither a .py file nor a module")
    _also_import_from(Path.cwd())
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and error.name and f"{name}.".startswith(f"{error.name}."):
            raise RegistryError(f"there is no module {error.name!r}") from error
        raise RegistryError(f"module {name!r}{where(error)}") from error


def where(error: BaseException, file: Path | None = None) -> str:
    """", line 3: NameError: ...": the exception, and the last line of `file` (or of any) that led to it."""
    line, at, trace = None, file, error.__traceback__
    while trace is not None:
        here = Path(trace.tb_frame.f_code.co_filename)
        if file is None or here == file:
            line, at = trace.tb_lineno, here
        trace = trace.tb_next
    if isinstance(error, SyntaxError):
        line, at = error.lineno, Path(error.filename or "?")
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    place = "" if line is None else f", line {line}" + ("" if at == file else f" of {at.name if at else '?'}")
    return f"{place}: {text}"


def _own(name: str, prefix: str = "") -> tuple[Any, str | None]:
    """The object that "place:NAME" names, and the file of its module."""
    place, _, attribute = name.rpartition(":")
    try:
        if not place or not attribute:
            raise RegistryError(f"{name!r} is not of the form file.py:NAME or package.module:NAME")
        is_file = place.endswith(".py") or "/" in place or "\\" in place
        module = load_file(Path(place)) if is_file else load_module(place)
        value = functools.reduce(functools.partial(_attribute, place), attribute.split("."), module)
    except RegistryError as error:
        raise RegistryError(f"{prefix}{error}") from error.__cause__
    return value, getattr(module, "__file__", None)


def _attribute(place: str, owner: Any, name: str) -> Any:
    try:
        return getattr(owner, name)
    except AttributeError:
        public = [key for key in getattr(owner, "__dict__", {}) if not key.startswith("_")]
        near = difflib.get_close_matches(name, public, 1)
        hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(public[-MOST_NAMED:]) or 'nothing'}"
        raise RegistryError(f"{place!r} has no {name!r}, {hint}") from None


def _also_import_from(folder: Path) -> None:
    """Last, so that nothing there can stand in for a module of the project or of Python."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def _text_of(value: Any) -> tuple[str, ModuleType]:
    """The name that finds an object again, "module:NAME" or "file.py:NAME" where the module is a file's, and the module."""
    attribute = getattr(value, "__qualname__", "")
    module = sys.modules.get(value.__module__ or "") if attribute else None
    if not attribute or "<" in attribute:  # not the name of a function or class: the one that some module gives it
        # a script may have imported it: its own module comes first
        for module in sorted(list(sys.modules.values()), key=lambda module: getattr(module, "__name__", "") == "__main__"):
            held = getattr(module, "__dict__", {})
            if attribute := next((key for key in list(held) if held[key] is value and not _is_passing(key)), ""):
                break
    if module is None or not attribute:
        raise RegistryError(f"{value!r} has no name that would find it again: give it one in a module, or `add` it")
    file = getattr(module, "__file__", None)
    is_named = module.__name__ != "__main__" and not module.__name__.startswith("own_")
    return f"{module.__name__ if is_named or not file else file}:{attribute}", module


def _is_passing(name: str) -> bool:
    """Whether a notebook gives this name to whatever came last: _, __, _12."""
    return name.strip("_").isdecimal() or not name.strip("_")


def _source(value: Any) -> str:
    """The SHA-256 of the text of a function or class, or of the class of an object; empty where it is not to be had."""
    owner = value if inspect.isfunction(value) or inspect.isclass(value) else type(value)
    try:
        text = inspect.getsource(owner) if owner.__module__ == "__main__" else ""
    except (OSError, TypeError):
        text = ""
    return hashlib.sha256(text.encode()).hexdigest() if text else ""


def _file_of(value: Any) -> str | None:
    module = sys.modules.get(getattr(value, "__module__", None) or "")
    return getattr(module, "__file__", None)


def _digest(file: str | None) -> str:
    try:
        return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else ""
    except OSError:
        return ""
