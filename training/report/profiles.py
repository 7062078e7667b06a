"""Rows of what networks compute, beside the range of their codes: one row per layer."""

from collections.abc import Iterable, Iterator
from typing import Any

import pandas as pd

from sim.command import printable
from training.report.markup import Section
from training.report.records import Record
from training.report.rows import origin_of
from training.report.summaries import by_dataset


def profile_rows(records: Iterable[Record]) -> Iterator[dict[str, Any]]:
    """One row per activation."""
    for record in records:
        network, known = record["network"], dict(record["network"].get("training") or {})
        for number, layer in enumerate(record["activations"]):
            yield {"dataset": printable(record["dataset"]), "network": network_name(record),
                   "seed": known.get("seed"), "bits": network["bits"], "images": record["images"], "number": number,
                   "layer": printable(layer["name"]), "least code": layer["least"], "largest code": layer["most"],
                   "below %": 100.0 * layer["below"] / layer["total"], "above %": 100.0 * layer["above"] / layer["total"],
                   **origin_of(record)}


def network_name(record: Record) -> str:
    """What the network of a record is called."""
    known = dict(record["network"].get("training") or {})
    words = [str(known["model"])] if "model" in known else []
    words += [str(record["network"]["name"])] + ([f"seed {known['seed']}"] if "seed" in known else [])
    return printable(", ".join(words))


def summarize_profiles(rows: pd.DataFrame) -> list[Section]:
    """A row for each layer."""
    return by_dataset(pd.DataFrame({
        "dataset": rows["dataset"], "network": rows["network"], "images": rows["images"], "layer": rows["layer"],
        "codes": [f"{low:g} to {high:g}" for low, high in zip(rows["least code"], rows["largest code"], strict=True)],
        "below %": rows["below %"].map("{:.2f}".format), "above %": rows["above %"].map("{:.2f}".format)}).astype(str),
        ("images",))
