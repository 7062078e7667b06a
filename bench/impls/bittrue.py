"""This project's machine: convolutions from codes to codes, accumulators, whole networks."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from bench.cases import BIT_WIDTHS, ConvCase, EncoderCase, ModelCase, NetworkCase, Work
from sim.accumulator import MIN_BITS, Accumulator, Stage, parse_accumulator
from sim.buffers import Padded
from sim.formats import IntFormat
from sim.hardware import HardwareSpec
from sim.kernels.isa import choose
from sim.lowering import lower
from sim.machine import Machine
from sim.program import ConvOp, InputOp, Program
from sim.requantizers.fp32 import Fp32
from sim.steps.choice import BYTES, METHOD, PLANES, TABLES
from sim.steps.groups import risky_groups
from sim.steps.loops import ConvLoops

isa = choose
FEW = 0.01
"""The part of outputs below which "few" of them overflow or are flagged."""


def program_of(case: ConvCase, bits: int, accumulator: Accumulator, code_bits: int | None = None) -> Program:
    """One inner convolution, between an input and the smallest last layer that there is.

    Codes are as wide as weights unless `code_bits` says otherwise.
    """
    codes = IntFormat(code_bits or bits, signed=False)
    channels, side = case.channels, case.out_side
    weights = case.weights(bits).astype(np.int32)
    signed = IntFormat(int(np.abs(weights).max()).bit_length() + 1, signed=True)
    table = np.zeros((case.depth, 256), codes.dtype)
    conv = ConvOp("conv", "image", (side, side, channels), codes, skip="", weights=weights, stride=case.stride,
                  padding=case.padding, groups=case.groups, operand=codes, weight_format=signed, weight_bits=bits,
                  accumulator=accumulator, requant=_scale(channels, case.gain(bits, codes.bits)))
    last = ConvOp("last", "conv", (side, side, 1), None, skip="", weights=np.ones((1, 1, channels, 1), np.int32), stride=1,
                  padding=0, groups=1, operand=codes, weight_format=IntFormat(2, signed=True), weight_bits=2,
                  accumulator=Accumulator(), requant=_scale(1, np.float32(1.0)))
    return Program((InputOp("image", "", (case.side, case.side, case.depth), codes, table), conv, last))


def _scale(channels: int, gain: np.float32) -> Fp32:
    return Fp32(np.full(channels, gain, np.float32), np.zeros(channels, np.float32), np.zeros(1, np.float32))


def convolution(case: ConvCase, bits: int) -> Work:
    """With an unlimited accumulator."""
    return _convolution(case, bits, Accumulator())


def _convolution(case: ConvCase, bits: int, accumulator: Accumulator, code_bits: int | None = None) -> Work:
    machine = Machine(program_of(case, bits, accumulator, code_bits))
    op = machine.program.convolutions[0]
    x = Padded.of(case.codes(code_bits or bits), op.padding)
    assert op.format is not None
    out = Padded.zeros(case.images, op.shape, op.format.dtype, 1)  # with the border that a next 3x3 layer reads

    def run() -> np.ndarray:
        machine.convolve(op, x, None, out)
        return out.interior

    return Work(run, case.gmacs)


def by_method(method: str, make: Callable[[Any], Work], case: Any) -> Work:
    """With bit planes, tables or bytes forced, or the faster of both taken; says what runs it."""
    before = os.environ.get(METHOD)
    os.environ[METHOD] = method
    try:
        return make(case)
    finally:
        if before is None:
            del os.environ[METHOD]
        else:
            os.environ[METHOD] = before


def narrow(case: ConvCase, weights: int, codes: int) -> Work:
    """Weights and codes of different widths."""
    return _convolution(case, weights, Accumulator(), codes)


def limited(case: ConvCase, bits: int, choose_bits: Callable[[ConvCase, int], int], overflow: str) -> Work:
    """With a register of some width after every product; says how many outputs it got wrong or had to look at."""
    width = choose_bits(case, bits)
    accumulator = Accumulator(width, overflow)  # type: ignore[arg-type]
    work = _convolution(case, bits, accumulator)
    shares = {"flagged": flagged_share(case, bits, width)} if overflow == "saturate" else {}
    return replace(work, extra={"accumulator": f"{overflow} {width}, tile 1",
                                "overflowed": overflowed_share(case, bits, accumulator), **shares})


def staged(case: ConvCase, bits: int, products: int) -> Work:
    """Registers that saturate and begin anew after so many products, then one of 32 bits: as narrow as few groups allow."""
    return through(case, bits, _stages(_narrowest_group(case, bits, products), products).text)


def through(case: ConvCase, bits: int, stages: str) -> Work:
    """Registers as the command line takes them.

    Says which they are, how many groups of products can leave them, and so are watched, and how many outputs do.
    """
    accumulator = parse_accumulator(stages)
    work = _convolution(case, bits, accumulator)
    return replace(work, extra={"accumulator": accumulator.text, "watched": watched_share(case, bits, accumulator),
                                "overflowed": overflowed_share(case, bits, accumulator)})


def _stages(width: int, products: int) -> Accumulator:
    return Accumulator(32, before=(Stage(products, width, "saturate"),))


def _narrowest_group(case: ConvCase, bits: int, products: int) -> int:
    """The narrowest first register that under 1 % of the groups can leave."""
    width = 24
    while width > MIN_BITS and watched_share(case, bits, _stages(width - 1, products)) < FEW:
        width -= 1
    return width


def watched_share(case: ConvCase, bits: int, accumulator: Accumulator) -> float:
    """The part of groups of products that can leave the first register of two, whatever the codes are (contract C7)."""
    loops = ConvLoops(program_of(case, bits, accumulator).convolutions[0], accumulator)
    return float(risky_groups(loops).mean())


def _fixed(case: ConvCase, bits: int, width: int) -> int:
    return width


def narrowest(case: ConvCase, bits: int, share: Callable[[ConvCase, int, int], float]) -> int:
    """The narrowest register with which under 1 % of the outputs count for `share`, found from the safe width down."""
    width: int = program_of(case, bits, Accumulator()).convolutions[0].safe_bits - 1
    while share(case, bits, width - 1) < FEW:
        width -= 1
    return width


def overflowed_share(case: ConvCase, bits: int, accumulator: Accumulator) -> float:
    """The part of outputs that a register gets wrong (wrap) or clips at least once (saturate)."""
    machine = Machine(program_of(case, bits, accumulator))
    op = machine.program.convolutions[0]
    machine.sums(op, case.codes(bits))
    return float(machine.overflows["conv"].sum()) / (case.images * op.shape[0] * op.shape[1] * op.shape[2])


def _clipped_share(case: ConvCase, bits: int, width: int) -> float:
    return overflowed_share(case, bits, Accumulator(width, "saturate"))


def flagged_share(case: ConvCase, bits: int, width: int) -> float:
    """The part of outputs whose products of one sign alone leave the register, so that order may matter (contract C7).

    This says how wide a register is, not what a kernel looks at: most of these never leave it in any prefix.
    """
    register = IntFormat(width, signed=True)
    program = program_of(case, bits, Accumulator())
    above, below = (_sums(program, sign, case.codes(bits)) for sign in (np.maximum, np.minimum))
    return float(((above > register.max) | (below < register.min)).mean())


def _sums(program: Program, part: np.ufunc, codes: np.ndarray) -> np.ndarray:
    first, conv, last = program.ops
    assert isinstance(conv, ConvOp)
    machine = Machine(Program((first, replace(conv, weights=part(conv.weights, 0)), last)))
    return machine.sums(machine.program.convolutions[0], codes)


def network(case: NetworkCase, hardware: HardwareSpec, bits: int = 3) -> Work:
    """From pixels to logits, in batches as sim.eval runs it; says the digest of the first batch's logits."""
    machine = Machine(lower(case.spec(bits), hardware))
    pixels = case.pixels()
    logits = hashlib.sha256(machine.run(pixels[: case.batch]).tobytes()).hexdigest()

    def run() -> None:
        for start in case.starts():
            machine.run(pixels[start : start + case.batch])

    return Work(run, case.images, extra={"logits": logits[:16]})


