"""python -m training.sweep: many runs, each trained and evaluated bit-true, their records kept beside the tables.

Every run is the command that a user would type, so its record is its provenance.  What is finished in the folder runs is not
done again, so that an interrupted sweep goes on where it was.  A record that is there already is replaced only by one of the
same configuration and code, unless --replace says otherwise.  Runs share teachers, so that no network is trained twice.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import typer

from sim.command import INTERRUPTED, fail, new_app, printable, run_app, shell_word
from sim.files import write_atomically
from sim.records import RecordError, read_record
from training.quantizers import QUANTIZERS
from training.record import ROOT, commit, sources
from training.runner import FINAL_FILE, RECORD_FILE
from training.tables import RESULTS

RUNS = Path("runs")
PATIENCE = 60.0
"""Seconds that an interrupted run may take to end."""


class SweepError(RuntimeError):
    """A run that failed, or a sweep that does not exist."""


@dataclass(frozen=True)
class Job:
    """One student: its scheme and path, and the job whose student is its teacher (of another sweep: "sweep/job").

    `label` tells jobs apart that differ in options only; an option "sweep/job" stands for that job's checkpoint.
    """

    scheme: str
    path: str
    teacher: str = ""
    options: tuple[str, ...] = ()
    label: str = ""

    @property
    def name(self) -> str:
        """Unique in its sweep."""
        return f"{self.scheme}-{self.path.replace(',', '-')}" + (f"-{self.label}" if self.label else "")


@dataclass(frozen=True)
class Evaluation:
    """One more evaluation of a job's first seed; the table it is for begins its name."""

    job: str
    name: str
    options: tuple[str, ...]


@dataclass(frozen=True)
class Sweep:
    """Jobs in an order in which teachers come first, for every seed; then evaluations."""

    options: tuple[str, ...]
    seeds: int
    jobs: tuple[Job, ...]
    evaluations: tuple[Evaluation, ...] = ()


def agreement(job: str) -> tuple[Evaluation, ...]:
    """The same float weights at every width, each verified against the torch model."""
    return tuple(Evaluation(job, f"agreement-{job}-{bits}bit", ("--bits", str(bits), "--verify"))
                 for bits in (1, 2, 3, 4, 8))


def accumulators(job: str, bits: int) -> tuple[Evaluation, ...]:
    """One network on accumulators from wide to narrow."""
    limited = tuple(
        Evaluation(job, f"accumulator-{job}-{overflow}-{width:02}",
                   ("--bits", str(bits), "--accumulator", str(width), "--overflow", overflow))
        for overflow in ("wrap", "saturate") for width in (16, 14, 12, 10, 9, 8, 7, 6))
    return (Evaluation(job, f"accumulator-{job}-unlimited", ("--bits", str(bits))), *limited)


TEACHER_ASSISTANT_JOBS = (
    Job("individual", "32"),
    Job("individual", "8"),
    Job("individual", "4"),
    Job("individual", "2"),
    Job("individual", "1"),
    Job("single-level", "8,4", "individual-8"),
    Job("single-level", "4,2", "individual-4"),
    Job("single-level", "2,1", "individual-2"),
    Job("skip-level", "32,4", "individual-32"),
    Job("skip-level", "32,2", "individual-32"),
    Job("skip-level", "32,1", "individual-32"),
    Job("takd", "32,8,4", "individual-32"),
    Job("takd", "32,8,4,2", "takd-32-8-4"),
    Job("takd", "32,8,4,2,1", "takd-32-8-4-2"),
)



def _distilled_jobs() -> tuple[Job, ...]:
    """The other schemes at 4, 2, 1 and 3 bits, where their quantizer has levels; and the ladders to 3 bits."""
    jobs = []
    for bits in (4, 2, 1, 3):
        for scheme in ("kd", "apprentice-b", "apprentice-c", "sqakd", "speq", *(("qkd", "ptq") if bits > 1 else ())):
            jobs.append(Job(scheme, f"32,{bits}", "individual-32"))
        jobs.append(Job("apprentice-a", f"32,{bits}"))
    return (*jobs, Job("individual", "6"), Job("individual", "3"), Job("single-level", "6,3", "individual-6"),
            Job("skip-level", "32,3", "individual-32"), Job("takd", "32,8,4,3", "takd-32-8-4"))


def _ablation_jobs() -> tuple[Job, ...]:
    """One change at a time, at 2 bits."""
    teacher = "digits/individual-32"
    qkd = {"ss": ("--phases", "ss"), "ss-cs": ("--phases", "ss,cs"), "ss-tu": ("--phases", "ss,tu"),
           "cs-tu": ("--phases", "cs,tu"), "tu": ("--phases", "tu"), "fixed-teacher": ("--fixed-teacher",),
           "teacher-width-32": ("--teacher-width", "32")}
    speq = {"u-0.1": ("--u", "0.1"), "u-0.3": ("--u", "0.3"), "u-0.7": ("--u", "0.7"), "u-0.9": ("--u", "0.9"),
            "high-bits-4": ("--high-bits", "4"), "kl": ("--self-distillation", "kl"), "uniform": ("--candidates", "uniform"),
            "running-statistics": ("--teacher-statistics", "running"),
            "shared-statistics": ("--teacher-statistics", "shared")}
    skip = {"drop-kd-after-0.5": ("--drop-kd-after", "0.5"), "hard-examples": ("--hard-example-weight", "1"),
            "hard-examples-individual": ("--hard-example-weight", "1", "--individual", "digits/individual-2"),
            **{f"quantizer-{name}": ("--quantizer", name) for name in QUANTIZERS if name != "dorefa"}}
    return tuple(Job(scheme, "32,2", teacher, options, label) for scheme, changes in (
        ("qkd", qkd), ("speq", speq), ("skip-level", skip)) for label, options in changes.items())


