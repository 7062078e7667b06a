"""What own quantizers, networks and schemes are held to, each by one call: the properties that this project's own have.

`check_requantizer` stands in sim/testing.py, as it needs no torch.  All of them need hypothesis.
"""

from typing import Any

import numpy as np
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sim.formats import IntFormat
from sim.machine import Machine
from sim.network import FLOAT_BITS, QUANTIZED_BITS, Input, NetworkSpec, QuantizerError
from sim.quantizers import QUANTIZERS as TWINS
from sim.quantizers import Quantizer as Twin
from sim.testing import Draw, check_requantizer, lowered, networks, pixels_for, widths
from training.models import MODELS, Model
from training.network import QuantNetwork
from training.quantizers import CALIBRATIONS, QUANTIZERS, Quantizer
from training.schemes import SCHEMES, Scheme, SchemeError

__all__ = ["check_model", "check_quantizer", "check_requantizer", "check_scheme"]

FINITE = st.one_of(st.floats(-4, 4, width=32), st.floats(-(2.0**100), 2.0**100, width=32),
                   st.sampled_from([0.0, -0.0, 20.0, -20.0]))
WEIGHTS = hnp.arrays(np.float32, hnp.array_shapes(min_dims=1, max_dims=4, max_side=6), elements=FINITE)
LEARNED = st.one_of(st.floats(2.0**-10, 10, width=32), st.sampled_from([0.0, -0.0, -1.0, 1e-30, 1e30, -1e30, 2.0**-20]))
"""What is learned may be zero, negative or huge: training drives it anywhere."""


