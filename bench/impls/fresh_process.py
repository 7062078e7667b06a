"""Whole commands in processes of their own: how long they take and how much memory they need."""

import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np

from bench.cases import Case, NetworkCase, Work, resnet20_spec
from sim.checkpoint import Checkpoint, save_checkpoint
from sim.kernels.isa import choose

isa = choose
ROOT = Path(__file__).resolve().parent.parent.parent
EVAL = ("-m", "sim.eval", "--model")
MIB = 2.0**20
LAUNCHER = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(peak if sys.platform == "darwin" else 1024 * peak)
"""
"""A small process starts the one that is measured: Linux counts the size of the parent at the fork as the child's own."""
TRAINING_IMAGES = 20
"""A file of data needs some; nobody reads them here."""


def startup(case: Case, arguments: tuple[str, ...]) -> Work:
    """Seconds until done; the call that warms up has compiled what is compiled."""
    return Work(partial(_run, arguments), repetitions=1)


def memory(case: NetworkCase) -> Work:
    """MiB of sim.eval on generated images (values do not matter), without the bytes of the images themselves."""
    folder = tempfile.TemporaryDirectory()
    pixels = case.pixels()
    file, model = Path(folder.name) / "images.npz", Path(folder.name) / "ckpt.pt"
    labels = np.arange(case.images) % 10
    np.savez(file, x_train=pixels[:TRAINING_IMAGES], y_train=labels[:TRAINING_IMAGES], x_test=pixels, y_test=labels)
    save_checkpoint(model, Checkpoint(resnet20_spec(3), {"name": "npz", "path": str(file), "label": "generated"}))
    size = pixels.nbytes

    def run(folder: tempfile.TemporaryDirectory = folder) -> float:  # holds the folder as long as the work lives
        return (_peak_bytes((*EVAL, str(model), "--batch", str(case.batch))) - size) / MIB

    return Work(run, repetitions=1)


def _run(arguments: tuple[str, ...]) -> None:
    """Python in the project, its output thrown away; raises RuntimeError with its last words."""
    _output(sys.executable, *arguments)


def _peak_bytes(arguments: tuple[str, ...]) -> int:
    """Run Python in the project; its largest resident size."""
    return int(_output(sys.executable, "-c", LAUNCHER, sys.executable, *arguments))


def _output(*command: str) -> str:
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if process.returncode:
        raise RuntimeError(f"exit status {process.returncode}: {' '.join(process.stderr.strip().splitlines()[-1:])}")
    return process.stdout


BUILD = {
    "import torch": {"startup": partial(startup, arguments=("-c", "import torch"))},
    "bittrue sim.eval on digits": {
        "startup": partial(startup, arguments=(*EVAL, "tests/data/takd-digits-2bit.pt", "--bits", "2"))},
    "bittrue sim.eval": {"memory": memory},
}
