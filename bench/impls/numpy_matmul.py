"""numpy: patches copied to a matrix (im2col), one float32 matrix product, codes rounded as the others do."""

import numpy as np

from bench.cases import ConvCase, Work


def isa() -> str:
    """Whatever its BLAS chooses."""
    return "BLAS's choice"


def convolution(case: ConvCase) -> Work:
    """W8A8 without groups; the sums of 8-bit codes are exact in float32 up to 256 products of the largest."""
    codes, matrix = case.codes(8), case.weights(8).reshape(-1, case.channels).astype(np.float32)
    border, gain = [(0, 0), (case.padding,) * 2, (case.padding,) * 2, (0, 0)], case.gain(8)

    def run() -> np.ndarray:
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(codes, border), (case.kernel,) * 2, (1, 2))
        windows = windows[:, :: case.stride, :: case.stride].transpose(0, 1, 2, 4, 5, 3)
        patches = windows.astype(np.float32).reshape(-1, len(matrix))
        sums = (patches @ matrix) * gain
        return np.clip(np.rint(sums), 0, 255).astype(np.uint8).reshape(*windows.shape[:3], case.channels)

    return Work(run, case.gmacs)


BUILD = {"numpy float32 matmul": {"conv": convolution}}
