"""A torch module from a graph: the fake-quantized model (FQ)."""

from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from sim.accumulator import Accumulator
from sim.network import FLOAT_BITS, Graph, NetworkError, NetworkSpec, Precision
from sim.registry import RegistryError
from training.layers import Activate, Codes, Context, Layer, Norm, build_layer, weights_from
from training.layers.codes import multiplier
from training.quantizers import QUANTIZERS

PREFIX = "rows.row:"
"""What stands before "row.array" in the names of parameters."""


MOST_SAMPLES = 20_000


class Register(Protocol):
    """How a network is trained for a register: training.registers.Trained."""

    def fit(self, network: "QuantNetwork", sample: Tensor) -> None:
        """When first weights and scales are there."""

    def penalized(self, network: "QuantNetwork", loss: Tensor) -> Tensor:
        """The loss of a step."""


class Samples(dict[str, Tensor]):
    """A trace that keeps up to MOST_SAMPLES values of each row, and the largest magnitude."""

    def __setitem__(self, row: str, values: Tensor) -> None:
        flat = values.flatten()
        super().__setitem__(row, torch.cat([flat[:: -(-len(flat) // MOST_SAMPLES)], values.abs().amax().view(1)]))


def _finished(graph: Graph) -> dict[str, list[str]]:
    """The rows that nobody reads after each row; outputs stay."""
    last = {name: row.name for row in graph.rows for name in (row.name, *row.sources())}
    finished: dict[str, list[str]] = {row.name: [] for row in graph.rows}
    for name, reader in last.items():
        if name not in graph.output_names:
            finished[reader].append(name)
    return finished


def _key(row: str) -> str:
    """The name of a row's module, which no attribute of a module dictionary can have."""
    return f"row:{row}"


class QuantNetwork(nn.Module):
    """Runs the rows of `graph` at `precision`; gives logits [N, classes].

    It takes pixels [N, C, H, W] of 0 .. 255, or ids of tokens [N, tokens].
    """

    register: Register | None = None
    """Of the inner layers, if it is trained for one."""

    def __init__(self, graph: Graph, precision: Precision, quantizer: str = "dorefa") -> None:
        super().__init__()
        precision.check(graph)
        try:
            rules = QUANTIZERS.known(quantizer)
        except RegistryError as error:
            raise NetworkError(str(error)) from None
        for row in graph.rows:
            if row.weight_role and (bits := precision.weight_bits(row.weight_role, row.name)) != FLOAT_BITS:
                rules.check(bits)
        self.graph, self.precision, self.quantizer = graph, precision, quantizer
        context = Context(graph.shapes(), precision, QUANTIZERS[quantizer])
        self.layers: dict[str, Layer] = {row.name: build_layer(row, context) for row in graph.rows}
        self.rows = nn.ModuleDict({_key(name): layer for name, layer in self.layers.items()})
        self._finished = _finished(graph)

    def forward(self, pixels: Tensor, trace: MutableMapping[str, Tensor] | None = None,
                kept: MutableMapping[str, Tensor | None] | None = None) -> Tensor:
        """Logits of the first output, [N, C, H, W] if they are of more than one pixel.

        `trace`, if given, receives every row's codes [N, C, H, W] by name; `kept` the real numbers that codes stand for,
        with their gradients, of the rows that it already names.
        """
        values: dict[str, Codes] = {}
        for row in self.graph.rows:
            layer = self.rows[_key(row.name)]
            found = values[row.name] = layer(pixels) if row.is_input or row.is_constant else \
                layer(*(values[name] for name in row.sources()))
            if trace is not None:
                trace[row.name] = found.values
            if kept is not None and row.name in kept:
                kept[row.name] = found.values * multiplier(found.scale)
            for name in self._finished[row.name]:  # no row reads them any more, and their memory is wanted
                del values[name]
        logits = values[self.graph.output_names[0]].values
        return logits.flatten(1) if logits.shape[2:] == (1, 1) else logits

    def multiply_gradients_as(self, kind: torch.dtype) -> None:
        """Let convolutions multiply their gradients as float32 or, rounded, as bfloat16."""
        for layer in self.layers.values():
            layer.gradients = kind

    def start_from(self, other: "QuantNetwork") -> None:
        """Copy the weights of a network of the same graph; of another precision not its batch-norm statistics.

        Source: the published code of Liao et al. 2020; statistics gathered at another precision would mislead.
        """
        if self.quantizer == other.quantizer:
            self.load_state_dict(other.state_dict())
        else:  # what another quantizer learned is of no use here; `calibrate` finds first values
            self.adapt_from(other.spec().arrays)
        if self.precision != other.precision:
            self.reset_statistics()

    def reset_statistics(self) -> None:
        """Forget the running statistics of every batch norm."""
        for module in self.modules():
            if isinstance(module, Norm):
                module.reset_statistics()

    def statistics(self) -> dict[str, Tensor]:
        """Copies of the running statistics of every batch norm, by name."""
        return {name: value.clone() for name, value in self.named_buffers() if ".running_" in name}

    @torch.no_grad()
    def take_statistics(self, statistics: Mapping[str, Tensor]) -> None:
        """Running statistics of a network of the same graph."""
        own = dict(self.named_buffers())
        for name, value in statistics.items():
            own[name].copy_(value)

    def adapt_from(self, arrays: Mapping[str, np.ndarray]) -> list[str]:
        """Copy the arrays ("row.array") that fit in name and shape; returns the names of those that do not.

        For transfer learning: a head for other classes, or a first layer for other images, stays as it is.
        """
        own = self.state_dict()
        fitting = {name: arrays[name] for name in (key.removeprefix(PREFIX) for key in own)
                   if name in arrays and arrays[name].shape == tuple(own[PREFIX + name].shape)}
        for name, array in fitting.items():
            own[PREFIX + name].copy_(torch.tensor(array))
        return sorted(key.removeprefix(PREFIX) for key in own if key.removeprefix(PREFIX) not in fitting)

    def activations(self) -> dict[str, Activate]:
        """The ends of rows, by row."""
        return {name: layer.activate for name, layer in self.layers.items() if layer.activate is not None}

    def learned_parameters(self) -> dict[str, nn.Parameter]:
        """What the quantizer learns, by "row.name"; the other parameters are those of any network."""
        names = {f"{row}.{name}" for row, layer in self.layers.items() for name in layer.learned}
        names |= {f"{row}.activate.{name}" for row, end in self.activations().items() for name in end.learned}
        own = {name.removeprefix(PREFIX): parameter for name, parameter in self.named_parameters()}
        return {name: parameter for name, parameter in own.items() if name in names}

    @contextmanager
    def as_teacher(self, bits: Mapping[str, int], tracks: bool = False) -> Iterator[None]:
        """Within, activations of the named rows have other widths and running statistics stay as they are."""
        activations, norms = self.activations(), [m for m in self.modules() if isinstance(m, Norm)]
        before = {name: activations[name].bits for name in bits}
        try:
            for name, width in bits.items():
                activations[name].bits = width
            for norm in norms:
                norm.tracks = tracks
            yield
        finally:
            for name, width in before.items():
                activations[name].bits = width
            for norm in norms:
                norm.tracks = True

    @torch.no_grad()
    def calibrate(self, pixels: Tensor, method: str = "minmax") -> None:
        """First values of everything the quantizer learns, from weights and from what a batch makes of them in float.

        The batch runs with batch statistics at float precision; of every activation up to MOST_SAMPLES values are looked at.
        """
        if not self.learned_parameters():
            return
        real = QuantNetwork(self.graph, Precision.of(FLOAT_BITS), self.quantizer).channels_last().to(pixels.device)
        real.load_state_dict(self.state_dict())
        samples = Samples()
        with real.train().as_teacher({}):
            real(pixels, samples)
        for name, layer in self.layers.items():
            layer.calibrate_weights(method)
            if layer.activate is not None and not layer.activate.is_float:
                layer.activate.calibrate(samples[name], method)
        if self.register is not None:
            self.register.fit(self, pixels)

    def accumulating(self) -> list[Layer]:
        """Layers whose sums go through the register of inner layers, as sim.hardware.HardwareSpec tells them."""
        return [layer for layer in self.layers.values() if layer.accumulates and layer.row.role != "boundary"]

    def limit(self, register: Accumulator | None) -> None:
        """Let these layers compute with a register, overflows and all, as sim.Machine does; without one if it is None."""
        for layer in self.accumulating():
            layer.register = register

    def penalized(self, loss: Tensor) -> Tensor:
        """The loss of a step, with what training for a register adds to it."""
        return loss if self.register is None else self.register.penalized(self, loss)

    def spec(self) -> NetworkSpec:
        """This network as plain numpy arrays."""
        arrays = {name.removeprefix(PREFIX): np.ascontiguousarray(tensor.detach().cpu().numpy(), np.float32)
                  for name, tensor in self.state_dict().items()}
        return NetworkSpec(self.graph, arrays, self.precision, self.quantizer)

    @classmethod
    def from_spec(cls, spec: NetworkSpec) -> "QuantNetwork":
        """The inverse of `spec`, in eval mode."""
        with weights_from(torch.Generator()):  # they are overwritten, and a caller's random numbers are the caller's
            model = cls(spec.graph, spec.precision, spec.quantizer)
        model.load_state_dict({PREFIX + name: torch.tensor(array) for name, array in spec.arrays.items()})
        return model.channels_last().eval()

    def channels_last(self) -> "QuantNetwork":
        """This module with its weights in the layout that convolutions run fastest in."""
        return self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
