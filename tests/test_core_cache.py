"""The cache of compiled kernels is not needed: trouble with it is one line, and the run goes on."""

import ast
import hashlib
import os
import subprocess
import sys
import types
from pathlib import Path

import numba
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from sim.kernels import cache, isa
from sim.kernels.isa import INTERPRETED
from tests.examples import examples

RUN = """
import os, resource, sys
import numpy as np
from pathlib import Path
LIMIT = int(os.environ.get("MOST_BYTES", "-1"))
if LIMIT >= 0:
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, LIMIT))
from sim.formats import IntFormat
from sim.accumulator import Accumulator
from sim.machine import Machine
from sim.program import ConvOp, InputOp, Program
from sim.requantizers.fp32 import Fp32
byte = IntFormat(8, signed=False)
ones = Fp32(np.ones(2, np.float32), np.zeros(2, np.float32), np.zeros(1, np.float32))
program = Program((
    InputOp("image", "", (1, 1, 2), byte, np.arange(512).reshape(2, 256).astype(np.uint8)),
    ConvOp("logits", "image", (1, 1, 2), None, skip="", weights=np.eye(2, dtype=np.int32)[None, None], stride=1, padding=0,
           groups=1, operand=byte, weight_format=IntFormat(2, True), weight_bits=1, accumulator=Accumulator(),
           requant=ones)))
print(Machine(program, "plain").run(np.array([7, 9], np.uint8).reshape(1, 1, 1, 2)).tolist())
"""
RIGHT = "[[7.0, 9.0]]\n"
pytestmark = pytest.mark.skipif(INTERPRETED, reason="interpreted kernels are not kept")


def run(folder: Path | str, **environment: str) -> tuple[str, list[str]]:
    """(what the run printed, its lines on stderr) with the cache in a folder; it must end well."""
    here = {"PYTHONPATH": str(Path(__file__).parents[1]), "BITTRUE_CACHE_DIR": str(folder), **environment}
    done = subprocess.run([sys.executable, "-c", RUN], env=os.environ | here, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr.splitlines()


def test_kernels__are_kept_and_found_again(tmp_path):
    assert run(tmp_path) == (RIGHT, [])
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.kernel")}
    assert len(before) >= 2
    assert run(tmp_path) == (RIGHT, [])
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.kernel")} == before
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize("most", ["64", "20000"])
def test_full_disk__is_one_line_that_names_the_path(tmp_path, most):
    """Nothing or some of the kernels can be written (but for the semaphore of 32 bytes that numba wants)."""
    out, said = run(tmp_path, MOST_BYTES=most)
    assert out == RIGHT
    assert len(said) == 1
    assert str(tmp_path) in said[0]
    assert "File too large" in said[0]
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize(("variable", "path"), [("BITTRUE_CACHE_DIR", "file\n\x1b[31m[red]"), ("XDG_CACHE_HOME", "file/x")])
def test_cache_folder__that_cannot_be_is_one_line(tmp_path, variable, path):
    (tmp_path / path.removesuffix("/x")).write_text("no folder")
    out, said = run("", **{variable: str(tmp_path / path)})
    assert out == RIGHT
    assert len(said) == 1
    assert repr(str(tmp_path / path))[1:-1] in said[0]


def double(x):
    return 2 * x


def compiled(folder: Path):
    made = numba.njit(double)
    made._cache = cache.KernelCache(double, folder)
    return made


@pytest.fixture
def said(monkeypatch, caplog):
    monkeypatch.setattr(cache, "_said", set())
    return lambda: [record.getMessage() for record in caplog.records]


def flip(content: bytes, place: int) -> bytes:
    changed = bytearray(content)
    changed[place] ^= 1
    return bytes(changed)


@given(st.data())
@examples(30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_kernel__is_compiled_again_and_replaced(tmp_path, monkeypatch, caplog, data):
    monkeypatch.setattr(cache, "_said", set())
    caplog.clear()
    assert compiled(tmp_path)(4) == 8
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    place = data.draw(st.integers(0, 2**20 - 1)) * len(whole) >> 20  # files differ in length from process to process
    path.write_bytes(flip(whole, place) if data.draw(st.booleans()) else whole[:place])
    again = compiled(tmp_path)
    assert again(4) == 8
    assert not again._cache_hits
    (line,) = (record.getMessage() for record in caplog.records)
    assert repr(str(path)) in line
    assert "damaged" in line
    found = compiled(tmp_path)
    assert found(4) == 8
    assert sum(found._cache_hits.values()) == 1


def test_kernel_file__that_is_a_folder_is_passed_by(tmp_path, said):
    compiled(tmp_path)(4)
    (path,) = tmp_path.iterdir()
    path.unlink()
    path.mkdir()
    for _ in range(2):
        assert compiled(tmp_path)(4) == 8
    assert [str(path) in line for line in said()] == [True]


def test_kernel_of_another_numba__is_passed_by(tmp_path, said):
    compiled(tmp_path)(4)
    (path,) = tmp_path.iterdir()
    payload = b"nothing that unpickles"
    path.write_bytes(hashlib.sha256(payload).digest() + payload)
    assert compiled(tmp_path)(4) == 8
    assert [str(path) in line for line in said()] == [True]


def test_kernel__of_which_a_callee_was_edited_is_another(tmp_path):
    """A requantizer of one's own, edited between two runs: what calls it must not come from the cache."""
    keys = set()
    for factor in (2, 3):
        file = tmp_path / f"own{factor}.py"
        file.write_text(f"import numba\n\n@numba.njit\ndef helper(x):\n    return {factor} * x\n")
        names: dict = {}
        exec(compile(file.read_text(), file, "exec"), names)
        caller = types.FunctionType(calling.__code__, {**globals(), "helper": names["helper"]}, "calling")
        keys.add(cache.KernelCache(caller, tmp_path)._facts[-1][0])
        keys.add(cache.KernelCache(caller, tmp_path)._facts[-1][1])
    assert len(keys) == 3


helper = None


def calling(x):
    return helper(x)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"what?"])
