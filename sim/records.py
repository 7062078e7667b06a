"""Records of runs and evaluations: JSON that says what it is and whether it is whole.

Records carry "schema" and "digest" (SHA-256 of the canonical JSON of all the rest); those from before have neither.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from sim.files import write_text_atomically

SCHEMA = 2


class RecordError(ValueError):
    """A file that is not a whole record, and why."""


def write_record(path: Path | str, record: dict[str, Any]) -> None:
    """Write the record with its schema and digest."""
    content = {**record, "schema": SCHEMA}
    content.pop("digest", None)
    text = json.dumps({**content, "digest": _digest(content)}, indent=1, allow_nan=False)
    write_text_atomically(Path(path), text + "\n")


def read_record(path: Path | str, kind: str | None = None) -> dict[str, Any]:
    """The record in the file; raises RecordError if it is damaged, or of another kind than `kind`."""
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path}: not a record ({' '.join(str(error).split())})") from None
    if not isinstance(record, dict):
        raise RecordError(f"{path}: not a record")
    rest = {key: value for key, value in record.items() if key != "digest"}
    if "digest" in record and record["digest"] != _digest(rest):
        raise RecordError(f"{path}: damaged, its digest is that of other content")
    if kind is not None and record.get("kind") != kind:
        raise RecordError(f"{path}: of kind {record.get('kind')!r}, not {kind!r}")
    return record


def _digest(content: dict[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()
