"""Tables of sweeps of registers: accuracy by width, rule and tile, and what overflowed in every layer."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from sim.command import printable
from training.report.markup import Section, markdown_text
from training.report.record import Record
from training.report.records import Records
from training.report.rows import origin_of
from training.report.summaries import origin_cells

NETWORK = ("dataset", "network", "images", "requantizer", "boundary accumulator")
"""What one sweep of one network is known by."""
KIND = "registers"
"""What they are called beside their width: rule and tile, or stages."""
_FREE = "unlimited"
COUNTED = ("clipped outputs", "persistent outputs", "transient outputs")
"""Outputs that some register clipped, and those of both kinds."""
_BOTH = ("Percent of outputs of which a register's exact sum does not fit (persistent), and of which only sums on the way "
         "do not (transient), of all stages together.")
_WHOLE = 99.5
"""What two digits would make 100 of."""


def sweep_rows(records: Records) -> Iterator[dict[str, Any]]:
    """A row for each configuration of each sweep; `accumulator` 0 is without limits."""
    for record in records.registers:
        for row in record["configurations"]:
            limited = [layer for layer in row["layers"] if layer["register"] != _FREE] or row["layers"]
            worst = max(limited, key=lambda layer: layer["overflows"] / layer["outputs"])
            yield {**_common(record, row), "bit-true": row["accuracy"], "answers changed": row["changed"],
                   "overflowed outputs %": row["overflowed_percent"], "outputs": row["outputs"], **_counted(row),
                   "worst layer %": 100.0 * worst["overflows"] / worst["outputs"],
                   "worst layer": printable(worst["layer"]) if worst["overflows"] else "-", **origin_of(record)}


def layer_rows(records: Records) -> Iterator[dict[str, Any]]:
    """A row for each layer of each configuration that has a register there."""
    for record in records.registers:
        for row in record["configurations"]:
            for number, layer in enumerate(row["layers"]):
                if layer["register"] != _FREE:
                    yield {**_common(record, row), "number": number, "layer": printable(layer["layer"]),
                           "safe bits": layer["safe_bits"], "register": printable(layer["register"]),
                           "overflows": layer["overflows"], "outputs": layer["outputs"],
                           "channels that overflow": layer["channels"],
                           "overflowed outputs %": 100.0 * layer["overflows"] / layer["outputs"], **_counted(layer),
                           **origin_of(record)}


def _counted(row: Any) -> dict[str, Any]:
    """Outputs that some register clipped, of all stages together, and which of both kinds they are."""
    return {name: row.get(name.removesuffix(" outputs")) for name in COUNTED}


def _common(record: Record, row: Any) -> dict[str, Any]:
    boundary = row["boundary"]
    is_same = boundary is not None and boundary in (str(row["bits"]), row["stages"].replace(":B", f":{row['bits']}"))
    kind = row["stages"] or f"{row['overflow']}, {row['tile']}"
    return {"dataset": printable(record["dataset"]), "network": network_of(record), "images": row["images"],
            "requantizer": printable(row["requant"]),
            "boundary accumulator": "as the profile" if boundary is None and record.get("profile") else
            _FREE if boundary is None else "the same" if is_same else f"{printable(boundary)} bit",
            "registers": printable(kind) if row["bits"] else _FREE, "overflow": row["overflow"], "tile": row["tile"],
            "accumulator": row["bits"] or 0}


def network_of(record: Record) -> str:
    """What a sweep's network is called: as it was trained, else its file, on the profile that it ran on."""
    training, precision = record.training, record.precision
    if training:
        path = "-".join(map(str, training.get("path", [])))
        return printable(f"{training.get('model', 'network')}, {training.get('scheme', '')} {path}, "
                         f"{precision.get('inner')} bits, seed {training.get('seed')}")
    profile = record.get("profile")
    name = Path(str(record["model"])).name or "network"
    return printable(f"{name}, {profile['name']}" if profile else name)


