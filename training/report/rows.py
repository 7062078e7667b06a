"""Rows of the tables of runs: one row per record, plain values."""

from collections.abc import Iterator, Mapping
from typing import Any

from sim.command import printable
from training.report.identity import Group, changes_of, complete
from training.report.records import Record, Run


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
    for number, group in enumerate(groups):
        for run in group.runs:
            config, training = complete(run.config), run.training
            last = list(training["steps"].values())[-1]
            result = {} if run.evaluation is None else run.evaluation["result"]
            yield {
                "group": number, "dataset": printable(group.label), "scheme": printable(config["scheme"]),
                "path": "-".join(map(str, config["path"])), "bits": config["path"][-1], "model": printable(config["model"]),
                "width": config["width"], "preset": printable(config["preset"]), "epochs": config["epochs"],
                "epochs along path": _epochs(run), "seed": run.seed, "quantizer": printable(config["quantizer"]),
                "augment": printable(config["augment"]), "options": group.options,
                "changes": printable(changes_of(config)), "teacher": printable(config["teacher"]),
                "data digest": training.data_digest,
                "best validation": last["best"]["accuracy"], "best epoch": last["best"]["epoch"],
                "last validation": last["epochs"][-1]["validation_accuracy"],
                "test images": training["test"]["images"], "FQ": run.fq, "bit-true": run.bit_true,
                "codes compared": result.get("compared"), "codes differing": result.get("differing"),
                "seconds": sum(entry["seconds"] for step in training["steps"].values() for entry in step["epochs"]),
                **origin_of(training),
            }


def _epochs(run: Run) -> int:
    """Epochs of every network on the way to the student, those of an adopted teacher and its ancestors included."""
    config = run.config
    return sum(config["epochs"] * (config["path"].index(step["bits"]) + 1) if "from" in step else len(step["epochs"])
               for step in run.training["steps"].values())


def curve_rows(groups: list[Group]) -> Iterator[dict[str, Any]]:
    """One row per epoch of a student's own step."""
    for number, group in enumerate(groups):
        for run in group.runs:
            for entry in list(run.training["steps"].values())[-1]["epochs"]:
                yield {"group": number, "dataset": printable(group.label), "scheme": printable(run.config["scheme"]),
                       "path": "-".join(map(str, run.config["path"])), "bits": run.config["path"][-1],
                       "changed": bool(changes_of(run.config)), "options": group.settings, "seed": run.seed,
                       "epoch": entry["epoch"],
                       "validation accuracy": entry["validation_accuracy"]}
