"""Rows of the tables of evaluations: one row per record, plain values.

Two evaluations are the same if network, data, images, precision, registers, requantizer and program are; the kernels that
ran may differ, and the newest counts.  A network is known by the digest of its file, or where none is recorded by its path.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sim.accumulator import Accumulator
from sim.command import printable
from training.report.identity import changes_of, complete, name_differences, text_of
from training.report.records import Record, Records, config_text, date_of
from training.report.register_training import is_for_register
from training.report.rows import origin_of


def network_of(run: Record) -> str:
    """What an evaluation's network is called; a program by its file and the beginning of its digest."""
    training = run.training
    if run.is_program:
        file = Path(str(run["model"])).name
        return printable(f"{file}, program {run['program'][:10]}" if file else f"program {run['program'][:10]}")
    if not training:
        return printable(run["model"])
    path = "-".join(map(str, training["path"]))
    return printable(f"{training['model']}, {training['scheme']} {path}, seed {training['seed']}")


def accumulator_rows(records: Records) -> Iterator[dict[str, Any]]:
    """One row per evaluation with a limited register, and the unlimited one of the same network."""
    for run, common in _evaluation_rows(_limited(records)):
        yield {**common, **_register_cells(run), **origin_of(run)}


def agreement_rows(records: Records) -> Iterator[dict[str, Any]]:
    """One row per verified evaluation of a checkpoint, of those run at another width than the trained one, too."""
    for run, common in _evaluation_rows(_agreements(records)):
        yield {**common, "trained bits": (run.get("trained_precision") or {}).get("inner"),
               "codes compared": run["result"]["compared"], "codes differing": run["result"]["differing"], **origin_of(run)}


def other_rows(records: Records) -> Iterator[dict[str, Any]]:
    """One row per evaluation that no other table has: other requantizers, widths without a comparison, foreign networks."""
    for run, common in _evaluation_rows(_others(records)):
        yield {**common, "requantizer": printable(run.hardware_spec["requant"]),
               "codes compared": run["result"].get("compared"), "codes differing": run["result"].get("differing"),
               **origin_of(run)}


def left_out(records: Records) -> list[str]:
    """A note for every evaluation that no table has, but those that there is one for already."""
    used = [*(run.evaluation for run in records.runs if run.evaluation is not None),
            *filter(is_for_register, records.evaluations),
            *(run for of in (_limited, _agreements, _others) for run in of(records))]
    shown, kept = {_key(run): run for run in used}, {id(run) for run in used}
    notes = []
    for run in records.evaluations:
        if id(run) in kept or any(str(run.file) in note for note in records.notes):
            continue
        twin = shown.get(_key(run))
        why = (f"another evaluation of a run's student, on {run['result']['images']} images; "
               "the tables show one of each run, that of most images")
        if twin is not None:
            kernels = f" on {run['isa']} kernels" if run["isa"] != twin["isa"] else ""
            here = f" on {twin['isa']} kernels" if kernels else ""
            why = f"the same evaluation again{kernels}, the tables have {twin.file}{here}"
            if run["result"]["accuracy"] != twin["result"]["accuracy"]:
                why += f", of {twin['result']['accuracy']:.2f} % where this has {run['result']['accuracy']:.2f}"
        notes.append(f"left out: {run.file}: {why}")
    return notes


def _limited(records: Records) -> list[Record]:
    """Evaluations with a limited register, and the unlimited one of the same network; programs have none to compare with."""
    alike = _alike(run for run in records.evaluations if not run.is_program and not is_for_register(run))
    return [run for twins in alike if not all(run.unlimited for run in twins) for run in twins]


def _agreements(records: Records) -> list[Record]:
    verified = [run for run in records.evaluations
                if "compared" in run["result"] and run.unlimited and run.hardware_spec["requant"] == "fp32"]
    wide = {_network(run) for run in verified if run.precision != run.get("trained_precision")}
    return _newest_alike(run for run in verified if _network(run) in wide)


def _others(records: Records) -> list[Record]:
    shown = {id(run) for run in (*_limited(records), *_agreements(records))}
    trained: dict[str, list[Record]] = {}
    for each in records.runs:
        trained.setdefault(config_text(each.config), []).append(each.training)
    return [run for run in _newest_alike(records.evaluations) if id(run) not in shown and not is_for_register(run)
            and not (run.as_trained and any(map(run.is_of_student_of, trained.get(config_text(run.training), []))))]


