"""AMX on machines without it: the emulation runs in test_simulator.py, here are the instructions and who may use them."""

import subprocess
from collections import Counter

import llvmlite.binding as llvm
import numpy as np
import pytest
from llvmlite import ir

from sim import proof
from sim.kernels import amx, amx_lines, isa

pytestmark = pytest.mark.skipif(isa.INTERPRETED, reason="nothing is compiled there")
ARGUMENTS = 13


@pytest.fixture(scope="module")
def sapphire_rapids():
    """A compiler for the first processor that has tiles; other machines than x86 have none such."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    try:
        return llvm.Target.from_triple("x86_64-unknown-linux-gnu").create_target_machine(cpu="sapphirerapids", opt=3)
    except RuntimeError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(("tiles", "blocks"), [(1, 1), (2, 1), (4, 1), (1, 2), (2, 2), (1, 4)])
def test_tile__is_the_instructions_of_the_processor(monkeypatch, sapphire_rapids, tiles, blocks, signed):
    monkeypatch.setattr(amx, "machine_code", lambda count, emit: emit)
    module, word = ir.Module(), ir.IntType(64)
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [word] * ARGUMENTS), "tile")
    builder = ir.IRBuilder(function.append_basic_block())
    amx.make_configure()(builder, function.args[:1])
    amx.make_tile(amx.Processor(), tiles, blocks, signed)(builder, function.args)
    amx.make_release()(builder, [])
    builder.ret_void()
    assembly = sapphire_rapids.emit_assembly(llvm.parse_assembly(str(module)))
    lines = [line.split() for line in assembly.splitlines() if line.split()]
    count = {name: sum(line[:1] == [name] for line in lines)
             for name in ("ldtilecfg", "tilerelease", "tilezero", "tileloadd", "tilestored", "tdpbusd", "tdpbssd")}
    products = tiles * blocks
    assert count == {"ldtilecfg": 1, "tilerelease": 1, "tilezero": products, "tilestored": products,
                     "tileloadd": products + tiles + blocks, "tdpbssd" if signed else "tdpbusd": products,
                     "tdpbusd" if signed else "tdpbssd": 0}
    dots = [[operand.strip("%,") for operand in line[1:]] for line in lines if line[0] in ("tdpbusd", "tdpbssd")]
    assert {total for _, _, total in dots} == {f"tmm{number}" for number in range(products)}
    assert {codes for _, codes, _ in dots} <= {"tmm4", "tmm5"}  # the unsigned operand of tdpbusd
    assert {weights for weights, _, _ in dots} <= {"tmm6", "tmm7"}


@pytest.mark.parametrize("pixels", [1, 7, 16])
def test_config__is_what_the_manual_says(pixels):
    memory = amx.config(pixels).tolist()
    assert memory[:2] == [1, 0]  # palette, start row
    assert memory[2:16] == [0] * 14
    assert memory[16:32] == [64, 0] * 8  # bytes of a row, little-endian
    assert memory[32:48] == [0] * 16
    assert memory[48:56] == [pixels] * 6 + [16] * 2
    assert memory[56:] == [0] * 8


@pytest.mark.exhaustive
def test_proof__of_the_emulation_and_of_wrong_kernels(monkeypatch):
    assert "20 convolutions, 0 of" in proof.prove(isa.AMX_EMULATED, 20)
    right = amx.pack
    monkeypatch.setattr(amx, "pack", lambda weights, layout: right(weights, layout)[..., ::-1].copy())
    with pytest.raises(proof.ProofError, match=r"amx-emulated: \d+ of \d+ sums"):
        proof.prove(isa.AMX_EMULATED, 20)


def test_proof__covers_every_tile_and_kind_of_convolution():
    ops = [op for op, _ in proof.convolutions(proof.CASES)]
    tiles = Counter()
    for op in ops:
        blocks = next(blocks for blocks in (1, 2, 4) if 16 * blocks >= min(op.shape[2] // op.groups, 64))
        pixels, count = amx_lines.pixels_of(op.shape[1]), 4 // blocks
        while count * pixels > op.shape[1]:
            count //= 2
        tiles[count, blocks, op.operand.signed, bool(np.abs(op.weights).max() > 128)] += 1
    assert len(tiles) == 6 * 2 * 2
    assert min(tiles.values()) >= 2
    assert {op.groups > 1 for op in ops} == {True, False}
    accumulators = {(op.accumulator.bits, op.accumulator.overflow) for op in ops}
    assert accumulators == {(None, "wrap"), (12, "wrap"), (12, "saturate")}


@pytest.mark.parametrize(("status", "proven"), [(0, True), (1, False), (-4, False)])  # right, wrong, killed by SIGILL
def test_unproven_kernels__are_taken_only_after_the_proof_which_runs_once(monkeypatch, tmp_path, status, proven):
    calls = []

    def run(command, **_):
        calls.append(command[1:])
        return subprocess.CompletedProcess(command, status, f"0 differ\n{tmp_path.name}\n", "")

    monkeypatch.delenv("BITTRUE_ISA", raising=False)
    monkeypatch.setattr(isa, "CACHE_FOLDER", tmp_path)
    monkeypatch.setattr(isa, "_possible", lambda: (isa.PORTABLE, isa.VNNI, isa.AMX))
    monkeypatch.setattr(subprocess, "run", run)
    for _ in range(2):
        assert isa.choose() == (isa.AMX if proven else isa.VNNI)
        assert (isa.AMX in isa.runnable()) == proven
    assert calls == [["-P", "-m", "sim.proof", "amx"]]


def test_proof__of_other_sources_is_not_believed(monkeypatch, tmp_path):
    monkeypatch.setattr(isa, "CACHE_FOLDER", tmp_path)
    monkeypatch.setattr(subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 0, "hello\n", ""))
    assert not isa.is_proven(isa.AMX)


def test_proof__that_cannot_be_kept_is_none(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setattr(isa, "CACHE_FOLDER", tmp_path / "file")
    monkeypatch.setattr(subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 0, "file\n", ""))
    assert not isa.is_proven(isa.AMX)


def test_proof__that_cannot_be_run_is_none(monkeypatch, tmp_path):
    monkeypatch.setattr(isa, "CACHE_FOLDER", tmp_path)
    monkeypatch.setattr("sys.executable", "")
    assert not isa.is_proven(isa.AMX)


def test_proof__of_a_process_of_its_own_is_of_these_sources(monkeypatch, tmp_path):
    (tmp_path / "sim").mkdir()
    (tmp_path / "sim" / "proof.py").write_text("print('another')")
    monkeypatch.chdir(tmp_path)
    lines = isa._run_proof("sse").splitlines()
    assert lines == ["1", "error: 'sse' is nothing that this processor has"]


@pytest.mark.skipif(not isa.is_possible(isa.AMX), reason="this processor has no AMX, or the system does not lend it")
def test_processor__proves_its_tiles():
    assert isa.is_proven(isa.AMX), (isa.CACHE_FOLDER / "amx.proof").read_text()
