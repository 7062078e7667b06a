"""Grids: what is refused before anything runs, what follows from one, and that neither an error nor `kill -9` costs much."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import numba
import pytest
import torch
from typer.testing import CliRunner

import training
from sim.records import read_record
from tests import records
from tests.cli import processes_in
from training import sweep
from training.folder import FILES
from training.report.identity import complete
from training.sweeps.cluster import run_on_ray
from training.sweeps.grid import GridError, built_in, find_grid, read_grid, with_settings
from training.sweeps.local import run_here
from training.sweeps.overview import Overview, Progress, duration
from training.sweeps.tasks import Schedule
from training.sweeps.work import FAILED, FINISHED, NOT_RUN, Crew, Outcome, SweepError, Task
from training.tables import make_tables

SETTINGS = '[settings]\ndataset = "digits"\nmodel = "resnet8"\nwidth = 4\nepochs = 2\n'
FLOAT = 'float = { scheme = "individual", path = [32] }\n'
SKIP = 'skip = { scheme = "skip-level", path = [32, 2], teacher = "float" }\n'
BOTH = "[jobs]\n" + FLOAT + SKIP


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a grid into the working directory."""
    monkeypatch.chdir(tmp_path)

    def into(text, name="mine.toml"):
        Path(name).write_text(text)
        return Path(name)

    return into


def schedule(file, **options):
    return Schedule(read_grid(file), Path("runs"), **options)


def start(*options):
    return CliRunner().invoke(sweep.app, ["mine.toml", *options])


# --- the built-in grids

OLD = ("digits", "ablations", "cifar10-q75")


@pytest.mark.parametrize("name", OLD)
def test_built_in_grid__asks_for_the_runs_whose_records_are_kept(name):
    """Sweeps that were tables in Python are TOML files now: names and configurations are those of the committed records."""
    planned = Schedule(find_grid(name), Path("runs"), is_guessing=True)
    folder = records.ROOT / "results/records" / name
    own = [task for task in planned.tasks.values() if task.grid == name]
    assert sorted(record for task in own for _, record in task.kept) == sorted(file.name for file in folder.iterdir())
    for task in own:
        words = task.commands[0].options
        if task.commands[0].module == "training.run":
            plan = planned.plans[name, task.job]
            config = dataclasses.replace(plan.config, seed=task.seed).to_json()
            record = read_record(folder / f"{task.job}-seed{task.seed}.train.json")["config"]
            there = json.loads(json.dumps({key: value for key, value in complete(record).items()
                                           if key in config and key not in FILES}))
            assert {key: config[key] for key in there} == there, task.name
            for option in plan.references:
                assert words[words.index(f"--{option}") + 1] == record[option]


def test_built_in_grids__evaluate_as_the_kept_records_did():
    for name in ("digits", "cifar10-q75"):
        for task in Schedule(find_grid(name), Path("runs"), is_guessing=True).tasks.values():
            words = list(task.commands[-1].options)
            if task.commands[-1].module == "sim.eval":
                record = read_record(records.ROOT / "results/records" / name / task.kept[-1][1])
                assert record["precision"]["inner"] == int(words[words.index("--bits") + 1])
                assert ("compared" in record["result"]) == ("--verify" in words)
                register = record["hardware_spec"]["accumulator"]
                width = words[words.index("--accumulator") + 1] if "--accumulator" in words else None
                assert str(register["bits"]) == str(width and int(width))
                assert "--overflow" not in words or words[words.index("--overflow") + 1] == register["overflow"]


@pytest.mark.parametrize("name", built_in())
def test_built_in_grid__can_be_planned_and_says_what_it_is(name):
    grid = find_grid(name)
    planned = Schedule(grid, Path("runs"), is_guessing=True)
    assert grid.title
    assert grid.why
    assert grid.equal_compute.words
    assert name in OLD or (grid.hours and grid.left_out)
    before = set()
    for task in planned.tasks.values():
        assert before.issuperset(task.needs)
        before.add(task.name)


