"""Which inner loops this processor can run.

`BITTRUE_ISA` forces one: portable (vectors of any processor), avxvnni (256-bit dot products: AVX-VNNI, or AVX512-VNNI with
VL), vnni (512-bit ones: AVX512-VNNI) or amx (tiles: AMX-INT8, once it is proven here, see `is_proven`).  The tests run
plain (plain loops, the only ones that can be interpreted) and amx-emulated (tiles in memory, slow) on any processor, too.
"""

import ctypes
import os
import platform
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import llvmlite.binding
import numba

from sim.files import write_text_atomically
from sim.kernels.cache import CACHE_FOLDER, warn_once

PLAIN, PORTABLE, AVX_VNNI, VNNI, AMX, AMX_EMULATED = "plain", "portable", "avxvnni", "vnni", "amx", "amx-emulated"
INTERPRETED = bool(numba.config.DISABLE_JIT)  # type: ignore[attr-defined]
NEEDS_PROOF = (AMX,)
"""Not run where they were written.  A fault would end the process, so that none runs them before one has proved them."""
PROOF_SECONDS = 600

_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA = 158, 0x1023, 18


def available() -> tuple[str, ...]:
    """Instruction sets of this processor, slowest first; those that need a proof only with it."""
    return tuple(name for name in _possible() if name not in NEEDS_PROOF or is_proven(name))


def runnable() -> tuple[str, ...]:
    """What BITTRUE_ISA may name: the plain loops first, then those available, then the emulation."""
    return (PLAIN,) if INTERPRETED else (PLAIN, *available(), AMX_EMULATED)


def choose(isa: str | None = None) -> str:
    """`isa`, or the one that BITTRUE_ISA names, or the fastest available.  Raises ValueError if that is not to be had."""
    wanted, who = (os.environ.get("BITTRUE_ISA", ""), "BITTRUE_ISA") if isa is None else (isa, "isa")
    if who == "BITTRUE_ISA" and (not wanted or INTERPRETED):
        return available()[-1]
    if not is_runnable(wanted):
        raise ValueError(f"{who}: {wanted!r} is not available here, choose one of {', '.join(runnable())}")
    return wanted


def is_runnable(isa: str) -> bool:
    """Whether kernels of this instruction set run here, proven if they need that."""
    if INTERPRETED or isa in (PLAIN, AMX_EMULATED):
        return isa == PLAIN or not INTERPRETED
    return isa in _possible() and (isa not in NEEDS_PROOF or is_proven(isa))


def is_possible(isa: str) -> bool:
    """Whether this processor has the instructions, proven or not."""
    return isa in _possible()


def is_proven(isa: str) -> bool:
    """Whether `python -m sim.proof` found nothing on this processor; it runs once for each version of sim's sources.

    False where it cannot be run or its outcome cannot be kept: whoever has no room for that takes other kernels.
    """
    if CACHE_FOLDER is None:
        return False
    outcome = CACHE_FOLDER / f"{isa}.proof"
    try:
        text = _read_proof(outcome)
        if text is None:
            write_text_atomically(outcome, "-1\nnot finished\n")  # minutes of proving would be lost on a full disk
            outcome.unlink()
            print(f"proving the {isa} kernels on this processor, once", file=sys.stderr, flush=True)
            write_text_atomically(outcome, _run_proof(isa))
            text = _read_proof(outcome) or ""
    except OSError as error:
        warn_once(f"going on without the {isa} kernels, whose proof cannot be kept", outcome, error)
        return False
    return text.startswith("0\n") and text.endswith(f"\n{CACHE_FOLDER.name}\n")


def _read_proof(outcome: Path) -> str | None:
    """What a proof has left; None if there is none, or something that no proof writes."""
    try:
        text = outcome.read_bytes().decode(errors="replace")
    except FileNotFoundError:
        return None
    return text if re.match(r"-?\d+\n", text) else None


def _run_proof(isa: str) -> str:
    """The exit status, then what it said; its last line is the digest of the sources that were proven.

    Of these very sources, whatever the working directory holds, and with every thread.
    """
    sources = str(Path(__file__).resolve().parent.parent.parent)
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_NUM_THREADS"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (sources, os.environ.get("PYTHONPATH"))))
    try:
        done = subprocess.run([sys.executable, "-P", "-m", "sim.proof", isa], capture_output=True, text=True,
                              timeout=PROOF_SECONDS, check=False, env=environment)
    except subprocess.TimeoutExpired as error:
        return f"-1\n{error}\n"
    return f"{done.returncode}\n{done.stderr}{done.stdout}"


@cache
def has_byte_permutes() -> bool:
    """Whether a register of bytes can be looked up in two others (AVX512-VBMI), which not every VNNI processor can."""
    return not INTERPRETED and bool(llvmlite.binding.get_host_cpu_features().get("avx512vbmi", False))


@cache
def has_byte_pairs() -> bool:
    """Whether pairs of products of bytes can be added to 16 bits (vpmaddubsw of AVX2)."""
    return not INTERPRETED and bool(llvmlite.binding.get_host_cpu_features().get("avx2", False))


@cache
def has_byte_tables() -> bool:
    """Whether 32 bytes can be looked up in tables of 16 (vpshufb of AVX2)."""
    return has_byte_pairs()


@cache
def has_wide_registers() -> bool:
    """Whether registers have 512 bits for lanes of any width (AVX512BW); else kernels that end in codes have 256 (AVX2)."""
    return not INTERPRETED and bool(llvmlite.binding.get_host_cpu_features().get("avx512bw", False))


@cache
def has_bit_counts() -> bool:
    """Whether the ones of every lane can be counted (AVX512-VPOPCNTDQ for 32 bits, AVX512-BITALG for 16)."""
    features = llvmlite.binding.get_host_cpu_features()
    return not INTERPRETED and all(features.get(name, False) for name in ("avx512bw", "avx512vpopcntdq", "avx512bitalg"))


@cache
def _possible() -> tuple[str, ...]:
    if INTERPRETED:
        return (PLAIN,)
    features = llvmlite.binding.get_host_cpu_features()
    wide = features.get("avx512vnni", False) and features.get("avx512bw", False)
    narrow = features.get("avxvnni", False) or (wide and features.get("avx512vl", False))
    tiles = wide and features.get("amx-tile", False) and features.get("amx-int8", False) and _may_use_tiles()
    found = {PORTABLE: True, AVX_VNNI: narrow, VNNI: wide, AMX: tiles}
    return tuple(name for name, is_there in found.items() if is_there)


def _may_use_tiles() -> bool:
    """Linux gives the tile registers, 8 KiB for each thread, to processes that ask for them."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return False
    return bool(ctypes.CDLL(None).syscall(_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA) == 0)
