"""Finds records by what they say they are, wherever they lie and whatever they are called; none is lost in silence."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sim.records import RecordError, read_record
from sim.text import printable

TRAINING, EVALUATION, PERFORMANCE, CONFORMANCE, GRID = KINDS = (
    "training", "evaluation", "performance", "conformance", "grid")


class TableError(ValueError):
    """A record that is missing or not what it should be."""


@dataclass(frozen=True)
class Record:
    """One file's content, never changed."""

    file: Path
    content: Mapping[str, Any]

    def __getitem__(self, key: str) -> Any:
        return self.content[key]

    def get(self, key: str, default: Any = None) -> Any:
        """As of a dict."""
        return self.content.get(key, default)

    @property
    def training(self) -> Mapping[str, Any]:
        """Of an evaluation: how its network was trained, empty if that is not known."""
        return dict(self.get("training") or {})

    @property
    def data_digest(self) -> str:
        """Of the data, empty if it was not recorded."""
        data = self.get("data")
        digest = self.get("data_digest") or (data.get("digest") if isinstance(data, dict) else "")
        return str(digest or "").removeprefix("sha256:")

    @property
    def model_digest(self) -> str:
        """Of an evaluation: of the file of its network, empty if it was not recorded."""
        return str(self.get("model_digest") or "")

    @property
    def is_program(self) -> bool:
        """An evaluation of a program: it has registers in its layers and does not know what it was lowered from."""
        return not self.get("hardware_spec")

    @property
    def precision(self) -> Mapping[str, Any]:
        """Of an evaluation: the widths it ran at, empty for a program that does not say."""
        return dict(self.get("precision") or {})

    @property
    def hardware_spec(self) -> Mapping[str, Any]:
        """Of an evaluation: its registers and requantizer; of a program the registers of its layers."""
        if self.get("hardware_spec"):
            return dict(self["hardware_spec"])
        limited = [layer["accumulator"] for layer in self["layers"] if layer["accumulator"]["bits"] is not None]
        first = limited[0] if limited else {"bits": None, "overflow": "wrap", "tile": 1}
        return {"accumulator": first, "boundary_accumulator": {**first, "bits": None}, "requant": "as in the program"}

    @property
    def unlimited(self) -> bool:
        """An evaluation whose registers hold every sum."""
        return all(self.hardware_spec[name]["bits"] is None for name in ("accumulator", "boundary_accumulator"))

    @property
    def as_trained(self) -> bool:
        """An evaluation of the student as it was trained, on hardware that adds nothing to it."""
        if not self.training:
            return False
        last = str(self.training.get("step", "")).split("bit")[0]
        return (self.unlimited and self.hardware_spec["requant"] == "fp32" and
                self.precision == self.get("trained_precision") and last in ("", str(self.training["path"][-1])))


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
        """Whether a step of it was trained; one that is only calibrated has one entry, of its validation loss."""
        own = [step["epochs"] for step in self.training["steps"].values() if "from" not in step]
        return not all(len(entries) == 1 and entries[0].get("loss") == entries[0].get("validation_loss") for entries in own)

    @property
    def seed(self) -> int:
        """The seed of weights, order and augmentation."""
        return int(self.config["seed"])

    @property
    def label(self) -> str:
        """What the data are called."""
        if self.evaluation is not None:
            return str(self.evaluation["dataset"])
        data, name = self.training.get("data"), str(self.config["dataset"])
        if isinstance(data, dict) and data.get("label"):
            return str(data["label"])
        return Path(self.config["data"]).stem or name if name == "npz" else name

    @property
    def fq(self) -> float:
        """Test accuracy of the fake-quantized model in percent."""
        return float(self.training["test"]["accuracy"])

    @property
    def bit_true(self) -> float | None:
        """Test accuracy on integers in percent."""
        return None if self.evaluation is None else float(self.evaluation["result"]["accuracy"])