def test_built_in_grids__come_with_the_package():
    text = (records.ROOT / "pyproject.toml").read_text()
    assert '"grids/*.toml"' in text
    assert {"digits", "ablations", "cifar10-q75", "cifar10-2bit", "cifar10-4-1bit", "cifar100", "report", "public",
            "long", "recipe", "registers", "squad", "cifar10-registers", "cifar10-2bit-fine"} == set(built_in())


def test_larger_teachers__are_those_of_qad_from_the_common_float_weights():
    asked = {"cifar10-2bit": ["qad"], "cifar10-4-1bit": ["qad-4", "qad-1"], "cifar100": ["qad-20", "qad-32"]}
    for name, jobs in asked.items():
        plans = Schedule(find_grid(name), Path("runs"), is_guessing=True).plans
        for job in jobs:
            plan = plans[name, job]
            assert [step.name for step in plan.run.trained] == [f"{plan.config.bits}bit"]
            assert (plan.config.scheme, plan.config.teacher_model) == ("qad", "resnet56")
            assert set(plan.references) == {"teacher", "init_from"}
            assert plan.path_epochs == 48


def test_plan__notes_what_has_no_record_and_runs_nothing(write, monkeypatch):
    monkeypatch.setattr(Crew, "call", lambda self, *options: pytest.fail("something was run"))
    write(SETTINGS + "[jobs]\n" + FLOAT + SKIP + "[[evaluations]]\nname = 'w-{job}'\naccumulator = 9")
    home = Path("results/records/mine")
    records.write(home, "float-seed0.train.json", records.training())
    result = start("--plan")
    assert result.exception is None, result.exception
    found = {job["name"]: job["status"] for job in read_record(home / "grid.json")["jobs"]}
    assert found == {"mine/float-seed0": FINISHED, "mine/skip-seed0": NOT_RUN, "mine/w-skip": NOT_RUN}
    assert not Path("runs").exists()


# --- what is refused

