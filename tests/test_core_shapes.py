"""Images of any height and width: pools are as wide as they are, and what was written before keeps its digest."""

import dataclasses

import numpy as np
import pytest
import torch

from sim import reference
from sim.hardware import HardwareSpec
from sim.lowering import lower
from sim.machine import Machine
from sim.network import AvgPool, Graph, Input, NetworkError, NetworkSpec, Precision
from sim.program import PoolOp, Program, ProgramError
from tests.conftest import INTERPRETED
from tests.strategies import arrays_for
from training.models import MODELS
from training.network import QuantNetwork


def network(height: int, width: int) -> NetworkSpec:
    graph = MODELS["resnet8"](Input("image", "", height, width, 1, (0.5,), (0.5,)), 5, 2)
    return NetworkSpec(graph, arrays_for(graph, np.random.default_rng(height), wild=False), Precision(3), "dorefa")


@pytest.mark.parametrize(("height", "width"), [(9, 9), (13, 28), (28, 13), (1, 40), (5, 4)])
def test_images_of_any_sides__are_the_same_in_torch_and_in_integers(height, width):
    spec = network(height, width)
    pixels = np.random.default_rng(1).integers(0, 256, (1 if INTERPRETED else 3, height, width, 1)).astype(np.uint8)
    program = lower(spec, HardwareSpec())
    found: dict[str, np.ndarray] = {}
    Machine(program).run(pixels, found)
    wanted: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        QuantNetwork.from_spec(spec)(torch.from_numpy(pixels).permute(0, 3, 1, 2), wanted)
    for name, codes in found.items():
        np.testing.assert_array_equal(codes, wanted[name].permute(0, 2, 3, 1).numpy(), err_msg=name)
    values, _ = reference.run(program, pixels[0].tolist())
    np.testing.assert_array_equal(found["pool"][0], values["pool"])
    assert found["pool"].shape[1:3] == (1, 1)


def test_rectangular_pool__survives_json_and_files(tmp_path):
    spec = network(13, 28)
    assert Graph.from_json(spec.graph.to_json()) == spec.graph
    program = lower(spec)
    program.save(tmp_path / "program.npz")
    assert Program.load(tmp_path / "program.npz") == program
    (pool,) = (op for op in program.ops if isinstance(op, PoolOp))
    assert pool.window == (4, 7)


def test_square_pool__is_stored_as_ever():
    """A width that is the height is no width: one description, one digest."""
    row = AvgPool("pool", "conv", 7)
    assert AvgPool("pool", "conv", 7, kernel_width=7) == row
    spec = network(8, 8)
    assert all("kernel_width" not in row for row in spec.graph.to_json())
    program = lower(spec)
    (place,) = (index for index, op in enumerate(program.ops) if isinstance(op, PoolOp))
    ops = list(program.ops)
    ops[place] = dataclasses.replace(ops[place], width=ops[place].size)
    assert Program(tuple(ops)).digest() == program.digest()
    assert Program(tuple(ops)) == program


@pytest.mark.parametrize("width", [-1, 2.0, True, 1 << 17])
def test_pool__of_no_width_is_refused(width):
    with pytest.raises(NetworkError, match="pool: kernel_width must be a whole number"):
        AvgPool("pool", "conv", 3, kernel_width=width)
    program = lower(network(8, 12))
    ops = [dataclasses.replace(op, width=width) if isinstance(op, PoolOp) else op for op in program.ops]
    with pytest.raises(ProgramError, match="pool: window_width must be a whole number"):
        Program(tuple(ops))
