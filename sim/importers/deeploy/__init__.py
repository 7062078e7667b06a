"""Deeploy's integer ONNX (QuantLab's export): RequantShift networks, integer transformers.  Profile `deeploy_pulp`.

    RequantShift     clamp((x mul + add + div / 2) >> log2 div), signed -n/2 .. n/2 - 1, unsigned 0 .. n - 1
    IntegerMean      floor((2 sum + n) / (2 n)); ReduceMean the same.  Deeploy's C code rounds half away from 0 where n is no
                     power of 2: other codes for negative ties
    iNoNorm          floor((x weight + bias) mul / D), weights for every number
    TrueIntegerDiv   x floor(Delta eta / (eta y + eps)), y a constant
    iSoftmax, ITAMax, ITAPartialMax, iLayerNorm, iRMSNorm, iGELU, iHardswish: sim/definitions

What is computed are exact integers, as in QuantLab's golden data.  Deeploy's C code computes products and sums of a
RequantShift in 32 bits, which wrap: where the constants allow more, the note of an imported model says so.  Sums of
convolutions and matrix products go through the profile's register of 32 bits, whose overflows are counted as everywhere.

Images [1, C, H, W] become (height, width, channels), signals [1, C, L] (length, 1, channels); other tensors keep the order
of their axes.  A file's first axis is that of samples where it is 1, else part of one sample.
"""

from sim.importers.deeploy.reader import OPERATORS, read, read_graph

__all__ = ["OPERATORS", "read", "read_graph"]
