"""The folder of kept records: nothing in it makes way for what other code or another configuration made, unasked."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sim.files import write_atomically
from sim.records import read_record
from training.record import commit, sources
from training.sweeps.work import SweepError


@dataclass(frozen=True)
class Keeper:
    """The folder that keeps records byte for byte, and whether those of other code may be replaced."""

    folder: Path
    replace: bool = False

    def check(self, planned: Mapping[str, Path]) -> None:
        """Before hours of training: raise SweepError if a kept record would have to make way for another one.

        `planned`: the name of every record to keep -> where its run writes it, finished or not.
        """
        others = []
        for name, source in planned.items():
            kept = self.folder / name
            if kept.exists() and not self.replace:
                is_same = _is_same_run(read_record(kept), read_record(source)) if source.exists() else _is_by_this_code(kept)
                if not is_same:
                    others.append(kept)
        if others:
            more = f" and {len(others) - 1} more" if len(others) > 1 else ""
            raise SweepError(f"{others[0]}{more}: made by another configuration or other code; keep the new ones elsewhere "
                             "with --results DIR, or replace these with --replace")

    def keep(self, source: Path, name: str) -> None:
        """Copy a record; raises SweepError for one that would replace that of another run."""
        kept = self.folder / name
        content, record = source.read_bytes(), read_record(source)
        if kept.exists():
            if kept.read_bytes() == content:
                return
            if not self.replace and not _is_same_run(read_record(kept), record):
                raise SweepError(f"{kept}: made by another configuration or other code than {source}; keep the new one "
                                 "elsewhere with --results DIR, or replace it with --replace")
        write_atomically(kept, lambda file: file.write(content))


def _is_same_run(kept: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether two records are equal or of one configuration by the same code, so that nothing is lost with the first."""
    def asked(record: Mapping[str, Any]) -> str:
        keys = ("kind", "config", "data_digest", "training", "precision", "hardware_spec", "dataset", "model")
        return json.dumps([record.get(key) for key in keys], sort_keys=True)

    return kept == new or (asked(kept) == asked(new) and _is_same_code(kept, new))


def _is_by_this_code(kept: Path) -> bool:
    return _is_same_code(read_record(kept), {"commit": commit(), "sources": sources()})


def _is_same_code(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """By the digest of the sources; where a record has none by its commit, if that says what the code was."""
    if one.get("sources") and other.get("sources"):
        return bool(one["sources"] == other["sources"])
    known = str(one.get("commit"))
    return known == other.get("commit") and known != "unknown" and not known.endswith("-dirty")
