"""Operations on float64 tensors of which every library must find the same bits."""

import numpy as np
import torch
from torch import Tensor


def sqrt(values: Tensor) -> Tensor:
    """The correctly rounded square root, without gradient.

    On CPUs torch takes square roots from a library that may be off in the last bit, numpy from the processor, which is not.
    """
    if values.is_cuda:
        return torch.sqrt(values.detach())  # correctly rounded there
    return torch.from_numpy(np.asarray(np.sqrt(values.detach().numpy())))
