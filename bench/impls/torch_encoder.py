"""BERT with a span head out of torch's own modules: in float32, and with linear layers in int8, quantized as they run."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.cases import EncoderCase, Work

LAYERS, DEPTH = 6, 32
"""Of MiniLM; DEPTH features of a head."""


def isa() -> str:
    """The level torch's own kernels were built for."""
    return torch.backends.cpu.get_cpu_capability()


class Block(nn.Module):
    """Attention and two layers, norms behind their residuals."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """[N, tokens, width], the same shape; torch's fused attention."""
        q, k, v = (part(x).unflatten(-1, (-1, DEPTH)).transpose(1, 2) for part in (self.q, self.k, self.v))
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = self.norm1(x + self.out(mixed.transpose(1, 2).flatten(2)))
        return self.norm2(x + self.down(F.gelu(self.up(x))))


class Encoder(nn.Module):
    """Ids -> two logits for each token."""

    def __init__(self, case: EncoderCase) -> None:
        super().__init__()
        self.separator = case.separator
        self.words, self.positions = nn.Embedding(case.vocabulary, case.width), nn.Embedding(case.tokens, case.width)
        self.segments, self.norm = nn.Embedding(2, case.width), nn.LayerNorm(case.width)
        self.blocks = nn.ModuleList(Block(case.width) for _ in range(LAYERS))
        self.head = nn.Linear(case.width, 2)

    def forward(self, ids: Tensor) -> Tensor:
        """[N, tokens] -> [N, tokens, 2]."""
        ends = (ids == self.separator).long()
        kinds = ((ends.cumsum(1) - ends) > 0).long()
        x = self.norm(self.words(ids) + self.positions.weight + self.segments(kinds))
        mask = (ids != 0)[:, None, None, :]
        for block in self.blocks:
            x = block(x, mask)
        return self.head(x)


def encoder(case: EncoderCase, dynamic: bool) -> Work:
    """All texts in one call."""
    torch.manual_seed(0)
    model: nn.Module = Encoder(case).eval()
    if dynamic:
        model = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
    ids = torch.from_numpy(case.ids())

    @torch.no_grad()
    def run() -> Tensor:
        return model(ids)

    return Work(run, case.texts)


BUILD: dict[str, dict[str, Callable[..., Work]]] = {
    "torch float32": {"encoder": partial(encoder, dynamic=False)},
    "torch int8 dynamic": {"encoder": partial(encoder, dynamic=True)}}
