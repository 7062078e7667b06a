"""All cores of the machine for everyone."""

import os

THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


def thread_settings() -> dict[str, str]:
    """Environment variables that give a library that many threads."""
    return dict.fromkeys(VARIABLES, str(THREADS))
