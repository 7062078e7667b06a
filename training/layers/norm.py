"""Batch norm behind sums of codes."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.quantizers import Scale

BATCH_NORM_EPS = 1e-5
BATCH_NORM_MOMENTUM = 0.1


class Norm(nn.Module):
    """Parameters and running statistics of a batch norm, in real units whatever the scale of the codes."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, eps: float = BATCH_NORM_EPS) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.tracks = True

    def reset_statistics(self) -> None:
        """Forget the running statistics."""
        self.running_mean.zero_()
        self.running_var.fill_(1.0)

    def forward(self, sums: Tensor, scale: float, step: Scale) -> Tensor:
        """Normalize `sums` * `scale` by batch statistics; the result is in units of `step`.

        Batch norm of scale * s with eps is batch norm of s with eps / scale^2: the scale costs no pass over the tensor, and
        no gradient, as the result does not depend on it but for eps.  The running statistics follow if `tracks` is set.
        """
        weight, bias = (self.weight / step).float(), (self.bias / step).float()
        if not scale:  # weights that are all 0 have no variance to normalize by
            return sums * 0.0 + bias.view(1, -1, 1, 1)
        eps = self.eps / scale**2
        if not self.tracks:
            return F.batch_norm(sums, None, None, weight, bias, True, BATCH_NORM_MOMENTUM, eps)
        mean, var = self.running_mean / scale, self.running_var / scale**2
        out = F.batch_norm(sums, mean, var, weight, bias, True, BATCH_NORM_MOMENTUM, eps)
        self.running_mean.copy_(mean * scale)
        self.running_var.copy_(var * scale**2)
        return out
