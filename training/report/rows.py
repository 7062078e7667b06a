"""Rows of the tables of runs and evaluations: one row per record, plain values."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from sim.command import printable
from training.report.identity import Group, changes_of, complete, name_differences, text_of
from training.report.records import Record, Records, Run, config_text, date_of


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


def network_of(run: Record) -> str:
    """What an evaluation's network is called."""
    training = run.training
    if not training:
        return printable(run["model"])
    path = "-".join(map(str, training["path"]))
    return printable(f"{training['model']}, {training['scheme']} {path}, seed {training['seed']}")


def accumulator_rows(records: Records) -> Iterator[dict[str, Any]]:
    """One row per evaluation with a limited register, and the unlimited one of the same network."""
    limited = [run for twins in _alike(records.evaluations) if not all(run.unlimited for run in twins) for run in twins]
    for run, common in _evaluation_rows(limited):
        yield {**common, **_register_cells(run), **origin_of(run)}


def agreement_rows(records: Records) -> Iterator[dict[str, Any]]:
    """One row per verified evaluation of a checkpoint, of those run at another width than the trained one, too."""
    for run, common in _evaluation_rows(_agreements(records)):
        yield {**common, "trained bits": (run.get("trained_precision") or {}).get("inner"),
               "codes compared": run["result"]["compared"], "codes differing": run["result"]["differing"], **origin_of(run)}


def other_rows(records: Records) -> Iterator[dict[str, Any]]:
    """One row per evaluation that no other table has: other requantizers, widths without a comparison, foreign networks."""
    shown = {id(run) for twins in _alike(records.evaluations) if not all(run.unlimited for run in twins) for run in twins}
    shown |= {id(run) for run in _agreements(records)}
    trained = {config_text(run.config) for run in records.runs}
    rest = (run for run in _newest_alike(records.evaluations) if id(run) not in shown
            and not (run.as_trained and config_text(run.training) in trained))
    for run, common in _evaluation_rows(list(rest)):
        yield {**common, "requantizer": printable(run.hardware_spec["requant"]),
               "codes compared": run["result"].get("compared"), "codes differing": run["result"].get("differing"),
               **origin_of(run)}


def _agreements(records: Records) -> list[Record]:
    verified = [run for run in records.evaluations
                if "compared" in run["result"] and run.unlimited and run.hardware_spec["requant"] == "fp32"]
    wide = {run["model"] for run in verified if run.precision != run.get("trained_precision")}
    return _newest_alike(run for run in verified if run["model"] in wide)


def _evaluation_rows(runs: list[Record]) -> Iterator[tuple[Record, dict[str, Any]]]:
    """Every evaluation with the columns that all tables of them share; networks of one name are told apart."""
    options = [_evaluation_options(run) for run in runs]
    shown = [[str(run["dataset"]), network_of(run), str(run.precision.get("inner")), str(run["result"]["images"])]
             for run in runs]
    identities: list[Mapping[str, str]] = [
        {**{key: text_of(value) for key, value in (complete(run.training) if run.training else {}).items()},
         "checkpoint": str(run["model"]), "data digest": run.data_digest} for run in runs]
    name_differences(shown, identities, options)
    for run, found in zip(runs, options, strict=True):
        yield run, {"dataset": printable(run["dataset"]), "network": network_of(run),
                    "options": printable(", ".join(found.values())), "bits": run.precision.get("inner"),
                    "images": run["result"]["images"], "bit-true": run["result"]["accuracy"]}


def _register_cells(run: Record) -> dict[str, Any]:
    register, outer = run.hardware_spec["accumulator"], run.hardware_spec["boundary_accumulator"]
    inner = [layer for layer in run["layers"] if layer["role"] != "boundary"]
    watched = [layer for layer in run["layers"] if layer["accumulator"]["bits"] is not None] or inner or run["layers"]
    worst = max(watched, key=lambda layer: layer["overflows"] / layer["outputs"])
    return {
        "requantizer": printable(run.hardware_spec["requant"]),
        "boundary accumulator": "unlimited" if outer["bits"] is None else
        f"{outer['bits']} bit {outer['overflow']}, tile {outer['tile']}",
        "accumulator": register["bits"] or 0, "overflow": register["overflow"] if register["bits"] else "none",
        "tile": str(register["tile"]),
        "overflowed outputs %": 100.0 * sum(layer["overflows"] for layer in watched) /
        sum(layer["outputs"] for layer in watched),
        "worst layer %": 100.0 * worst["overflows"] / worst["outputs"],
        "worst layer": printable(worst["name"]) if worst["overflows"] else "-"}


def _evaluation_options(run: Record) -> dict[str, str]:
    """How the network was trained and at what precision it runs, where not as usual."""
    config, precision = run.training, run.precision
    found = {"changes": changes_of(config) if config else "",
             "boundary": f"boundary-bits {precision['boundary']}" if precision.get("boundary") not in (8, None) else "",
             "skip": f"skip-bits {precision['skip']}" if precision.get("skip") not in (8, None) else "",
             "layers": f"layers {text_of(precision['layers'])}" if precision.get("layers") else ""}
    return {key: text for key, text in found.items() if text}


def _alike(evaluations: list[Record]) -> list[list[Record]]:
    """Evaluations of one network on the same images, registers aside; of equal ones the newest."""
    kinds: dict[str, list[Record]] = {}
    for run in _newest_alike(evaluations):
        kinds.setdefault(_kind(run), []).append(run)
    return list(kinds.values())


def _newest_alike(evaluations: Iterable[Record]) -> list[Record]:
    newest: dict[str, Record] = {}
    for run in sorted(evaluations, key=date_of):
        newest[json.dumps([_kind(run), run.hardware_spec], sort_keys=True)] = run
    return sorted(newest.values(), key=lambda run: str(run.file))


def _kind(run: Record) -> str:
    """Network, data, images, precision and requantizer."""
    return json.dumps([run["dataset"], run.data_digest, run["model"], run.training, run.precision,
                       run["result"]["images"], run.hardware_spec["requant"]], sort_keys=True)
