"""What a training step has freed is there for the next one, unless somebody has said how memory is allotted."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import platform, resource, sys
import torch
from training.memory import keep_freed_memory

if platform.libc_ver()[0] != "glibc":
    sys.exit(77)
keep_freed_memory()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(60):
    torch.ones(10 << 20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
PAGES = (40 << 20) // 4096


@pytest.mark.parametrize(("environment", "keeps"), [({}, True), ({"MALLOC_TRIM_THRESHOLD_": "131072"}, False)])
def test_freed_memory__is_not_taken_from_the_system_again(environment, keeps):
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    here = {"PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env={**plain, **environment, **here}, capture_output=True,
                          text=True, check=False)
    if done.returncode == 77:
        pytest.skip("another C library than glibc")
    assert done.returncode == 0, done.stderr
    taken = int(done.stdout)
    assert (taken < 20 * PAGES) == keeps, taken  # a third: free blocks must first be large enough for aligned ones