def check_quantizer(quantizer: str | Quantizer, examples: int = 100) -> None:
    """Hold a quantizer, an object or a name of one, and its numpy twin to the contract; AssertionError with what fails.

    Both have the same widths and learned arrays.  For random weights and learned numbers, extreme ones included, both find
    the same codes and scales, within the format of the hardware; gradients are finite; first values have the shapes of what
    is learned; and random networks with it are equal in every code in torch and in the simulator.
    """
    name = QUANTIZERS.name_of(quantizer)
    theirs, mine = QUANTIZERS[name], TWINS[name]
    check_widths(theirs, mine)
    quiet = settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    some = st.sampled_from(widths(name))

    @quiet
    @given(WEIGHTS, some, st.data())
    def weights(weight: np.ndarray, bits: int, data: st.DataObject) -> None:
        check_weights(theirs, mine, weight, bits, data.draw)

    @quiet
    @given(some, st.floats(1e-6, 1e6), st.data())
    def activations(bits: int, limit: float, data: st.DataObject) -> None:
        check_activations(theirs, mine, bits, limit, data.draw)

    @settings(quiet, max_examples=max(examples // 2, 5))
    @given(st.data())
    def whole(data: st.DataObject) -> None:
        check_agreement(data.draw(networks(quantizer=name)), data.draw)

    for check in (weights, activations, whole):
        check()


def check_model(model: str | Model, examples: int = 30) -> None:
    """Hold a network, a function or a name of one, to the contract; AssertionError, or the error that it raises itself.

    For images of 32x32x3 and 28x28x1 it reads them, knows as many classes as asked for, and is the same when read back from
    a checkpoint; with random weights, at random widths, the torch model and the simulator are equal in every code.
    """
    build = MODELS[MODELS.name_of(model)]
    graphs = [build(Input("image", "", side, side, channels, (0.5,) * channels, (0.25,) * channels), classes, 4)
              for side, channels, classes in ((32, 3, 10), (28, 1, 7))]

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(graphs), st.data())
    def agrees(graph: Any, data: st.DataObject) -> None:
        check_agreement(data.draw(networks(wild=False, quantizer="dorefa", graph=graph)), data.draw, images=1)

    agrees()


def check_scheme(scheme: str | Scheme) -> None:
    """Hold a scheme to the contract: its own path to a student of 2 bits, and to any other that it has, ends there."""
    found = SCHEMES[SCHEMES.name_of(scheme)]
    for bits in QUANTIZED_BITS:
        try:
            steps = found.plan(found.default_path(bits))
        except SchemeError:
            assert bits != 2, "there is no student of 2 bits"
            continue
        assert steps[-1].bits == bits, f"the last step has {steps[-1].bits} bits, not the student's {bits}"
        assert all(step.bits in (*QUANTIZED_BITS, FLOAT_BITS) for step in steps), "widths are 1 to 8, 16 or 32"


def check_widths(theirs: Quantizer, mine: Twin) -> None:
    """Both halves have the same widths, and one at least."""
    found = [[bits for bits in QUANTIZED_BITS if _has(half, bits)] for half in (theirs, mine)]
    assert found[0] == found[1] != [], f"widths are {found[0]} in torch, {found[1]} in numpy"
    assert set(found[0]) != {1}, "the input and the logits need 2 bits or more"


def check_weights(theirs: Quantizer, mine: Twin, weight: np.ndarray, bits: int, draw: Draw) -> None:
    """Equal codes and scales of float32 weights of any shape at `bits`."""
    shapes = mine.weight_parameters(len(weight))
    assert shapes == theirs.weight_parameters(len(weight)), "what is learned of weights"
    learned = {key: np.array([draw(LEARNED) for _ in range(shape[0])], np.float32) for key, shape in shapes.items()}
    parameter = torch.from_numpy(weight).requires_grad_()
    theirs_learned = {key: torch.from_numpy(value).requires_grad_() for key, value in learned.items()}
    torch_codes, torch_scale = theirs.weight(parameter, bits, theirs_learned)
    codes, scale = mine.weight_codes(weight, bits, learned)
    assert codes.shape == weight.shape
    assert codes.dtype == np.int32, f"numpy codes are int32, not {codes.dtype}"
    assert torch_codes.dtype == torch.float32, f"torch codes are float32 tensors, not {torch_codes.dtype}"
    np.testing.assert_array_equal(torch_codes.detach().numpy(), codes.astype(np.float64), err_msg="weight codes")
    np.testing.assert_array_equal(np.ravel(_plain(torch_scale)), np.ravel(scale), err_msg="scales of weights")
    assert mine.weight_format(bits).contains(codes), f"codes leave {mine.weight_format(bits)}"
    assert np.abs(codes).max() <= theirs.weight_bound(bits), "codes pass weight_bound"
    torch_codes.sum().backward()
    assert parameter.grad is not None, "no gradient reaches the weights"
    is_ordinary = all(2.0**-10 <= value.min() <= value.max() <= 10 for value in learned.values())
    if is_ordinary and 2.0**-10 < np.abs(weight).max() < 2.0**10:
        assert torch.isfinite(parameter.grad).all(), "gradients of ordinary weights are finite"
    for method in CALIBRATIONS:
        first = theirs.start_weight(torch.from_numpy(weight), bits, method)
        assert {key: tuple(value.shape) for key, value in first.items()} == shapes, "first values of what is learned"


def check_activations(theirs: Quantizer, mine: Twin, bits: int, limit: float, draw: Draw) -> None:
    """Equal scales of activations, codes to the nearest with ties to even."""
    shapes = mine.activation_parameters()
    assert shapes == theirs.activation_parameters(), "what is learned of activations"
    learned = {key: np.array([draw(LEARNED)], np.float32) for key in shapes}
    torch_scale = theirs.activation_scale(bits, limit, {key: torch.from_numpy(value) for key, value in learned.items()}, 7)
    scale = mine.activation_scale(bits, limit, learned)
    assert isinstance(scale, float)
    assert float(_plain(torch_scale)) == scale > 0, "scales of activations"
    most = IntFormat(bits, signed=False).max
    random = [draw(st.floats(-2.0, 2.0 * most, width=32)) for _ in range(8)]
    steps = np.array([*random, 0.5, 1.5, most, most + 1], np.float32)
    found = theirs.activation(torch.from_numpy(steps), bits, torch_scale).detach().numpy()
    np.testing.assert_array_equal(found, np.rint(steps.clip(0, most)), err_msg="activation codes")
    for method in CALIBRATIONS:
        first = theirs.start_activation(torch.from_numpy(np.abs(steps)), bits, method)
        assert {key: tuple(value.shape) for key, value in first.items()} == shapes, "first values of what is learned"


def check_agreement(spec: NetworkSpec, draw: Draw, images: int = 2) -> None:
    """The torch model and the simulator under `fp32` are equal in every code of every row, logits included (C4)."""
    program, pixels = lowered(spec, "fp32"), pixels_for(draw, spec.graph, images)
    expected: dict[str, torch.Tensor] = {}
    trace: dict[str, np.ndarray] = {}
    Machine(program).run(pixels, trace)
    with torch.no_grad():
        QuantNetwork.from_spec(spec)(torch.from_numpy(pixels).permute(0, 3, 1, 2), expected)
    assert trace.keys() == expected.keys()
    for row, codes in trace.items():
        np.testing.assert_array_equal(codes, expected[row].permute(0, 2, 3, 1).numpy(), err_msg=row)


def _has(half: Quantizer | Twin, bits: int) -> bool:
    try:
        half.check(bits)
    except QuantizerError:
        return False
    return True


def _plain(scale: Any) -> Any:
    return scale.detach().numpy() if isinstance(scale, torch.Tensor) else scale
