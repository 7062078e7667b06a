"""Provenance: which command, commit, sources, versions and hardware made a number."""

import hashlib
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from sim.text import shell_word

ROOT = Path(__file__).resolve().parent.parent
CODE = ("sim", "training")
PACKAGES = ("torch", "numpy", "numba", "scikit-learn")
INSTRUCTIONS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16")
"""Of a processor's flags, as Linux names them, those that decide which kernels run."""
_CPU_INFO = Path("/proc/cpuinfo")


def provenance(command: str, device: str = "cpu") -> dict[str, Any]:
    """Command, commit, digest of the sources, date, versions and hardware of the running program.

    `command` is what `command_line` makes of the options, never the arguments of whatever program called.
    """
    return {
        "command": command,
        "commit": commit(),
        "sources": sources(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "versions": versions(PACKAGES),
        "hardware": hardware(device),
    }


def command_line(module: str, options: Mapping[str, object], arguments: Sequence[str] = ()) -> str:
    """The command that a shell runs again: python -m training.run --scheme takd --out 'a b' --resume.

    Options are named with _ or -; None and False are left out, True is a flag, a list is an option given several times.
    It is one line, whatever names hold.  Where the command `bittrue` runs, its words stand for python -m: `bittrue train`.
    """
    words = _program(module)
    for key, value in options.items():
        name = "--" + key.lstrip("-").replace("_", "-")
        for each in value if isinstance(value, (list, tuple)) else [value]:
            text = str(each)
            if each is True:
                words.append(name)
            elif each is not None and each is not False:
                words += [f"{name}={text}"] if text.startswith("-") else [name, text]
    if any(argument.startswith("-") for argument in arguments):
        words.append("--")
    return " ".join(map(shell_word, [*words, *arguments]))


def _program(module: str) -> list[str]:
    """The words that run a module: as this process was started, because python -m finds a sim.py of the current folder."""
    if sys.argv[0].startswith("bittrue "):
        from bittrue.command import COMMANDS

        if names := [name for name, (runs, _) in COMMANDS.items() if runs == module]:
            return ["bittrue", names[0]]
    return ["python", "-m", module]


def commit() -> str:
    """The commit of the repository that holds this package, "-dirty" if its code is not as committed.

    "unknown" where there is no git, or where the package only lies in a repository that is another's.
    """
    try:
        if not Path(_git("rev-parse", "--show-toplevel")).samefile(ROOT):
            return "unknown"
        _git("ls-files", "--error-unmatch", "--", "training/record.py")
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", *CODE, "bench")
        added = _git("ls-files", "--others", "--", *(f"{folder}/*.py" for folder in CODE))
        return _git("rev-parse", "HEAD") + ("-dirty" if changed or added else "")
    except (OSError, ValueError, subprocess.SubprocessError):
        return "unknown"


def sources() -> str:
    """A digest of every source file of sim and training: the same for the same code, in a repository or installed."""
    digest = hashlib.sha256()
    for file in sorted(file for folder in CODE for file in (ROOT / folder).rglob("*.py")):
        content = file.read_bytes()
        digest.update(f"{file.relative_to(ROOT).as_posix()} {len(content)}\n".encode() + content)
    return f"sha256:{digest.hexdigest()}"


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Package -> its version, or "not installed"."""
    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def hardware(device: str = "cpu") -> dict[str, Any]:
    """Processor (its name alone is that of several), accelerator if one is used, cores and threads.

    `family`, `model` and `stepping` are the processor's numbers, None where the system does not tell them;
    `instructions` are those of INSTRUCTIONS that it has.
    """
    info = _cpu_info()
    flags = info.get("flags", "").split()
    numbers = {name: int(info[key]) if info.get(key, "").isdecimal() else None
               for name, key in (("family", "cpu family"), ("model", "model"), ("stepping", "stepping"))}
    result: dict[str, Any] = {
        "cpu": info.get("model name") or platform.processor() or platform.machine() or "unknown", **numbers,
        "instructions": [name for name in INSTRUCTIONS if name in flags],
        "cores": os.cpu_count(), "threads": torch.get_num_threads()}
    if device.startswith("cuda"):
        result["gpu"] = torch.cuda.get_device_name(device)
    return result


def _cpu_info() -> dict[str, str]:
    """What Linux says of the first processor; empty elsewhere."""
    try:
        first = _CPU_INFO.read_text(errors="replace").split("\n\n")[0]
    except OSError:
        return {}
    return {key: value for key, value in re.findall(r"^([^:\n]*?)[ \t]*:[ \t]*(.*)$", first, re.MULTILINE) if value}


def _git(*arguments: str) -> str:
    """Of the repository around this package, whatever repository a calling hook has named in its environment."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return subprocess.run(["git", "-C", str(ROOT), *arguments], check=True, capture_output=True, text=True, timeout=20,
                          env=environment).stdout.strip()
