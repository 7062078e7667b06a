"""vpmaddubsw itself, through an intrinsic: products of unsigned and signed bytes, whose pairs saturate to 16 bits."""

import numba
import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

HAS_AVX2 = bool(binding.get_host_cpu_features().get("avx2")) and not numba.config.DISABLE_JIT
_BYTES, _WORDS = ir.VectorType(ir.IntType(8), 32), ir.VectorType(ir.IntType(16), 16)


@intrinsic
def _vpmaddubsw(context, unsigned, signed, out):
    """(unsigned, signed, out): addresses of 32 bytes, 32 bytes, 16 words."""

    def generate(context, builder, signature, values):
        kinds = _BYTES, _BYTES, _WORDS
        at = [builder.inttoptr(value, kind.as_pointer()) for value, kind in zip(values, kinds, strict=True)]
        loaded = [builder.load(pointer, align=1) for pointer in at[:2]]
        kind = ir.FunctionType(_WORDS, [_BYTES, _BYTES])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx2.pmadd.ub.sw")
        builder.store(builder.call(function, loaded), at[2], align=1)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


@numba.njit
def _loop(codes, weights, words, sums):
    for line in range(codes.shape[0]):
        for channel in range(weights.shape[0]):
            for first in range(0, codes.shape[1], 32):
                _vpmaddubsw(codes[line, first:].ctypes.data, weights[channel, first:].ctypes.data, words.ctypes.data)
                for word in words:
                    sums[line, channel] += np.int32(word)


def pair_sums(codes: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Sums int32 [lines, channels] of uint8 [lines, products] and int8 [channels, products], as AVX2 code makes them."""
    fill = -codes.shape[1] % 32
    codes, weights = (np.ascontiguousarray(np.pad(each, ((0, 0), (0, fill)))) for each in (codes, weights))
    sums = np.zeros((len(codes), len(weights)), np.int32)
    _loop(codes, weights, np.zeros(16, np.int16), sums)
    return sums
