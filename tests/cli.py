"""Commands as a test calls them: in this process, where a start costs nothing, or in one of their own."""

import contextlib
import io
import os
import runpy
import subprocess
import sys
import warnings
from pathlib import Path

import pytest


def run(module, *options, limit=None, **kwargs):
    """What `python -m module` does with these options: its exit status and what it prints.

    In a process of its own only if that has to differ from this one: in the size of files that it may write (`limit`, in
    bytes), or in what subprocess.run is told.
    """
    if limit is None and not kwargs:
        return _run_here(module, *map(str, options))
    program = [sys.executable, "-m", module, *map(str, options)]
    if limit is not None:
        program = [sys.executable, "-c", f"""
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
sys.argv = {program[2:]!r}
runpy.run_module({module!r}, run_name="__main__", alter_sys=True)
"""]
    return subprocess.run(program, capture_output=True, text=True, check=False, **kwargs)


def _run_here(module, *options):
    status = 0
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr(sys, "argv", [module, *options])
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", ".*found in sys.modules", RuntimeWarning)
                runpy.run_module(module, run_name="__main__", alter_sys=True)
        except SystemExit as stop:
            status = stop.code or 0
    texts = [stream.buffer.getvalue().decode() for stream in (out, err)]
    return subprocess.CompletedProcess([module, *options], status, *texts)


def processes_in(folder):
    """The processes beside this one that work in a folder, where the system tells."""
    found = []
    for link in Path("/proc").glob("[0-9]*/cwd"):
        with contextlib.suppress(OSError):
            if link.resolve() == Path(folder).resolve() and link.parent.name != str(os.getpid()):
                found.append(int(link.parent.name))
    return found


def assert_one_line(result, *words, status=None):
    """The command failed, with one line that holds these words."""
    assert result.returncode != 0 if status is None else result.returncode == status, result.stdout
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    for word in words:
        assert word in lines[0]
