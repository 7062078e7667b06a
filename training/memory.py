"""Memory that a step of training has freed stays with the process, for the next step.

glibc gives large blocks back to the system at once, which then clears every page anew: a fifth of the time of a training
run on a processor.  A run keeps about as much memory as its largest step needs anyway.
"""

import ctypes
import os
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
"""Parameters of glibc's mallopt (malloc.h): what is freed at the top of the heap and stays, what is added to a request
beyond it, how many blocks may lie outside."""
_NEVER = -1
_PAD = 64 << 20


def keep_freed_memory() -> None:
    """From now on, where glibc allots memory and nobody has set how (MALLOC_..., GLIBC_TUNABLES)."""
    is_set = any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ)
    if not sys.platform.startswith("linux") or is_set:
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "gnu_get_libc_version"):
        for parameter, value in ((_TRIM_THRESHOLD, _NEVER), (_TOP_PAD, _PAD), (_MMAP_MAX, 0)):
            library.mallopt(parameter, value)
