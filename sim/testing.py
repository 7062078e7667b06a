"""What own requantizers are held to, and the random networks that this project's tests draw (needs hypothesis)."""

import dataclasses
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from sim import reference
from sim.formats import IntFormat
from sim.functions import FUNCTIONS
from sim.hardware import HardwareSpec
from sim.lowering import LowerError, lower
from sim.machine import Machine
from sim.network import (
    QUANTIZED_BITS,
    Activation,
    Add,
    AvgPool,
    Concat,
    Conv,
    Embedding,
    Flatten,
    GlobalPool,
    Graph,
    Heads,
    Input,
    LayerNorm,
    Linear,
    Lookup,
    MaskedSoftmax,
    MatMul,
    MaxPool,
    Multiply,
    NetworkSpec,
    Pad,
    Positions,
    Precision,
    Recode,
    Requantize,
    Row,
    Segments,
    Select,
    Sequence,
    Shape,
    Shortcut,
    Softmax,
    TokenInput,
    Tokens,
    expected_arrays,
)
from sim.program import Program
from sim.quantizers import QUANTIZERS, QuantizerError
from sim.requantizers import REQUANTIZERS, Affine, Requantizer
from sim.requantizers.fp32 import Fp32
from sim.requantizers.requantizer import RequantizeError

BEYOND = ("too large", "leave the range of float32", "not finite, or can make what is not", "is 0.0, must be positive",
          "must be below 2^30", "results have at most", "of at most 16 bits")
"""Why hardware may refuse random numbers."""
Draw = Callable[..., Any]
BITS = st.sampled_from(QUANTIZED_BITS)
ALIKE = tuple(name for name in QUANTIZERS if name.startswith("a2q") and "_" in name)
"""Weights of one quantizer with activations of another, both of which are drawn with others."""
MOST_COLUMNS = 64
"""Of what random networks multiply and flatten: plain Python integers have to follow."""
generators = st.integers(0, 2**32 - 1).map(np.random.default_rng)


def widths(quantizer: str) -> list[int]:
    """The widths that the quantizer of that name has."""
    found = []
    for bits in QUANTIZED_BITS:
        try:
            QUANTIZERS[quantizer].check(bits)
        except QuantizerError:
            continue
        found.append(bits)
    return found


def codes(draw: Draw, shape: tuple[int, ...], form: IntFormat) -> np.ndarray:
    """Random codes int64, or one of the patterns that break kernels: all extreme, alternating, zeros, one hot."""
    rng = draw(generators)
    size = int(np.prod(shape))
    match draw(st.sampled_from(["random", "random", "max", "min", "alternating", "zeros", "one hot", "extremes"])):
        case "max":
            flat = np.full(size, form.max)
        case "min":
            flat = np.full(size, form.min)
        case "alternating":
            flat = np.where(np.arange(size) % 2, form.max, form.min)
        case "zeros":
            flat = np.zeros(size)
        case "one hot":
            flat = np.where(np.arange(size) == rng.integers(size), form.max, 0)
        case "extremes":
            flat = rng.choice([form.min, form.max, 0], size)
        case _:
            flat = rng.integers(form.min, form.max + 1, size)
    return flat.reshape(shape).astype(np.int64)


def pixels_for(draw: Draw, graph: Graph, count: int = 2) -> np.ndarray:
    """uint8 [count, H, W, C] for a network."""
    image = graph.input
    return codes(draw, (count, image.height, image.width, image.channels), IntFormat(8, signed=False)).astype(np.uint8)


