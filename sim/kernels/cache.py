"""Where compiled kernels are kept between processes.  Trouble there costs compilations, and never stops a run.

numba's own cache looks at the file of a kernel alone, and would go on using code whose callees have changed; it checks
nothing that it reads, and ends the run when a disk is full.  Here kernels lie in a folder named by a digest of the
sources with compiled code, the versions and the processor, each in a file that begins with the digest of its content.
"""

import contextlib
import functools
import hashlib
import logging
import os
import pickle
import platform
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import llvmlite
import numba
import numpy as np
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

_DIGEST_BYTES = 32
_ROOT = Path(__file__).resolve().parent.parent.parent
_SOURCES = tuple(str(_ROOT / package) + os.sep for package in ("sim", "training"))


COMPILED = ("kernels", "requantizers")
"""The folders of sim in which compiled code stands; it takes no constant from anywhere else (a test sees to that)."""


def source_digest(*folders: str) -> str:
    """A digest of all sources of sim, or of those of some folders, of the versions that compile them, and the processor."""
    digest = hashlib.sha256()
    root = Path(__file__).resolve().parent.parent
    for path in sorted(path for folder in folders or (".",) for path in (root / folder).rglob("*.py")):
        digest.update(path.name.encode() + path.read_bytes())
    cpu = (llvmlite.binding.get_host_cpu_name(), llvmlite.binding.get_host_cpu_features().flatten())
    settings = ("NUMBA_BOUNDSCHECK", "NUMBA_OPT", "NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES")
    facts = (platform.python_version(), numba.__version__, llvmlite.__version__, np.__version__, *cpu,
             *(os.environ.get(name, "") for name in settings))
    digest.update(repr(facts).encode())
    return digest.hexdigest()[:16]


_said: set[str] = set()
"""What one line has been printed about: a full disk is met by every kernel."""


def warn_once(what: str, path: Path, error: BaseException | str) -> None:
    """One line in a process that says what goes on without something, where that was to be, and what was wrong there."""
    if what not in _said:
        _said.add(what)
        reason = getattr(error, "strerror", None) or f"{error}" or type(error).__name__
        logging.getLogger("sim").warning("%s: %r: %s", what, str(path), " ".join(reason.split()))


def _warn(path: Path, error: BaseException | str) -> None:
    warn_once("going on without the cache of compiled kernels", path, error)


def _prepare_cache() -> Path | None:
    """The folder of this digest; None if none can be written."""
    if numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
        return None
    base = None
    try:
        base = Path(os.environ.get("BITTRUE_CACHE_DIR") or
                    Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bittrue")
        folder = base / source_digest(*COMPILED)
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, RuntimeError, ValueError) as error:  # no home, a null byte in a variable
        _warn(base or Path("~"), error)
        return None
    return folder


CACHE_FOLDER = _prepare_cache()
"""Whatever belongs to this digest may lie there."""


class KernelCache:
    """What a dispatcher of numba wants of a cache, for one function."""

    def __init__(self, function: Callable[..., Any], folder: Path) -> None:
        self._folder = folder
        code = function.__code__
        # what is called belongs to it: a requantizer's line may come from anywhere and be edited
        sources = [_file_digest(path) for path in sorted(_files(function, set()))]
        self._stem = f"{function.__module__}.{function.__qualname__}"[-80:]
        self._facts = (function.__module__, function.__qualname__, code.co_firstlineno, code.co_code, sources)

    @property
    def cache_path(self) -> str:
        """The folder."""
        return str(self._folder)

    def enable(self) -> None:
        """It always is."""

    def disable(self) -> None:
        """It never is: there is none then."""

    def flush(self) -> None:
        """Nothing waits to be written."""

    def load_overload(self, signature: Any, target: Any) -> Any:
        """The kernel compiled for these types, None if it is not there or not whole."""
        target.refresh()
        path = self._path(signature, target.codegen())
        try:
            content = path.read_bytes()
            digest, payload = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
            if hashlib.sha256(payload).digest() != digest:
                _warn(path, "the file is damaged, its kernel is compiled again")
                return None
            return CompileResult._rebuild(target, *pickle.loads(payload))
        except FileNotFoundError:
            return None
        except Exception as error:  # whatever stands in a file or in the way to it
            _warn(path, error)
            return None

    def save_overload(self, signature: Any, result: Any) -> None:
        """Keep a compiled kernel, if that is possible."""
        path = self._path(signature, result.codegen)
        try:
            if result.lifted or result.library.has_dynamic_globals:  # addresses of this process
                return
            payload = dumps(result._reduce())
            with _replacing(path) as file:
                file.write(hashlib.sha256(payload).digest() + payload)
        except Exception as error:  # a full disk, a folder that has gone, a numba that has changed
            _warn(path, error)

    def _path(self, signature: Any, codegen: Any) -> Path:
        key = hashlib.sha256(repr((self._facts, signature, codegen.magic_tuple())).encode()).hexdigest()[:24]
        return self._folder / f"{self._stem}-{key}.kernel"


def keep(compiled: Any) -> Any:
    """Give what numba compiles, a dispatcher or a C function, the cache of this folder, if there is one."""
    function: Any = getattr(compiled, "py_func", None) or getattr(compiled, "__wrapped__", None)
    if CACHE_FOLDER is not None and hasattr(compiled, "_cache") and all(map(_is_ours, _files(function, set()))):
        compiled._cache = KernelCache(function, CACHE_FOLDER)
    return compiled


def _is_ours(path: str) -> bool:
    """Whether it is a file of this project: nothing tells what a kernel of a user's own file depends on."""
    return os.path.realpath(path).startswith(_SOURCES) and Path(path).is_file()


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[Any]:
    """A file beside `path` that becomes it when it is whole; nothing is flushed to the disk, as digests tell."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


def _files(function: Any, seen: set[str]) -> set[str]:
    """Source files of a function and of all compiled functions that it calls."""
    code = function.__code__
    files = {code.co_filename}
    for name in code.co_names:
        value = function.__globals__.get(name)
        callee = getattr(value, "py_func", None) or getattr(value, "_defn", None)
        key = f"{name} {id(value)}"
        if hasattr(callee, "__code__") and key not in seen:
            seen.add(key)
            files |= _files(callee, seen)
    return files


@functools.cache
def _file_digest(path: str) -> str:
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError:
        return path
