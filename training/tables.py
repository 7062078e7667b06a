"""python -m training.tables: run records -> results/*.csv and results/*.md.

Tables hold nothing that is not in a record; a test makes them again and compares.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import pandas as pd
import typer

from sim.command import new_app, run_app
from sim.files import write_text_atomically
from training.comparisons import (
    ComparisonError,
    ablation_rows,
    ablation_table,
    changes_of,
    comparison_rows,
    comparison_table,
)
from training.performance import NOTE, TITLE, performance_rows, performance_table
from training.plots import plot_accumulators, plot_performance

RESULTS = Path(__file__).resolve().parent.parent / "results"

app = new_app()


class TableError(ValueError):
    """A record that is missing or not what it should be."""


@app.command()
def main(results: Annotated[Path, typer.Option(help="folder of records/ and of the tables")] = RESULTS) -> None:
    """Write every table that the records allow, and the plots."""
    for name, text in make_tables(results / "records").items():
        write_text_atomically(results / name, text)
        print(results / name)
    for name, (rows_of, plot) in PLOTS.items():
        rows = pd.DataFrame(list(rows_of(results / "records")))
        if not rows.empty:
            plot(rows, results / name)
            print(results / name)


def make_tables(records: Path) -> dict[str, str]:
    """File name -> content of every table."""
    if not records.is_dir():
        raise TableError(f"{records}: no such folder; python -m training.sweep makes records")
    files: dict[str, str] = {}
    for name, (rows_of, _, _) in TABLES.items():
        rows = pd.DataFrame(list(rows_of(records)))
        if not rows.empty:
            files[f"{name}.csv"], files[f"{name}.md"] = _texts(name, rows)
    return files


def _texts(name: str, rows: pd.DataFrame) -> tuple[str, str]:
    """The table as CSV, and its summary as Markdown."""
    _, note, columns = TABLES[name]
    rows = rows.sort_values(columns["sort"]).reset_index(drop=True)
    return (rows.to_csv(index=False, float_format="%.4f"),
            f"# {note[0]}\n\n{note[1]}\n\n" + columns["summary"](rows))


def scheme_rows(records: Path) -> Iterator[dict[str, Any]]:
    """One row per trained and evaluated student."""
    for file in sorted(records.rglob("*.train.json")):
        evaluation = Path(str(file).replace(".train.json", ".eval.json"))
        if not evaluation.exists():
            continue
        train, run = _read(file), _read(evaluation)
        config = train["config"]
        last = list(train["steps"].values())[-1]
        yield {
            "dataset": run["dataset"], "scheme": config["scheme"], "path": "-".join(map(str, config["path"])),
            "bits": config["path"][-1], "model": config["model"], "width": config["width"], "preset": config["preset"],
            "epochs": config["epochs"],
            "epochs along path": _epochs(train), "seed": config["seed"],
            "quantizer": config["quantizer"], "changes": changes_of(config),
            "best validation": last["best"]["accuracy"],
            "best epoch": last["best"]["epoch"], "last validation": last["epochs"][-1]["validation_accuracy"],
            "FQ": train["test"]["accuracy"], "bit-true": run["result"]["accuracy"],
            "codes compared": run["result"]["compared"], "codes differing": run["result"]["differing"],
            "seconds": sum(entry["seconds"] for step in train["steps"].values() for entry in step["epochs"]),
            "commit": train["commit"], "date": train["date"], "hardware": _hardware(train), "command": train["command"],
        }


def _epochs(train: Mapping[str, Any]) -> int:
    """Epochs of every network on the way to the student, those of an adopted teacher and its ancestors included."""
    config = train["config"]
    return sum(config["epochs"] * (config["path"].index(step["bits"]) + 1) if "from" in step else len(step["epochs"])
               for step in train["steps"].values())


def plain_rows(records: Path) -> Iterator[dict[str, Any]]:
    """The runs of schemes as they are, without ablations."""
    yield from (row for row in scheme_rows(records) if not row["changes"])


def compared_rows(records: Path) -> Iterator[dict[str, Any]]:
    """Paired differences between schemes."""
    yield from _of_all_runs(records, comparison_rows)


def changed_rows(records: Path) -> Iterator[dict[str, Any]]:
    """Paired differences that a change of a scheme makes."""
    yield from _of_all_runs(records, ablation_rows)


def _of_all_runs(records: Path, rows_of: Callable[[pd.DataFrame], Iterator[dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    runs = pd.DataFrame(list(scheme_rows(records)))
    if not runs.empty:
        yield from rows_of(runs)


def accumulator_rows(records: Path) -> Iterator[dict[str, Any]]:
    """One row per evaluation with a limited accumulator, and its unlimited twin."""
    for file in sorted(records.rglob("accumulator*.eval.json")):
        run = _read(file)
        register = run["hardware_spec"]["accumulator"]
        inner = [layer for layer in run["layers"] if layer["role"] != "boundary"]
        worst = max(inner, key=lambda layer: layer["overflows"] / layer["outputs"])
        yield {
            "dataset": run["dataset"], "network": _network(run), "bits": run["precision"]["inner"],
            "accumulator": register["bits"] or 0, "overflow": register["overflow"] if register["bits"] else "none",
            "tile": register["tile"], "bit-true": run["result"]["accuracy"], "images": run["result"]["images"],
            "overflowed outputs %": 100.0 * sum(layer["overflows"] for layer in inner) /
            sum(layer["outputs"] for layer in inner),
            "worst layer %": 100.0 * worst["overflows"] / worst["outputs"],
            "worst layer": worst["name"] if worst["overflows"] else "-",
            "commit": run["commit"], "date": run["date"], "hardware": _hardware(run), "command": run["command"],
        }


def agreement_rows(records: Path) -> Iterator[dict[str, Any]]:
    """One row per verified evaluation of one checkpoint at one width."""
    for file in sorted(records.rglob("agreement*.eval.json")):
        run = _read(file)
        yield {
            "dataset": run["dataset"], "network": _network(run), "trained bits": run["trained_precision"]["inner"],
            "bits": run["precision"]["inner"], "images": run["result"]["images"], "bit-true": run["result"]["accuracy"],
            "codes compared": run["result"]["compared"], "codes differing": run["result"]["differing"],
            "commit": run["commit"], "date": run["date"], "hardware": _hardware(run), "command": run["command"],
        }


def run_rows(records: Path) -> Iterator[dict[str, Any]]:
    """The rows of the one run of bench.peers that is kept."""
    file = records / "performance.json"
    if file.exists():
        run = _read(file)
        yield from performance_rows(run, _hardware(run))


def write_performance(record: Path) -> list[Path]:
    """Tables and plot of a run of bench.peers, beside its record or, from results/records, in results; the files."""
    run = _read(record)
    rows = pd.DataFrame(list(performance_rows(run, _hardware(run))))
    folder = record.parent.parent if record.parent.name == "records" else record.parent
    files = [folder / name for name in (f"{record.stem}.csv", f"{record.stem}.md", f"{record.stem}.svg")]
    for file, text in zip(files[:2], _texts("performance", rows), strict=True):
        write_text_atomically(file, text)
    plot_performance(rows, files[2])
    return files


def _network(run: Mapping[str, Any]) -> str:
    training = run["training"]
    return f"{training['model']}, {training['scheme']} {'-'.join(map(str, training['path']))}, seed {training['seed']}"


def _summarize_schemes(rows: pd.DataFrame) -> str:
    """Mean and standard deviation over seeds of every dataset, scheme, path and recipe."""
    keys = ["dataset", "bits", "scheme", "path", "quantizer", "model", "preset", "epochs", "epochs along path"]
    groups = rows.groupby(keys, sort=False)
    table = groups.agg(
        n=("seed", "count"), seeds=("seed", lambda seeds: ", ".join(map(str, sorted(seeds)))),
        fq=("FQ", "mean"), fq_sd=("FQ", "std"), bit_true=("bit-true", "mean"),
        bit_true_sd=("bit-true", "std"), differing=("codes differing", "sum"), compared=("codes compared", "sum"),
        seconds=("seconds", "mean"), commits=("commit", _short_commits), hardware=("hardware", "first"),
        date=("date", lambda dates: max(dates)[:10]), command=("command", "first")).reset_index()
    table = table.sort_values(["dataset", "bits", "scheme", "path"], ascending=[True, False, True, True])
    shown = pd.DataFrame({
        **{key: table[key] for key in keys}, "n": table["n"], "seeds": table["seeds"],
        "FQ %": _with_deviation(table["fq"], table["fq_sd"]),
        "bit-true %": _with_deviation(table["bit_true"], table["bit_true_sd"]),
        "codes that differ": _share(table["differing"], table["compared"]),
        "s per run": table["seconds"].round().astype(int), "commit": table["commits"], "date": table["date"],
        "hardware": table["hardware"], "command (first seed)": "`" + table["command"] + "`"})
    return _markdown(shown)


def _summarize_accumulators(rows: pd.DataFrame) -> str:
    shown = pd.DataFrame({
        "dataset": rows["dataset"], "network": rows["network"], "bits": rows["bits"],
        "accumulator": [f"{bits} bit" if bits else "unlimited" for bits in rows["accumulator"]],
        "overflow": rows["overflow"], "tile": rows["tile"], "images": rows["images"],
        "bit-true %": rows["bit-true"].map("{:.2f}".format),
        "overflowed outputs %": rows["overflowed outputs %"].map("{:.3g}".format),
        "worst layer %": rows["worst layer %"].map("{:.3g}".format), "worst layer": rows["worst layer"],
        "commit": rows["commit"].str[:10], "date": rows["date"].str[:10], "hardware": rows["hardware"],
        "command": "`" + rows["command"] + "`"})
    return _markdown(shown)


def _summarize_agreement(rows: pd.DataFrame) -> str:
    return _markdown(pd.DataFrame({
        **{key: rows[key] for key in ("dataset", "network", "trained bits", "bits", "images")},
        "bit-true %": rows["bit-true"].map("{:.2f}".format),
        "codes that differ": _share(rows["codes differing"], rows["codes compared"]),
        "commit": rows["commit"].str[:10], "date": rows["date"].str[:10], "hardware": rows["hardware"],
        "command": "`" + rows["command"] + "`"}))


def _share(part: pd.Series, whole: pd.Series) -> list[str]:
    return [f"{a:,} of {b:,}" for a, b in zip(part, whole, strict=True)]


def _with_deviation(mean: pd.Series, deviation: pd.Series) -> list[str]:
    """Mean and standard deviation over seeds; a single seed has none."""
    return [f"{m:.2f}" + ("" if pd.isna(d) else f" ± {d:.2f}") for m, d in zip(mean, deviation, strict=True)]


def _markdown(table: pd.DataFrame) -> str:
    return table.to_markdown(index=False, disable_numparse=True) + "\n"


def _short_commits(commits: pd.Series) -> str:
    return ", ".join(sorted({commit[:10] + ("-dirty" if commit.endswith("-dirty") else "") for commit in commits}))


def _hardware(record: Mapping[str, Any]) -> str:
    machine = record["hardware"]
    return machine.get("gpu") or f"{machine['cpu']}, {machine['threads']} of {machine['cores']} cores"


def _read(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text()))
    except ValueError:
        raise TableError(f"{file}: not a run record") from None


RowsOf = Callable[[Path], Iterator[dict[str, Any]]]
TABLES: Mapping[str, tuple[RowsOf, tuple[str, str], dict[str, Any]]] = MappingProxyType({
    "schemes": (plain_rows, (
        "Training schemes",
        "Test accuracy in percent, mean ± standard deviation over n seeds: of the fake-quantized model (FQ) and of the "
        "integer simulator (bit-true, `fp32` requantizer, unlimited accumulator). The epoch was chosen on validation "
        "images; the test set was used once. `epochs` is per step; `epochs along path` adds those of the student's "
        "ancestors, so that on digits a ladder has the larger budget. On CIFAR-10 (JPEG-75) the schedule is short and of "
        "equal compute: 12 epochs for `individual`, 3 x 4 for the ladder; these accuracies do not compare with published "
        "CIFAR-10 figures. A run that was given a teacher counts the seconds of its own steps only. One row per seed: "
        "`schemes.csv`."),
        {"sort": ["dataset", "scheme", "path", "preset", "seed"], "summary": _summarize_schemes}),
    "accumulators": (accumulator_rows, (
        "Accuracy against the width of the accumulator",
        "One trained checkpoint, not retrained, on integer hardware with an accumulator of that width in every inner layer "
        "(the first and last layer keep a wide one). Overflowed outputs: of all sums of inner layers, those that the "
        "register got wrong (wrap) or clipped at least once (saturate); contract C6 in sim/ARITHMETIC.md."),
        {"sort": ["dataset", "network", "overflow", "tile", "accumulator"], "summary": _summarize_accumulators}),
    "agreement": (agreement_rows, (
        "Agreement of simulator and model",
        "One trained checkpoint at several widths (its float weights requantized, not retrained, so accuracies away from "
        "the trained width mean little): every code of every layer and every logit, on all test images, compared between "
        "the fake-quantized torch model and the integer simulator under `fp32`."),
        {"sort": ["dataset", "network", "bits"], "summary": _summarize_agreement}),
    "comparisons": (compared_rows, (
        "Which differences exceed noise",
        "Bit-true accuracy on digits, the difference of each scheme to two others at the same width, paired over seeds: "
        "mean ± standard deviation, and the 95 % t interval of the mean. Beyond noise is what excludes 0; no correction for "
        "many comparisons is made, one in twenty of equal schemes would pass. Runs and commands: `schemes.csv`."),
        {"sort": ["bits", "against", "difference"], "summary": comparison_table}),
    "ablations": (changed_rows, (
        "Ablations",
        "One change of a scheme at a time, on digits, against the scheme unchanged and paired over seeds as in "
        "`comparisons.md`; with few seeds only large differences can exceed noise, and of so many changes one or two that "
        "change nothing would."),
        {"sort": ["scheme", "bits", "change"], "summary": ablation_table}),
    "performance": (run_rows, (TITLE, NOTE), {"sort": ["number"], "summary": performance_table}),
})
PLOTS: Mapping[str, tuple[RowsOf, Callable[[pd.DataFrame, Path], None]]] = MappingProxyType({
    "accumulators.svg": (accumulator_rows, plot_accumulators), "performance.svg": (run_rows, plot_performance)})


if __name__ == "__main__":
    run_app(app, TableError, ComparisonError)
