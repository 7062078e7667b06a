"""A torch module from a graph: the fake-quantized model (FQ)."""

from collections.abc import MutableMapping

import numpy as np
import torch
from torch import Tensor, nn

from sim.network import Graph, NetworkSpec, Precision
from training.layers import Codes, Norm, build_layer

PREFIX = "rows.row:"
"""What stands before "row.array" in the names of parameters."""


def _key(row: str) -> str:
    """The name of a row's module, which no attribute of a module dictionary can have."""
    return f"row:{row}"


class QuantNetwork(nn.Module):
    """Runs the rows of `graph` at `precision`; takes pixels [N, C, H, W] of 0 .. 255, gives logits [N, classes]."""

    def __init__(self, graph: Graph, precision: Precision, quantizer: str = "dorefa") -> None:
        super().__init__()
        self.graph, self.precision, self.quantizer = graph, precision, quantizer
        shapes = graph.shapes()
        self.rows = nn.ModuleDict({
            _key(row.name): build_layer(row, shapes[row.source][2] if row.source else row.output_shape({})[2],
                                  precision, quantizer)
            for row in graph.rows})

    def forward(self, pixels: Tensor, trace: MutableMapping[str, Tensor] | None = None) -> Tensor:
        """Logits; `trace`, if given, receives every row's codes [N, C, H, W] by name."""
        values: dict[str, Codes] = {}
        for row in self.graph.rows:
            layer = self.rows[_key(row.name)]
            values[row.name] = layer(*(values[name] for name in row.sources())) if row.sources() else layer(pixels)
            if trace is not None:
                trace[row.name] = values[row.name].values
        return values[self.graph.rows[-1].name].values.flatten(1)

    def start_from(self, other: "QuantNetwork") -> None:
        """Copy the weights of a network of the same graph at any precision, but not its batch-norm statistics.

        Source: the published code of Liao et al. 2020; statistics gathered at another precision would mislead.
        """
        self.load_state_dict(other.state_dict())
        for module in self.modules():
            if isinstance(module, Norm):
                module.reset_statistics()

    def spec(self) -> NetworkSpec:
        """This network as plain numpy arrays."""
        arrays = {name.removeprefix(PREFIX): np.ascontiguousarray(tensor.detach().cpu().numpy(), np.float32)
                  for name, tensor in self.state_dict().items()}
        return NetworkSpec(self.graph, arrays, self.precision, self.quantizer)

    @classmethod
    def from_spec(cls, spec: NetworkSpec) -> "QuantNetwork":
        """The inverse of `spec`, in eval mode."""
        model = cls(spec.graph, spec.precision, spec.quantizer)
        model.load_state_dict({PREFIX + name: torch.tensor(array) for name, array in spec.arrays.items()})
        return model.channels_last().eval()

    def channels_last(self) -> "QuantNetwork":
        """This module with its weights in the layout that convolutions run fastest in."""
        return self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
