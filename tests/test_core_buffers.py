"""Tensors of a machine take turns in memory: nothing is overwritten that is needed, and no more is held than must be."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.buffers import Layout, Padded, Plan
from sim.lowering import lower
from sim.machine import Machine
from sim.network import Activation, Conv, Graph, Input, NetworkSpec, Precision, expected_arrays
from sim.program import Program
from tests import strategies


def layout(height: int, width: int, channels: int, pad: int = 0) -> Layout:
    return Layout((height, width, channels), np.dtype(np.uint8), pad)


@given(st.data())
def test_plan__gives_no_memory_to_two_tensors_that_are_needed_together(data):
    count = data.draw(st.integers(1, 12))
    some = [layout(2, 2, 3), layout(2, 2, 3, 1), layout(4, 4, 8, 1), layout(1, 1, 9)]
    lives = [(f"t{step}", data.draw(st.sampled_from(some)), data.draw(st.integers(step, count))) for step in range(count)]
    plan = Plan(lives)
    for step, (name, _, last) in enumerate(lives):
        for later, (other, _, _) in enumerate(lives[step + 1 : last + 1], step + 1):
            assert plan.places[name].slot != plan.places[other].slot, (step, later)
    for name, form, _ in lives:
        assert len(plan.memory(plan.places[name].slot, 3)) >= form.room(3)


def test_plan__of_a_chain_holds_its_two_largest_neighbors():
    forms = [layout(8, 8, 3), layout(8, 8, 16), layout(8, 8, 64), layout(4, 4, 64), layout(4, 4, 128), layout(1, 1, 10)]
    plan = Plan([(f"t{step}", form, min(step + 1, 5)) for step, form in enumerate(forms)])
    assert len(plan.slots) == 2
    assert plan.size == forms[1].size + forms[2].size


def test_plan__says_whose_border_another_layout_has_spoilt():
    small, large = layout(2, 2, 3, 1), layout(4, 4, 3, 1)
    plan = Plan([("a", small, 1), ("b", small, 2), ("c", small, 3), ("d", large, 4), ("e", small, 5)])
    assert plan.places["a"].slot == plan.places["c"].slot
    assert {name for name, place in plan.places.items() if place.is_spoilt} >= {"d"}
    alone = Plan([("a", small, 1), ("b", small, 2), ("c", small, 3)])
    assert not any(place.is_spoilt for place in alone.places.values())


@given(st.integers(1, 3), st.integers(0, 2), st.integers(-3, 3))
def test_border__is_all_that_is_filled(images, pad, zero_point):
    tensor = Padded.zeros(images, (3, 4, 2), np.dtype(np.int8), pad)
    tensor.array[...] = 7
    tensor.fill_border(zero_point)
    assert (tensor.interior == 7).all()
    assert (tensor.array == zero_point).sum() == tensor.array.size - tensor.interior.size


@given(st.data())
def test_runs_of_other_sizes__leave_nothing_behind(data):
    """Batches of any size after one another, traced or not, give what a new machine gives."""
    program = data.draw(strategies.programs())
    machine, rng = Machine(program), data.draw(strategies.generators)
    for images in data.draw(st.lists(st.integers(1, 5), min_size=2, max_size=4)):
        pixels = rng.integers(0, 256, (images, *program.input_shape), np.uint8)
        trace, again = {}, {}
        np.testing.assert_array_equal(machine.run(pixels), Machine(program).run(pixels, trace))
        machine.run(pixels, again)
        for name, codes in trace.items():
            np.testing.assert_array_equal(again[name], codes, err_msg=name)


def chain() -> Program:
    """Tensors of one layout, then a larger one, then the first again take turns; each is read with a border."""
    end, rng = Activation("boundary"), np.random.default_rng(0)
    rows = [Input("image", "", 8, 8, 3, (0.5,) * 3, (0.2,) * 3)]
    for name, channels in (("a", 4), ("b", 4), ("wide", 16), ("c", 4), ("d", 4)):
        rows.append(Conv(name, rows[-1].name, channels, 3, 1, 1, role="boundary", norm=False, activation=end))
    graph = Graph((*rows, Conv("logits", "d", 3, 10, 10, 1, role="boundary", norm=False)))
    arrays = {name: rng.normal(0.0, 0.3, shape).astype(np.float32) for name, shape in expected_arrays(graph).items()}
    return lower(NetworkSpec(graph, arrays, Precision(8), "dorefa"))


@pytest.mark.parametrize("between", [[3], [1, 4], ["wide"], ["image", "c"]])
def test_borders__are_right_whatever_ran_before(between):
    """Fewer images, single operations: each leaves borders of other layouts behind."""
    program, rng = chain(), np.random.default_rng(1)
    pixels, trace = rng.integers(0, 256, (5, 8, 8, 3), np.uint8), {}
    machine, expected = Machine(program), Machine(program).run(pixels, trace)
    machine.run(pixels)
    for what in between:
        if isinstance(what, int):
            machine.run(pixels[:what])
        else:
            machine.apply(next(op for op in program.ops if op.name == what), pixels, trace)
    np.testing.assert_array_equal(machine.run(pixels), expected)


def test_borders__are_right_in_the_second_run_of_many_images():
    """The last chunk of a run is smaller than the others."""
    program, rng = chain(), np.random.default_rng(1)
    machine = Machine(program)
    pixels = rng.integers(0, 256, (machine._chunk + 9, 8, 8, 3), np.uint8)
    np.testing.assert_array_equal(machine.run(pixels), machine.run(pixels))


def test_plan__trusts_no_border_at_the_begin_of_a_run_where_layouts_differ():
    small, large = layout(2, 2, 3, 1), layout(4, 4, 3, 1)
    plan = Plan([("a", small, 1), ("x", small, 2), ("wide", large, 3), ("y", small, 4), ("d", small, 5)])
    for slot, layouts in enumerate(plan.slots):
        first = next(place for place in plan.places.values() if place.slot == slot)
        assert first.is_spoilt == (len(set(layouts)) > 1)
