"""Networks that read ids: the codes of the torch model, and what all three ways of running one must agree in."""

import numpy as np
import torch

from sim import reference
from sim.machine import Machine
from sim.network import NetworkSpec
from sim.program import Program
from training.network import QuantNetwork


def fq_codes(spec: NetworkSpec, ids: np.ndarray) -> dict[str, np.ndarray]:
    """By row, [N, H, W, C]."""
    trace: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        QuantNetwork.from_spec(spec)(torch.from_numpy(ids), trace)
    return {name: values.permute(0, 2, 3, 1).numpy() for name, values in trace.items()}


def assert_one_arithmetic(spec: NetworkSpec, program: Program, ids: np.ndarray, which: int = 0) -> None:
    """Machine and model agree in every code of all texts, plain integers in those of one."""
    trace: dict[str, np.ndarray] = {}
    Machine(program).run(ids, trace)
    values, _ = reference.run(program, ids[which].tolist())
    for name, codes in fq_codes(spec, ids).items():
        np.testing.assert_array_equal(trace[name], codes, err_msg=name)
        np.testing.assert_array_equal(np.array(values[name]), codes[which], err_msg=name)