@st.composite
def token_graphs(draw: st.DrawFn) -> Graph:
    """Random networks of tokens: an embedding, then any rows; every token has logits, or one of them, or all together."""
    tokens, vocabulary = draw(st.integers(1, 5)), draw(st.sampled_from([1, 2, 9, 300]))
    rows: list[Row] = [TokenInput("ids", tokens, vocabulary)]
    rows.append(Embedding("words", "ids", draw(st.integers(1, 6)), draw(st.sampled_from(["inner", "boundary"]))))
    if draw(st.booleans()):
        rows.append(Segments("kinds", "ids", draw(st.integers(0, vocabulary - 1))))
        rows.append(Embedding("sides", "kinds", draw(st.integers(1, 6)), draw(st.sampled_from(["inner", "boundary"]))))
    ids = {row.name for row in rows if row.gives_ids}
    for index in range(draw(st.integers(0, 6))):
        source = draw(st.sampled_from([row.name for row in rows if row.name not in ids]))
        row = DRAWN_ROWS[draw(st.sampled_from(sorted(DRAWN_ROWS)))](draw, f"row{index}", source, rows)
        is_confused = ids & {*row.sources()} - {*row.id_sources()}  # a second source may be any row
        rows.append(Sequence(row.name, source) if is_confused else row)
    rows.append(Linear("logits", rows[-1].name, draw(st.integers(1, 4)), "boundary", draw(st.booleans())))
    return Graph(tuple(rows))


def ids_for(draw: Draw, graph: Graph, count: int = 2) -> np.ndarray:
    """int32 [count, tokens] for a network of tokens."""
    row = graph.rows[0]
    assert isinstance(row, TokenInput)
    return draw(generators).integers(0, row.vocabulary, (count, row.tokens)).astype(np.int32)


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Random networks: depth, channels, kernels, strides, groups, residuals, shortcuts, pools."""
    channels = draw(st.integers(1, 3))
    mean = tuple(draw(st.floats(0.0, 1.0)) for _ in range(channels))
    std = tuple(draw(st.floats(0.01, 1.0)) for _ in range(channels))
    rows: list[Row] = [Input("image", "", draw(st.integers(1, 7)), draw(st.integers(1, 7)), channels, mean, std)]
    rows.append(_conv(draw, "stem", rows[0].name, rows, role="boundary"))
    for index in range(draw(st.integers(0, 5))):
        source = draw(st.sampled_from([row.name for row in rows]))
        kind = draw(st.sampled_from(["conv", *DRAWN_ROWS]))  # convolutions twice as often
        rows.append(DRAWN_ROWS[kind](draw, f"row{index}", source, rows))
    height, width, _ = _shapes(rows)[rows[-1].name]
    rows.append(Conv("classifier", rows[-1].name, draw(st.integers(2, 5)), draw(st.integers(1, min(height, width))),
                     max(height, width), role="boundary", norm=draw(st.booleans()), bias=False))
    return Graph(tuple(rows))


def arrays_for(graph: Graph, rng: np.random.Generator, wild: bool, quantizer: str = "dorefa") -> dict[str, np.ndarray]:
    """Random float arrays; `wild` ones have negative, zero and huge gammas, zero and tiny variances, constant weights."""
    rules, arrays = QUANTIZERS[quantizer], {}
    learned = {*rules.weight_parameters(1), *rules.activation_parameters()}
    for name, shape in expected_arrays(graph, quantizer).items():
        values = rng.normal(size=shape)
        if name.split(".")[-1] in learned:
            is_extreme = wild and rng.random() < 0.1
            values = rng.choice([0.0, -1.0, 1e-9, 1e9], shape) if is_extreme else _learned(name, rng, shape)
        elif name.endswith(".weight") and "norm" not in name:
            values *= rng.choice([1e-6, 0.1, 1.0, 30.0]) if wild else 0.3
            if wild and rng.random() < 0.2:
                values = np.full(shape, rng.choice([0.0, -1.0, 0.5]))
        elif name.endswith("running_var"):
            values = np.abs(values) * (rng.choice([0.0, 1e-30, 1e-8, 1.0, 1e4], shape) if wild else 1.0)
        elif wild:
            values = values * rng.choice([0.0, 1e-6, 1.0, 1.0, -1.0, 1e3, 1e6], shape)
        arrays[name] = values.astype(np.float32)
    return arrays


def _learned(name: str, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Ordinary values of what a quantizer learned: intervals, steps, logarithms of scales and norms, limits of norms."""
    if name.endswith("_log2"):
        return rng.uniform(-5.0, 5.0, shape)
    return rng.choice([3.0, 20.0, 300.0, 2.0**31], shape) if name.endswith("_limit") else rng.uniform(0.01, 4.0, shape)


