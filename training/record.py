"""Provenance: which commit, versions and hardware made a number."""

import json
import os
import platform
import re
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from sim.files import write_text_atomically

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("torch", "numpy", "numba", "scikit-learn")


def provenance(module: str, device: str = "cpu") -> dict[str, Any]:
    """Command, commit, date, versions and hardware of the running program."""
    return {
        "command": " ".join(["python", "-m", module, *sys.argv[1:]]),
        "commit": commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "hardware": hardware(device),
    }


def commit() -> str:
    """The project's commit, with "-dirty" if its code has uncommitted changes; "unknown" outside git."""
    try:
        def git(*args: str) -> str:
            return subprocess.run(["git", "-C", str(ROOT), *args], check=True, capture_output=True, text=True,
                                  timeout=20).stdout.strip()

        changed = git("status", "--porcelain", "--untracked-files=no", "--", "sim", "training", "bench")
        return git("rev-parse", "HEAD") + ("-dirty" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def hardware(device: str = "cpu") -> dict[str, Any]:
    """Processor (or accelerator), cores and threads."""
    model = platform.processor() or platform.machine()
    if (info := Path("/proc/cpuinfo")).exists() and (found := re.search(r"model name\s*:\s*(.+)", info.read_text())):
        model = found[1]
    result: dict[str, Any] = {"cpu": model, "cores": os.cpu_count(), "threads": torch.get_num_threads()}
    if device.startswith("cuda"):
        result["gpu"] = torch.cuda.get_device_name(device)
    return result


def write_json(path: Path, value: Any) -> None:
    """One complete JSON file, or none."""
    write_text_atomically(path, json.dumps(value, indent=1, allow_nan=False) + "\n")
