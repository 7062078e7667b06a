"""Finds records by what they say they are, wherever they lie and whatever they are called; none is lost in silence."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sim.records import RecordError, read_record
from sim.text import printable
from training.report.checks import CHECKS
from training.report.record import (
    CONFORMANCE,
    EVALUATION,
    GRID,
    KINDS,
    MISTAKES,
    PERFORMANCE,
    PROFILE,
    REGISTERS,
    RUNTIMES,
    TRAINING,
    Record,
    TableError,
)


@dataclass(frozen=True)
class Run:
    """One finished training run, and the evaluation of its student as trained, if there is one."""

    training: Record
    evaluation: Record | None

    @property
    def config(self) -> Mapping[str, Any]:
        """The whole configuration, and what was recorded of own code, as the checkpoints of the run have it."""
        own = self.training.get("own_code")
        return {**self.training["config"], **({"own_code": own} if own else {})}

    @property
    def trains(self) -> bool:
        """Whether a step of it was trained."""
        return not all(only_calibrates(step) for step in self.training["steps"].values() if "from" not in step)

    @property
    def seed(self) -> int:
        """The seed of weights, order and augmentation."""
        return int(self.config["seed"])

    @property
    def label(self) -> str:
        """What the data are called."""
        if self.evaluation is not None:
            return str(self.evaluation["dataset"])
        data = self.training.get("data")
        return str(data["label"]) if isinstance(data, dict) and data.get("label") else name_of_data(self.config)

    @property
    def fq(self) -> float:
        """Test accuracy of the fake-quantized model in percent."""
        return float(self.training["test"]["accuracy"])

    @property
    def bit_true(self) -> float | None:
        """Test accuracy on integers in percent."""
        return None if self.evaluation is None else float(self.evaluation["result"]["accuracy"])


def name_of_data(config: Mapping[str, Any]) -> str:
    """What data are called to which no record gives a name: as the data set, a file by its own."""
    name = str(config["dataset"])
    return Path(str(config["data"])).stem or name if name == "npz" else name


def only_calibrates(step: Mapping[str, Any]) -> bool:
    """Whether a step of a record was not trained: it has one entry then, of its validation loss."""
    entries = step["epochs"]
    return len(entries) == 1 and entries[0].get("loss") == entries[0].get("validation_loss")


@dataclass
class Records:
    """All that was found, and what a reader of the tables has to be told."""

    runs: list[Run] = field(default_factory=list)
    evaluations: list[Record] = field(default_factory=list)
    answers: list[Record] = field(default_factory=list)
    """Evaluations of networks that answer questions."""
    performance: list[Record] = field(default_factory=list)
    """Runs of benchmarks, on whatever processors."""
    conformance: Record | None = None
    grids: list[Record] = field(default_factory=list)
    """What sweeps say of their jobs, the newest of each grid."""
    mistakes: list[Record] = field(default_factory=list)
    """Chains of networks whose mistakes were compared."""
    profiles: list[Record] = field(default_factory=list)
    """Weights and activations of networks, beside the range of their codes."""
    runtimes: list[Record] = field(default_factory=list)
    """Models of others under several profiles, the newest of each model and its inputs."""
    registers: list[Record] = field(default_factory=list)
    """Sweeps of registers."""
    notes: list[str] = field(default_factory=list)
    undigested: int = 0
    """How many say nothing by which a change of them could be noticed."""


def find_records(folders: Iterable[Path], skip_damaged: bool = False) -> Records:
    """Every record below the folders; the same content found twice counts once.

    Raises TableError for a folder that is missing and, unless told to leave them out, for damaged records.
    """
    found: dict[str, list[Record]] = {kind: [] for kind in KINDS}
    records, seen = Records(), set()
    for file in _json_files(folders):
        try:
            record = _read(file)
        except TableError as error:
            if not skip_damaged:
                raise TableError(f"{error}; mend or remove it, or leave it out with --skip-damaged") from None
            records.notes.append(f"left out: {error}")
            continue
        if record is not None and (text := json.dumps(record.content, sort_keys=True)) not in seen:
            seen.add(text)
            found[_kind(record.content)].append(record)
    records.undigested = sum("digest" not in record.content for kind in found.values() for record in kind)
    records.evaluations = [record for record in found[EVALUATION] if not record.is_of_texts]
    records.answers = [record for record in found[EVALUATION] if record.is_of_texts]
    records.performance = sorted(found[PERFORMANCE], key=date_of)
    records.conformance = _newest(found[CONFORMANCE], "golden data", records.notes)
    records.grids = list({str(grid["grid"]): grid for grid in sorted(found[GRID], key=date_of)}.values())
    records.runtimes = list({(str(record["model"]), str(record["inputs"])): record
                             for record in sorted(found[RUNTIMES], key=date_of)}.values())
    records.mistakes, records.profiles = (sorted(found[kind], key=date_of) for kind in (MISTAKES, PROFILE))
    records.registers = sorted(_newest_sweeps(found[REGISTERS]), key=lambda record: str(record.file))
    records.runs = list(_runs(found[TRAINING], found[EVALUATION], records.notes))
    return records


def date_of(record: Record) -> tuple[str, str]:
    """What newest means; the file breaks ties."""
    return str(record["date"]), str(record.file)


def _json_files(folders: Iterable[Path]) -> Iterator[Path]:
    for folder in folders:
        if folder.is_file():
            yield folder
            continue
        if not folder.is_dir():
            raise TableError(f"{folder}: no such folder; python -m training.run and training.sweep write records")
        seen: set[Path] = set()
        links = [folder]
        while links:  # after all that is really there, so that nothing is named by a link that has a name of its own
            if (start := links.pop(0)).resolve() not in seen:
                yield from _walked(start, seen, links)


def _walked(folder: Path, seen: set[Path], links: list[Path]) -> Iterator[Path]:
    """The files of one tree; its folders are noted as seen, and those that are links to come later."""
    for parent, below, names in os.walk(folder, onerror=_refuse):
        here = Path(parent)
        seen.add(here.resolve())
        below[:] = sorted(name for name in below if not name.startswith("."))
        links += [here / name for name in below if (here / name).is_symlink()]
        below[:] = [name for name in below if not (here / name).is_symlink() and (here / name).resolve() not in seen]
        files = (here / name for name in sorted(names) if name.endswith(".json") and name[0] != ".")
        yield from (file for file in files if file.is_file())


def _refuse(error: OSError) -> None:
    raise error


def _read(file: Path) -> Record | None:
    """The record in a file; None if its JSON is none of ours.  Raises TableError if it is damaged."""
    try:
        content = read_record(file)
    except RecordError as error:
        if _is_foreign(file):
            return None
        raise TableError(f"{file}: damaged record ({str(error).removeprefix(f'{printable(file)}: ')})") from None
    kind = _kind(content)
    if not kind:
        if _is_foreign(file):
            return None
        raise TableError(f"{file}: damaged record (of no kind that is known)")
    record = Record(file, content)
    try:
        CHECKS[kind](record)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        raise TableError(f"{file}: damaged record ({type(error).__name__}: {' '.join(str(error).split())})") from None
    return record


def _kind(content: Mapping[str, Any]) -> str:
    kind = content.get("kind")
    if kind in KINDS:
        return str(kind)
    return PERFORMANCE if kind is None and {"rows", "ratios", "hardware"} <= content.keys() else ""


def _is_foreign(file: Path) -> bool:
    """Whether a file is whole JSON that has no sign of a record of ours."""
    if file.name in ("run.json", "eval.json") or file.name.endswith((".train.json", ".eval.json", ".mistakes.json")):
        return False
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return False
    return not (isinstance(content, dict) and (content.get("kind") in KINDS or {"schema", "digest"} <= content.keys()))


def _runs(trained: list[Record], evaluations: list[Record], notes: list[str]) -> Iterator[Run]:
    """Finished runs with their evaluations."""
    equal: dict[str, list[Record]] = {}
    for record in trained:
        equal.setdefault(config_text(record["config"]), []).append(record)
    owned: dict[Path, list[Record]] = {}
    for evaluation in evaluations:
        if evaluation.as_trained and (owner := _owner(evaluation, equal.get(config_text(evaluation.training), []))):
            owned.setdefault(owner.file, []).append(evaluation)
    for record in trained:
        if record["status"] == "finished":
            yield Run(record, _evaluation_of(record, owned.get(record.file, []), notes))
        else:
            notes.append(f"left out: {record.file}: this run is not finished ({record['status']})")


def _owner(evaluation: Record, runs: list[Record]) -> Record | None:
    """Of runs of the evaluated configuration that whose student it was: by name, folder or checkpoint, or the only one."""
    runs = [run for run in runs if evaluation.is_of_student_of(run)]
    for is_near in (
            lambda run: _is_sibling(evaluation.file, run.file),
            lambda run: run.file.name == "run.json" and run.file.parent == evaluation.file.parent,
            lambda run: Path(evaluation["model"]).parent.name == _name(run.file)):
        near = [run for run in runs if is_near(run)]
        if len(near) == 1:
            return near[0]
    return runs[0] if len(runs) == 1 else None


def _name(file: Path) -> str:
    return file.parent.name if file.name == "run.json" else file.name.removesuffix(".json").removesuffix(".train")


def config_text(config: Mapping[str, Any]) -> str:
    """A configuration as text, the same for a run and for its checkpoints."""
    return json.dumps({key: value for key, value in config.items() if key not in ("step", "own_code", "extended")},
                      sort_keys=True)


def _evaluation_of(record: Record, own: list[Record], notes: list[str]) -> Record | None:
    """Of a run's evaluations one of the same data, not older than the run: of most images, verified, the newest."""
    same = [evaluation for evaluation in own
            if len({evaluation.data_digest, record.data_digest} - {""}) < 2]
    fresh = [evaluation for evaluation in same if str(evaluation["date"]) >= str(record["date"])]
    if own and not fresh:
        why = "is older than the run" if same else "is on other data"
        notes.append(f"{record.file}: its evaluation {own[0].file} {why} and not used; run sim.eval again")
    return max(fresh, default=None, key=lambda evaluation: (
        int(evaluation["result"]["images"]), _is_sibling(evaluation.file, record.file),
        "compared" in evaluation["result"], date_of(evaluation)))


def _is_sibling(evaluation: Path, training: Path) -> bool:
    """eval.json beside run.json, x.eval.json beside x.train.json: the names that sweeps give."""
    return evaluation.parent == training.parent and evaluation.name == {"run.json": "eval.json"}.get(
        training.name, training.name.replace(".train.json", ".eval.json"))


def _newest_sweeps(records: list[Record]) -> list[Record]:
    """Of sweeps of one network on the same images, of the same widths, rules and tiles, the newest."""
    asked = ("requant", "stages", "bits", "overflow", "tile", "boundary")
    return list({json.dumps([record.model_digest or record["model"], record["dataset"], record.data_digest, record["images"],
                             record["programs"], [[row[key] for key in asked] for row in record["configurations"]]],
                            sort_keys=True): record for record in sorted(records, key=date_of)}.values())


def _newest(records: list[Record], what: str, notes: list[str]) -> Record | None:
    ordered = sorted(records, key=date_of)
    notes += [f"left out: {record.file}: older than {ordered[-1].file}, only the newest {what} are shown"
              for record in ordered[:-1]]
    return ordered[-1] if ordered else None