@pytest.mark.parametrize(("text", "words"), [
    ("x = 1", ["x: there is no such key", "allowed are title, why"]),
    ("[jobs]\na = 1", ["job a", "no table"]),
    ("seeds = 0\n[jobs]\n" + FLOAT, ["seeds: 0", "at least 1"]),
    ("[jobs", ["no TOML", "end of document"]),
    ("title = 'x'", ["jobs: there are none"]),
    ("[jobs]\n'a b' = { scheme = 'kd' }", ["job a b", "letters, digits"]),
    ("[jobs]\na = { scheme = 'kd', kd_weight = 1 }", ["job a", "kd_weight", "did you mean kd-weight?"]),
    ("[jobs]\na = { scheme = 'kd', epoch = 1 }", ["job a", "epoch", "did you mean epochs?"]),
    ("[jobs]\na = { scheme = 'kd', out = 'x' }", ["job a", "out", "sets it itself"]),
    ("[jobs]\na = { bits = 2 }", ["job a", "scheme", "none is given", "takd"]),
    ("[jobs]\na = { scheme = 3 }", ["job a", "scheme: 3", "a text"]),
    ("[jobs]\na = { scheme = 'tadk' }", ["job a", "scheme", "did you mean takd?"]),
    ("[jobs]\na = { scheme = 'kd', bits = '2' }", ["job a", "bits", "a whole number"]),
    ("[jobs]\na = { scheme = 'kd', bits = 9 }", ["job a", "bits", "1 to 8, 16 or 32"]),
    ("[jobs]\na = { scheme = 'takd', path = [2, 4] }", ["job a", "path 2,4", "go down"]),
    ("[jobs]\na = { scheme = 'kd', bits = 2, u = 0.5 }", ["job a", "u: scheme kd has no such option"]),
    ("[jobs]\na = { scheme = 'individual', bits = 2, kd-weight = 0.5 }", ["job a", "kd-weight", "would change nothing"]),
    ("[settings]\nu = 0.3\n[jobs]\n" + FLOAT, ["settings: u", "would change nothing in any job"]),
    ("[jobs]\na = { scheme = 'kd', bits = 2, teacher = 'flaot' }\n" + FLOAT,
     ["job a", "teacher", "'flaot' is neither a job of this grid nor a file", "did you mean float?"]),
    ("[jobs]\na = { scheme = 'kd', bits = 2, teacher = 'digits/individual' }", ["job a", "teacher", "individual-"]),
    ("[jobs]\na = { scheme = 'kd', bits = 2, teacher = 'a' }", ["job a", "teacher", "the job itself"]),
    ("[jobs]\na = { scheme = 'takd', path = [8, 4], teacher = 'b' }\nb = { scheme = 'takd', path = [16, 8], teacher = 'a' }",
     ["circle", "a -> b -> a"]),
    ("[jobs]\na = { scheme = 'kd', bits = 2, teacher = 'float:8bit' }\n" + FLOAT, ["job a", "no step '8bit'", "32bit"]),
    ("[jobs]\na = { scheme = 'individual', bits = 2, teacher = 'float' }\n" + FLOAT, ["job a", "teacher", "leave it out"]),
    ("[jobs]\na = { scheme = 'takd', path = [8, 2], teacher = 'float' }\n" + FLOAT, ["job a", "32 bits", "path is 8,2"]),
    ("[jobs]\na = { scheme = 'kd', bits = 2, model = 'resnet14', teacher = 'float' }\n" + FLOAT,
     ["job a", "teacher", "another network"]),
    ("[jobs]\na = { scheme = 'kd', bits = 2, model = 'no.py:net' }", ["job a", "model", "no.py"]),
    ("[settings]\ndataset = 'npz'\n[jobs]\n" + FLOAT, ["job float", "npz", "--data"]),
    ("[equal-compute]\nepochs = 8\n[settings]\nepochs = 2\n[jobs]\n" + FLOAT + SKIP,
     ["job skip", "epochs", "has 4 along its path", "promises 8", "unequal"]),
    ("[jobs]\n" + FLOAT.replace("}", ", seeds = [1, 2] }") + SKIP.replace("}", ", seeds = [0] }"),
     ["job skip", "seeds: 0 has no teacher", "1, 2"]),
    (BOTH + "[[evaluations]]\nname = '{job}'\nbit = 2", ["evaluation 1", "bit", "did you mean bits?"]),
    (BOTH + "[[evaluations]]\nname = 'a-{width}'", ["evaluation 'a-{width}'", "{job}, {seed}", "width"]),
    (BOTH + "[[evaluations]]\nname = 'a'\naccumulator = [8, 9]", ["evaluation 'a'", "tells them apart"]),
    (BOTH + "[[evaluations]]\nname = 'a'\noverflow = 'wrap'", ["overflow", "without accumulator"]),
    (BOTH + "[[evaluations]]\nname = 'a'\naccumulator = 1", ["accumulator", "choose 2 to 63"]),
    (BOTH + "[[evaluations]]\nname = 'a'\njob = 'b'", ["evaluation 1", "job", "'b'"]),
])
def test_grid__that_makes_no_sense_is_one_line_with_file_job_and_key(text, words, write):
    with pytest.raises(GridError) as error:
        schedule(write(text))
    assert str(error.value).startswith("mine.toml: ")
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(("options", "words"), [
    (["digitz"], ["did you mean digits?"]), (["nowhere.toml"], ["nowhere.toml"]), (["mine.toml", "--jobs", "0"], ["jobs"]),
    (["mine.toml", "--only", "flaot"], ["only", "did you mean float?"]), (["mine.toml", "--set", "epochs"], ["set"]),
    (["mine.toml", "--set", "epoch=3"], ["did you mean epochs?"])])
