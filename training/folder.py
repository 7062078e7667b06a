"""The folder of a run: held by one process at a time, and its record, which says what was done in it and when.

A record begins before anything else is written, so that a run can be killed at any moment and continued.  Its provenance is
that of the first session; each session, the first and every --resume, stands in "sessions" with the epochs that it did.

More epochs at --resume: an unfinished run goes on with the new number; steps that are done stay as they are, the rate of
the rest is that of the new number.  A finished run goes on from its student's checkpoint, the best epoch and not the last,
at the rate that the new number has there; its optimizer begins anew, without momentum, and the test set is looked at once
more.
Either way the record says so in "extended": such a run is none of those that had their epochs from the start.
"""

import contextlib
import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sim.files import remove_stale
from sim.records import RecordError, read_record
from sim.registry import is_own, short_name
from training.config import MULTISTEP, differences
from training.options import ConfigError

RESULTS = Path("results")
"""Of the working directory: where sweeps put records and tables are made unless told otherwise."""
RECORD_FILE, FINAL_FILE, RESUME_FILE, CURVES_FILE = "run.json", "ckpt.pt", "resume.pt", "curves.svg"
KIND = "training"
FILES = ("teacher", "init_from", "individual", "float_weights")
"""Options that name a file of weights; its digest is recorded, so that it may move and must not change."""


@dataclass(frozen=True)
class Now:
    """What is asked of a folder now: a configuration, the data, digests of `FILES`, and the provenance of this session."""

    config: Mapping[str, Any]
    data: Mapping[str, Any]
    digests: Mapping[str, str]
    provenance: Mapping[str, Any]
    code: Mapping[str, Any]
    last_epochs: int
    """Of the last step, 0 if it trains nothing."""


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Make the folder and keep other runs out of it until the end of the block, or of this process however it ends.

    Raises ConfigError if another run is going on there, OSError if it cannot be made.  What a killed run left half-written
    is removed.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"out: {folder} is no folder, choose another --out")
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        _lock(handle, folder)
        remove_stale(folder)
        yield
    finally:
        os.close(handle)


def _lock(handle: int, folder: Path) -> None:
    try:
        import fcntl
    except ImportError:  # there are systems without; the lock is a help, not a need
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConfigError(f"{folder}: another run is going on in this folder, wait for it or choose another --out") from None
    except OSError:  # a file system that knows no locks
        return


def digests_of(config: Mapping[str, Any]) -> dict[str, str]:
    """The digest of each checkpoint that the configuration names; OSError if one cannot be read."""
    return {key: "sha256:" + hashlib.sha256(Path(config[key]).read_bytes()).hexdigest() for key in FILES if config[key]}


def open_record(folder: Path, now: Now, resume: bool) -> dict[str, Any]:
    """The record of the run in `folder`: a new one, or the one to continue with this session noted.

    A finished one comes back as it is, unless more epochs are asked for.  Nothing is written.  Raises ConfigError or
    RecordError.
    """
    file = folder / RECORD_FILE
    if not file.exists():
        if foreign := sorted(path.name for path in folder.iterdir() if path.suffix == ".pt" or path.name == CURVES_FILE):
            raise ConfigError(f"{folder} holds {foreign[0]} but no {RECORD_FILE}: choose another --out")
        record = {"kind": KIND, "config": dict(now.config), "data_digest": now.data["digest"], "data": dict(now.data),
                  "digests": dict(now.digests), **({"own_code": dict(now.code)} if now.code else {}), **now.provenance,
                  "status": "running", "sessions": [], "steps": {}}
        _begin_session(record, now, {})
        return record
    if not resume:
        raise ConfigError(f"{folder} already holds a run: continue it with --resume or choose another --out")
    record = read_record(file, KIND)
    _check_shape(file, record)
    moved = _check_same(folder, record, now)
    if _extension(folder, record, now) or record["status"] != "finished":
        _check_code(folder, record, now)
        record["config"] = dict(now.config)
        _begin_session(record, now, moved)
    return record


def note_epochs(record: dict[str, Any]) -> None:
    """Bring the epochs of each session, {step: [first, last]}, up to date with those of the steps."""
    for number, session in enumerate(record.get("sessions", [])):
        done = {name: [entry["epoch"] for entry in step["epochs"] if entry.get("session", 0) == number]
                for name, step in record["steps"].items()}
        session["epochs"] = {name: [min(epochs), max(epochs)] for name, epochs in done.items() if epochs}


def _begin_session(record: dict[str, Any], now: Now, moved: Mapping[str, Any]) -> None:
    if not record.setdefault("sessions", []) and record["steps"]:  # a record from before there were sessions
        first = {key: record[key] for key in now.provenance if key in record}
        record["sessions"].append({**first, "epochs": {}})
    record["sessions"].append({**now.provenance, "epochs": {}, **({"moved": dict(moved)} if moved else {})})


def _before(config: Mapping[str, Any]) -> dict[str, Any]:
    """A recorded configuration with what it lacks if it is from before there was such an option."""
    augment = "crop" if config.get("dataset") == "digits" else "crop-flip"
    unread: dict[str, Any] = {"milestones": []} if config.get("schedule") != MULTISTEP else {}
    later = {"gradients": "float32", "size": "", "float_weights": "", "mean": [], "std": [],
             "warmup": 0.1, "optimizer": "sgd", "label_smoothing": 0.0, "clip": 0.0, "accumulate": 1,
             "hidden_weight": 0.0, "attention_weight": 0.0, "validation_limit": None, "test_limit": None,
             "accumulator_bits": 0, "accumulator_training": "", "overflow": "wrap", "tile": "1"}
    return {**later, "augment": augment, **config, **unread}


