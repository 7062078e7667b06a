"""Which inner loops this processor can run.

`BITTRUE_ISA` forces one: portable (vectors of any processor), avxvnni (256-bit dot products: AVX-VNNI, or AVX512-VNNI with
VL) or vnni (512-bit ones: AVX512-VNNI).  Register tiles cannot be interpreted: without a compiler there are the plain
loops only, which tests can ask for by the name plain, too.
"""

import os

import llvmlite.binding
import numba

PLAIN, PORTABLE, AVX_VNNI, VNNI = "plain", "portable", "avxvnni", "vnni"
INTERPRETED = bool(numba.config.DISABLE_JIT)  # type: ignore[attr-defined]


def available() -> tuple[str, ...]:
    """Instruction sets of this processor, slowest first."""
    if INTERPRETED:
        return (PLAIN,)
    features = llvmlite.binding.get_host_cpu_features()
    wide = features.get("avx512vnni", False) and features.get("avx512bw", False)
    narrow = features.get("avxvnni", False) or (wide and features.get("avx512vl", False))
    return (PORTABLE, *([AVX_VNNI] if narrow else []), *([VNNI] if wide else []))


def choose() -> str:
    """The fastest available one, or the one that BITTRUE_ISA names.  Raises ValueError if that is not to be had."""
    wanted = os.environ.get("BITTRUE_ISA", "")
    if wanted and wanted not in available() and not INTERPRETED:
        raise ValueError(f"BITTRUE_ISA: {wanted!r} is not available here, choose one of {', '.join(available())}")
    return wanted if wanted in available() else available()[-1]