def encoder(case: EncoderCase, bits: int) -> Work:
    """From ids to the logits of every token, all texts in one call."""
    machine, ids = Machine(lower(case.spec(bits))), case.ids()
    digest = hashlib.sha256(machine.run(ids).tobytes()).hexdigest()
    return Work(lambda: machine.run(ids), case.texts, extra={"logits": digest[:16]})


def foreign(case: ModelCase, hardware: str) -> Work:
    """A model of others, all its images in one call; says the digest of what comes out."""
    from sim.importers import load_model
    from sim.profiles import profile

    machine = Machine(load_model(case.path(), profile(hardware)).program)
    codes = case.codes((1, *machine.program.ops[0].shape))
    digest = hashlib.sha256(machine.run(codes).tobytes()).hexdigest()
    return Work(lambda: machine.run(codes), case.images, extra={"logits": digest[:16]})


def _few_bits() -> dict[str, dict[str, Callable[..., Work]]]:
    """Of every pair of widths that bit planes or tables may win: forced, bytes beside them; networks with the faster way."""
    rows: dict[str, dict[str, Callable[..., Work]]] = {}
    for weights, codes in BIT_WIDTHS:
        make = partial(narrow, weights=weights, codes=codes)
        for method in (PLANES, TABLES, BYTES):
            rows[f"bittrue W{weights}A{codes}, {method}"] = {
                what: partial(by_method, method, make) for what in ("planes", "matmul")}
    for bits in (1, 2):
        whole = partial(network, hardware=HardwareSpec(), bits=bits)
        rows[f"bittrue W{bits}A{bits}"] = {"network": partial(by_method, "", whole)}
        rows[f"bittrue W{bits}A{bits}, {BYTES}"]["network"] = partial(by_method, BYTES, whole)
    return rows


