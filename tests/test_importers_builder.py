"""The builder of importers: names, tensors of any number of axes, paddings, what is kept of a program."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.accumulator import Accumulator
from sim.formats import IntFormat
from sim.importers.builder import Builder, image_of, same_paddings
from sim.machine import Machine
from sim.ops.op import ProgramError, Window
from sim.ops.rescale import RescaleOp
from sim.requantizers.tflite_single import TfliteSingle

S8, S32 = IntFormat(8, signed=True), IntFormat(32, signed=True)


def identity(channels: int) -> TfliteSingle:
    return TfliteSingle(*(np.full(size, value, np.int64) for size, value in (
        (channels, 0), (channels, 0), (channels, 1 << 10), (channels, 10), (1, 0), (1, 1))))


def rescale(build: Builder, name: str, source: str) -> str:
    return build.add(RescaleOp(build.name(name), source, build.shape(source), S8, identity(1), build.zero(source)))


def test_names__are_printable_and_nobody_elses():
    build = Builder()
    assert build.codes_input("a\nb", (1, 1, 1), S8) == "a?b"
    assert [rescale(build, name, "a?b") for name in ("y", "y", "", " ", "x" * 200)] == [
        "y", "y#2", "unnamed", "unnamed#2", "x" * 80]


def test_operation__that_does_not_fit_is_refused_at_once():
    build = Builder()
    x = build.codes_input("x", (1, 1, 3), S8)
    with pytest.raises(ProgramError, match="y: takes 5 for the zero point of x"):
        build.add(RescaleOp("y", x, (1, 1, 3), S8, identity(1), 5))
    with pytest.raises(ProgramError, match="two operations are called x"):
        build.add(build.op(x))
    with pytest.raises(ProgramError, match=r"z: its codes are -129 \.\. 0"):
        build.constant("z", np.array([-129, 0]), S8)


@given(st.data())
def test_move__is_that_of_numpy(data):
    """Any tensor of up to four axes, transposed and reshaped; what changes nothing is the tensor itself."""
    sides = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    order = data.draw(st.permutations(range(len(sides))))
    new = data.draw(st.sampled_from([[sides[axis] for axis in order], [int(np.prod(sides))], sides]))
    build = Builder()
    x = build.codes_input("x", image_of(sides), S8, 0.25, 3)
    moved = build.move("moved", x, sides, order, new)
    values = np.arange(-60, -60 + 2 * int(np.prod(sides))) % 100
    values = values.reshape(2, *sides).astype(np.int8)
    expected = values.transpose(0, *(axis + 1 for axis in order)).reshape(2, *image_of(new))
    assert build.shape(moved) == image_of(new)
    assert (build.zero(moved), build.scale(moved), build.format(moved)) == (3, 0.25, S8)
    if moved == x:
        np.testing.assert_array_equal(values.reshape(expected.shape), expected)
        rescale(build, "end", x)
        return
    found = Machine(build.program([moved])).run(values.reshape(2, *image_of(sides)))
    np.testing.assert_array_equal(found.reshape(expected.shape), expected)


@given(st.integers(1, 30), st.integers(1, 5), st.integers(1, 4), st.integers(1, 3))
def test_same__has_as_many_positions_as_strides_need(side, taps, stride, dilation):
    above, below, left, right = same_paddings((side, side), (taps, taps), (stride, stride), dilation)
    assert (above, below) == (left, right)
    assert 0 <= below - above <= 1
    window = Window((taps, taps), (stride, stride), dilation, (above, below, left, right))
    assert window.sides(side, side)[0] == -(-side // stride)
    total = max((-(-side // stride) - 1) * stride + (taps - 1) * dilation + 1 - side, 0)
    assert above == total // 2


def test_convolution__takes_its_register_from_the_profile():
    class Rule:
        accumulator = Accumulator(9, "saturate", 1)

    class Profile:
        def rule(self, kind: str) -> Rule:
            assert kind == "depthwise"
            return Rule()

    build = Builder(Profile())
    x = build.codes_input("x", (5, 4, 2), S8, 0.5, -1)
    weights = np.arange(-9, 9).reshape(3, 3, 1, 2) * 20
    window = Window((3, 3), (2, 1), 1, (1, 1, 0, 2))
    y = build.conv("y", x, weights, identity(2), S32, window=window, groups=2, kind="depthwise", start=[5, -5], zero=2,
                   limits=(0, 99), scale=0.125)
    op = build.op(y)
    assert (op.shape, op.weight_format, op.operand_zero, op.limits) == ((3, 4, 2), IntFormat(9, signed=True), -1, (0, 99))
    assert (op.accumulator, op.start.tolist(), op.window) == (Rule.accumulator, [5, -5], window)
    assert build.program().scales == {"x": 0.5, "y": 0.125}
    with pytest.raises(TypeError, match="conv has no stride"):
        build.conv("z", x, weights, identity(2), S32, stride=2)
    with pytest.raises(ProgramError, match="z: weights are"):
        build.conv("z", x, weights[0], identity(2), S32)


def test_program__has_inputs_first_and_nothing_that_nobody_needs():
    build = Builder()
    first = build.codes_input("first", (1, 1, 3), S8)
    table = build.constant("table", np.array([[1, 2, 3]]), S8, 2.0)
    rescale(build, "unused", first)
    second = build.codes_input("second", (1, 1, 3), S8)
    y, z = rescale(build, "y", table), rescale(build, "z", second)
    program = build.program([z, y])
    assert [op.name for op in program.ops] == ["first", "second", "table", "y", "z"]
    assert program.outputs == ("z", "y")
    assert program.inputs == ("first", "second")
    found = Machine(program).results({"first": np.ones((2, 3), np.int8), "second": np.array([[4, 5, 6], [7, 8, 9]])})
    assert found["y"].reshape(2, 3).tolist() == [[1, 2, 3]] * 2
    assert found["z"].reshape(2, 3).tolist() == [[4, 5, 6], [7, 8, 9]]
    with pytest.raises(ProgramError, match="output 'nothing' is no operation"):
        build.program(["nothing"])
