"""What users name is text: no markup, no emoji codes, no format string, printable on any terminal, never cut."""

import io
import os
import pty
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table
from rich.text import Text

from sim.command import new_app, new_console, run_app, show_table
from sim.text import printable, shell_word

ROOT = Path(__file__).resolve().parent.parent
NAMES = ["run[final]", "a[/b]c", "[red]x[/red]", ":smile:", "{0}%s{task}", "two  blanks", "[link=x]y"]
ODD = ["ü[/]", "日本", "\x1b[31mred", "line\nbreak", "\u202eevil", "\udcff", "\x00", "\x9b31m", "tab\there", "\r"]
ASCII = {**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "TERM": "dumb"}


def python(script, *arguments, environment=None, **kwargs):
    return subprocess.run([sys.executable, "-c", script, *arguments], cwd=ROOT, check=False, timeout=120,
                          env={**os.environ, **(environment or {})}, **{"capture_output": True, **kwargs})


@given(st.text(st.characters()))
def test_printable__is_one_visible_line_of_any_text(text):
    shown = printable(text)
    assert shown.isprintable()
    assert shown == text or not text.isprintable()
    shown.encode()


@pytest.mark.parametrize(("text", "shown"), [
    ("\x1b[31m", "\\x1b[31m"), ("a\nb\tc", "a\\nb\\tc"), ("\udcff", "\\xff"), ("\ud800", "\\ud800"), ("\u202e", "\\u202e"),
    ("ü [x] :smile:", "ü [x] :smile:"), (Path("a b"), "a b"), ("\x85", "\\x85")])
def test_printable__shows_what_cannot_be_seen(text, shown):
    assert printable(text) == shown


@pytest.mark.parametrize("name", [*NAMES, *(name for name in ODD if name != "\x00"), "it's", "back\\slash\n'",
                                  "", "-x", "$HOME\n`id`"])
def test_shell_word__is_one_line_that_a_shell_takes_for_the_name(name):
    word = shell_word(name)
    assert word.isprintable()
    result = subprocess.run(["bash", "-c", f"printf %s {word}"], capture_output=True, check=True)
    assert os.fsdecode(result.stdout) == name
    assert "\n" in name or not name.isprintable() or shlex.split(word) == [name]


def shown(print_it, width=200, encoding="utf-8", terminal=True):
    """What a console prints by a function, on a screen of a width."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="\n")
    console = new_console()
    console.file, console.width, console._force_terminal = stream, width, terminal
    console.soft_wrap = not terminal
    console.no_color = True
    console._color_system = None
    print_it(console)
    stream.seek(0)
    return stream.read()


@pytest.mark.parametrize("name", NAMES)
def test_console__prints_names_as_they_are(name):
    assert shown(lambda console: console.print(f"in {name}.")) == f"in {name}.\n"


@pytest.mark.parametrize("name", NAMES)
def test_table__shows_names_as_they_are(name):
    table = Table(title=name)
    table.add_column(name)
    table.add_row(name)
    assert shown(lambda console: show_table(console, table)).count(name) == 3


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
@pytest.mark.parametrize("name", [*NAMES, *ODD])
def test_console__prints_any_name_in_any_encoding(name, encoding):
    table = Table(title=name)
    table.add_column(name)
    table.add_row(name)

    def print_it(console):
        console.print(name)
        show_table(console, table)

    text = shown(print_it, encoding=encoding)
    assert all(char.isprintable() or char in "\n\t" for char in text)


@pytest.mark.parametrize("name", [*NAMES, *(name for name in ODD if name != "\x00")])
def test_fail__is_one_line_on_an_ascii_terminal(name):
    result = python("import sys; from sim.command import fail; fail(f'no such file: {sys.argv[1]}')", os.fsencode(name),
                    environment=ASCII)
    assert result.returncode == 2
    assert result.stderr.count(b"\n") == 1
    assert result.stderr.startswith(b"error: no such file: ")
    assert result.stderr[:-1].decode("ascii").isprintable()
    assert name not in NAMES or name.encode() in result.stderr


APP = """
import sys, typer
from pathlib import Path
from typing import Annotated
from sim.command import new_app, new_console, run_app
app = new_app()
@app.command()
def main(number: Annotated[int, typer.Option(help="a number")] = 0, name: Path = Path(), how: str = "") -> None:
    console = new_console()
    match how:
        case "console": [console.print(str(name)) for _ in range(20000)]
        case "print": [print(name) for _ in range(20000)]
        case "stop": raise KeyboardInterrupt
        case "bug": 1 / 0
        case "differ": raise typer.Exit(1)
        case "memory": raise MemoryError
        case "open": open(name)
        case "value": return {"a": 1}
        case _: console.print(str(name)); print(name)
    print("done", file=sys.stderr)
