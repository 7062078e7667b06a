"""ARITHMETIC.md names what is there, and all that computes something of the contract."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ISAS = ("plain", "portable", "vnni", "amx")
TEXT = (ROOT / "sim" / "ARITHMETIC.md").read_text()
WHERE = TEXT[TEXT.index("## Where it stands") : TEXT.index("## What this does not promise")]
FILE = r"(?:sim|training|tests|bench)/[\w/]+\.py"


def names_of(path: Path) -> set[str]:
    """What a file defines at its top, and its classes' methods as Class.method."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{part.name}" for part in node.body if isinstance(part, ast.FunctionDef)}
        targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        for target in targets:
            found |= {part.id for part in ast.walk(target) if isinstance(part, ast.Name)}
    return found


def claims() -> list[tuple[str, str]]:
    """(file, name in it): each name in code quotes belongs to the file quoted last before it in the same cell or line."""
    found = []
    for line in WHERE.splitlines():
        for cell in line.split("|"):
            file = ""
            for quoted in re.findall(r"`([^`]+)`", cell):
                if re.fullmatch(FILE, quoted):
                    file = quoted
                    found.append((file, ""))
                elif file and re.fullmatch(r"[A-Za-z_][\w.]*", quoted) and quoted not in ISAS:
                    found.append((file, quoted))
    return found


@pytest.mark.parametrize(("file", "name"), sorted(set(claims())))
def test_named_function__exists(file, name):
    assert (ROOT / file).is_file()
    assert not name or name in names_of(ROOT / file)


def test_table__names_functions_and_not_only_files():
    assert sum(bool(name) for _, name in claims()) > 40


@pytest.mark.parametrize("folder", ["sim/kernels", "sim/requantizers", "sim/quantizers"])
def test_every_module__is_named_where_it_stands(folder):
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / folder).glob("*.py")} - {
        f"{folder}/__init__.py", "sim/quantizers/quantizer.py"}  # what all of them share computes nothing
    assert len(modules) >= 3
    assert modules <= {file for file, _ in claims()}


def test_every_compiled_loop__is_named_where_it_stands():
    """A kernel that runs and is not named could be wrong unseen."""
    named = {name for _, name in claims()}
    for path in (ROOT / "sim" / "kernels").glob("*.py"):
        for node in ast.parse(path.read_text()).body:
            is_kernel = isinstance(node, ast.FunctionDef) and any(
                isinstance(by, ast.Name) and by.id == "kernel" for by in node.decorator_list)
            assert not is_kernel or node.name in named, f"{path.name} {node.name}"


@pytest.mark.parametrize("file", [*sorted((ROOT / "sim").rglob("*.py")), ROOT / "README.md", ROOT / "sim" / "ARITHMETIC.md"],
                         ids=lambda path: path.name)
def test_no_text__says_that_a_convolution_is_exactly_another_runtimes(file):
    text = " ".join(file.read_text().lower().split())
    for claim in re.findall(r"[^.]*(?:tensorflow lite|tflite|litert)'s (?:arithmetic|rule|kernels?) exactly[^.]*", text):
        pytest.fail(claim)
