"""Rows of the main table: what a scheme reaches, in the torch model, in integers, and on narrow registers; and its cost."""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from sim.command import printable
from training.comparisons import OF_METHOD, comparison_rows
from training.report.compute import Compute, bit_operations, weight_bits
from training.report.identity import Group, changes_of, default_config
from training.report.records import Record, Records, Run, config_text, name_of_data
from training.report.rows import is_training, origin_of

WIDTHS = (16, 12, 10)
OVERFLOWS = ("saturate", "wrap")
EXACT = "fp32"
REFERENCE = "individual"
FINISHED, NOT_RUN = "finished", "not run"
DIFFERENCE = ("difference", "low", "high", "corrected low", "corrected high", "corrected p", "verdict", "corrected verdict")


def register(overflow: str, bits: int) -> str:
    """The column of a register."""
    return f"{overflow} {bits}"


def accuracy_rows(records: Records, groups: list[Group]) -> Iterator[dict[str, Any]]:
    """One row per run of a scheme as it is, then one per job of a sweep without a run."""
    chosen = [group for group in groups if not _changes(group)]
    compute, hardware = Compute(run for group in groups for run in group.runs), Hardware(records.evaluations)
    differences = _differences(groups)
    for number, group in enumerate(chosen):
        config = group.config
        told = differences.get((group.label, config["path"][-1], config["scheme"], _path(config), group.settings), {})
        for run in group.runs:
            last = list(run.training["steps"].values())[-1]
            yield {
                "status": FINISHED, **_named(group.label, config), "options": group.options, "group": number,
                "seed": run.seed,
                "FQ": run.fq, "bit-true": run.bit_true, **hardware.of(run),
                "best epoch": last["best"]["epoch"], "last epoch": len(last["epochs"]) if run.trains else 0,
                "best validation": last["best"]["accuracy"], "last validation": last["epochs"][-1]["validation_accuracy"],
                "epochs along path": compute.ancestry.epochs(run), "training macs": compute.training(run),
                "bit operations": bit_operations(run.evaluation), "weight bits": weight_bits(run.evaluation),
                "pairs": told.get("n", 0), **{f"{REFERENCE}: {key}": told.get(key) for key in DIFFERENCE},
                **origin_of(run.training)}
    yield from _missing(records.grids, [run for group in groups for run in group.runs])


def register_rows(records: Records, groups: list[Group]) -> Iterator[dict[str, Any]]:
    """One row per evaluation of a student as trained on a register of the inner layers, of any width."""
    hardware = Hardware(records.evaluations)
    for group in groups:
        if _changes(group):
            continue
        for run in group.runs:
            for evaluation in hardware.all(run):
                spec = evaluation.hardware_spec
                narrow = spec["accumulator"]
                if narrow["bits"] is not None and spec["requant"] == EXACT and _is_inner(spec):
                    yield {**_named(group.label, group.config), "options": group.options, "seed": run.seed,
                           "overflow": str(narrow["overflow"]), "accumulator": narrow["bits"],
                           "bit-true": float(evaluation["result"]["accuracy"])}


class Hardware:
    """Evaluations of students on other hardware than exact, by how they were trained."""

    def __init__(self, evaluations: Iterable[Record]) -> None:
        self._found: dict[str, list[Record]] = {}
        for evaluation in evaluations:
            if evaluation.training and not evaluation.is_program:
                self._found.setdefault(config_text(evaluation.training), []).append(evaluation)

    def of(self, run: Run) -> dict[str, Any]:
        """Accuracies by column, None where there is none; of several the newest."""
        row: dict[str, Any] = dict.fromkeys(
            ["requantizer", "integer", *(register(overflow, bits) for overflow in OVERFLOWS for bits in WIDTHS)])
        for evaluation in self.all(run):
            spec, accuracy = evaluation.hardware_spec, float(evaluation["result"]["accuracy"])
            narrow = spec["accumulator"]
            column = register(narrow["overflow"], narrow["bits"]) if narrow["bits"] else ""
            if column in row and spec["requant"] == EXACT and _is_inner(spec):
                row[column] = accuracy
            elif evaluation.unlimited and spec["requant"] != EXACT:
                row |= {"requantizer": printable(spec["requant"]), "integer": accuracy}
        return row

    def all(self, run: Run) -> list[Record]:
        """Evaluations of a student as it was trained, the newest last."""
        exact = run.evaluation
        if exact is None:
            return []
        everyone = self._found.get(config_text(run.training["config"]), [])
        return sorted((each for each in everyone if _is_of(each, exact)), key=lambda each: str(each["date"]))


def _is_of(evaluation: Record, exact: Record) -> bool:
    """Of the same network, at the width that it was trained at, on the same images."""
    is_same = evaluation.model_digest == exact.model_digest if exact.model_digest else evaluation["model"] == exact["model"]
    return (is_same and evaluation.precision == exact.precision and evaluation.data_digest == exact.data_digest
            and evaluation["result"]["images"] == exact["result"]["images"])


def _is_inner(spec: Mapping[str, Any]) -> bool:
    """A register after every product, of the inner layers alone."""
    inner, outer = spec["accumulator"], spec["boundary_accumulator"]
    is_staged = any(each.get("before") or each.get("order") for each in (inner, outer)) or spec.get("layers")
    return outer["bits"] is None and inner["tile"] == 1 and not is_staged


def _changes(group: Group) -> str:
    """What of a scheme was changed but for what belongs to it."""
    own, defaults = OF_METHOD.get(group.config["scheme"], ()), default_config(group.config)
    return changes_of({**group.config, **{key: defaults[key] for key in own if key in defaults}})


def _differences(groups: list[Group]) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Rows of comparisons with training alone, by what is compared."""
    return {(row["dataset"], row["bits"], row["scheme"], row["path"], row["options"]): row
            for row in comparison_rows(groups) if row["against"] == REFERENCE}


def _named(label: str, config: Mapping[str, Any]) -> dict[str, Any]:
    return {"dataset": printable(label), "model": printable(config["model"]), "preset": printable(config["preset"]),
            "bits": config["path"][-1],
            "scheme": printable(config["scheme"]), "path": _path(config)}


def _path(config: Mapping[str, Any]) -> str:
    return "-".join(map(str, config["path"]))


def _missing(grids: Iterable[Record], runs: list[Run]) -> Iterator[dict[str, Any]]:
    """Trainings of sweeps that failed or were not run, on what the records of the same data call them."""
    labels = {(run.config["dataset"], run.config["data"]): run.label for run in runs}
    for grid in grids:
        for job in grid["jobs"]:
            is_known = {"model", "preset", "dataset", "data"} <= job.keys()
            if job["status"] == FINISHED or not is_training(grid, job) or not is_known:
                continue
            label = labels.get((job["dataset"], job["data"]), name_of_data(job))
            yield {"status": printable(job["status"]), **_named(label, job), "options": "", "group": -1, "seed": job["seed"],
                   "epochs along path": math.nan, **origin_of(grid)}