"""


def run_command(*options, script=APP + "\nrun_app(app)", **kwargs):
    return python(script, *options, **kwargs)


@pytest.mark.parametrize("value", ["[red]", "[/]", ":smile:", "{0}", "ü", "a\nb"])
def test_wrong_option__with_an_odd_value_is_one_line(value):
    for options in (["--number", value], [f"--{value}"], [value]):
        result = run_command(*options, environment=ASCII)
        assert result.returncode == 2
        assert result.stderr.count(b"\n") == 1, result.stderr
        assert result.stderr.isascii()
        assert options[0] == "--number" or value in ("ü", "a\nb") or value.encode() in result.stderr


@pytest.mark.parametrize(("how", "status", "line"), [
    ("", 0, b""), ("value", 0, b""), ("differ", 1, b""), ("open", 2, b"error: /nowhere/x: No such file or directory\n"),
    ("memory", 2, b"error: MemoryError\n"), ("stop", 130, b"error: interrupted\n")])
def test_exit_status__says_what_happened(how, status, line):
    result = run_command("--how", how, "--name", "/nowhere/x")
    assert result.returncode == status
    assert result.stderr.removesuffix(b"done\n") == line


def test_bug__keeps_its_traceback_and_does_not_look_like_differing_codes():
    result = run_command("--how", "bug")
    assert result.returncode == 2
    assert b"ZeroDivisionError" in result.stderr


@pytest.mark.parametrize("name", ["ü", "\udcff", "[/]", ":smile:"])
def test_output__of_odd_names_ends_well_on_an_ascii_terminal(name):
    result = run_command("--name", os.fsencode(name), environment=ASCII)
    assert result.returncode == 0, result.stderr
    assert result.stdout.isascii()


def piped(options, reader):
    """A command whose output somebody stops to read; its status."""
    command = f'{shlex.quote(sys.executable)} -c "$SCRIPT" {options} | {reader}; exit "${{PIPESTATUS[0]}}"'
    return subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, check=False, timeout=120,
                          env={**os.environ, "SCRIPT": APP + "\nrun_app(app)"})


def test_head__does_not_stop_what_a_console_prints_and_leaves_no_traceback():
    result = piped(f"--how console --name {'x' * 20}", "head -1")
    assert (result.returncode, result.stdout, result.stderr) == (0, b"x" * 20 + b"\n", b"done\n")


def test_head__stops_what_prints_otherwise_in_one_line():
    result = piped(f"--how print --name {'x' * 20}", "head -1")
    assert (result.returncode, result.stdout) == (2, b"x" * 20 + b"\n")
    assert result.stderr == b"error: the output was closed before its end\n"


def test_closed_output__of_help_is_no_traceback():
    result = piped("--help", "true")
    assert b"Traceback" not in result.stderr
    assert b"Exception" not in result.stderr


def test_run_app__is_used_twice_in_one_process(monkeypatch, capsys):
    app = new_app()

    @app.command()
    def main(text: str) -> None:
        print(text)

    for word in ("a", "b"):
        monkeypatch.setattr("sys.argv", ["command", word])
        with pytest.raises(SystemExit) as status:
            run_app(app)
        assert status.value.code == 0
    assert capsys.readouterr().out == "a\nb\n"


# tables

def numbers_table():
    table = Table(title="a title that is longer than a narrow terminal is wide")
    for column in ("layer", "output", "differing codes", "accuracy %"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_row("stage1_block1_conv1", "1,234,567,890", Text("0 of 98,765,432 codes differ"), "57.50")
    table.add_row("stage1_block1_conv2", "1,234,567,891", "0 of 12,345,678 codes differ, by at most 1", "")
    return table


@pytest.mark.parametrize("width", [8, 20, 40, 60, 79, 80, 120, 300])
@pytest.mark.parametrize("terminal", [False, True])
def test_table__cuts_no_cell_at_any_width(monkeypatch, width, terminal):
    monkeypatch.setenv("COLUMNS", str(width))
    text = shown(lambda console: show_table(console, numbers_table()), width, terminal=terminal)
    assert "…" not in text
    for cell in ("stage1_block1_conv1", "1,234,567,890", "0 of 98,765,432 codes differ", "57.50", "1,234,567,891",
                 "0 of 12,345,678 codes differ, by at most 1", "a title that is longer than a narrow terminal is wide"):
        assert cell in text


def test_table__becomes_blocks_where_it_is_too_wide():
    text = shown(lambda console: show_table(console, numbers_table()), 50)
    assert "layer            stage1_block1_conv1\noutput           1,234,567,890\n" in text
    assert "differing codes\n  0 of 12,345,678 codes differ, by at most 1\n\n" in text


def test_table__stays_a_table_where_there_is_no_terminal(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    text = shown(lambda console: show_table(console, numbers_table()), 40, terminal=False)
    assert re.search(r"stage1_block1_conv1 .* 1,234,567,890 .* 0 of 98,765,432 codes differ .* 57\.50", text)


# the live bar

BAR = """
from training.display import RunDisplay, show_run
with RunDisplay() as display:
    display.begin("32[red]", 12, 100, 0)
    display.progress.refresh()
    print("begun")
    display.advance(50, 1.25)
    display.progress.refresh()
    print("advanced")
    display.epoch({"epoch": 1, "images_per_second": 12345.0, "loss": 0.5, "validation_accuracy": 57.5})
    display.progress.refresh()