def _convolutions(bits: int) -> dict[str, Callable[[ConvCase], Work]]:
    return dict.fromkeys(("conv", "depthwise"), partial(convolution, bits=bits))


def _limited(choose_bits: Callable[[ConvCase, int], int], overflow: str = "saturate") -> dict[str, Callable[..., Work]]:
    return {"accumulator": partial(limited, bits=3, choose_bits=choose_bits, overflow=overflow)}


BUILD: dict[str, dict[str, Callable[..., Work]]] = {
    "bittrue W8A8": {**_convolutions(8), "imagenet": partial(network, hardware=HardwareSpec(), bits=8),
                     "encoder": partial(encoder, bits=8)},
    "bittrue W3A3": _convolutions(3),
    "bittrue W3A3, unlimited": {"accumulator": partial(convolution, bits=3)},
    "bittrue W3A3, wrap 12": _limited(partial(_fixed, width=12), "wrap"),
    "bittrue W3A3, wrap 8": _limited(partial(_fixed, width=8), "wrap"),
    "bittrue W3A3, saturate, under 1 % flagged": _limited(partial(narrowest, share=flagged_share)),
    "bittrue W3A3, saturate, under 1 % overflow": _limited(partial(narrowest, share=_clipped_share)),
    "bittrue W3A3, saturate, all flagged": _limited(partial(_fixed, width=6)),
    "bittrue W8A8, unlimited": {"accumulator": partial(convolution, bits=8)},  # of 3 bits no group comes near a limit
    "bittrue W8A8, two stages, under 1 % watched": {"accumulator": partial(staged, bits=8, products=16)},
    "bittrue W8A8, two stages, all watched": {"accumulator": partial(through, bits=8, stages="16:16:saturate,end:32:wrap")},
    "bittrue W8A8, pairs of 16 bits": {"accumulator": partial(through, bits=8, stages="2:16:saturate,end:32:wrap")},
    **{f"bittrue {name}": {"tflite": partial(foreign, hardware=name)}
       for name in ("litert_xnnpack", "litert_ruy", "litert_reference")},
    "bittrue W3A3, fp32": {"network": partial(network, hardware=HardwareSpec())},
    "bittrue W3A3, tflite_single": {"network": partial(network, hardware=HardwareSpec(requant="tflite_single"))},
    "bittrue W3A3, fp32, wrap 10": {"network": partial(network, hardware=HardwareSpec(Accumulator(10, "wrap")))},
    "bittrue W3A3, fp32, saturate 10": {"network": partial(network, hardware=HardwareSpec(Accumulator(10, "saturate")))},
    **_few_bits(),
}
