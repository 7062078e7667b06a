"""oneDNN's int8 kernels as torch's quantized convolution offers them: uint8 channels-last in and out."""

import warnings

import torch

from bench.cases import ConvCase, Work
from training.products import has_dot_product


def isa() -> str:
    """The level of torch; oneDNN looks at the processor itself and takes the best it has; lost sums it never mentions."""
    loss = "" if has_dot_product() else "; pairs of products saturate at 16 bits: wrong codes"
    return f"oneDNN's choice, torch {torch.backends.cpu.get_cpu_capability()}{loss}"


def convolution(case: ConvCase) -> Work:
    """W8A8, weights with a scale per channel, packed before the clock starts."""
    torch.backends.quantized.engine = "onednn"
    codes = torch.from_numpy(case.codes(8)).permute(0, 3, 1, 2)
    weights = torch.from_numpy(case.weights(8)).permute(3, 2, 0, 1).contiguous()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.quantize_per_tensor, torch.quantize_per_channel", UserWarning)
        x = torch._make_per_tensor_quantized_tensor(codes, 1.0, 0).contiguous(memory_format=torch.channels_last)
        w = torch._make_per_channel_quantized_tensor(
            weights, torch.ones(case.channels, dtype=torch.float64), torch.zeros(case.channels, dtype=torch.int64), 0)
    packed = torch.ops.quantized.conv2d_prepack(w, None, [case.stride] * 2, [case.padding] * 2, [1, 1], case.groups)
    out_scale = 1.0 / float(case.gain(8))
    return Work(lambda: torch.ops.quantized.conv2d(x, packed, out_scale, 0), case.gmacs)


BUILD = {"oneDNN int8": {"conv": convolution, "depthwise": convolution}}
