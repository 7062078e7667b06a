"""Windows of convolutions and pools as ONNX describes them: sides, strides, dilations, paddings, in one or two axes."""

from sim.importers.builder import same_paddings
from sim.importers.onnx.model import Node
from sim.importers.onnx.values import Dims
from sim.ops.op import MAX_SIZE, Window


def window_of(node: Node, dims: Dims, taps: tuple[int, ...]) -> tuple[Window, Dims]:
    """The window over an image (channels, height, width) or (channels, length), and the sides that come out of it."""
    sides = dims[1:]
    axes = len(sides)
    strides, dilations = _pair(node, "strides", axes), _pair(node, "dilations", axes)
    if len(taps) != axes:
        raise node.fail(f"a window of {len(taps)} axes on an image of {axes}")
    if axes == 1:
        sides, taps, strides, dilations = (1, *sides), (1, *taps), (1, *strides), (1, *dilations)
    steps = {step for step, tap in zip(dilations, taps, strict=True) if tap > 1}
    if len(steps) > 1:
        raise node.fail(f"dilations {list(dilations)} that differ are not supported")
    dilation = steps.pop() if steps else 1
    paddings = _paddings(node, axes, (sides[0], sides[1]), (taps[0], taps[1]), (strides[0], strides[1]), dilation)
    window = Window((taps[0], taps[1]), (strides[0], strides[1]), dilation, paddings)
    height, width = window.sides(sides[0], sides[1])
    if height < 1 or width < 1 or max(height, width) > MAX_SIZE:
        raise node.fail(f"a window of {list(taps)} has no place on an image of {list(sides)}")
    return window, (height, width) if axes == 2 else (width,)


def _pair(node: Node, name: str, axes: int) -> tuple[int, ...]:
    found = node.attributes.get(name, (1,) * axes)
    if not isinstance(found, tuple) or len(found) != axes or not all(1 <= step <= MAX_SIZE for step in found):
        raise node.fail(f"its {name} must be {axes} numbers of 1 to {MAX_SIZE}, not {found!r:.60}")
    return found


def _paddings(node: Node, axes: int, sides: tuple[int, int], taps: tuple[int, int], strides: tuple[int, int],
              dilation: int) -> tuple[int, int, int, int]:
    """Top, bottom, left, right."""
    auto = node.attributes.get("auto_pad", "NOTSET") or "NOTSET"
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        top, bottom, left, right = same_paddings(sides, taps, strides, dilation)
        return (top, bottom, left, right) if auto == "SAME_UPPER" else (bottom, top, right, left)
    if auto not in ("NOTSET", "VALID"):
        raise node.fail(f"auto_pad {auto[:20]!r} is unknown")
    pads = (0,) * (2 * axes) if auto == "VALID" else node.attributes.get("pads", (0,) * (2 * axes))
    if not isinstance(pads, tuple) or len(pads) != 2 * axes or not all(0 <= pad <= MAX_SIZE for pad in pads):
        raise node.fail(f"its pads must be {2 * axes} numbers of 0 to {MAX_SIZE}, not {pads!r:.60}")
    if axes == 1:
        return 0, 0, pads[0], pads[1]
    return pads[0], pads[2], pads[1], pads[3]