def test_command__refuses_in_one_line(options, words, write):
    write(SETTINGS + "[jobs]\n" + FLOAT)
    result = CliRunner().invoke(sweep.app, options)
    assert isinstance(result.exception, GridError | SweepError | OSError)
    for word in words:
        assert word in str(result.exception)


# --- what follows from a grid

def test_settings__count_where_they_have_an_effect(write):
    text = SETTINGS + 'kd-weight = 0.3\nu = 0.7\nskip-bits = 4\n[jobs]\n' + FLOAT + SKIP + \
        'speq = { scheme = "speq", path = [32, 2], teacher = "float" }\n' \
        'ptq = { scheme = "ptq", bits = 2, teacher = "float" }\n'
    plans = schedule(write(text)).plans
    told = {name: plan.options for (_, name), plan in plans.items()}
    assert told["float"] == {"dataset": "digits", "model": "resnet8", "width": 4, "epochs": 2, "scheme": "individual",
                             "path": (32,)}
    assert (told["skip"]["kd_weight"], told["skip"]["skip_bits"]) == (0.3, 4)
    assert told["speq"]["u"] == 0.7
    assert "u" not in told["skip"]
    assert not {"epochs", "kd_weight", "u"} & told["ptq"].keys()


def test_teachers__are_of_the_same_seed_or_one_for_all(write):
    text = "seeds = 2\n" + SETTINGS + "[jobs]\n" + FLOAT + SKIP + \
        'one = { scheme = "individual", path = [32], lr = 0.1, seeds = [7] }\n' + SKIP.replace("skip =", "of-one =").replace(
            '"float"', '"one"')
    tasks = schedule(write(text)).tasks
    assert tasks["mine/skip-seed1"].needs == ("mine/float-seed1",)
    assert tasks["mine/of-one-seed1"].needs == ("mine/one-seed7",)
    assert "runs/mine/one-seed7/ckpt.pt" in tasks["mine/of-one-seed1"].commands[0].options
    assert sorted(tasks) == sorted(f"mine/{name}" for name in (
        "float-seed0", "float-seed1", "skip-seed0", "skip-seed1", "one-seed7", "of-one-seed0", "of-one-seed1"))


def test_ladders__share_the_steps_that_they_have_in_common(write):
    ladders = {"a": "[32, 8, 4, 2]", "b": "[32, 8, 4, 1]", "c": "[32, 8, 2]", "d": "[32, 8, 4, 2, 1]",
               "other": "[32, 8, 4], lr = 0.3"}
    text = SETTINGS + "[jobs]\n" + FLOAT + "".join(
        f'{name} = {{ scheme = "takd", teacher = "float", path = {path} }}\n' for name, path in ladders.items())
    plans = {name: plan for (_, name), plan in schedule(write(text)).plans.items()}
    teachers = {name: plan.references["teacher"].text("mine") for name, plan in plans.items() if plan.references}
    assert teachers == {"a": "float", "b": "a:4bit", "c": "a:8bit", "d": "a", "other": "float"}
    assert {name: plan.epochs for name, plan in plans.items()} == {"float": 2, "a": 6, "b": 2, "c": 2, "d": 2, "other": 4}
    assert {name: plan.path_epochs for name, plan in plans.items()} == {
        "float": 2, "a": 8, "b": 8, "c": 6, "d": 10, "other": 6}


def test_jobs_of_another_grid__are_teachers_too(write):
    write(SETTINGS + "[jobs]\n" + FLOAT, "base.toml")
    tasks = schedule(write(SETTINGS + "[jobs]\n" + SKIP.replace('"float"', '"base/float"'))).tasks
    assert list(tasks) == ["base/float-seed0", "mine/skip-seed0"]
    assert "runs/base/float-seed0/ckpt.pt" in tasks["mine/skip-seed0"].commands[0].options


def test_only__chooses_jobs_and_what_they_need(write):
    text = SETTINGS + BOTH + 'other = { scheme = "individual", bits = 4 }\n[[evaluations]]\nname = "x-{job}"\nbits = 2\n'
    found = schedule(write(text), only=("skip",))
    assert list(found.chosen) == ["mine/float-seed0", "mine/skip-seed0", "mine/x-skip"]
    assert "mine/other-seed0" in found.tasks


