"""The AVX512-VNNI kernels on a processor without it: their instructions replaced by what they mean.  Slow to compile.

    BITTRUE_CACHE_DIR=/tmp/emulated python -m pytest -p tests.emulate_vnni tests/test_simulator.py -k ...

A plugin that nothing loads by itself; the folder keeps its kernels apart from real ones.
"""

from llvmlite import ir
from numba.core import cgutils

from sim.kernels import ir as kir
from sim.kernels import isa

I8, I16, I32, F32 = kir.I8, kir.I16, kir.I32, kir.F32
real_call = kir.call


def vec(kind, n):
    return ir.VectorType(kind, n)


def const(kind, value):
    return ir.Constant(kind, [value] * kind.count)


def in_halves(builder, name, kind, arguments):
    """An instruction of AVX2 on both halves of longer vectors."""
    parts = zip(*(kir.halves(builder, each) for each in arguments), strict=True)
    return kir.joined(builder, [real_call(builder, name, kind, part) for part in parts])


def clamp(b, v, low, high):
    low, high = const(v.type, low), const(v.type, high)
    v = b.select(b.icmp_signed("<", v, low), low, v)
    return b.select(b.icmp_signed(">", v, high), high, v)


def dot(b, kind, total, codes, weights):
    n = kind.count
    a = b.zext(b.bitcast(codes, vec(I8, 4 * n)), vec(I32, 4 * n))
    w = b.sext(b.bitcast(weights, vec(I8, 4 * n)), vec(I32, 4 * n))
    p = b.mul(a, w)
    for t in range(4):
        total = b.add(total, b.shuffle_vector(p, p, ir.Constant(vec(I32, n), [4 * k + t for k in range(n)])))
    return total


def pack(b, x, y, low, high, narrow):
    n = x.type.count
    per = n // 4
    order = [first + k for lane in range(4) for first in (lane * per, n + lane * per) for k in range(per)]
    both = b.shuffle_vector(x, y, ir.Constant(vec(I32, 2 * n), order))
    return b.trunc(clamp(b, both, low, high), vec(narrow, 2 * n))


def call(builder, name, kind, arguments):  # noqa: PLR0911 - an instruction each
    if "vpdpbusd" in name:
        return dot(builder, kind, *arguments)
    if "cvtps2dq" in name:
        x = arguments[0]
        real = real_call(builder, "llvm.rint.v16f32", x.type, [x])
        # out of range: 0x80000000, as the instruction has it
        good = builder.and_(builder.fcmp_ordered(">=", real, const(real.type, -2147483648.0)),
                            builder.fcmp_ordered("<", real, const(real.type, 2147483648.0)))
        safe = builder.select(good, real, const(real.type, 0.0))
        return builder.select(good, builder.fptosi(safe, kind), const(kind, -2**31))
    if "packssdw" in name:
        return pack(builder, *arguments, -2**15, 2**15 - 1, I16)
    if "packuswb" in name:
        return pack(builder, *arguments, 0, 255, I8)
    if "packsswb" in name:
        return pack(builder, *arguments, -128, 127, I8)
    if "vpermi2var.qi" in name:
        low, index, high = arguments
        result = ir.Constant(kind, ir.Undefined)
        table = cgutils.alloca_once(builder, vec(I8, 128))
        builder.store(builder.shuffle_vector(low, high, ir.Constant(vec(I32, 128), list(range(128)))), table)
        base = builder.bitcast(table, I8.as_pointer())
        for k in range(64):
            i = builder.and_(builder.extract_element(index, ir.Constant(I32, k)), ir.Constant(I8, 127))
            value = builder.load(builder.gep(base, [builder.zext(i, I32)]))
            result = builder.insert_element(result, value, ir.Constant(I32, k))
        return result
    if name == "llvm.x86.avx512.pmaddubs.w.512":
        return in_halves(builder, "llvm.x86.avx2.pmadd.ub.sw", vec(I16, 16), arguments)
    if name == "llvm.x86.avx512.vpdpwssd.512":
        total, *factors = arguments
        factors = [builder.bitcast(each, vec(I16, 32)) for each in factors]
        return builder.add(total, in_halves(builder, "llvm.x86.avx2.pmadd.wd", vec(I32, 8), factors))
    assert "x86" not in name or ".avx2." in name, name  # AVX2 is there where the portable kernels ask for it
    return real_call(builder, name, kind, arguments)


kir.call = call
kir.opaque = lambda builder, value: value  # in a register that the processor may not have
real_possible = isa._possible


def _possible():
    return (*[i for i in real_possible() if i not in ("avxvnni", "vnni")], "avxvnni", "vnni")


isa._possible = _possible
isa.has_byte_permutes = lambda: True  # tests that import the name itself are patched too, as plugins come first
isa.has_bit_counts = lambda: True
isa.has_wide_registers = lambda: True
