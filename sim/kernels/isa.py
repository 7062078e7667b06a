"""Which inner loops this processor can run.

`BITTRUE_ISA` forces one: portable (any processor) or vnni (AVX512-VNNI).  Interpreted kernels are always portable.
"""

import os

import llvmlite.binding
import numba

PORTABLE, VNNI = "portable", "vnni"
ISAS = (PORTABLE, VNNI)


def available() -> tuple[str, ...]:
    """Instruction sets of this processor, slowest first."""
    features = llvmlite.binding.get_host_cpu_features()
    return ISAS if features.get("avx512vnni") and features.get("avx512bw") else (PORTABLE,)


def choose() -> str:
    """The fastest available one, or the one that BITTRUE_ISA names.  Raises ValueError if that is not to be had."""
    wanted = os.environ.get("BITTRUE_ISA", "")
    if wanted and wanted not in available():
        raise ValueError(f"BITTRUE_ISA: {wanted!r} is not available here, choose one of {', '.join(available())}")
    if numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
        return PORTABLE
    return wanted or available()[-1]