steps = {"2bit": {"from": "[/x]:smile:.pt"}}
show_run({"config": {"scheme": "takd"}, "steps": steps, "test": {"accuracy": 98.76}}, "mnist[small]")
"""


def in_terminal(script, columns):
    """What a program prints on a terminal of so many columns."""
    controller, terminal = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", script], stdin=terminal, stdout=terminal, stderr=terminal, cwd=ROOT,
                               env={**os.environ, "COLUMNS": str(columns), "LINES": "40", "TERM": "xterm"})
    os.close(terminal)
    parts = []
    while True:
        try:
            part = os.read(controller, 65536)
        except OSError:  # how Linux says that the other end is closed
            break
        if not part:
            break
        parts.append(part)
    os.close(controller)
    assert process.wait() == 0, b"".join(parts)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", b"".join(parts).decode())


@pytest.mark.parametrize("columns", [40, 80, *(pytest.param(more, marks=pytest.mark.exhaustive) for more in (50, 100, 200))])
def test_bar__shows_no_value_before_there_is_one_and_cuts_none(columns):
    text = in_terminal(BAR, columns)
    before, advanced = text.split("begun")[0], text.split("begun")[1].split("advanced")[0]
    assert "32[red]" in before
    assert "val" not in before + advanced
    assert "loss" not in before
    assert "images/s" not in before
    assert "val 57.50 %" in text
    assert "1/12" in text
    assert "…" not in text
    assert "mnist[small]" in text
    assert "[/x]:smile:.pt" in text
    assert "98.76" in text
