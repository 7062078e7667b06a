"""Run records: JSON files that say what was run, with a digest of their content.

    schema    2                      what the file's keys mean
    digest    "sha256:..."           of the canonical JSON of all the rest, checked whenever a record is read
    kind      training, evaluation, performance, conformance, or another word

A record from before there were digests has neither entry; it is read, and only its shape can be checked.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from sim.files import write_text_atomically
from sim.text import printable

SCHEMA = 2
WHOLE, NUMBER, TEXT, NOTHING = int, (int, float), str, type(None)
"""Types of single values; neither number is a bool.  A dictionary names the keys that must be there, "*" every key."""
_EPOCH = {"epoch": WHOLE, "loss": NUMBER, "validation_accuracy": NUMBER, "validation_loss": NUMBER, "seconds": NUMBER}
_PRECISION = {"inner": WHOLE, "boundary": WHOLE, "skip": WHOLE}
_REGISTER = {"bits": (WHOLE, NOTHING), "overflow": TEXT, "tile": (WHOLE, TEXT)}
_ORIGIN = {"command": TEXT, "commit": TEXT, "date": TEXT, "versions?": {"*": TEXT},
           "hardware": {"cpu": TEXT, "cores": WHOLE, "threads": WHOLE}}
SHAPES: Mapping[str, Mapping[str, Any]] = {
    "training": {
        **_ORIGIN, "status": TEXT, "data_digest?": TEXT,
        "config": {"scheme": TEXT, "dataset": TEXT, "model": TEXT, "width": WHOLE, "path": [WHOLE], "seed": WHOLE,
                   "preset": TEXT, "epochs": WHOLE, "quantizer": TEXT},
        "steps": {"*": {"bits": WHOLE, "epochs": [_EPOCH], "best?": {"accuracy": NUMBER, "loss": NUMBER, "epoch": WHOLE},
                        "from?": TEXT}},
        "test?": {"accuracy": NUMBER, "loss": NUMBER, "images": WHOLE}},
    "evaluation": {
        **_ORIGIN, "model": TEXT, "dataset": TEXT, "precision?": _PRECISION, "trained_precision?": _PRECISION,
        "hardware_spec?": {"accumulator": _REGISTER, "boundary_accumulator": _REGISTER, "requant": TEXT},
        "training": {}, "program": TEXT, "isa": TEXT,
        "result": {"images": WHOLE, "accuracy": NUMBER, "compared?": WHOLE, "differing?": WHOLE},
        "layers": [{"name": TEXT, "role?": TEXT, "macs": WHOLE, "safe_bits": WHOLE, "overflows": WHOLE, "outputs": WHOLE}]},
    "performance": {**_ORIGIN, "rows": [{"what": TEXT, "case": TEXT, "impl": TEXT, "isa": TEXT, "unit": TEXT,
                               "value": (*NUMBER, NOTHING), "spread": (list, NOTHING)}],
                    "ratios": [{"measure": TEXT, "target": TEXT, "cases": WHOLE}]},
    "conformance": {**_ORIGIN, "folder": TEXT,
                    "rows": [{"family": TEXT, "operation": TEXT, "rule": TEXT, "cases": WHOLE, "tensors": WHOLE,
                              "codes": WHOLE, "differing": WHOLE, "plain": WHOLE, "plain_differing": WHOLE}],
                    "unsupported": [{"family": TEXT, "operation": TEXT, "reason": TEXT, "cases": [TEXT]}]},
    "runtimes": {**_ORIGIN, "model": TEXT, "inputs": TEXT,
                 "rows": [{"profile": TEXT, "overflow": TEXT,
                           "widths": {"*": {"right": WHOLE, "of": WHOLE, "overflowed": NUMBER}}}]},
}
"""What a record of a kind holds at least; a key with "?" may be left out."""


class RecordError(ValueError):
    """A file that is no usable record, and why."""


def write_record(path: Path | str, record: Mapping[str, Any]) -> None:
    """Write a record of plain values, with its schema and digest, completely or not at all.

    Raises TypeError or ValueError for what JSON cannot hold (NaN included), OSError if it cannot be written.
    """
    rest = {key: value for key, value in record.items() if key not in ("schema", "digest")}
    plain = json.loads(json.dumps({"schema": SCHEMA, **rest}, allow_nan=False))
    write_text_atomically(path, json.dumps({**plain, "digest": digest_of(plain)}, indent=1, allow_nan=False) + "\n")


def read_record(path: Path | str, kind: str | None = None) -> dict[str, Any]:
    """The record in a file, checked: its JSON, digest, schema and shape, and its kind if one is asked for.

    Raises RecordError with one line, OSError if the file cannot be read.  A record from before there were digests comes
    without "digest".
    """
    content = Path(path).read_bytes()
    try:
        record = parse_json(content)
        if not isinstance(record, dict):
            raise RecordError("a record is a dictionary")
        _check_digest(record)
        found = record.get("kind", "performance" if {"rows", "ratios"} <= record.keys() else "")
        if kind is not None and found != kind:
            raise RecordError(f"it is {_named(found)}, and one of kind {kind} is wanted")
        if isinstance(found, str) and found in SHAPES:
            _check(record, SHAPES[found], "")
    except RecordError as error:
        raise RecordError(f"{printable(path)}: {error}") from None
    return record


def parse_json(content: bytes) -> Any:
    """The value of JSON in UTF-8.  Raises RecordError for anything else, NaN and keys that stand twice included."""
    try:
        return json.loads(content.decode(), object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except RecordError:
        raise
    except RecursionError:
        raise RecordError("not a record, its JSON is nested too deeply") from None
    except ValueError as error:
        raise RecordError(f"not a record, or damaged: {printable(error)}") from None


def digest_of(record: Mapping[str, Any]) -> str:
    """The digest of plain values, whatever the order of their keys; an entry "digest" does not count."""
    rest = {key: value for key, value in record.items() if key != "digest"}
    return "sha256:" + hashlib.sha256(canonical_json(rest)).hexdigest()


def canonical_json(value: Any) -> bytes:
    """ASCII, keys in order, no blanks: one text for each value.  Raises TypeError or ValueError for what is no JSON."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _check_digest(record: Mapping[str, Any]) -> None:
    if "schema" not in record and "digest" not in record:
        return
    if record.get("schema") != SCHEMA or isinstance(record["schema"], bool):
        raise RecordError(f"its schema is {printable(repr(record.get('schema')))}, this program reads {SCHEMA}")
    if "digest" not in record:
        raise RecordError("its digest is missing, the file was changed")
    try:
        digest = digest_of(record)
    except (ValueError, RecursionError):  # a number beyond every float
        digest = ""
    if record["digest"] != digest:
        raise RecordError("the digest does not match, the file was changed")