def _evaluation_rows(runs: list[Record]) -> Iterator[tuple[Record, dict[str, Any]]]:
    """Every evaluation with the columns that all tables of them share; networks of one name are told apart."""
    paths: dict[str, str] = {}
    programs: dict[str, set[str]] = {}
    for run in runs:
        paths[_network(run)] = min(str(run["model"]), paths.get(_network(run), str(run["model"])))
        programs.setdefault(_key(run, program=False), set()).add(run["program"])
    options = [_evaluation_options(run) for run in runs]
    for run, told in zip(runs, options, strict=True):
        if len(programs[_key(run, program=False)]) > 1:
            told["program"] = f"program {run['program'][:10]}"
    shown = [[str(run["dataset"]), network_of(run), str(run.precision.get("inner")), str(run["result"]["images"])]
             for run in runs]
    several = {path for path in paths.values() if list(paths.values()).count(path) > 1}
    identities: list[Mapping[str, str]] = [
        {**{key: text_of(value) for key, value in (complete(run.training) if run.training else {}).items()},
         "checkpoint": paths[_network(run)], "data digest": run.data_digest,
         "checkpoint digest": run.model_digest if paths[_network(run)] in several else "",
         "trained precision": text_of(run.get("trained_precision"))} for run in runs]
    name_differences(shown, identities, options)
    for run, found in zip(runs, options, strict=True):
        yield run, {"dataset": printable(run["dataset"]), "network": network_of(run),
                    "options": printable(", ".join(found.values())), "bits": run.precision.get("inner"),
                    "images": run["result"]["images"], "bit-true": run["result"]["accuracy"]}


def _register_cells(run: Record) -> dict[str, Any]:
    register, outer = run.hardware_spec["accumulator"], run.hardware_spec["boundary_accumulator"]
    inner = [layer for layer in run["layers"] if layer.get("role") != "boundary"]
    watched = [layer for layer in run["layers"] if layer["accumulator"]["bits"] is not None
               or layer["accumulator"].get("before")] or inner or run["layers"]
    worst = max(watched, key=lambda layer: layer["overflows"] / layer["outputs"])
    return {
        "requantizer": printable(run.hardware_spec["requant"]),
        "boundary accumulator": "unlimited" if outer["bits"] is None else
        f"{outer['bits']} bit {outer['overflow']}, tile {outer['tile']}",
        "accumulator": register["bits"] or 0, "overflow": _rule(register, bool(run.hardware_spec.get("layers"))),
        "tile": str(register["tile"]),
        "overflowed outputs %": 100.0 * sum(layer["overflows"] for layer in watched) /
        sum(layer["outputs"] for layer in watched),
        "worst layer %": 100.0 * worst["overflows"] / worst["outputs"],
        "worst layer": printable(worst["name"]) if worst["overflows"] else "-"}


def _rule(register: dict[str, Any], has_own: bool) -> str:
    """What registers do; their stages and their order where these are not the usual ones."""
    told = register["overflow"] if register["bits"] else "none"
    if register.get("before"):
        told = Accumulator.from_json(register).text
    if register.get("order"):
        told += f", order {register['order']}"
    return printable(told + (", layers of their own" if has_own else ""))


def _evaluation_options(run: Record) -> dict[str, str]:
    """How the network was trained and at what precision it runs, where not as usual."""
    config, precision = run.training, run.precision
    found = {"changes": changes_of(config) if config else "",
             "boundary": f"boundary-bits {precision['boundary']}" if precision.get("boundary") not in (8, None) else "",
             "skip": f"skip-bits {precision['skip']}" if precision.get("skip") not in (8, None) else "",
             "layers": f"layers {text_of(precision['layers'])}" if precision.get("layers") else "",
             "registers": _registers_of_program(run) if run.is_program else ""}
    return {key: text for key, text in found.items() if text}


def _registers_of_program(run: Record) -> str:
    """The registers of its layers; empty if all hold every sum."""
    kinds: dict[str, int] = {}
    for layer in run["layers"]:
        register = layer["accumulator"]
        bits = register["bits"]
        kind = "unlimited" if bits is None else f"{bits} bit {register['overflow']}, tile {register['tile']}"
        if register.get("before") or register.get("order"):
            kind = _rule(register, has_own=False)
        kinds[kind] = kinds.get(kind, 0) + 1
    if set(kinds) == {"unlimited"}:
        return ""
    if len(kinds) == 1:
        return f"accumulator {next(iter(kinds))}"
    return "accumulator " + "; ".join(f"{kind} in {count} layer{'s' * (count > 1)}" for kind, count in kinds.items())


def _alike(evaluations: Iterable[Record]) -> list[list[Record]]:
    """Evaluations of one network on the same images, registers aside; of equal ones the newest."""
    kinds: dict[str, list[Record]] = {}
    for run in _newest_alike(evaluations):
        kinds.setdefault(_kind(run), []).append(run)
    return list(kinds.values())


def _newest_alike(evaluations: Iterable[Record]) -> list[Record]:
    newest = {_key(run): run for run in sorted(evaluations, key=date_of)}
    return sorted(newest.values(), key=lambda run: str(run.file))


def _key(run: Record, program: bool = True) -> str:
    """Everything that decides the result."""
    return json.dumps([_kind(run), run.hardware_spec, run["program"] if program else ""], sort_keys=True)


def _kind(run: Record) -> str:
    """Network, data, images, precision and requantizer."""
    return json.dumps([run["dataset"], run.data_digest, _network(run), run.training, run.precision,
                       run.get("trained_precision"), run["result"]["images"], run.hardware_spec["requant"]], sort_keys=True)


def _network(run: Record) -> str:
    return run.model_digest or f"file {run['model']}"
