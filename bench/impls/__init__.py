"""Who is measured.  A new peer is a file beside this and a row here.

A file is a family: it runs in one process and has `BUILD`, which maps implementation and measure to a function from a case
to its `Work`, and `isa()`, which says what instructions run.
"""

from dataclasses import dataclass

from sim.kernels.isa import available

CONVOLUTIONS = ("conv", "depthwise")


@dataclass(frozen=True)
class Peer:
    """An implementation, its family (a module here) and the measures it takes part in."""

    impl: str
    family: str
    what: tuple[str, ...]
    isa: str = ""
    """The value of BITTRUE_ISA in its process."""
    quick_cases_only: bool = False
    """For the slow: only the cases of the short run, even in the long one."""


def peers() -> tuple[Peer, ...]:
    """All of them; ours once per instruction set of this processor."""
    ours = tuple(Peer(impl, "bittrue", what, isa) for impl, what in OURS for isa in available())
    return PEAK + ours + OTHERS


PEAK = (Peer("vpdpbusd", "peak", ("peak",), "vnni"),)
OURS = (
    ("bittrue W8A8", CONVOLUTIONS),
    ("bittrue W3A3", CONVOLUTIONS),
    ("bittrue W3A3, unlimited", ("accumulator",)),
    ("bittrue W3A3, wrap 12", ("accumulator",)),
    ("bittrue W3A3, saturate, under 1 % flagged", ("accumulator",)),
    ("bittrue W3A3, saturate, under 1 % overflow", ("accumulator",)),
    ("bittrue W3A3, saturate, all flagged", ("accumulator",)),
    ("bittrue W3A3, fp32", ("network",)),
    ("bittrue W3A3, tflite_single", ("network",)),
    ("bittrue W3A3, fp32, wrap 10", ("network",)),
    ("bittrue W3A3, fp32, saturate 10", ("network",)),
)
OTHERS = (
    Peer("torch float32", "torch_float", (*CONVOLUTIONS, "network")),
    Peer("torch float32 channels-last", "torch_float", (*CONVOLUTIONS, "network")),
    Peer("oneDNN int8", "onednn", CONVOLUTIONS),
    Peer("onnxruntime QLinearConv", "onnx_runtime", CONVOLUTIONS),
    Peer("onnxruntime ConvInteger", "onnx_runtime", CONVOLUTIONS),
    Peer("numpy float32 matmul", "numpy_matmul", ("conv",), quick_cases_only=True),
    Peer("torch FQ W3A3", "torch_quantized", ("network",)),
    *(Peer(f"bittrue {bits}", "torch_quantized", ("train_step",)) for bits in ("float32", "W8A8", "W4A4", "W2A2", "W1A1")),
    Peer("Brevitas W3A3", "brevitas_qat", ("network",)),
    Peer("Brevitas W3A3, quant_inference_mode", "brevitas_qat", ("network",)),
    Peer("Brevitas W2A2", "brevitas_qat", ("train_step",)),
    Peer("QONNX W3A3", "qonnx_executor", ("network",)),
    Peer("import torch", "fresh_process", ("startup",)),
    Peer("bittrue sim.eval on digits", "fresh_process", ("startup",)),
    Peer("bittrue sim.eval", "fresh_process", ("memory",)),
)