def _check(value: Any, shape: Any, where: str) -> None:
    """Raise RecordError at the first value that is not as its shape says."""
    if isinstance(shape, Mapping):
        _check_keys(value, shape, where)
    elif isinstance(shape, list):
        if not isinstance(value, list):
            raise RecordError(f"{where} is no list")
        for index, part in enumerate(value):
            _check(part, shape[0], f"{where}[{index}]")
    elif not isinstance(value, shape) or isinstance(value, bool):
        raise RecordError(f"{where} is {_short(value)}, which it cannot be")


def _check_keys(value: Any, shape: Mapping[str, Any], where: str) -> None:
    if not isinstance(value, dict):
        raise RecordError(f"{where or 'a record'} is no dictionary")
    for key, inner in shape.items():
        name, is_needed = key.removesuffix("?"), not key.endswith("?")
        for each in value if name == "*" else [name]:
            path = printable(f"{where}.{each}" if where else each)
            if each in value:
                _check(value[each], inner, path)
            elif is_needed:
                raise RecordError(f"{path} is missing")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise RecordError("not a record, or damaged: a key stands twice in it")
    return result


def _refuse_constant(name: str) -> NoReturn:
    raise RecordError(f"not a record, or damaged: {name} is no number")


def _named(kind: Any) -> str:
    return f"a record of kind {_short(kind)}" if kind else "a record of no kind"


def _short(value: Any) -> str:
    text = printable(value if isinstance(value, str) else type(value).__name__)
    return text if len(text) <= 40 else text[:37] + "..."
