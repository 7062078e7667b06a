"""One machine for several threads, and forked children: right or refused, never hung, never wrong."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from sim.accumulator import Accumulator
from sim.checkpoint import load_checkpoint
from sim.hardware import HardwareSpec
from sim.kernels.isa import INTERPRETED
from sim.lowering import lower
from sim.machine import Machine

CHECKPOINT = Path(__file__).parent / "data" / "takd-digits-2bit.pt"
SETUP = f"""
import os, signal, sys, threading
from pathlib import Path
import numpy as np
from sim.accumulator import Accumulator
from sim.checkpoint import load_checkpoint
from sim.hardware import HardwareSpec
from sim.lowering import lower
from sim.machine import Machine

spec = load_checkpoint(Path({str(CHECKPOINT)!r})).spec
program = lower(spec, HardwareSpec(Accumulator(7, "saturate", 1)))
pixels = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 1)).astype(np.uint8)
expected = np.load("expected.npy")

def is_right(machine):
    return bool((machine.run(pixels) == expected).all())

def forked(work):
    child = os.fork()
    if child == 0:
        signal.alarm(240)
        os._exit(0 if work() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""
FORKS = hasattr(os, "fork")


def limited_program():
    return lower(load_checkpoint(CHECKPOINT).spec, HardwareSpec(Accumulator(7, "saturate", 1)))


def some_pixels(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 1)).astype(np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("threads")
    np.save(path / "expected.npy", Machine(limited_program()).run(some_pixels(20)))
    return path


def run_script(folder: Path, code: str, **environment: str) -> subprocess.CompletedProcess:
    here = {"PYTHONPATH": str(Path(__file__).parents[1]), "NUMBA_NUM_THREADS": "2", **environment}
    return subprocess.run([sys.executable, "-c", SETUP + code], cwd=folder, env=os.environ | here, capture_output=True,
                          text=True, timeout=500, check=False)


@pytest.mark.exhaustive
@pytest.mark.skipif(INTERPRETED, reason="nothing is compiled")
def test_one_thread__means_kernels_without_a_pool_of_threads(folder):
    script = """
import numba
assert is_right(Machine(program))
try:
    print(numba.threading_layer())
except ValueError:
    print("none")
sys.exit(forked(lambda: is_right(Machine(program))) if hasattr(os, "fork") else 0)
"""
    for count, wanted in ((1, True), (2, False)):
        done = run_script(folder, script, NUMBA_NUM_THREADS=str(count))
        assert done.returncode == 0, done.stderr
        assert (done.stdout == "none\n") == wanted


def test_machine__run_by_many_threads_at_once_is_right_and_counts_right():
    machine, runs = Machine(limited_program()), 2 if INTERPRETED else 40
    batches = [some_pixels(7 + 9 * number, number) for number in range(4)]
    expected, counts = [], []
    for batch in batches:
        machine.reset()
        expected.append(machine.run(batch))
        counts.append(machine.overflows)
    assert sum(int(count.sum()) for count in counts[0].values()) > 0
    machine.reset()
    wrong = []

    def work(number: int) -> None:
        for _ in range(runs):
            trace = {}
            if not np.array_equal(machine.run(batches[number], trace), expected[number]) or \
                    not np.array_equal(trace["classifier"].reshape(len(batches[number]), -1), expected[number]):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert machine.images == runs * sum(map(len, batches))
    for name, total in machine.overflows.items():
        np.testing.assert_array_equal(total, runs * sum(count[name] for count in counts))


def test_tally__is_of_whole_runs_whenever_it_is_read_or_reset():
    """Each run adds the same, so that every picture of the counts is a multiple of it."""
    machine, batch = Machine(limited_program()), some_pixels(10)
    machine.run(batch)
    one = machine.tally
    name = max(one.overflows, key=lambda key: one.overflows[key].sum())
    stop, seen = threading.Event(), []

    def work() -> None:
        while not stop.is_set():
            machine.run(batch)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(20 if INTERPRETED else 300):
        seen.append(machine.tally)
        if number % 7 == 0:
            machine.reset()
        stop.wait(0.002)
    stop.set()
    for thread in threads:
        thread.join()
    for tally in (*seen, machine.tally):
        np.testing.assert_array_equal(tally.overflows[name], tally.images // len(batch) * one.overflows[name])
        assert tally.images % len(batch) == 0


def test_machine__reuses_the_tensors_of_earlier_runs():
    machine = Machine(limited_program())
    machine.run(some_pixels(5))
    first = {slot: id(memory) for slot, memory in machine._idle[0].memory.items()}
    machine.run(some_pixels(3))
    assert len(machine._idle) == 1
    assert {slot: id(memory) for slot, memory in machine._idle[0].memory.items()} == first


@pytest.mark.exhaustive
@pytest.mark.skipif(not FORKS, reason="this system does not fork")
def test_forked_child__runs_a_machine_that_its_parent_has_run(folder):
    done = run_script(folder, "machine = Machine(program); assert is_right(machine); "
                              "sys.exit(forked(lambda: is_right(machine) and is_right(Machine(program))))")
    assert done.returncode == 0, done.stderr


@pytest.mark.exhaustive
@pytest.mark.skipif(not FORKS, reason="this system does not fork")
def test_forked_pool__gives_every_result(folder):
    done = run_script(folder, """
import multiprocessing
machine = Machine(program)
assert is_right(machine)
if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(2) as pool:
        parts = pool.map(machine.run, [pixels[:10], pixels[10:]])
    assert (np.concatenate(parts) == expected).all()
    assert is_right(machine)
""")
    assert done.returncode == 0, done.stderr


@pytest.mark.exhaustive
@pytest.mark.skipif(not FORKS, reason="this system does not fork")
@pytest.mark.parametrize("before", ["numba.njit(parallel=True)(lambda x: x + 1)(np.ones(9999))", "torch.ones(9999, 99) * 2"])
def test_forked_child__runs_whoever_has_used_threads_before(folder, before):
    """numba and torch may share one OpenMP library, whose threads a child does not have."""
    done = run_script(folder, f"import numba, torch; {before}; sys.exit(forked(lambda: is_right(Machine(program))))")
    assert done.returncode == 0, done.stderr


@pytest.mark.exhaustive
@pytest.mark.skipif(not FORKS, reason="this system does not fork")
@pytest.mark.parametrize("layer", ["omp", "workqueue"])
def test_fork__beside_threads_that_run_and_compile(folder, layer):
    done = run_script(folder, """
machine, stop = Machine(program), threading.Event()
def work():
    while not stop.is_set():
        Machine(program).run(pixels)
threads = [threading.Thread(target=work) for _ in range(2)]
for thread in threads:
    thread.start()
codes = [forked(lambda: is_right(machine)) for _ in range(4)]
stop.set()
for thread in threads:
    thread.join()
assert codes == [0] * 4, codes
assert is_right(machine)
""", NUMBA_THREADING_LAYER=layer)
    assert done.returncode == 0, done.stderr


@pytest.mark.exhaustive
def test_workqueue__serves_two_threads_in_turns(folder):
    done = run_script(folder, """
import numba
machine, right = Machine(program), []
threads = [threading.Thread(target=lambda: right.extend(is_right(machine) for _ in range(30))) for _ in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert right == [True] * 60
assert numba.config.DISABLE_JIT or numba.threading_layer() == "workqueue"
""", NUMBA_THREADING_LAYER="workqueue")
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not FORKS, reason="this system does not fork")
def test_forked_child__runs_the_torch_model_that_its_parent_has_trained(folder):
    done = run_script(folder, """
import torch
from torch.nn import functional as F
from training.network import QuantNetwork
model = QuantNetwork.from_spec(spec)
images = torch.from_numpy(pixels).permute(0, 3, 1, 2).repeat(8, 1, 1, 1)
def step():
    F.cross_entropy(model.train()(images), torch.zeros(len(images), dtype=torch.int64)).backward()
    with torch.no_grad():
        return model.eval()(images)
logits = step()
again = model(images)
assert torch.equal(logits, again)
sys.exit(forked(lambda: torch.equal(model(images), logits)))
""")
    assert done.returncode == 0, done.stderr


def test_fork__while_another_thread_imports_does_not_hang():
    """The module that the other thread is at would never be finished in the child."""
    done = subprocess.run([sys.executable, "-c", """
import os, signal, threading, time, sim
seconds = time.monotonic()
other = threading.Thread(target=lambda: sim.Machine)
other.start()
time.sleep(0.05)
child = os.fork()
if not child:
    signal.alarm(60)
    os._exit(0 if sim.Machine.__name__ == "Machine" and sim.lower else 1)
other.join()
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout == "0\n"
