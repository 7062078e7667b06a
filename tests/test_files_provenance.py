"""Provenance is true: the command runs again, the commit is this package's, the processor is told from its namesakes."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.records import read_record
from training import record
from training.record import command_line, commit, hardware, provenance, sources, versions

ROOT = Path(__file__).resolve().parent.parent
SMALL = {"model": "resnet8", "width": 4, "train_limit": 50, "epochs": 1}


@pytest.mark.parametrize(("options", "line"), [
    ({"scheme": "takd", "out": Path("a b"), "resume": True}, "--scheme takd --out 'a b' --resume"),
    ({"teacher": None, "fixed_teacher": False, "kd-weight": 0.5, "seed": 0}, "--kd-weight 0.5 --seed 0"),
    ({"out": "-x", "lr": -1.0}, "--out=-x --lr=-1.0"), ({"data": ""}, "--data ''"),
    ({"plugin": ["a", "b"], "empty": ()}, "--plugin a --plugin b"),
    ({"out": "$HOME;`id`'"}, "--out '$HOME;`id`'\"'\"''"),
    ({"out": "$HOME;`id`'\n"}, r"--out $'$HOME;`id`\'\x0a'")])
def test_command_line__is_what_a_user_types(options, line):
    assert command_line("training.run", options) == f"python -m training.run {line}"


def test_command_line__puts_arguments_last():
    assert command_line("training.sweep", {"seeds": 2}, ["digits"]) == "python -m training.sweep --seeds 2 digits"
    assert command_line("training.sweep", {}, ["-x"]) == "python -m training.sweep -- -x"


VISIBLE = st.characters(exclude_categories=["Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"]) | st.just(" ")


@given(st.dictionaries(st.from_regex(r"[a-z][a-z_]{0,6}", fullmatch=True),
                       st.text(VISIBLE)), st.lists(st.text(
                           VISIBLE)))
def test_command_line__is_split_by_a_shell_into_the_same(options, arguments):
    words = shlex.split(command_line("m", options, arguments))[3:]
    found = []
    while len(found) < len(options):
        word = words.pop(0)
        found.append(tuple(word[2:].split("=", 1)) if "=" in word else (word[2:], words.pop(0)))
    assert found == [(key.replace("_", "-"), value) for key, value in options.items()]
    assert [word for word in words if word != "--"] == [word for word in arguments if word != "--"]


@settings(max_examples=20)
@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), max_size=4))
def test_command_line__with_line_breaks_and_the_like_is_one_line_that_bash_splits(arguments):
    line = command_line("m", {"out": "two\nlines"}, ["a\r\x1b[1m\u2028", *arguments])
    assert line.isprintable()
    printed = subprocess.run(["bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, check=True).stdout.decode()
    words = printed.split("\0")[:-1]
    assert words[:5] == ["python", "-m", "m", "--out", "two\nlines"]
    assert [word for word in words[5:] if word != "--"] == ["a\r\x1b[1m\u2028", *(w for w in arguments if w != "--")]


def test_command_line__of_the_command_bittrue_is_one_of_it(monkeypatch):
    monkeypatch.setattr("sys.argv", ["bittrue train", "--scheme", "kd"])
    assert command_line("training.run", {"bits": 2}) == "bittrue train --bits 2"
    assert command_line("sim.eval", {"model": "a b"}) == "bittrue eval --model 'a b'"
    assert command_line("bench.peers", {}) == "python -m bench.peers"
    monkeypatch.setattr("sys.argv", ["training/run.py"])
    assert command_line("training.run", {"bits": 2}) == "python -m training.run --bits 2"


FROM_PYTHON = """
import sys
from pathlib import Path
sys.argv = ["notebook", "--secret", "of the caller"]
from training.run import main
main(scheme="individual", model="resnet8", width=4, train_limit=50, epochs=1, out=Path(sys.stdin.read()))
"""


@pytest.mark.exhaustive
def test_record__of_a_run_from_python_holds_a_command_that_runs_again(tmp_path):
    out = tmp_path / "a b[x]"
    subprocess.run([sys.executable, "-c", FROM_PYTHON], input=str(out), text=True, check=True, capture_output=True, cwd=ROOT)
    first = read_record(out / "run.json", "training")
    assert "secret" not in first["command"]
    assert shlex.quote(str(out)) in first["command"]
    out.rename(tmp_path / "before")
    again = f"python() {{ {shlex.quote(sys.executable)} \"$@\"; }}; {first['command']}"
    subprocess.run(["bash", "-c", again], check=True, capture_output=True, cwd=ROOT)
    second = read_record(out / "run.json", "training")
    assert second["command"] == first["command"]
    assert (second["config"], second["test"]) == (first["config"], first["test"])


# the commit

def git(folder, *arguments):
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", *identity, "-C", str(folder), *arguments], check=True, capture_output=True, text=True,
                          env={name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
                          ).stdout.strip()


def repository(folder, *files):
    """A repository with one commit of some files; its commit."""
    folder.mkdir(exist_ok=True)
    git(folder, "init", "--quiet")
    (folder / "own.py").write_text("mine = 1\n")
    git(folder, "add", "own.py", *files)
    git(folder, "commit", "--quiet", "-m", "first")
    return git(folder, "rev-parse", "HEAD")


def package(folder):
    """This package, copied."""
    for name in ("sim", "training"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture
def at(monkeypatch):
    """Provenance of a package that lies in a folder."""
    def move(folder):
        monkeypatch.setattr(record, "ROOT", folder)
        return commit()
    return move


def test_commit__of_an_installed_package_is_never_the_callers(tmp_path, at, monkeypatch):
    theirs = repository(tmp_path / "theirs")
    site = tmp_path / "theirs" / ".venv" / "lib" / "site-packages"
    site.mkdir(parents=True)
    package(site)
    monkeypatch.chdir(tmp_path / "theirs")
    assert at(site) == "unknown"
    git(tmp_path / "theirs", "add", "-f", ".venv")
    git(tmp_path / "theirs", "commit", "--quiet", "-m", "even committed")
    assert at(site) == "unknown"
    assert theirs not in json.dumps(provenance("x"))


def test_commit__of_a_package_that_lies_untracked_at_the_root_of_a_repository_is_unknown(tmp_path, at):
    repository(tmp_path)
    assert at(package(tmp_path)) == "unknown"


def test_commit__of_this_package_in_a_script_is_recorded_by_a_process(tmp_path):
    """As installed: imported from a folder inside of another repository, called from there."""
    repository(tmp_path)
    site = package(tmp_path / "site")
    script = "from training.record import provenance; import json; print(json.dumps(provenance('x')))"
    found = subprocess.run([sys.executable, "-c", script], cwd=site, check=True, capture_output=True, text=True,
                           env={**os.environ, "GIT_DIR": str(tmp_path / ".git")})
    assert json.loads(found.stdout)["commit"] == "unknown"


def test_commit__of_a_repository_and_its_worktree(tmp_path, at):
    package(tmp_path / "ours")
    mine = repository(tmp_path / "ours", "sim", "training")
    git(tmp_path / "ours", "worktree", "add", "--quiet", str(tmp_path / "tree"))
    assert (tmp_path / "tree" / ".git").is_file()
    for folder in ("ours", "tree"):
        assert at(tmp_path / folder) == mine


@pytest.mark.parametrize(("file", "is_dirty"), [
    ("sim/machine.py", True), ("sim/new.py", True), ("training/schemes/new.py", True), ("notes.txt", False),
    ("sim/notes.txt", False), ("own.py", False)])
def test_commit__is_dirty_where_the_code_is_another(tmp_path, at, file, is_dirty):
    package(tmp_path)
    mine = repository(tmp_path, "sim", "training")
    (tmp_path / file).write_text("changed = True\n")
    assert at(tmp_path) == mine + "-dirty" * is_dirty


def test_commit__counts_new_files_that_git_ignores(tmp_path, at):
    package(tmp_path)
    (tmp_path / ".gitignore").write_text("mine_*\n")
    mine = repository(tmp_path, "sim", "training", ".gitignore")
    assert at(tmp_path) == mine
    (tmp_path / "training" / "mine_x.py").write_text("")
    assert at(tmp_path) == mine + "-dirty"


def test_commit__does_not_listen_to_a_callers_git(tmp_path, at, monkeypatch):
    package(tmp_path / "ours")
    mine = repository(tmp_path / "ours", "sim", "training")
    repository(tmp_path / "theirs")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "theirs" / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path / "theirs"))
    assert at(tmp_path / "ours") == mine


def test_commit__without_git_is_unknown(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commit() == "unknown"


def test_sources__are_the_same_wherever_the_package_lies(tmp_path, monkeypatch):
    mine = sources()
    monkeypatch.setattr(record, "ROOT", package(tmp_path))
    assert sources() == mine
    (tmp_path / "sim" / "machine.py").write_bytes((tmp_path / "sim" / "machine.py").read_bytes() + b"\n")
    assert sources() != mine


# versions and hardware

def test_versions__of_what_is_not_installed():
    found = versions(("numpy", "no-such-package-of-anyone"))
    assert found["no-such-package-of-anyone"] == "not installed"
    assert found["numpy"][0].isdecimal()


INFO = """processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 143
model name\t: Intel(R) Xeon(R) : Gold
stepping\t: 8
flags\t\t: fpu avx2 avx512f avx512_vnni avx_vnni amx_int8 avx512_bf16
power management:

processor\t: 1
cpu family\t: 99
"""


def test_hardware__tells_processors_of_one_name_apart(tmp_path, monkeypatch):
    (tmp_path / "cpuinfo").write_text(INFO)
    monkeypatch.setattr(record, "_CPU_INFO", tmp_path / "cpuinfo")
    found = hardware()
    assert (found["cpu"], found["family"], found["model"], found["stepping"]) == ("Intel(R) Xeon(R) : Gold", 6, 143, 8)
    assert found["instructions"] == ["avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8"]


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe\n:::\n", b"model\t: many\nflags\t:\n"])
def test_hardware__where_the_system_tells_nothing(tmp_path, monkeypatch, content):
    if content is not None:
        (tmp_path / "cpuinfo").write_bytes(content)
    monkeypatch.setattr(record, "_CPU_INFO", tmp_path / "cpuinfo")
    found = hardware()
    assert found["cpu"]
    assert (found["family"], found["model"], found["stepping"], found["instructions"]) == (None, None, None, [])
    assert json.dumps(provenance("x"), allow_nan=False)
