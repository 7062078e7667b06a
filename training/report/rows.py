"""Rows of the tables of runs: one row per record, plain values."""

from collections.abc import Iterator, Mapping
from typing import Any

from sim.command import printable
from training.report.ancestry import Ancestry
from training.report.identity import Group, changes_of, complete
from training.report.records import Record

NONE = "-"
"""Where a configuration has a value that nothing was made with."""


def hardware_of(record: Record | Mapping[str, Any]) -> str:
    """Accelerator or processor with family, model and threads, as far as the record knows them."""
    machine = record["hardware"]
    if machine.get("gpu"):
        return printable(machine["gpu"])
    kind = [f"{key} {machine[key]}" for key in ("family", "model") if machine.get(key) not in (None, "")]
    name = f"{machine['cpu']} ({', '.join(kind)})" if kind else str(machine["cpu"])
    return printable(f"{name}, {machine['threads']} of {machine['cores']} cores")


def origin_of(record: Record) -> dict[str, str]:
    """Provenance."""
    return {"commit": printable(record["commit"]), "date": printable(record["date"]), "hardware": hardware_of(record),
            "command": printable(record["command"])}


def scheme_rows(groups: list[Group]) -> Iterator[dict[str, Any]]:
    """One row per trained student; those without a bit-true evaluation have None in its columns."""
    ancestry = Ancestry(run for group in groups for run in group.runs)
    for number, group in enumerate(groups):
        for run in group.runs:
            config, training = complete(run.config), run.training
            last = list(training["steps"].values())[-1]
            result = {} if run.evaluation is None else run.evaluation["result"]
            yield {
                "group": number, "dataset": printable(group.label), "scheme": printable(config["scheme"]),
                "path": "-".join(map(str, config["path"])), "bits": config["path"][-1], "model": printable(config["model"]),
                "width": config["width"], "preset": printable(config["preset"]),
                "epochs": config["epochs"] if run.trains else NONE,
                "epochs along path": ancestry.epochs(run), "seed": run.seed, "quantizer": printable(config["quantizer"]),
                "augment": printable(config["augment"]) if run.trains else NONE, "options": group.options,
                "changes": printable(changes_of(config)), "teacher": printable(config["teacher"]),
                "data digest": training.data_digest,
                "best validation": last["best"]["accuracy"], "best epoch": last["best"]["epoch"],
                "last validation": last["epochs"][-1]["validation_accuracy"],
                "test images": training["test"]["images"], "FQ": run.fq, "bit-true": run.bit_true,
                "codes compared": result.get("compared"), "codes differing": result.get("differing"),
                "seconds": sum(entry["seconds"] for step in training["steps"].values() for entry in step["epochs"]),
                **origin_of(training), "command": _commands(training),
            }


def _commands(training: Record) -> str:
    """That of a run; of one that was extended those of its sessions."""
    sessions = training.get("sessions") if training.get("extended") else None
    later = [str(session["command"]) for session in sessions or [] if isinstance(session, dict) and "command" in session]
    return printable("; then ".join(dict.fromkeys([str(training["command"]), *later])))


def is_training(grid: Record, job: Mapping[str, Any]) -> bool:
    """Whether a job in the record of a grid is a training of its own, no evaluation and no other grid's."""
    return bool(job["name"] == f"{grid['grid']}/{job['job']}-seed{job['seed']}")


def job_rows(grids: list[Record]) -> Iterator[dict[str, Any]]:
    """One row per job of a sweep that is not finished, with its error if there was one; those of other grids are theirs."""
    for grid in grids:
        for job in grid["jobs"]:
            if job["status"] != "finished" and job["name"].startswith(f"{grid['grid']}/"):
                name, kind = job["name"].split("/", 1)[-1], "training" if is_training(grid, job) else "evaluation"
                yield {"grid": printable(grid["grid"]), "job": printable(name), "of": printable(job["job"]), "kind": kind,
                       "scheme": printable(job["scheme"]), "path": "-".join(map(str, job["path"])), "seed": job["seed"],
                       "epochs": job["epochs"], "status": printable(job["status"]),
                       "error": printable(job["error"]) or NONE, **origin_of(grid)}


def curve_rows(groups: list[Group]) -> Iterator[dict[str, Any]]:
    """One row per epoch of a student's own step."""
    for number, group in enumerate(groups):
        for run in group.runs:
            config = run.config
            common = {"group": number, "dataset": printable(group.label), "scheme": printable(config["scheme"]),
                      "path": "-".join(map(str, config["path"])), "bits": config["path"][-1],
                      "changed": bool(changes_of(config)), "options": group.settings, "seed": run.seed}
            for entry in list(run.training["steps"].values())[-1]["epochs"]:
                yield {**common, "epoch": entry["epoch"], "validation accuracy": entry["validation_accuracy"]}