def test_own_code__is_named_as_on_the_command_line(write):
    Path("net.py").write_text("from training.models import MODELS\n\n\ndef build(image, classes, width):\n"
                              "    return MODELS['resnet8'](image, classes, width)\n")
    Path("mine.py").write_text("import dataclasses\nfrom training.schemes import SCHEMES\n\n"
                               "SKIP = dataclasses.replace(SCHEMES['skip-level'], name='skip')\n")
    text = SETTINGS.replace('"resnet8"', '"net.py:build"') + BOTH.replace('"skip-level"', '"mine.py:SKIP"')
    words = schedule(write(text)).tasks["mine/skip-seed0"].commands[0].options
    assert words[words.index("--model") + 1] == "net.py:build"
    assert words[words.index("--scheme") + 1] == "mine.py:SKIP"


def test_network_with_float_ends__is_evaluated_at_8_bits(write):
    text = SETTINGS + 'boundary-bits = "float"\n[jobs]\n' + FLOAT + SKIP
    words = schedule(write(text)).tasks["mine/skip-seed0"].commands[1].options
    assert words[words.index("--boundary-bits") + 1] == "8"


def test_set__takes_the_place_of_a_setting(write):
    grid = with_settings(read_grid(write(SETTINGS + "[jobs]\n" + FLOAT)), ["epochs=5", "augment=none"])
    plan = Schedule(grid, Path("runs")).plans["mine", "float"]
    assert (plan.config.epochs, plan.config.augment) == (5, "none")
    write(SETTINGS + "[jobs]\n" + FLOAT, "base.toml")
    grid = with_settings(read_grid(write(SETTINGS + "[jobs]\n" + SKIP.replace('"float"', '"base/float"'))), ["width=8"])
    assert {plan.config.width for plan in Schedule(grid, Path("runs")).plans.values()} == {8}


def test_list__shows_epochs_cost_and_what_is_there(write):
    write('title = "A title"\nhours = 0.5\nleft-out = ["much"]\n' + SETTINGS + "[jobs]\n" + FLOAT + SKIP)
    record = records.training(80.0, scheme="individual", path=[32], model="resnet8", width=4, epochs=2)
    records.write("runs/mine/float-seed0", "run.json", record)
    Path("runs/mine/float-seed0/ckpt.pt").touch()
    result = start("--list")
    assert result.exception is None, result.exception
    for word in ("A title", "skip-level", "32-2", "float", "1 of 1", "0 of 1", "expected: 0.5 hours", "left out: much"):
        assert word in result.output
    assert not Path("results").exists()


@pytest.mark.parametrize("name", ["mnist", "cifar100", "npz"])
def test_list__needs_no_data(name, write):
    write(SETTINGS.replace('"digits"', f'"{name}"\ndata = "nowhere"') + BOTH)
    result = start("--list")
    assert result.exception is None, result.exception
    assert f"cost unknown: the data of {name}" in result.output


# --- who does the work

class Watcher:
    """Remembers what it is told."""

    def __init__(self):
        self.begun, self.ended, self.most, self.running = [], {}, 0, 0

    def begin(self, task):
        self.begun.append(task.name)
        self.running += 1
        self.most = max(self.most, self.running)

    def end(self, task, outcome):
        self.running -= task.name in self.begun
        self.ended[task.name] = outcome
        return outcome

    def tick(self):
        pass


def fake_tasks(**needs):
    """Tasks of the grid g by their jobs' names, and what they need."""
    return {f"g/{job}": Task(f"g/{job}", "g", job, 0, Path(job), (), (), tuple(f"g/{name}" for name in before), 1)
            for job, before in needs.items()}


def outcome_of(task):
    return Outcome(task.name, FAILED, "broken") if task.job == "b" else Outcome(task.name, FINISHED)


