"""A Ray cluster: the same tasks as Ray's, with Ray's scheduler, retries and dashboard.

Each task gets the files of those that it needs through Ray, and its own files come back the same way, so that the machines
share no disk; where they do, an interrupted run goes on in its folder.  The package must be installed on every machine.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sim.files import write_atomically
from sim.text import printable
from training.folder import RECORD_FILE
from training.sweeps.local import POLL, Watcher, hindrance
from training.sweeps.work import FAILED, FINISHED, NOT_RUN, Crew, Outcome, SweepError, Task, environment, files_of

LOCAL = "local"
RETRIES = 3
"""Of a task whose machine is lost."""


def require_ray() -> Any:
    """The package, or SweepError."""
    try:
        import ray
    except ImportError:
        raise SweepError("ray: the package ray is not installed, pip install 'bittrue[scale]'") from None
    return ray


def run_on_ray(address: str, tasks: Mapping[str, Task], finished: Mapping[str, Task], crew: Crew, jobs: int,
               watcher: Watcher) -> None:
    """Do all tasks on the cluster at `address`, or on `jobs` workers of this machine ("local").

    `finished` are those that some of them need and that are done already.
    """
    ray = require_ray()
    variables = {"PYTHONPATH": path} if (path := environment(0).get("PYTHONPATH")) else {}
    told: dict[str, Any] = {"runtime_env": {"env_vars": variables}, "log_to_driver": False}
    threads = max(1, crew.threads)
    if address == LOCAL:
        told |= {"num_cpus": jobs * threads, "include_dashboard": False}
    else:
        told["address"] = address
    try:
        ray.init(**told)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise SweepError(f"ray: {printable(address)}: {' '.join(str(error).split())}") from None
    here, results = str(Path.cwd()), dict[str, Any]()
    try:
        remote = ray.remote(num_cpus=threads, max_retries=RETRIES)(_do)
        for task in tasks.values():  # in an order in which what is needed comes first
            for name in task.needs:
                if name not in results:
                    folder = finished[name].folder
                    results[name] = ray.put(Outcome(name, FINISHED, folder=str(folder), files=files_of(folder)))
            needed = [results[name] for name in task.needs]
            results[task.name] = remote.remote(task, crew.threads, crew.nice, here, *needed)
        _collect(ray, {results[name]: task for name, task in tasks.items()}, watcher)
    except KeyboardInterrupt:
        for name in tasks.keys() & results.keys():
            ray.cancel(results[name])
        raise
    finally:
        ray.shutdown()


def _collect(ray: Any, waiting: dict[Any, Task], watcher: Watcher) -> None:
    """Take what ends, in the order in which it does; what begins shows where the disk is a common one."""
    begun: set[str] = set()
    while waiting:
        done, _ = ray.wait(list(waiting), num_returns=1, timeout=POLL)
        for result in done:
            task = waiting.pop(result)
            try:
                outcome = ray.get(result)
                _take_over(task.folder, outcome.files)
            except (ray.exceptions.RayError, OSError) as error:
                outcome = Outcome(task.name, FAILED, printable(str(error).strip().splitlines()[-1]))
            watcher.end(task, outcome)
        for task in waiting.values():
            if task.name not in begun and (task.folder / RECORD_FILE).exists():
                begun.add(task.name)
                watcher.begin(task)
        watcher.tick()


def _do(task: Task, threads: int, nice: int, folder: str, *needed: Outcome) -> Outcome:
    """On a worker: the task in a folder of the same name as the sweep's, with the files of what it needs."""
    if reason := hindrance(task, needed):
        return Outcome(task.name, NOT_RUN, reason)
    Path(folder).mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    for outcome in needed:
        _take_over(Path(outcome.folder), outcome.files)
    done = Crew(threads, nice).do(task)
    files = files_of(task.folder) if done.status == FINISHED else {}
    return Outcome(done.task, done.status, done.error, done.seconds, str(task.folder), files)


def _take_over(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write what another machine made and is not here."""
    for name, content in files.items():
        file = folder / name
        if not file.exists() or file.read_bytes() != content:
            write_atomically(file, lambda stream, content=content: stream.write(content))  # type: ignore[misc]
