"""Windows that were made once, kept between runs in a file named by what they were made of and begun by its own digest.

Trouble there costs a minute, and never stops a run.
"""

import hashlib
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sim.files import write_atomically

FOLDER = "texts"
_DIGEST = 32


def kept_at(key: str) -> Path | None:
    """The file of a key; None where no folder for it is known."""
    try:
        base = Path(os.environ.get("BITTRUE_CACHE_DIR") or
                    Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bittrue")
    except RuntimeError:  # no home
        return None
    return base / FOLDER / f"{key[:32]}.windows"


def load_kept(key: str) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
    """Arrays and facts that were kept under a key; None if there are none, or not whole."""
    path = kept_at(key)
    try:
        if path is None:
            return None
        content = path.read_bytes()
        if hashlib.sha256(content[_DIGEST:]).digest() != content[:_DIGEST]:
            return None
        with np.load(io.BytesIO(content[_DIGEST:]), allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        facts = json.loads(arrays.pop("facts").tobytes())
        return (arrays, facts) if facts.pop("key") == key else None
    except (OSError, ValueError, KeyError, EOFError):
        return None


def keep(key: str, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> None:
    """Keep arrays and plain facts, completely or not at all."""
    path = kept_at(key)
    if path is None:
        return
    stored = io.BytesIO()
    text = json.dumps({**facts, "key": key}).encode()
    np.savez(stored, allow_pickle=False, facts=np.frombuffer(text, np.uint8), **arrays)
    content = stored.getvalue()
    try:
        write_atomically(path, lambda file: file.write(hashlib.sha256(content).digest() + content))
    except OSError:  # a full disk, a folder that nobody may write to
        return