@dataclass
class Records:
    """All that was found, and what a reader of the tables has to be told."""

    runs: list[Run] = field(default_factory=list)
    evaluations: list[Record] = field(default_factory=list)
    performance: Record | None = None
    conformance: Record | None = None
    grids: list[Record] = field(default_factory=list)
    """What sweeps say of their jobs, the newest of each grid."""
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
    records.evaluations = found[EVALUATION]
    records.performance = _newest(found[PERFORMANCE], "benchmarks", records.notes)
    records.conformance = _newest(found[CONFORMANCE], "golden data", records.notes)
    records.grids = list({str(grid["grid"]): grid for grid in sorted(found[GRID], key=date_of)}.values())
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
    if file.name in ("run.json", "eval.json") or file.name.endswith((".train.json", ".eval.json")):
        return False
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return False
    return not (isinstance(content, dict) and (content.get("kind") in KINDS or {"schema", "digest"} <= content.keys()))


def _check_common(record: Record) -> None:
    for key in ("command", "commit", "date"):
        if not isinstance(record[key], str):
            raise TypeError(f"{key} is no text")
    hardware = record["hardware"]
    hardware.get("gpu") or (hardware["cpu"], hardware["threads"], hardware["cores"])


def _check_config(config: Mapping[str, Any]) -> None:
    [int(bits) for bits in config["path"]][-1]
    int(config["seed"])
    for key in ("scheme", "dataset", "data", "model", "preset", "quantizer"):
        if not isinstance(config[key], str):
            raise TypeError(f"config's {key} is no text")
    int(config["width"]), int(config["epochs"])


def _check_training(record: Record) -> None:
    _check_common(record)
    _check_config(record["config"])
    if record["status"] != "finished":
        return
    _percent(record["test"]["accuracy"]), int(record["test"]["images"])
    for step in record["steps"].values():
        if "from" in step and step["bits"] not in record["config"]["path"]:
            raise ValueError(f"a step of {step['bits']} bits is not on the path")
        for entry in step["epochs"]:
            float(entry["seconds"]), float(entry["epoch"]), _percent(entry["validation_accuracy"])
    last = list(record["steps"].values())[-1]
    _percent(last["best"]["accuracy"]), int(last["best"]["epoch"]), last["epochs"][-1]


def _check_evaluation(record: Record) -> None:
    _check_common(record)
    if not isinstance(record["dataset"], str) or not isinstance(record["model"], str):
        raise TypeError("dataset or model is no text")
    result = record["result"]
    _percent(result["accuracy"]), int(result["images"])
    if "compared" in result:
        int(result["compared"]), int(result["differing"])
    for layer in record["layers"]:
        layer["name"], [layer["accumulator"][key] for key in ("bits", "overflow", "tile")]
        int(layer["overflows"]), 1 / int(layer["outputs"])
        if not (isinstance(layer.get("role", ""), str) and (record.is_program or "role" in layer)):
            raise ValueError(f"layer {layer['name']} has no role")
    register = record.hardware_spec["accumulator"]
    register["bits"], register["overflow"], register["tile"], record.hardware_spec["requant"], record.unlimited
    if record.get("precision") is not None and not isinstance(record["precision"]["inner"], int):
        raise TypeError("precision's inner width is no whole number")
    if record.training:
        _check_config(record.training)


def _check_grid(record: Record) -> None:
    _check_common(record)
    for job in record["jobs"]:
        if not all(isinstance(job[key], str) for key in ("name", "job", "scheme", "status", "error")):
            raise TypeError("a job's words are no texts")
        int(job["seed"]), int(job["epochs"]), [int(bits) for bits in job["path"]]
    if not isinstance(record["grid"], str):
        raise TypeError("grid is no text")


def _percent(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 <= value <= 100.0:
        raise ValueError(f"{value!r} is no accuracy in percent")
    return float(value)


CHECKS = {TRAINING: _check_training, EVALUATION: _check_evaluation, PERFORMANCE: _check_common,
          CONFORMANCE: _check_common, GRID: _check_grid}
"""What the tables take from a record; a digest guards those that have one, these the ones from before, too."""


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


def _newest(records: list[Record], what: str, notes: list[str]) -> Record | None:
    ordered = sorted(records, key=date_of)
    notes += [f"left out: {record.file}: older than {ordered[-1].file}, only the newest {what} are shown"
              for record in ordered[:-1]]
    return ordered[-1] if ordered else None