SWEEPS: Mapping[str, Sweep] = MappingProxyType({
    "digits": Sweep(("--dataset", "digits"), 5, TEACHER_ASSISTANT_JOBS + _distilled_jobs(),
                    agreement("takd-32-8-4-2") + accumulators("takd-32-8-4-2", 2)),
    "ablations": Sweep(("--dataset", "digits"), 5, _ablation_jobs()),
    # equal compute: 12 epochs for the student alone, or 4 for each of three steps
    "cifar10-q75": Sweep(
        ("--dataset", "npz", "--data", "data/cifar10-q75.npz", "--augment", "crop-flip", "--batch", "128", "--lr", "0.1"), 1,
        (Job("individual", "2", options=("--epochs", "12")), Job("takd", "32,4,2", options=("--epochs", "4"))),
        agreement("takd-32-4-2") + accumulators("takd-32-4-2", 2)),
})

app = new_app()


@app.command()
def main(
    name: Annotated[str, typer.Argument(help=", ".join(SWEEPS))],
    seeds: Annotated[int | None, typer.Option(help="how many seeds  [default: the sweep's]")] = None,
    first_seed: Annotated[int, typer.Option(help="the first of them")] = 0,
    results: Annotated[Path, typer.Option(help="folder whose records/ keeps the records; training.tables --results reads it")
                       ] = RESULTS,
    replace: Annotated[bool, typer.Option("--replace", help="replace records that other code or another configuration made")
                       ] = False,
) -> None:
    """Train and evaluate every job of a sweep that is not finished in the folder runs, and keep their records.

    Example: python -m training.sweep digits --seeds 1 --results my-results
    """
    if (seeds is not None and seeds < 1) or first_seed < 0:
        raise SweepError("seeds: at least 1 from a first seed of at least 0 is allowed")
    if name not in SWEEPS:
        raise SweepError(f"unknown sweep {name!r}, choose one of {', '.join(SWEEPS)}")
    sweep = SWEEPS[name]
    count = sweep.seeds if seeds is None else seeds
    todo = [(seed, job) for seed in range(first_seed, first_seed + count) for job in sweep.jobs]
    keeper = Keeper(results / "records" / name, replace)
    keeper.check(_planned(name, sweep, todo, first_seed))
    try:
        for number, (seed, job) in enumerate(todo, 1):
            print(f"[{number}/{len(todo)}] {job.name}, seed {seed}", flush=True)
            run_job(name, sweep, job, seed, keeper)
        for number, evaluation in enumerate(sweep.evaluations, 1):
            print(f"[{number}/{len(sweep.evaluations)}] {evaluation.name}", flush=True)
            run_evaluation(name, evaluation, first_seed, keeper)
    except KeyboardInterrupt:
        fail("interrupted; the same command goes on where it was", INTERRUPTED)
    print(f"Next, make tables of the records:\n    {_tables_command(results)}")


def _planned(name: str, sweep: Sweep, todo: list[tuple[int, Job]], first_seed: int) -> dict[str, Path]:
    """The name of every record to keep -> where its run writes it."""
    planned: dict[str, Path] = {}
    for seed, job in todo:
        out = run_folder(name, job.name, seed)
        planned |= {f"{_kept(job, seed)}.train.json": out / RECORD_FILE, f"{_kept(job, seed)}.eval.json": out / "eval.json"}
    for evaluation in sweep.evaluations:
        planned[f"{evaluation.name}.eval.json"] = run_folder(name, evaluation.job, first_seed) / f"{evaluation.name}.json"
    return planned


def _tables_command(results: Path) -> str:
    return "python -m training.tables" + ("" if results == RESULTS else f" --results {shell_word(results)}")