def test_tasks__are_done_in_parallel_after_what_they_need_and_an_error_stops_no_other(monkeypatch):
    both, watcher = threading.Barrier(2, timeout=30), Watcher()

    def do(self, task):
        if task.job in ("a", "b"):
            both.wait()
        return outcome_of(task)

    monkeypatch.setattr(Crew, "do", do)
    run_here(fake_tasks(a=[], b=[], c=["a"], d=["b"], e=["d"]), Crew(), 2, watcher)
    assert {name: outcome.status for name, outcome in watcher.ended.items()} == {
        "g/a": FINISHED, "g/b": FAILED, "g/c": FINISHED, "g/d": NOT_RUN, "g/e": NOT_RUN}
    assert watcher.ended["g/d"].error == "needs b, which is not there"
    assert watcher.most == 2
    assert set(watcher.begun) == {"g/a", "g/b", "g/c"}


class Reference:
    """Of a Ray that does everything at once."""

    def __init__(self, value):
        self.value = value


def ray_at_once(told):
    ray = types.ModuleType("ray")
    ray.exceptions = types.SimpleNamespace(RayError=RuntimeError)
    ray.init = lambda **options: told.append(options)
    ray.shutdown = lambda: told.append("shutdown")
    ray.remote = lambda **options: lambda function: types.SimpleNamespace(remote=lambda *arguments: Reference(
        function(*[each.value if isinstance(each, Reference) else each for each in arguments])))
    ray.put = Reference
    ray.wait = lambda waiting, **_: (waiting[:1], waiting[1:])
    ray.get = lambda reference: reference.value
    return ray


def test_ray__gets_tasks_with_the_files_of_what_they_need(tmp_path, monkeypatch):
    """Ray itself may not be here; what goes in and out does not depend on it."""
    told, watcher = [], Watcher()
    monkeypatch.setitem(sys.modules, "ray", ray_at_once(told))
    monkeypatch.chdir(tmp_path)

    def do(self, task):
        task.folder.mkdir()
        (task.folder / "ckpt.pt").write_text(task.name)
        return outcome_of(task)

    monkeypatch.setattr(Crew, "do", do)
    tasks = fake_tasks(before=[], a=["before"], b=[], c=["b"])
    finished = {"g/before": tasks.pop("g/before")}
    Path("before").mkdir()
    Path("before/ckpt.pt").write_text("before")
    run_on_ray("local", tasks, finished, Crew(threads=1), 2, watcher)
    assert {name: outcome.status for name, outcome in watcher.ended.items()} == {
        "g/a": FINISHED, "g/b": FAILED, "g/c": NOT_RUN}
    assert watcher.ended["g/a"].files == {"ckpt.pt": b"g/a"}
    assert told[0]["num_cpus"] == 2
    assert told[-1] == "shutdown"