def test_damaged_proof__is_made_again(monkeypatch, tmp_path, content):
    (tmp_path / "amx.proof").write_bytes(content)
    monkeypatch.setattr(isa, "CACHE_FOLDER", tmp_path)
    monkeypatch.setattr(isa, "_run_proof", lambda name: f"0\n{tmp_path.name}\n")
    assert isa.is_proven(isa.AMX)
    assert isa.is_proven(isa.AMX)


def test_proof__that_cannot_be_kept_is_not_begun(monkeypatch, tmp_path, caplog):
    (tmp_path / "file").touch()
    monkeypatch.setattr(cache, "_said", set())
    monkeypatch.setattr(isa, "CACHE_FOLDER", tmp_path / "file")
    monkeypatch.setattr(isa, "_run_proof", lambda name: pytest.fail("minutes for nothing"))
    assert not isa.is_proven(isa.AMX)
    assert not isa.is_proven(isa.AMX)
    assert [str(tmp_path / "file" / "amx.proof") in record.getMessage() for record in caplog.records] == [True]


def test_compiled_code__takes_nothing_from_sources_that_the_cache_does_not_know():
    """A constant from another folder would stand in kept kernels as it was when they were compiled."""
    root, seen = Path(cache.__file__).parents[1], 0
    inside = tuple(f"sim.{folder}" for folder in cache.COMPILED)
    for path in (path for folder in cache.COMPILED for path in (root / folder).rglob("*.py")):
        tree = ast.parse(path.read_text())
        foreign = {alias.asname or alias.name for node in ast.walk(tree)
                   if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sim.")
                   and not (node.module or "").startswith(inside) for alias in node.names}
        for function in tree.body:
            names = {getattr(getattr(mark, "func", mark), "id", "") for mark in getattr(function, "decorator_list", ())}
            if isinstance(function, ast.FunctionDef) and (names & {"kernel", "inline"} or path.parent.name == "kernels"):
                seen += bool(names & {"kernel", "inline"})
                body = [node for part in function.body for node in ast.walk(part)]
                used = {node.id for node in body if isinstance(node, ast.Name)}
                assert not (names & {"kernel", "inline"} and used & foreign), (path.name, function.name, used & foreign)
    assert seen > 30