@dataclass(frozen=True)
class Keeper:
    """The folder that keeps records byte for byte, and whether those of other code may be replaced."""

    folder: Path
    replace: bool = False

    def check(self, planned: Mapping[str, Path]) -> None:
        """Before hours of training: raise SweepError if a kept record would have to make way for another one.

        `planned`: the name of every record to keep -> where its run writes it, finished or not.
        """
        others = []
        for name, source in planned.items():
            kept = self.folder / name
            if kept.exists() and not self.replace:
                is_same = _is_same_run(read_record(kept), read_record(source)) if source.exists() else _is_by_this_code(kept)
                if not is_same:
                    others.append(kept)
        if others:
            more = f" and {len(others) - 1} more" if len(others) > 1 else ""
            raise SweepError(f"{others[0]}{more}: made by another configuration or other code; keep the new ones elsewhere "
                             "with --results DIR, or replace these with --replace")

    def keep(self, source: Path, name: str) -> None:
        """Copy a record; raises SweepError for one that would replace that of another run."""
        kept = self.folder / name
        content, record = source.read_bytes(), read_record(source)
        if kept.exists():
            if kept.read_bytes() == content:
                return
            if not self.replace and not _is_same_run(read_record(kept), record):
                raise SweepError(f"{kept}: made by another configuration or other code than {source}; keep the new one "
                                 "elsewhere with --results DIR, or replace it with --replace")
        write_atomically(kept, lambda file: file.write(content))


def _is_same_run(kept: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether two records are equal or of one configuration by the same code, so that nothing is lost with the first."""
    def asked(record: Mapping[str, Any]) -> str:
        keys = ("kind", "config", "data_digest", "training", "precision", "hardware_spec", "dataset", "model")
        return json.dumps([record.get(key) for key in keys], sort_keys=True)

    return kept == new or (asked(kept) == asked(new) and _is_same_code(kept, new))


def _is_by_this_code(kept: Path) -> bool:
    return _is_same_code(read_record(kept), {"commit": commit(), "sources": sources()})


def _is_same_code(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """By the digest of the sources; where a record has none by its commit, if that says what the code was."""
    if one.get("sources") and other.get("sources"):
        return bool(one["sources"] == other["sources"])
    known = str(one.get("commit"))
    return known == other.get("commit") and known != "unknown" and not known.endswith("-dirty")


def run_job(name: str, sweep: Sweep, job: Job, seed: int, keeper: Keeper) -> None:
    """Train, evaluate, keep both records."""
    out = run_folder(name, job.name, seed)
    evaluation = out / "eval.json"
    if not _is_finished(out):
        teacher = ("--teacher", _checkpoint(name, job.teacher, seed)) if job.teacher else ()
        options = [_checkpoint(name, option, seed) if option.split("/")[0] in SWEEPS else option for option in job.options]
        _call("training.run", "--scheme", job.scheme, "--path", job.path, *sweep.options, *options,
              "--seed", str(seed), *teacher, "--out", str(out), "--resume")
    bits = job.path.split(",")[-1]
    if bits != "32" and not evaluation.exists():
        _call("sim.eval", "--model", str(out / FINAL_FILE), "--bits", bits, "--verify", "--json", str(evaluation))
    keeper.keep(out / RECORD_FILE, f"{_kept(job, seed)}.train.json")
    if evaluation.exists():
        keeper.keep(evaluation, f"{_kept(job, seed)}.eval.json")


def run_evaluation(name: str, evaluation: Evaluation, seed: int, keeper: Keeper) -> None:
    """Evaluate the student of that seed and keep the record, as run_job does."""
    out = run_folder(name, evaluation.job, seed)
    file = out / f"{evaluation.name}.json"
    if not file.exists():
        _call("sim.eval", "--model", str(out / FINAL_FILE), *evaluation.options, "--json", str(file))
    keeper.keep(file, f"{evaluation.name}.eval.json")


def _checkpoint(sweep: str, job: str, seed: int) -> str:
    """The checkpoint of a job, "job" or "sweep/job"."""
    sweep, job = job.split("/") if "/" in job else (sweep, job)
    return str(run_folder(sweep, job, seed) / FINAL_FILE)


def run_folder(sweep: str, job: str, seed: int) -> Path:
    """Where a job's checkpoints lie."""
    return RUNS / sweep / f"{job}-seed{seed}"


def _kept(job: Job, seed: int) -> str:
    return f"{job.name}-seed{seed}"


def _is_finished(out: Path) -> bool:
    record = out / RECORD_FILE
    return (out / FINAL_FILE).exists() and record.exists() and read_record(record, "training")["status"] == "finished"


def _call(module: str, *options: str) -> None:
    """Run a command of this package, whatever modules lie in the working directory; its error is one line."""
    environment = {**os.environ, "COLUMNS": "140"}
    if ROOT.name not in ("site-packages", "dist-packages"):  # a checkout; there, the child finds an installed package itself
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    child = subprocess.Popen([sys.executable, "-P", "-m", module, *options], env=environment, stdout=subprocess.DEVNULL,
                             stderr=subprocess.PIPE, encoding="utf-8", errors="backslashreplace")
    try:
        _, errors = child.communicate()
    except KeyboardInterrupt:  # a terminal tells both, `kill -INT` the sweep alone
        child.send_signal(signal.SIGINT)
        try:
            child.communicate(timeout=PATIENCE)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            child.kill()
        raise
    if child.returncode:
        lines = errors.strip().splitlines() or [f"status {child.returncode}"]
        raise SweepError(printable(f"{module} {' '.join(options)}: {lines[-1].removeprefix('error: ')}"))


if __name__ == "__main__":
    run_app(app, SweepError, RecordError)