def test_ray__that_is_not_there_is_one_line(write, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    write(SETTINGS + "[jobs]\n" + FLOAT)
    error = start("--ray", "local").exception
    assert isinstance(error, SweepError)
    assert "pip install 'bittrue[scale]'" in str(error)


def test_overview__says_what_is_left(tmp_path):
    """Ten epochs done of twenty, at two seconds each, and another run of ten beside it."""
    tasks = {f"g/{name}": Task(f"g/{name}", "g", name, 0, tmp_path, (), (), (), epochs)
             for name, epochs in (("a", 20), ("b", 10))}
    overview = Overview(tasks, sweep.new_console(), 2, lambda task, outcome: outcome)
    assert overview.left() is None
    overview.running["g/a"] = Progress(done=10, pace=2.0)
    assert overview.left_of(tasks["g/a"]) == 20.0
    assert overview.left() == 20.0
    assert duration(overview.left()) == "20 s"
    assert "0 finished, 1 running, 1 waiting; 20 s left in all" in overview.summary()
    assert overview._table()


# --- from end to end

SMALL = SETTINGS + "train-limit = 64\nbatch = 32\n[jobs]\n" + FLOAT + SKIP
OURS = {**os.environ, "PYTHONPATH": str(records.ROOT), "OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": "1"}


def sweep_process(folder, *options):
    return subprocess.Popen([sys.executable, "-m", "training.sweep", "mine.toml", "--results", "mine", *options], cwd=folder,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=OURS)


@pytest.mark.exhaustive
def test_sweep__with_a_failed_job_goes_on_says_so_and_goes_on_after_kill_9(write, one_thread):
    """One sweep from end to end: killed while a student trains, started again, a job broken from the start."""
    broken = 'broken = { scheme = "individual", path = [2] }\n' \
             'never = { scheme = "takd", path = [2, 1], teacher = "broken" }\n'
    folder = write(SMALL.replace("epochs = 2", "epochs = 15") + broken).parent.resolve()
    small = {"model": "resnet8", "width": 4, "epochs": 15, "train_limit": 64, "batch": 32}
    teacher = training.train("individual", bits=32, out="runs/mine/float-seed0", **small)
    at_once = training.train("skip-level", bits=2, teacher=teacher.checkpoint, out="at-once", **small)
    Path("runs/mine/broken-seed0").mkdir()
    Path("runs/mine/broken-seed0/x.pt").touch()  # of nobody knows what: training.run refuses the folder
    first, record = sweep_process(folder, "--only", "skip"), Path("runs/mine/skip-seed0/run.json")
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline and first.poll() is None and not (
            record.exists() and len(json.loads(record.read_text())["steps"].get("2bit", {}).get("epochs", [])) >= 2):
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    while processes_in(folder) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not processes_in(folder)  # its commands end with it
    assert read_record(record)["status"] == "running"
    before = teacher.checkpoint.stat().st_mtime_ns

    second = sweep_process(folder, "--jobs", "2")
    output, errors = second.communicate(timeout=300)
    assert second.returncode == 2, errors
    assert "2 finished, 1 failed, 1 not run; first broken-seed0: training.run" in errors
    assert "x.pt" in errors
    assert "1 finished before" in output
    assert teacher.checkpoint.stat().st_mtime_ns == before  # what is finished is not repeated
    assert len(read_record(record)["sessions"]) == 2
    jobs = make_tables(Path("mine/records"), ("csv",))["jobs.csv"]
    assert "broken-seed0" in jobs
    assert "needs broken-seed0, which is not there" in jobs
    assert "skip-seed0" not in jobs
    kept = read_record("mine/records/mine/skip-seed0.train.json")
    assert kept["test"] == at_once.record["test"]
    losses = [[entry["loss"] for entry in found["steps"]["2bit"]["epochs"]] for found in (kept, at_once.record)]
    assert losses[0] == losses[1]  # as if nobody had been killed


@pytest.fixture
def one_thread():
    """As the commands of a sweep have: the order of float sums depends on it."""
    before = torch.get_num_threads(), numba.get_num_threads()
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    yield
    torch.set_num_threads(before[0])
    numba.set_num_threads(before[1])


@pytest.mark.exhaustive
def test_ray__two_workers_give_the_numbers_of_the_local_run(write):
    pytest.importorskip("ray", reason="the package ray (extra scale) is not installed")
    folder = write("seeds = 2\n" + SMALL).parent.resolve()
    found = []
    for options in (["--jobs", "2"], ["--ray", "local", "--jobs", "2", "--out", "runs-ray", "--results", "mine-ray"]):
        process = sweep_process(folder, *options, "--threads", "1")
        _, errors = process.communicate(timeout=600)
        assert process.returncode == 0, errors
        place = Path("mine-ray" if "--ray" in options else "mine")
        found.append([(record["test"], [[entry["loss"] for entry in step["epochs"]] for step in record["steps"].values()])
                      for record in map(read_record, sorted(place.glob("records/mine/*.train.json")))])
    assert len(found[0]) == 4
    assert found[0] == found[1]
