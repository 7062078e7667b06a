"""A run that is killed between any two of its file operations goes on to the same weights and the same record."""

import json
import subprocess
import sys

import numpy as np
import pytest

from sim.checkpoint import load_checkpoint

# One process, because importing torch takes longer than the runs: each run is a fork of it.  It trains nothing itself, and
# its forks have one thread, so that nothing is forked in the middle of anything.  Compiled loops, git and a real picture
# would take most of the time; none of them decides which files are written when.
DRIVER = """
import os, sys, traceback
from pathlib import Path
import torch, training.api
from sim.files import write_text_atomically
import training.kernels, training.record
training.kernels.is_available = lambda: False
training.record.commit = training.record.sources = lambda: "fixed"
training.api.draw_curves = lambda record, file: write_text_atomically(file, "a picture")
data = training.load_dataset("digits")
torch.set_num_threads(1)
top, options, teacher_bits = Path(sys.argv[1]), eval(sys.argv[2]), eval(sys.argv[3])
small = dict(model="resnet8", width=4, train_limit=64, batch=32, epochs=2)

def run(name):
    training.train(dataset=data, out=top / name, resume=True, **options, **small)

def forked(work):
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        work()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)

def killed(name, count):
    def work():
        left = [count]
        def dies(real):
            def call(*args, **kwargs):
                left[0] -= 1
                if not left[0]:
                    os._exit(9)
                return real(*args, **kwargs)
            return call
        os.replace, os.unlink, os.mkdir, os.open = map(dies, (os.replace, os.unlink, os.mkdir, os.open))
        run(name)
    return work

if teacher_bits:
    assert forked(lambda: training.train("individual", dataset=data, bits=teacher_bits, out=top / "teacher", **small)) == 0
    options["teacher"] = top / "teacher" / "ckpt.pt"
    if options["scheme"] == "ptq":
        del small["epochs"]  # it trains nothing
assert forked(lambda: run("whole")) == 0
count, status = 0, 9
while status:
    count += 1
    status = forked(killed(str(count), count))
    assert status in (0, 9), status
    if status and forked(lambda: run(str(count))):
        sys.exit(f"killed before operation {count}, it does not go on")
print(count)
"""


@pytest.mark.exhaustive
@pytest.mark.parametrize(("options", "teacher_bits", "steps"), [
    ({"scheme": "ptq", "bits": 4}, 32, {"32bit", "4bit"}),
    ({"scheme": "takd", "path": (32, 2)}, 32, {"32bit", "2bit"}),
    ({"scheme": "apprentice-a", "bits": 2}, 0, {"2bit"}),
    ({"scheme": "ptq", "bits": 4}, 0, {"32bit", "4bit"}),
], ids=["ptq-teacher", "takd-teacher", "apprentice-a", "ptq"])
def test_run__killed_at_any_file_operation_goes_on_to_the_same_weights_and_record(tmp_path, options, teacher_bits, steps):
    done = subprocess.run([sys.executable, "-c", DRIVER, str(tmp_path), repr(options), repr(teacher_bits)],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    folders = [path for path in tmp_path.iterdir() if path.name not in ("whole", "teacher")]
    assert int(done.stdout.split()[-1]) > 8
    whole = tmp_path / "whole"
    expected, record = content(whole), plain(json.loads((whole / "run.json").read_text()))
    assert set(record["steps"]) == steps
    for folder in folders:
        assert content(folder) == expected, folder.name
        found = json.loads((folder / "run.json").read_text())
        assert plain(found) == record, folder.name
        assert len(found["sessions"]) <= 2
        assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in whole.iterdir()), folder.name


def content(folder):
    files = sorted(folder.glob("*.pt"))
    assert "resume.pt" not in [file.name for file in files]
    return {file.name: {name: np.asarray(array).tobytes() for name, array in load_checkpoint(file).spec.arrays.items()}
            for file in files}


def plain(value):
    """A record without what depends on when, by whom and how fast."""
    left_out = {"date", "sessions", "session", "seconds", "images_per_second", "digest", "command", "hardware", "commit",
                "sources"}
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items() if key not in left_out}
    return [plain(part) for part in value] if isinstance(value, list) else value
