"""The package around the two halves: a light import, a command that no local file breaks, a version, metadata that agree."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import bittrue
from bittrue.command import COMMANDS
from sim.version import __version__

ROOT = Path(__file__).resolve().parent.parent


def run(program, folder, *arguments):
    return subprocess.run([sys.executable, *program, *arguments], capture_output=True, text=True, check=False, cwd=folder,
                          env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(Path.home())})


@pytest.fixture
def script(tmp_path):
    """What an installer makes of [project.scripts], and a current folder whose files have the names of our packages."""
    place = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]["bittrue"]
    module, function = place.split(":")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "bittrue").write_text(f"import sys\nfrom {module} import {function}\nsys.exit({function}())\n")
    folder = tmp_path / "here"
    folder.mkdir()
    for name in ("sim", "training"):
        (folder / f"{name}.py").write_text(f"raise RuntimeError('the local {name}.py')\n")
    return [str(tmp_path / "bin" / "bittrue")], folder


def test_import__needs_neither_torch_nor_numba():
    program = "import sys; sys.modules['torch'] = sys.modules['numba'] = None; import bittrue; print(bittrue.__version__)"
    result = run(["-c", program], ROOT)
    assert result.stdout.strip() == __version__, result.stderr


@pytest.mark.parametrize("name", sorted(set(bittrue.__all__) - {"__version__"}))
def test_every_name__is_what_its_package_has(name):
    assert getattr(bittrue, name) is getattr(sys.modules[bittrue._PLACES[name]], name)
    assert name in dir(bittrue)


def test_a_name_that_is_none__is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'bittrue' has no attribute 'trian'"):
        bittrue.trian  # noqa: B018


def test_command__is_not_broken_by_local_files_of_our_names(script):
    program, folder = script
    assert run(program, folder, "--version").stdout.strip() == f"bittrue {__version__}"
    result = run(program, folder, "train", "--scheme", "tadk")
    assert result.returncode != 0
    assert "did you mean takd" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    result = run(program, folder, "eval", "--model", "nowhere.pt")
    assert "nowhere.pt" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_command__says_what_there_is(script):
    program, folder = script
    for options in ([], ["--help"]):
        result = run(program, folder, *options)
        assert result.returncode == 0
        for name in COMMANDS:
            assert f"\n  {name} " in result.stdout
    result = run(program, folder, "trian")
    assert result.returncode == 2
    assert result.stderr == f"error: 'trian' is no command, choose one of {', '.join(COMMANDS)}, or --help\n"
    assert "Usage: bittrue tables" in run(program, folder, "tables", "--help").stdout


def test_version__is_one_everywhere():
    import sim
    assert sim.__version__ == bittrue.__version__ == __version__
    assert run(["-m", "training.tables"], ROOT, "--version").stdout.strip() == f"bittrue {__version__}"
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["dynamic"]["version"] == {
        "attr": "sim.version.__version__"}


def test_packages__are_typed_and_licensed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    for pattern in project["tool"]["setuptools"]["packages"]["find"]["include"]:
        package = ROOT / pattern.rstrip("*")
        assert (package / "__init__.py").exists()
        assert (package / "py.typed").exists()
    assert project["project"]["license"] == "MIT"
    assert (ROOT / "LICENSE").read_text().startswith("MIT License")


def test_python_versions__agree_in_makefile_and_metadata():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    low, high = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", project["requires-python"]).groups()
    assert f"(3, {low}) <= sys.version_info < (3, {high})" in (ROOT / "Makefile").read_text()
    assert [line for line in project["classifiers"] if "Python :: 3." in line] == [
        f"Programming Language :: Python :: 3.{minor}" for minor in range(int(low), int(high))]