@st.composite
def networks(draw: st.DrawFn, wild: bool = True, quantizer: str = "", graph: Graph | None = None) -> NetworkSpec:
    """A network, random unless given, with random arrays at a random precision that its quantizer has."""
    graph = graph or draw(graphs())
    quantizer = quantizer or draw(st.sampled_from(["dorefa", *(name for name in QUANTIZERS if name not in ALIKE)]))
    some = widths(quantizer)
    inner, skip = draw(st.sampled_from(some)), draw(st.sampled_from(some))
    boundary = draw(st.sampled_from([bits for bits in some if bits in (2, 4, 8, 16)] or [bits for bits in some if bits > 1]))
    rows = [row.name for row in graph.rows if row.has_role("inner")]
    others = [bits for bits in some if bits in (2, 3, 4, 8)] or some
    exceptions: Any = tuple((name, *(draw(st.sampled_from(others)) for _ in range(draw(st.integers(1, 2)))))
                            for name in rows if draw(st.integers(0, 3)) == 0)
    activations = draw(st.sampled_from([0, 0, *others]))
    arrays = arrays_for(graph, draw(generators), wild, quantizer)
    return NetworkSpec(graph, arrays, Precision(inner, boundary, skip, exceptions, activations), quantizer)


def lowered(spec: NetworkSpec, requant: str) -> Program:
    """The program, unless the drawn network's numbers are beyond what the requantizer says that it can hold."""
    try:
        return lower(spec, HardwareSpec(requant=requant))
    except LowerError as error:
        assume(not any(reason in str(error) for reason in BEYOND))
        raise


