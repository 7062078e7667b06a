"""The cores of this machine: so many tasks at a time, each as soon as those that it needs are finished."""

from collections.abc import Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Protocol

from training.sweeps.work import FINISHED, NOT_RUN, Crew, Outcome, Task

POLL = 0.5
"""Seconds between two looks at what goes on."""


class Watcher(Protocol):
    """Who is told how a sweep goes on."""

    def begin(self, task: Task) -> None:
        """A task begins."""

    def end(self, task: Task, outcome: Outcome) -> Outcome:
        """A task has ended; what it is taken for from now on."""

    def tick(self) -> None:
        """Time goes by."""


def run_here(tasks: Mapping[str, Task], crew: Crew, jobs: int, watcher: Watcher) -> None:
    """Do all tasks, `jobs` at a time.  A KeyboardInterrupt ends every command before it is passed on."""
    waiting, outcomes = dict(tasks), dict[str, Outcome]()
    running: dict[Future[Outcome], Task] = {}
    with ThreadPoolExecutor(jobs) as pool:
        try:
            while waiting or running:
                for task in list(waiting.values()):
                    if reason := hindrance(task, outcomes.values()):
                        outcomes[task.name] = watcher.end(task, Outcome(task.name, NOT_RUN, reason))
                    elif len(running) < jobs and not any(name in tasks and name not in outcomes for name in task.needs):
                        watcher.begin(task)
                        running[pool.submit(crew.do, task)] = task
                    else:
                        continue
                    del waiting[task.name]
                for done in wait(running, POLL, FIRST_COMPLETED).done:
                    task = running.pop(done)
                    outcomes[task.name] = watcher.end(task, done.result())
                watcher.tick()
        except BaseException:
            crew.stop()
            raise


def hindrance(task: Task, outcomes: Iterable[Outcome]) -> str:
    """Why a task cannot be done: what it needs has ended and is not there; empty if nothing hinders it."""
    lacking = [outcome.task.split("/", 1)[1] for outcome in outcomes
               if outcome.task in task.needs and outcome.status != FINISHED]
    return f"needs {lacking[0]}, which is not there" if lacking else ""
