"""Who is measured.  A new peer is a file beside this and a row here.

A file is a family: it runs in one process and has `BUILD`, which maps implementation and measure to a function from a case
to its `Work`, and `isa()`, which says what instructions run.
"""

from collections.abc import Callable
from dataclasses import dataclass

from bench.cases import BIT_WIDTHS, Case
from sim.kernels.isa import AMX, AVX_VNNI, PORTABLE, VNNI, available, choose, has_bit_counts, has_byte_tables
from sim.steps.choice import BYTES, PLANES, TABLES

CONVOLUTIONS = ("conv", "depthwise")

When = Callable[[Case, bool], bool]
"""(case, whether the run is a short one) -> whether an implementation takes part"""


def always(case: Case, quick: bool) -> bool:
    """The default."""
    return True


def few_cases(case: Case, quick: bool) -> bool:
    """For the slow: only the cases of the short run, even in the long one."""
    return case.quick


def long_run(case: Case, quick: bool) -> bool:
    """For variants without which a short run still tells the story."""
    return not quick


@dataclass(frozen=True)
class Peer:
    """An implementation, its family (a module here) and the measures it takes part in."""

    impl: str
    family: str
    what: tuple[str, ...]
    isa: str = ""
    """The value of BITTRUE_ISA in its process."""
    when: When = always


def peers() -> tuple[Peer, ...]:
    """All of them; ours once per instruction set of this processor, ways for few bits and their bytes on the fastest."""
    ours = tuple(Peer(impl, "bittrue", what, isa, when) for impl, what, when in OURS for isa in available())
    return PEAK + ours + _of_few_bits() + OTHERS


def _of_few_bits() -> tuple[Peer, ...]:
    """Bit planes or tables, whichever this processor has, bytes beside them, and networks by the faster way and by bytes."""
    isa = choose()
    has_planes, has_tables = isa in (VNNI, AMX) and has_bit_counts(), isa in (PORTABLE, AVX_VNNI) and has_byte_tables()
    if not has_planes and not has_tables:
        return ()
    ways = {PLANES: ("planes", "matmul")} if has_planes else {TABLES: ("planes",)}
    return (*(Peer(f"bittrue W{weights}A{codes}, {method}", "bittrue", what)
              for weights, codes in BIT_WIDTHS for method, what in (ways | {BYTES: ("planes",)}).items()),
            *(Peer(f"bittrue W{bits}A{bits}{method}", "bittrue", ("network",)) for bits in (1, 2)
              for method in ("", f", {BYTES}")))


PEAK = (Peer("vpdpbusd", "peak", ("peak", "matmul")),
        *(Peer(name, "peak", ("peak",)) for name in ("vdpbf16ps", "vfmadd float32")))
OURS = (
    ("bittrue W8A8", (*CONVOLUTIONS, "imagenet", "encoder"), always),
    ("bittrue W3A3", CONVOLUTIONS, always),
    ("bittrue W3A3, unlimited", ("accumulator",), always),
    ("bittrue W3A3, wrap 12", ("accumulator",), always),
    ("bittrue W3A3, wrap 8", ("accumulator",), always),
    ("bittrue W3A3, saturate, under 1 % flagged", ("accumulator",), always),
    ("bittrue W3A3, saturate, under 1 % overflow", ("accumulator",), always),
    ("bittrue W3A3, saturate, all flagged", ("accumulator",), always),
    ("bittrue W8A8, unlimited", ("accumulator",), always),
    ("bittrue W8A8, two stages, under 1 % watched", ("accumulator",), always),
    ("bittrue W8A8, two stages, all watched", ("accumulator",), always),
    ("bittrue W8A8, pairs of 16 bits", ("accumulator",), always),
    ("bittrue W3A3, fp32", ("network",), always),
    *((f"bittrue {profile}", ("tflite",), when) for profile, when in (
        ("litert_xnnpack", always), ("litert_ruy", long_run), ("litert_reference", long_run))),
    ("bittrue W3A3, tflite_single", ("network",), long_run),
    ("bittrue W3A3, fp32, wrap 10", ("network",), always),
    ("bittrue W3A3, fp32, saturate 10", ("network",), long_run),
)
OTHERS = (
    Peer("torch float32", "torch_float", (*CONVOLUTIONS, "network")),
    Peer("torch float32 channels-last", "torch_float", (*CONVOLUTIONS, "network", "imagenet")),
    *(Peer(name, "torch_encoder", ("encoder",)) for name in ("torch float32", "torch int8 dynamic")),
    Peer("oneDNN int8", "onednn", CONVOLUTIONS),
    Peer("onnxruntime QLinearConv", "onnx_runtime", CONVOLUTIONS),
    Peer("onnxruntime ConvInteger", "onnx_runtime", CONVOLUTIONS),
    Peer("onnxruntime int8", "onnx_network", ("imagenet",)),
    Peer("numpy float32 matmul", "numpy_matmul", ("conv",), when=few_cases),
    Peer("torch FQ W3A3", "torch_quantized", ("network",)),
    *(Peer(f"bittrue {bits}", "torch_quantized", ("train_step",)) for bits in ("float32", "W2A2")),
    *(Peer(f"bittrue {bits}", "torch_quantized", ("train_step",), when=long_run) for bits in ("W8A8", "W4A4", "W1A1")),
    *(Peer(f"bittrue {bits}, bfloat16 gradients", "torch_quantized", ("train_step",)) for bits in ("float32", "W2A2")),
    Peer("Brevitas W3A3", "brevitas_qat", ("network",)),
    Peer("Brevitas W3A3, quant_inference_mode", "brevitas_qat", ("network",), when=long_run),
    Peer("Brevitas W2A2", "brevitas_qat", ("train_step",)),
    Peer("Brevitas W2A2, bfloat16 autocast", "brevitas_qat", ("train_step",)),
    Peer("Brevitas W2A2, first 300 steps", "brevitas_qat", ("train_step",), when=long_run),
    Peer("QONNX W3A3", "qonnx_executor", ("network",)),
    Peer("LiteRT XNNPACK", "litert", ("tflite",)),
    Peer("import torch", "fresh_process", ("startup",)),
    Peer("bittrue sim.eval on digits", "fresh_process", ("startup",)),
    Peer("bittrue sim.eval", "fresh_process", ("memory",)),
)