def check_requantizer(requantizer: str | type[Requantizer], examples: int = 100) -> None:
    """Hold a requantizer, a class or a name of one, to what programs rely on; AssertionError with the example that fails.

    On random affines and sums: its codes are those of its scalar `oracle` (plain Python integers), within one of `fp32`'s.
    In random networks: every code of the machine is the oracle's, and a program that is saved comes back equal.  What it
    cannot hold `build` refuses with RequantizeError, "... too large ...".
    """
    name = REQUANTIZERS.name_of(requantizer)
    kind = REQUANTIZERS[name]
    quiet = settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))

    @quiet
    @given(st.data())
    def on_affines(data: st.DataObject) -> None:
        _check_affine(kind, data.draw(_affines()))

    @settings(quiet, max_examples=max(examples // 5, 5))
    @given(st.data())
    def in_networks(data: st.DataObject) -> None:
        program = lowered(data.draw(networks()), name)
        pixels = np.zeros((1, *program.ops[0].shape), np.uint8) + data.draw(generators).integers(
            0, 256, program.ops[0].shape, np.uint8)
        trace: dict[str, np.ndarray] = {}
        Machine(program).run(pixels, trace)
        for op, values in reference.run(program, pixels[0].tolist())[0].items():
            np.testing.assert_array_equal(trace[op][0], np.array(values), err_msg=f"{op}: machine and oracle")
        with tempfile.TemporaryDirectory() as folder:
            program.save(Path(folder) / "program.npz")
            assert Program.load(Path(folder) / "program.npz").digest() == program.digest()

    on_affines()
    in_networks()


@dataclasses.dataclass(frozen=True)
class _Case:
    affine: Affine
    target: IntFormat
    sums: np.ndarray
    skip: np.ndarray | None


@st.composite
def _affines(draw: st.DrawFn) -> _Case:
    """An affine such as lowering makes, sums within its bounds and, perhaps, a residual: [1, 2, 3, C]."""
    rng, channels, shape = draw(generators), draw(st.integers(1, 5)), (1, 2, 3)
    target, reach = IntFormat(draw(BITS), signed=False), draw(st.sampled_from([1, 15, 1000, 2**17, 2**25]))
    gain = rng.normal(size=channels) * 10.0 ** rng.integers(-2, 2, channels) * (target.max + 1) / reach
    gain = np.where(rng.random(channels) < 0.1, 0.0, gain)
    offset = rng.normal(size=channels) * draw(st.sampled_from([0.0, 0.5, 1.0])) * (target.max + 1)
    sums = codes(draw, (*shape, channels), IntFormat(reach.bit_length() + 1, signed=True)).clip(-reach, reach)
    residual = draw(st.sampled_from([None, IntFormat(2, signed=False), IntFormat(8, signed=False)]))
    if residual is None:
        return _Case(Affine(gain, offset, None, (-reach, reach)), target, sums, None)
    skip_gain = draw(st.sampled_from([0.01, 0.5, 1.0, 3.0])) * (target.max + 1) / (residual.max + 1)
    skip = codes(draw, (*shape, channels), residual).astype(residual.dtype)
    return _Case(Affine(gain, offset, skip_gain, (-reach, reach), residual.max), target, sums, skip)


def _check_affine(kind: type[Requantizer], case: _Case) -> None:
    affine, target, sums, skip = case.affine, case.target, case.sums, case.skip
    try:
        requant = kind.build(affine, target)
    except RequantizeError as error:
        assume("too large" not in str(error))
        raise
    requant.check(len(affine.gain), affine.bounds[1])
    arrays = requant.arrays()
    assert all(isinstance(array, np.ndarray) for array in arrays.values()), "its fields are arrays"
    found = kind(**arrays).codes(sums, skip, target)
    assert found.dtype == target.dtype, f"codes of {target} are {target.dtype}, not {found.dtype}"
    oracle = reference.rule_of(kind.name, kind)
    constants = {name: array.tolist() for name, array in arrays.items()}
    expected = [oracle(int(total), index[3], None if skip is None else int(skip[index]), constants, (target.min, target.max))
                for index, total in np.ndenumerate(sums)]
    np.testing.assert_array_equal(found.ravel(), expected, err_msg="codes and the oracle's")
    _check_near(found, Fp32.build(affine, target).codes(sums, skip, target), case)


def _check_near(found: np.ndarray, exact: np.ndarray, case: _Case) -> None:
    """Within one code of fp32, where float32 itself is within a quarter."""
    affine = case.affine
    size = np.abs(case.sums * affine.gain) + np.abs(affine.offset)
    size += 0.0 if case.skip is None else case.skip * abs(affine.skip_gain or 0.0)
    difference = np.abs(found.astype(np.int64) - exact.astype(np.int64))
    assert difference[size * 2.0**-22 < 0.25].max(initial=0) <= 1, "within one code of fp32"


def _shapes(rows: list[Row]) -> Mapping[str, Shape]:
    shapes: dict[str, Shape] = {}
    for row in rows:
        shapes[row.name] = row.output_shape(shapes)
    return shapes


def _activation(draw: st.DrawFn) -> Activation:
    """Signed ones of the role boundary only: that has 2 bits or more."""
    role, limit = draw(st.sampled_from(["inner", "boundary", "skip"])), draw(st.sampled_from([0.37, 1.0, 4.0]))
    return Activation(role, limit, draw(st.sampled_from(["relu", "relu6", "none"])) if role == "boundary" else "relu")


def _requantize(draw: st.DrawFn, name: str, source: str, rows: list[Row]) -> Row:
    return Requantize(name, source, _activation(draw))


def _shortcut(draw: st.DrawFn, name: str, source: str, rows: list[Row]) -> Row:
    depth = _shapes(rows)[source][2]
    return Shortcut(name, source, depth + draw(st.integers(0, 3)), draw(st.integers(1, 2)))


def _avgpool(draw: st.DrawFn, name: str, source: str, rows: list[Row]) -> Row:
    padding = draw(st.integers(0, 1))
    window = [draw(st.integers(1, min(3, side + 2 * padding))) for side in _shapes(rows)[source][:2]]
    return AvgPool(name, source, window[0], draw(st.integers(1, 2)), padding, _activation(draw), window[1])


def _alike(rows: list[Row], *wanted: Shape) -> list[str]:
    """Rows of one of these shapes."""
    return [name for name, shape in _shapes(rows).items() if shape in wanted]


def _add(draw: st.DrawFn, name: str, source: str, rows: list[Row]) -> Row:
    return Add(name, source, draw(st.sampled_from(_alike(rows, _shapes(rows)[source]))), _activation(draw))


def _multiply(draw: st.DrawFn, name: str, source: str, rows: list[Row]) -> Row:
    shape = _shapes(rows)[source]
    return Multiply(name, source, draw(st.sampled_from(_alike(rows, shape, (1, 1, shape[2])))), _activation(draw))


def _maxpool(draw: st.DrawFn, name: str, source: str, rows: list[Row]) -> Row:
    window = [draw(st.integers(1, min(3, side))) for side in _shapes(rows)[source][:2]]
    return MaxPool(name, source, window[0], draw(st.integers(1, 2)), draw(st.integers(0, min(window) - 1)), window[1])


def _globalpool(draw: st.DrawFn, name: str, source: str, rows: list[Row]) -> Row:
    return GlobalPool(name, source, _activation(draw))


def _concat(draw: st.DrawFn, name: str, source: str, rows: list[Row]) -> Row:
    shapes = _shapes(rows)
    fitting = [other for other, shape in shapes.items() if shape[:2] == shapes[source][:2]]
    return Concat(name, source, tuple(draw(st.lists(st.sampled_from(fitting), min_size=1, max_size=2))), _activation(draw))


def _pad(draw: st.DrawFn, name: str, source: str, rows: list[Row]) -> Row:
    top, bottom, left, right = (draw(st.integers(0, 2)) for _ in range(4))
    return Pad(name, source, (top, bottom, left, right))


def _conv(draw: st.DrawFn, name: str, source: str, rows: list[Row], role: str | None = None) -> Conv:
    shapes = _shapes(rows)
    height, width, depth = shapes[source]
    padding = draw(st.integers(0, 2))
    kernel = draw(st.integers(1, min(3, min(height, width) + 2 * padding)))
    unusual: dict[str, Any] = {}
    if draw(st.integers(0, 3)) == 0:
        padding, paddings = 0, [draw(st.integers(0, 2)) for _ in range(4)]
        height, width = height + sum(paddings[:2]), width + sum(paddings[2:])
        kernel, across = draw(st.integers(1, min(3, height))), draw(st.integers(1, min(3, width)))
        unusual = {"paddings": tuple(paddings), "kernel_width": across, "stride_width": draw(st.integers(1, 2)),
                   "dilation": 2 if 2 * (kernel - 1) < height and 2 * (across - 1) < width else 1, "eps": 1e-3}
    groups = draw(st.sampled_from([g for g in range(1, depth + 1) if depth % g == 0]))
    norm = draw(st.booleans())
    row = Conv(name, source, groups * draw(st.integers(1, 4)), kernel, draw(st.integers(1, 2)), padding, groups,
               role=role or draw(st.sampled_from(["inner", "inner", "boundary"])), norm=norm,
               bias=not norm and draw(st.booleans()), activation=_activation(draw), **unusual)
    shape = row.output_shape(shapes)
    residuals = [r.name for r in rows if shapes[r.name] == shape]
    skip = draw(st.sampled_from(["", *residuals]))
    fields: dict[str, Any] = {**vars(row), "skip": skip}
    return Conv(**fields)


def _lookup(draw: st.DrawFn, name: str, source: str, rows: list[Row]) -> Row:
    return Lookup(name, source, draw(st.sampled_from(sorted(FUNCTIONS))), _activation(draw))


def _linear(draw: st.DrawFn, name: str, source: str, rows: list[Row]) -> Row:
    return Linear(name, source, draw(st.integers(1, 6)), draw(st.sampled_from(["inner", "boundary"])), draw(st.booleans()),
                  _activation(draw))


def _matmul(draw: st.DrawFn, name: str, source: str, rows: list[Row]) -> Row:
    """With itself, or with any tensor that fits."""
    shapes = _shapes(rows)
    heads, _, depth = shapes[source]
    sides = [(other, transpose, shape[0], *(shape[:0:-1] if transpose else shape[1:]))
             for other, shape in shapes.items() for transpose in (True, False)]
    fitting = [(other, transpose) for other, transpose, *found, columns in sides
               if found == [heads, depth] and columns <= MOST_COLUMNS]
    if not fitting:
        return _requantize(draw, name, source, rows)
    other, transpose = draw(st.sampled_from(fitting))
    divisor = draw(st.sampled_from([1.0, 1.0, 0.25, 2.8284271247461903]))
    return MatMul(name, source, other, _activation(draw), divisor, transpose, draw(st.sampled_from(["inner", "boundary"])))


def _move(draw: st.DrawFn, name: str, source: str, rows: list[Row]) -> Row:
    """Tokens if it is none, else heads; and what becomes one pixel, or one token."""
    height, width, channels = _shapes(rows)[source]
    kinds: list[Row] = [Sequence(name, source)]
    if height * channels <= MOST_COLUMNS:
        kinds.append(Tokens(name, source))
    if height * width * channels <= MOST_COLUMNS:
        kinds.append(Flatten(name, source))
    if width == 1:
        heads = draw(st.sampled_from([count for count in range(1, channels + 1) if channels % count == 0]))
        kinds += [Heads(name, source, heads)] * 2 + [Select(name, source, draw(st.integers(0, height - 1)))]
    return draw(st.sampled_from(kinds))


def _recode(draw: st.DrawFn, name: str, source: str, rows: list[Row]) -> Row:
    return Recode(name, source, draw(st.integers(2, 12)), draw(st.sampled_from([0.0, 0.01, 0.25, 1.0])))


def _softmax(draw: st.DrawFn, name: str, source: str, rows: list[Row]) -> Row:
    return Softmax(name, source, role=draw(st.sampled_from(["inner", "boundary", "skip"])))


def _masked(draw: st.DrawFn, name: str, source: str, rows: list[Row]) -> Row:
    """Of as many channels as there are tokens; where there are not, a softmax of all."""
    shapes = _shapes(rows)
    ids = [row.name for row in rows if row.gives_ids and shapes[row.name][0] == shapes[source][2]]
    if not ids:
        return _softmax(draw, name, source, rows)
    read = draw(st.sampled_from(ids))
    return MaskedSoftmax(name, source, role=draw(st.sampled_from(["inner", "boundary", "skip"])), ids=read,
                         padding=draw(st.integers(0, min(shapes[read][2] - 1, 2))))


def _layernorm(draw: st.DrawFn, name: str, source: str, rows: list[Row]) -> Row:
    definition = draw(st.sampled_from(["exact", "exact", "ibert", "irmsnorm"]))
    return LayerNorm(name, source, definition, draw(st.sampled_from([1e-5, 1e-12, 0.1])), _activation(draw))


def _positions(draw: st.DrawFn, name: str, source: str, rows: list[Row]) -> Row:
    """Of any shape: it reads nothing."""
    return Positions(name, draw(st.integers(1, 6)), draw(st.integers(1, 6)), draw(st.sampled_from(["inner", "boundary"])))


DRAWN_ROWS: Mapping[str, Callable[[st.DrawFn, str, str, list[Row]], Row]] = {
    "conv": _conv, "requantize": _requantize, "shortcut": _shortcut, "avgpool": _avgpool, "add": _add, "multiply": _multiply,
    "maxpool": _maxpool, "globalpool": _globalpool, "concat": _concat, "pad": _pad,
    "lookup": _lookup, "linear": _linear, "matmul": _matmul, "move": _move, "heads": _move, "softmax": _softmax,
    "recode": _recode, "maskedsoftmax": _masked, "layernorm": _layernorm, "positions": _positions}
"""How `graphs` draws a row of each kind: draw(draw, its name, the row that it reads, all rows before it)."""
