"""Rows of transformers: tables, products of activations, heads, tokens, softmax and norms."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from sim import reference
from sim.machine import Machine
from sim.network import NetworkSpec
from sim.program import Program
from sim.testing import ids_for, lowered, networks, token_graphs
from training.network import QuantNetwork


def fq_codes(spec: NetworkSpec, ids: np.ndarray) -> dict[str, np.ndarray]:
    trace: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        QuantNetwork.from_spec(spec)(torch.from_numpy(ids), trace)
    return {name: values.permute(0, 2, 3, 1).numpy() for name, values in trace.items()}


@given(st.data())
def test_networks_of_tokens__are_the_model_and_plain_integers_in_every_code(data):
    spec = data.draw(networks(graph=data.draw(token_graphs())))
    program = lowered(spec, "fp32")
    ids = ids_for(data.draw, spec.graph)
    trace: dict[str, np.ndarray] = {}
    Machine(program).run(ids, trace)
    values, _ = reference.run(program, ids[0].tolist())
    for name, codes in fq_codes(spec, ids).items():
        np.testing.assert_array_equal(trace[name], codes, err_msg=name)
        np.testing.assert_array_equal(np.array(values[name]), codes[0], err_msg=name)


@given(st.data())
def test_programs_of_tokens__come_back_from_files(tmp_path_factory, data):
    program = lowered(data.draw(networks(graph=data.draw(token_graphs()))), "fp32")
    path = tmp_path_factory.mktemp("programs") / "program.npz"
    program.save(path)
    assert Program.load(path) == program
    assert repr(program).startswith(f"<Program: {program.ops[0].shape[0]} ids below")
