"""Which step an operation with registers gets, by what its accumulator is in its simplest form for it (sim/simplify.py).

A single register, in the order that kernels take products, runs as ever.  Two stages of which few groups can overflow are
exact codes that are patched, pairs of 16 bits an instruction; other registers, one or two, go through tiles product by
product, all else through plain loops.
"""

from dataclasses import replace

from sim.accumulator import Accumulator
from sim.ops.conv import ConvOp
from sim.ops.matmul import MatMulOp
from sim.orders import DEFAULT, SORTED
from sim.simplify import simplified
from sim.steps import pairs, patched, tiled
from sim.steps.groups import Groups
from sim.steps.loops import ConvLoops, ProductLoops, StagedConvolution, StagedProduct
from sim.steps.matmul import MatrixProduct
from sim.steps.step import Step
from sim.steps.turned import convolution as with_one_register


def convolution(op: ConvOp, isa: str) -> Step:
    """The step of a convolution, by what its accumulator is in its simplest form."""
    if _is_usual(op.accumulator):
        return with_one_register(op, isa)
    plain = simplified(op.accumulator, ConvLoops(op, op.accumulator).extremes)
    if _is_usual(plain):
        return with_one_register(replace(op, accumulator=plain), isa)
    loops = ConvLoops(op, plain)
    groups = Groups.of(loops)
    if groups is not None and patched.is_better(op, isa, groups):
        return patched.PatchedConvolution(op, isa, loops, groups)
    if pairs.is_possible(loops, isa):
        return pairs.PairConvolution(op, isa)
    return tiled.TiledConvolution(op, loops) if tiled.is_possible(loops, isa) else StagedConvolution(op, loops)


def matrix_product(op: MatMulOp, isa: str) -> Step:
    """The same of a product of activations."""
    if _is_usual(op.accumulator):
        return MatrixProduct(op, isa)
    plain = simplified(op.accumulator, ProductLoops(op, op.accumulator).extremes)
    if _is_usual(plain) or not (plain.before or plain.order == SORTED):
        return MatrixProduct(replace(op, accumulator=replace(plain, order=DEFAULT)), isa)
    return StagedProduct(op, isa, ProductLoops(op, plain))


def _is_usual(accumulator: Accumulator) -> bool:
    """Whether it is one register, products in the order that kernels take."""
    return not accumulator.before and accumulator.order == DEFAULT
