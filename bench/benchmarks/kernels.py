"""Throughput of convolutions: layer shapes x formats x accumulators, with a digest of the result beside each time."""

import hashlib
import timeit

import numpy as np

from sim.accumulator import Accumulator
from sim.buffers import Padded
from sim.formats import IntFormat
from sim.kernels.isa import available
from sim.machine import Machine
from sim.program import ConvOp, InputOp, Program
from sim.requantizers.fp32 import Fp32

SHAPES = {  # images, channels in, side, channels out, kernel, stride, groups
    "resnet20 stage 1": (64, 16, 32, 16, 3, 1, 1),
    "resnet20 stage 2": (64, 32, 16, 32, 3, 1, 1),
    "resnet20 stage 3": (64, 64, 8, 64, 3, 1, 1),
    "pointwise": (16, 64, 16, 128, 1, 1, 1),
    "depthwise": (16, 64, 16, 64, 3, 1, 64),
    "odd": (16, 17, 15, 10, 3, 2, 1),
}
FORMATS = {"W3A3": (3, 3), "W8A8": (8, 8)}
ACCUMULATORS = {
    "unlimited": Accumulator(),
    "wrap 12": Accumulator(12, "wrap"),
    "saturate 12": Accumulator(12, "saturate"),
}


def convolution(shape: str, form: str, accumulator: str) -> tuple[Program, np.ndarray]:
    """A program whose one convolution has that shape, and pixels for it."""
    images, depth, side, channels, kernel, stride, groups = SHAPES[shape]
    weight_bits, bits = FORMATS[form]
    rng = np.random.default_rng(0)
    operand, weight_format = IntFormat(bits, signed=False), IntFormat(weight_bits + 1, signed=True)
    table = np.tile(np.arange(256) >> (8 - bits), (depth, 1)).astype(operand.dtype)
    steps = 2**weight_bits - 1
    weights = 2 * rng.integers(0, steps + 1, (kernel, kernel, depth // groups, channels)) - steps
    out = (side + 2 * (kernel // 2) - kernel) // stride + 1
    requant = Fp32(np.full(channels, 0.01, np.float32), np.zeros(channels, np.float32), np.zeros(1, np.float32))
    conv = ConvOp("conv", "image", (out, out, channels), None, skip="", weights=weights.astype(np.int32), stride=stride,
                  padding=kernel // 2, groups=groups, operand=operand, weight_format=weight_format,
                  weight_bits=weight_bits, accumulator=ACCUMULATORS[accumulator], requant=requant)
    program = Program((InputOp("image", "", (side, side, depth), operand, table), conv))
    return program, rng.integers(0, 256, (images, side, side, depth)).astype(np.uint8)


class Convolution:
    """One convolution of a batch, from codes to register contents."""

    params = (list(SHAPES), list(FORMATS), list(ACCUMULATORS), list(available()))
    param_names = ("shape", "format", "accumulator", "isa")
    sample_time = 0.02
    timeout = 300

    def setup(self, shape: str, form: str, accumulator: str, isa: str) -> None:
        program, pixels = convolution(shape, form, accumulator)
        self.machine, self.conv = Machine(program, isa), program.convolutions[0]
        codes = self.machine.apply(program.ops[0], pixels, {})
        self.codes = Padded.of(codes, self.conv.padding)
        self.machine.accumulate(self.conv, self.codes)  # compile

    def time_sums(self, *_: str) -> None:
        self.machine.accumulate(self.conv, self.codes)

    def track_gmacs_per_second(self, *_: str) -> float:
        timer = timeit.Timer(lambda: self.machine.accumulate(self.conv, self.codes))
        seconds = min(timer.repeat(5, 1))
        return len(self.codes.array) * self.conv.macs / seconds / 1e9

    track_gmacs_per_second.unit = "GMAC/s"

    def track_digest(self, *_: str) -> int:
        """The first 52 bits of the digest of the result: a step in this curve is a change of arithmetic."""
        sums = self.machine.accumulate(self.conv, self.codes)[..., : self.conv.shape[2]]
        digest = hashlib.sha256(sums.astype(np.int64).tobytes()).hexdigest()
        return int(digest[:13], 16)

    track_digest.unit = "digest"
