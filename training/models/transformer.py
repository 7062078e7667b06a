"""What transformers are made of: blocks of attention and two linear layers, as torch.nn.TransformerEncoderLayer has them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import nn

from sim.network import (
    Activation,
    Add,
    Heads,
    LayerNorm,
    Linear,
    Lookup,
    MaskedSoftmax,
    MatMul,
    NetworkError,
    Requantize,
    Row,
    Softmax,
    Tokens,
)

RESIDUAL = Activation("skip", 8.0, "none")
"""Of the residual path: sums of normalized values, whose width is the role's."""
INNER = Activation("inner", 4.0, "none")
"""Of what linear layers read and give."""
SCORES = Activation("inner", 8.0, "none")
"""Of queries times keys: e^-8 is 0.0003."""


@dataclass(frozen=True)
class Block:
    """The sizes of a block and what it computes.

    `heads` of width / heads features each; `hidden` features between the two linear layers; `function` is one of
    sim.functions.FUNCTIONS; with `norm_first` norms stand in front of attention and layers, else behind their residuals;
    `softmax` and `norm` name integer definitions; `ids` names the row of ids whose padding nobody attends to, if any.
    """

    heads: int
    width: int
    hidden: int
    function: str = "gelu_erf"
    norm_first: bool = False
    eps: float = 1e-5
    softmax: str = "exact"
    norm: str = "exact"
    ids: str = ""

    def __post_init__(self) -> None:
        if min(self.heads, self.width, self.hidden) < 1 or self.width % self.heads:
            raise NetworkError(f"a transformer of width {self.width} cannot have {self.heads} heads")

    def rows(self, name: str, source: str) -> list[Row]:
        """Rows that begin with `name`, reading tokens (tokens, 1, width) of `source`; the last has the same shape."""
        if self.norm_first:
            rows = [self.normalized(f"{name}_norm1", source, INNER), *self._attention(name, f"{name}_norm1")]
            rows += [Add(f"{name}_sum1", source, f"{name}_out", RESIDUAL),
                     self.normalized(f"{name}_norm2", f"{name}_sum1", INNER), *self._layers(name, f"{name}_norm2")]
            return [*rows, Add(f"{name}_sum2", f"{name}_sum1", f"{name}_down", RESIDUAL)]
        rows = [Requantize(f"{name}_in1", source, INNER), *self._attention(name, f"{name}_in1")]
        rows += [Add(f"{name}_sum1", source, f"{name}_out", RESIDUAL),
                 self.normalized(f"{name}_norm1", f"{name}_sum1", RESIDUAL),
                 Requantize(f"{name}_in2", f"{name}_norm1", INNER), *self._layers(name, f"{name}_in2")]
        return [*rows, Add(f"{name}_sum2", f"{name}_norm1", f"{name}_down", RESIDUAL),
                self.normalized(f"{name}_norm2", f"{name}_sum2", RESIDUAL)]

    def normalized(self, name: str, source: str, activation: Activation) -> LayerNorm:
        """A norm of the block's kind."""
        return LayerNorm(name, source, self.norm, self.eps, activation)

    def _attention(self, name: str, source: str) -> list[Row]:
        """softmax(q k^T / sqrt(depth)) v of each head, side by side, through a linear layer."""
        rows: list[Row] = []
        for part in ("q", "k", "v"):
            rows += [Linear(f"{name}_{part}", source, self.width, activation=INNER),
                     Heads(f"{name}_{part}_heads", f"{name}_{part}", self.heads)]
        depth = self.width // self.heads
        return [*rows,
                MatMul(f"{name}_scores", f"{name}_q_heads", f"{name}_k_heads", SCORES, math.sqrt(depth)),
                self._weights(f"{name}_weights", f"{name}_scores"),
                MatMul(f"{name}_mixed", f"{name}_weights", f"{name}_v_heads", INNER, transpose=False),
                Tokens(f"{name}_joined", f"{name}_mixed"),
                Linear(f"{name}_out", f"{name}_joined", self.width, activation=RESIDUAL)]

    def _weights(self, name: str, source: str) -> Row:
        if not self.ids:
            return Softmax(name, source, self.softmax)
        return MaskedSoftmax(name, source, self.softmax, ids=self.ids)

    def _layers(self, name: str, source: str) -> list[Row]:
        """Up, a function, down."""
        if self.function == "relu":
            rows: list[Row] = [Linear(f"{name}_hidden", source, self.hidden, activation=Activation("inner", 4.0))]
        else:
            rows = [Linear(f"{name}_up", source, self.hidden, activation=INNER),
                    Lookup(f"{name}_hidden", f"{name}_up", self.function, INNER)]
        return [*rows, Linear(f"{name}_down", f"{name}_hidden", self.width, activation=RESIDUAL)]


def block_arrays(name: str, layer: nn.TransformerEncoderLayer) -> dict[str, np.ndarray]:
    """The weights of torch's layer under the names that a block of that name has for them."""
    state: Mapping[str, np.ndarray] = {key: value.detach().cpu().numpy() for key, value in layer.state_dict().items()}
    up = f"{name}_up" if layer.activation.__name__ != "relu" else f"{name}_hidden"
    names = {"self_attn.out_proj": f"{name}_out", "linear1": up, "linear2": f"{name}_down", "norm1": f"{name}_norm1",
             "norm2": f"{name}_norm2"}
    arrays = {f"{new}.{part}": state[f"{old}.{part}"] for old, new in names.items() for part in ("weight", "bias")}
    for part in ("weight", "bias"):
        thirds = np.split(state[f"self_attn.in_proj_{part}"], 3)
        arrays |= {f"{name}_{letter}.{part}": third for letter, third in zip("qkv", thirds, strict=True)}
    return arrays
