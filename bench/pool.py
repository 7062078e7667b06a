"""The parent's side of the workers: one process per family and instruction set, started when first needed."""

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bench.impls import Peer
from bench.threads import thread_settings
from bench.worker import without_paths

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 900.0
"""Seconds after which an answer is no longer waited for."""


class Worker:
    """A process that answers one request at a time; its failures are answers, too."""

    def __init__(self, family: str, isa: str) -> None:
        environment = {**os.environ, **thread_settings(), **({"BITTRUE_ISA": isa} if isa else {})}
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the process
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.worker", family], cwd=ROOT, env=environment, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=self._complaints, text=True)

    def ask(self, **request: Any) -> dict[str, Any]:
        """The answer, or {"missing": why there is none}."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        if not select.select([self._process.stdout], [], [], LIMIT)[0]:
            self._process.kill()
            return {"missing": f"no answer within {LIMIT:.0f} s"}
        line = self._process.stdout.readline()
        return dict(json.loads(line)) if line else {"missing": self._last_words()}

    def dismiss(self) -> None:
        """Tell it that nothing more will come."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()

    def kill(self) -> None:
        """End it now."""
        self._process.kill()

    def wait(self) -> None:
        """Until it has ended."""
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._complaints.close()

    def _last_words(self) -> str:
        status = self._process.wait()
        self._complaints.seek(0)
        lines = self._complaints.read().decode(errors="replace").strip().splitlines()
        return without_paths(f"its process ended with status {status}: {lines[-1] if lines else 'no message'}")


class Pool:
    """Workers by family and instruction set."""

    def __init__(self) -> None:
        self._workers: dict[tuple[str, str], Worker] = {}

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for worker in self._workers.values():
            (worker.dismiss if kind is None else worker.kill)()
        for worker in self._workers.values():
            worker.wait()

    def of(self, peer: Peer) -> Worker:
        """The worker of a peer's family."""
        key = (peer.family, peer.isa)
        if key not in self._workers:
            self._workers[key] = Worker(*key)
        return self._workers[key]

    def release(self, peers: Iterable[Peer]) -> None:
        """Let the workers of these peers forget what they prepared."""
        for worker in {self.of(peer) for peer in peers}:
            worker.ask(do="release")