def unlike(record: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    """What of a configuration is another one in a record, as far as that knows it.

    Not where data, checkpoints and own code lie: they may have moved, and are compared by their digests when a run goes on.
    """
    there = _before(record["config"])
    keys = [key for key in config.keys() & there.keys() if key not in (*FILES, "data") and not is_own(str(there[key]))]
    return differences({key: config[key] for key in keys}, {key: there[key] for key in keys})


def _check_same(folder: Path, record: Mapping[str, Any], now: Now) -> dict[str, Any]:
    """What has moved since; raises ConfigError if this is not the run in the folder."""
    if record.get("data_digest") != now.data["digest"]:
        raise ConfigError(f"{folder} holds a run on other data than there are now: choose another --out")
    there, mine = _before(record["config"]), dict(now.config)
    before = {"data": record["data_digest"], **record.get("digests", {})}
    present = {"data": now.data["digest"], **now.digests}
    for key in FILES:
        if key in before and key in present and before[key] != present[key]:
            raise ConfigError(f"{folder} holds a run with another --{key.replace('_', '-')} than {mine[key]} is now: "
                              "choose another --out")
    moved = {key: {"from": there[key], "to": mine[key]} for key in before
             if there.get(key) != mine.get(key) and before[key] == present.get(key)} | _moved_code(record, there, now)
    free = {*moved, "epochs"} | ({"milestones"} if mine["epochs"] > there.get("epochs", 0) else set())
    if changed := differences({k: v for k, v in mine.items() if k not in free},
                              {k: v for k, v in there.items() if k not in free}):
        raise ConfigError(f"{folder} holds another run ({'; '.join(changed)}): choose another --out")
    if mine["epochs"] < there["epochs"]:
        raise ConfigError(f"{folder} holds a run of {there['epochs']} epochs, fewer are not possible: epochs "
                          f"{there['epochs']} or more, or choose another --out")
    return moved


def _check_code(folder: Path, record: Mapping[str, Any], now: Now) -> None:
    """Raise ConfigError if own code that this run goes on with is no longer what it began with."""
    for key, code in now.code.items():
        is_same = any(code.get(part) and code[part] == _digest_of_code(record, key, part) for part in ("sha256", "source"))
        if not is_same and any(code.get(part) and _digest_of_code(record, key, part) for part in ("sha256", "source")):
            raise ConfigError(f"{key.replace('_', '-')}: the file of {code['name']} has changed since the run in {folder} "
                              "began: restore it or choose another --out")


def _digest_of_code(record: Mapping[str, Any], key: str, part: str = "sha256") -> str:
    code = record.get("own_code", {}).get(key)
    return str(code.get(part) or "") if isinstance(code, dict) else ""


def _moved_code(record: Mapping[str, Any], there: Mapping[str, Any], now: Now) -> dict[str, Any]:
    """Own code that is named from another folder now, and is the same by its short name and its file's digest."""
    return {key: {"from": before, "to": code["name"]} for key, code in now.code.items()
            if is_own(before := str(there.get(key))) and before != code["name"]
            and short_name(before) == short_name(code["name"])
            and code["sha256"] and code["sha256"] == _digest_of_code(record, key)}


def _extension(folder: Path, record: dict[str, Any], now: Now) -> bool:
    """Note that a run goes on for more epochs than it was begun with; a finished one begins again at its last step."""
    was, asked = record["config"]["epochs"], now.config["epochs"]
    if asked == was:
        return False
    finished, steps = record["status"] == "finished", list(record["steps"].values())
    if finished and now.last_epochs <= len(steps[-1]["epochs"]):
        raise ConfigError(f"epochs: the run in {folder} is finished, and with {asked} epochs its last step has no more than "
                          "it had: choose more, or another --out")
    if any(step["epochs"] for step in steps):
        entry = {"from": was, "to": asked, "of": record["status"], "session": max(1, len(record.get("sessions", [])))}
        entry |= {"test": record.pop("test")} if finished else {}
        record.setdefault("extended", []).append(entry)
    if finished:
        record["status"], steps[-1]["planned"] = "running", now.last_epochs
    return True


def _check_shape(file: Path, record: Mapping[str, Any]) -> None:
    """Raise RecordError unless what a run reads is there beside what every reader needs; old records have no digest."""
    sessions, steps = record.get("sessions", []), record["steps"]
    kinds = [(record["config"].get("epochs"), int), (sessions, list), (record.get("extended", []), list),
             (record.get("digests", {}), dict), (record.get("data", {}), dict), (record.get("own_code", {}), dict)]
    good = all(isinstance(value, kind) for value, kind in kinds) and all(isinstance(session, dict) for session in sessions)
    good = good and all(("best" in step and step["epochs"]) or "from" in step for step in steps.values())
    if not good or (record["status"] == "finished" and not ("test" in record and steps)):
        raise RecordError(f"{file}: damaged, restore it or choose another --out")
