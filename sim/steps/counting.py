"""How outputs of convolutions are told from each other, stage by stage, faster than by plain loops."""

from collections.abc import Callable

import numpy as np

from sim.accumulator import Accumulator
from sim.buffers import Padded
from sim.ops.conv import ConvOp
from sim.simplify import fitting
from sim.steps import pairs, patched, tiled
from sim.steps.groups import Groups
from sim.steps.loops import ConvLoops

Counting = Callable[[Padded], tuple[np.ndarray, np.ndarray]]
"""Codes -> outputs that are persistent and transient, int64 [stages, images, channels] each."""


def counting(op: ConvOp, isa: str) -> Counting | None:
    """Of the registers as they are; None where only plain loops can tell."""
    loops = ConvLoops(op, op.accumulator)
    stages = len(op.accumulator.stages)
    found = None
    if fitting(op.accumulator, loops.extremes) == [False] + [True] * (stages - 1):
        found = _of_the_first(op, isa)
    if found is not None:
        return _all_stages(found, stages)
    return _by_tiles(tiled.Tiles(loops), stages) if tiled.is_possible(loops, isa) else None


def _of_the_first(op: ConvOp, isa: str) -> Counting | None:
    """Of the first register alone, [images, channels], where no other one can overflow."""
    accumulator = Accumulator(before=op.accumulator.stages[:1], order=op.accumulator.order)
    loops = ConvLoops(op, accumulator)
    groups = Groups.of(loops)
    if groups is not None and patched.is_better(op, isa, groups):
        return patched.PatchedConvolution(op, isa, loops, groups).counters
    return pairs.PairConvolution(op, isa).counters if pairs.is_possible(loops, isa) else None


def _all_stages(first: Counting, stages: int) -> Counting:
    """With zeros for those that fit."""
    def counters(x: Padded) -> tuple[np.ndarray, np.ndarray]:
        persistent, transient = first(x)
        others = np.zeros((stages - 1, *persistent.shape), np.int64)
        return np.concatenate([persistent[None], others]), np.concatenate([transient[None], others])

    return counters


def _by_tiles(tiles: tiled.Tiles, stages: int) -> Counting:
    """Tiles always have a last register; it is no stage where there is only one."""
    def counters(x: Padded) -> tuple[np.ndarray, np.ndarray]:
        persistent, transient = tiles.counters(x)
        return persistent[:stages], transient[:stages]

    return counters
