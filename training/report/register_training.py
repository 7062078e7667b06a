"""Rows of networks that were trained for a register, and of the same networks trained without: one row per evaluation.

What belongs together is equal in all of its configuration but the seed, the way of training for a register, and the
quantizer that this way chose.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pandas as pd

from sim.command import printable
from sim.trained import trained_register
from training.report.identity import complete, text_of
from training.report.markup import Section, markdown_text
from training.report.record import Record
from training.report.references import REFERENCES, seedless
from training.report.rows import is_training, origin_of
from training.report.summaries import mean_text

PLAIN, BOUNDED, OVERFLOWING = "plain", ("a2q", "a2q+"), "overflow"
WAYS = (PLAIN, *BOUNDED, OVERFLOWING)
NOT_RUN = "not run"
_NETWORK = ("dataset", "model", "scheme", "path", "epochs")
_LEFT = ("seed", "quantizer", "accumulator_bits", "accumulator_training", "overflow", "tile", "step", "own_code", "extended",
         "data", "out", *REFERENCES)
ACCURACY = (
    "Bit-true accuracy on registers of inner layers, mean ± standard deviation over n seeds. `plain`: trained without a "
    "register. `a2q`, `a2q+`: trained for that width; no sum leaves it, so that both rules and all tiles give the same. "
    "`overflow`: trained with the overflows of that width and rule.")
BOUND = (
    "Bits that the widest inner layer can need, of any input, by its weights alone (the largest of n seeds); and of all "
    "sums of inner layers over the test images those that the register of that width got wrong, or clipped on the way.")


def is_for_register(evaluation: Record) -> bool:
    """Whether it is of a network that was trained for a register, on a limited one: no other table has those."""
    return (not evaluation.is_program and not evaluation.unlimited and trained_register(evaluation.training) is not None
            and _is_of_last_width(evaluation))


def registered_rows(evaluations: Iterable[Record], grids: Iterable[Record]) -> Iterator[dict[str, Any]]:
    """One row per evaluation, as trained, under fp32; then one per job of a sweep that has not run."""
    known: dict[str, list[Record]] = {}
    for evaluation in evaluations:
        if _is_as_trained(evaluation):
            known.setdefault(_key(evaluation), []).append(evaluation)
    for alike in known.values():
        if any(trained_register(evaluation.training) for evaluation in alike):
            yield from map(_row, alike)
    for grid in grids:
        for job in grid["jobs"]:
            if job["status"] != "finished" and job.get("accumulator_bits") and is_training(grid, job):
                yield _missing(grid, job)


def _is_as_trained(evaluation: Record) -> bool:
    if evaluation.is_program or not evaluation.training or not _is_of_last_width(evaluation):
        return False
    is_exact = evaluation.hardware_spec["requant"] == "fp32"
    outer = evaluation.hardware_spec["boundary_accumulator"]["bits"]
    return is_exact and outer is None and evaluation.precision == evaluation.get("trained_precision")


def _is_of_last_width(evaluation: Record) -> bool:
    """Not of a wider step of a ladder, whose checkpoint has the same configuration and was trained without a register."""
    return bool((evaluation.get("trained_precision") or {}).get("inner") == evaluation.training["path"][-1])


def _key(evaluation: Record) -> str:
    config = complete(evaluation.training)
    same = {key: text_of(value) for key, value in config.items() if key not in _LEFT}
    same |= {key: seedless(text_of(config[key])) for key in REFERENCES}
    return json.dumps([evaluation["dataset"], evaluation.data_digest, evaluation["result"]["images"], same], sort_keys=True)


def _row(evaluation: Record) -> dict[str, Any]:
    config, register = evaluation.training, evaluation.hardware_spec["accumulator"]
    own = trained_register(config)
    inner = [layer for layer in evaluation["layers"] if layer.get("role") != "boundary"]
    way = PLAIN if own is None else config["accumulator_training"]
    return {**_named(str(evaluation["dataset"]), config), "trained": way, "trained bits": 0 if own is None else own.bits,
            "trained overflow": "" if own is None or way in BOUNDED else own.overflow,
            "quantizer": printable(config["quantizer"]), "seed": config["seed"], "status": "finished",
            "accumulator": register["bits"] or 0, "overflow": register["overflow"] if register["bits"] else "none",
            "tile": str(register["tile"]), "images": evaluation["result"]["images"],
            "bit-true": evaluation["result"]["accuracy"], "needed bits": max(layer["safe_bits"] for layer in inner),
            "overflowed": sum(layer["overflows"] for layer in inner), "outputs": sum(layer["outputs"] for layer in inner),
            **origin_of(evaluation)}


def _named(dataset: str, config: Mapping[str, Any]) -> dict[str, Any]:
    return {"dataset": printable(dataset), "model": printable(config["model"]), "scheme": printable(config["scheme"]),
            "path": "-".join(map(str, config["path"])), "epochs": config["epochs"]}


def _missing(grid: Record, job: Mapping[str, Any]) -> dict[str, Any]:
    way, overflow = str(job["accumulator_training"]), str(job.get("overflow", ""))
    return {**_named(str(job["dataset"]), job), "trained": printable(way), "trained bits": int(job["accumulator_bits"]),
            "trained overflow": "" if way in BOUNDED else printable(overflow), "quantizer": "", "seed": job["seed"],
            "status": printable(job["status"]), "accumulator": 0, "overflow": "none", "tile": "", "images": 0,
            "bit-true": None, "needed bits": 0, "overflowed": 0, "outputs": 0, **origin_of(grid)}


def summarize_registered(rows: pd.DataFrame) -> list[Section]:
    """For every network a table of accuracies, a row per rule and width, and one of bounds."""
    sections = []
    done = rows[rows["status"] == "finished"]
    for (dataset, model, scheme, path, epochs), part in rows.groupby(list(_NETWORK), sort=True):
        here = done.loc[done.index.intersection(part.index)]
        heading = ", ".join(map(markdown_text, (dataset, model, scheme, path, f"{epochs} epochs")))
        table = pd.DataFrame(list(_accuracies(part, here)))
        sections.append(Section(table.astype(str), heading, ACCURACY, ()))
        if not here.empty:
            sections.append(Section(pd.DataFrame(list(_bounds(here))).astype(str), "", BOUND, ()))
    return sections


def _accuracies(part: pd.DataFrame, done: pd.DataFrame) -> Iterator[dict[str, str]]:
    exact = done[(done["trained"] == PLAIN) & (done["accumulator"] == 0)].drop_duplicates("seed")
    if not exact.empty:
        yield {"register": "unlimited", "rule": "-", PLAIN: _mean(exact), **dict.fromkeys(WAYS[1:], "-"),
               "n": str(exact["seed"].nunique())}
    widths = {*part["trained bits"], *done["accumulator"]} - {0}
    rules = [rule for rule in ("saturate", "wrap") if rule in {*done["overflow"], *part["trained overflow"]}] or ["wrap"]
    for rule in rules:
        for bits in sorted(widths, reverse=True):
            cells = {way: _chosen(done, way, bits, rule) for way in WAYS}
            counts = dict.fromkeys(str(cell["seed"].nunique()) for cell in cells.values() if not cell.empty)
            yield {"register": f"{bits} bit", "rule": rule, **{
                way: _mean(cell) if not cell.empty else _status(part, way, bits, rule) for way, cell in cells.items()},
                "n": " or ".join(counts) or "-"}


def _chosen(done: pd.DataFrame, way: str, bits: int, rule: str) -> pd.DataFrame:
    """Evaluations that a cell is the mean of; where nothing overflows those under any rule, one of each seed."""
    found = done[(done["trained"] == way) & (done["accumulator"] == bits)]
    if way in BOUNDED:
        return found[found["trained bits"] == bits].drop_duplicates("seed")
    found = found[(found["overflow"] == rule) & (found["tile"] == "1")].drop_duplicates(["seed", "trained bits"])
    return found if way == PLAIN else found[(found["trained bits"] == bits) & (found["trained overflow"] == rule)]


def _status(part: pd.DataFrame, way: str, bits: int, rule: str) -> str:
    """Why there is nothing: of a job that a sweep names what became of it."""
    jobs = part[(part["trained"] == way) & (part["trained bits"] == bits) & (part["status"] != "finished")
                & part["trained overflow"].isin(["", rule])]
    return "-" if jobs.empty else str(jobs["status"].iloc[0])


def _mean(cell: pd.DataFrame) -> str:
    return mean_text(cell["bit-true"])


def _bounds(done: pd.DataFrame) -> Iterator[dict[str, str]]:
    trained = done[done["trained"].isin(BOUNDED)]
    for (way, bits), group in trained.groupby(["trained", "trained bits"], sort=True):
        on_it = group[group["accumulator"] == bits].drop_duplicates("seed")
        yield {"trained": str(way), "register": f"{bits} bit", "n": str(group["seed"].nunique()),
               "bits needed at most": str(group["needed bits"].max()),
               "overflows": "-" if on_it.empty else f"{on_it['overflowed'].sum():,} of {on_it['outputs'].sum():,}"}
    plain = done[done["trained"] == PLAIN]
    if not plain.empty:
        yield {"trained": PLAIN, "register": "-", "n": str(plain["seed"].nunique()),
               "bits needed at most": str(plain["needed bits"].max()), "overflows": "-"}