def networks(rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """A title for each sweep of each network, and its rows; what all have in common is not in the titles."""
    told = [key for key in NETWORK if key in NETWORK[:2] or rows[rows["accumulator"] > 0][key].nunique() > 1]
    of_free = rows["accumulator"] == 0
    for values, part in rows[~of_free].groupby(list(NETWORK), sort=False):
        named = dict(zip(NETWORK, values, strict=True))
        free = rows[of_free & (rows[list(NETWORK[:4])] == [named[key] for key in NETWORK[:4]]).all(axis=1)]
        words = {"images": f"{named['images']:,} images",
                 "boundary accumulator": f"boundary {named['boundary accumulator']}"}
        yield ", ".join(str(words.get(key, named[key])) for key in told), pd.concat([free, part])


def summarize_sweeps(rows: pd.DataFrame) -> list[Section]:
    """Of each network a row for each width, a column for each kind of register."""
    sections = []
    for title, part in networks(rows):
        limited = part[part["accumulator"] > 0]
        cells = limited.assign(cell=[_cell(*pair) for pair in zip(limited["bit-true"], limited["overflowed outputs %"],
                                                                  strict=True)])
        free = part[part["accumulator"] == 0]["bit-true"]
        text = f"Without limits {free.iloc[0]:.2f} %, {part['images'].iloc[0]:,} images." if len(free) else ""
        sections.append(_section(title, text, _by_width(cells), limited, ("bits",)))
        counted = limited[limited[COUNTED[0]].notna()]
        if len(counted):
            both = shares(counted).itertuples(index=False)
            cells = counted.assign(cell=[" + ".join(map(share_cell, pair)) for pair in both])
            sections.append(_section(f"{title}, persistent + transient", _BOTH, _by_width(cells), counted, ("bits",)))
    return sections


def shares(rows: pd.DataFrame) -> pd.DataFrame:
    """Percent of outputs that are persistent and transient; missing where nobody counted."""
    return rows[list(COUNTED[1:])].astype(float).mul(100.0 / rows["outputs"], axis=0)


def summarize_layers(rows: pd.DataFrame) -> list[Section]:
    """Of each network and kind of register a row for each layer, a column for each width at which something overflows."""
    sections = []
    for title, part in networks(rows):
        for kind, few in part.groupby(KIND, sort=False):
            seen = few.groupby("accumulator")["overflows"].transform("sum") > 0
            if seen.any():
                cells = few[seen].assign(cell=few[seen]["overflowed outputs %"].map(share_cell))
                table = _wide(cells.sort_values("number"), ["layer", "safe bits"], "accumulator", "cell")
                sections.append(_section(f"{title}, {kind}", "", table.astype(str), few, ("layer", "safe bits")))
    return sections


def _section(title: str, text: str, table: pd.DataFrame, rows: pd.DataFrame, keys: tuple[str, ...]) -> Section:
    origin = {name: values[0] for name, values in {**origin_cells(rows), "command": list(rows["command"])}.items()}
    return Section(table.astype(str).assign(**origin), heading=markdown_text(title), text=text, common=tuple(origin),
                   keys=keys)


def _wide(cells: pd.DataFrame, index: Any, column: str, values: str) -> pd.DataFrame:
    """A column for each value of `column`, in the order in which they come."""
    names = cells[column].astype(str)
    table = cells.assign(name=names).pivot_table(index=index, columns="name", values=values, aggfunc="first", sort=False)
    return table[list(dict.fromkeys(names))].fillna("").reset_index().rename_axis(columns=None)


def _by_width(cells: pd.DataFrame) -> pd.DataFrame:
    """A row for each width, a column for each kind of register."""
    return _merged(_wide(cells.sort_values("accumulator", kind="stable"), "accumulator", KIND, "cell"))


def _merged(table: pd.DataFrame) -> pd.DataFrame:
    """Widths that follow each other with the same in every column as one row."""
    cells = table.drop(columns="accumulator")
    run = (cells != cells.shift()).any(axis=1).cumsum()
    ends = table["accumulator"].groupby(run).agg(["first", "last"])
    bits = [str(first) if first == last else f"{first} to {last}"
            for first, last in zip(ends["first"], ends["last"], strict=True)]
    merged = cells.groupby(run).first().reset_index(drop=True)
    merged.insert(0, "bits", bits)
    return merged


def _cell(accuracy: float, share: float) -> str:
    return f"{accuracy:.2f} ({share_cell(share)})"


def share_cell(percent: float) -> str:
    """In two digits, of which 100 has one more; all and nearly all, none and nearly none are told from each other."""
    nearly = f"{percent:.2g}" if percent < _WHOLE else "> 99"
    return {0.0: "0", 100.0: "100"}.get(percent, nearly)
