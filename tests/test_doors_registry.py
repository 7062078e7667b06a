"""Tables that users add to: what is found, what is refused and how, and that nothing is loaded because a file says so."""

import subprocess
import sys
import types
from pathlib import Path

import pytest

from sim.registry import Registry, RegistryError, load_file, short_name


def words(name, value):
    if not isinstance(value, str):
        raise RegistryError(f"{name!r} is no text")
    return value


@pytest.fixture
def table():
    return Registry("word", {"one": "eins", "two": "zwei"}, "bittrue.words", words)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    before = dict(sys.modules)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in sys.modules.keys() - before.keys():
        del sys.modules[name]


def test_built_in_names__are_a_read_only_mapping(table):
    assert dict(table) == {"one": "eins", "two": "zwei"}
    assert table.find("one") == table.known("one") == table["one"] == "eins"
    with pytest.raises(TypeError):
        table["three"] = "drei"


def test_a_file__is_found_relative_to_the_current_folder_and_looked_up_by_that_text(table, folder):
    (folder / "mine.py").write_text("THREE = 'drei'\nclass Inner:\n    FOUR = 'vier'\n")
    assert table.find("mine.py:THREE") == table["mine.py:THREE"] == table.known("mine.py:THREE") == "drei"
    assert table.find("mine.py:Inner.FOUR") == "vier"
    assert "mine.py:THREE" in table
    assert list(table) == ["one", "two"]
    assert table.origin("mine.py:THREE")["name"] == "mine.py:THREE"
    assert len(table.origin("mine.py:THREE")["sha256"]) == 64
    assert table.origin("one") == {}


def test_a_file__is_one_module_however_it_is_named(folder):
    (folder / "mine.py").write_text("THINGS = []\n")
    (folder / "link.py").symlink_to(folder / "mine.py")
    paths = [folder / "mine.py", folder / "link.py", folder / "." / "mine.py"]
    assert len({id(load_file(path)) for path in paths}) == 1
    sys.path.insert(0, str(folder))
    (folder / "other.py").write_text("THINGS = []\n")
    import other  # noqa: F401 - by its name first
    assert load_file(folder / "other.py") is sys.modules["other"]


def test_a_module__is_found_beside_the_current_folder_and_its_file_may_import_its_neighbors(table, folder):
    (folder / "words_of_mine").mkdir()
    (folder / "words_of_mine" / "__init__.py").write_text("")
    (folder / "words_of_mine" / "more.py").write_text("THREE = 'drei'\n")
    assert table.find("words_of_mine.more:THREE") == "drei"
    (folder / "below").mkdir()
    (folder / "below" / "neighbor.py").write_text("FIVE = 'fünf'\n")
    (folder / "below" / "mine.py").write_text("from neighbor import FIVE\n")
    assert table.find("below/mine.py:FIVE") == "fünf"


@pytest.mark.parametrize(("name", "content", "expected"), [
    ("onne", "", "word: 'onne' is unknown, did you mean one?"),
    ("zzz", "", "word: 'zzz' is unknown, choose one of one, two, or your own as file.py:NAME"),
    ("mine.py", "", "word: 'mine.py' is a file: say what in it, mine.py:NAME"),
    ("none.py:THREE", "", "none.py': no such file"),
    (".py:THREE", "", ".py': no such file"),
    ("./:THREE", "", "': not a file"),
    ("mine.py:", "", "'mine.py:' is not of the form file.py:NAME or package.module:NAME"),
    (":THREE", "", "':THREE' is not of the form"),
    ("mine.py:THREEE", "THREE = 'drei'", "'mine.py' has no 'THREEE', did you mean THREE?"),
    ("mine.py:zzz", "THREE = 'drei'", "'mine.py' has no 'zzz', it has THREE"),
    ("mine.py:THREE", "THREE = 3", "'mine.py:THREE' is no text"),
    ("mine.py:THREE", "a = 1\nTHREE = nothing", "mine.py', line 2: NameError: name 'nothing' is not defined"),
    ("mine.py:THREE", "def f():\n    return 1 / 0\n\nTHREE = f()", "mine.py', line 2: ZeroDivisionError"),
    ("mine.py:THREE", "THREE = 'drei\n", "mine.py', line 1: SyntaxError"),
    ("mine.py:THREE", "import sys\nsys.exit(3)", "mine.py', line 2: SystemExit: 3"),
    ("mine.py:THREE", "import no_such_module", "mine.py', line 1: ModuleNotFoundError"),
    ("nowhere.at_all:THREE", "", "there is no module 'nowhere'"),
    ("no-module:THREE", "", "'no-module' is neither a .py file nor a module"),
    ("mine:THREE", "import no_such_module", "module 'mine', line 1 of mine.py: ModuleNotFoundError"),
    ("\x1b[31m\nmine.py:X", "", "'\\x1b[31m\\nmine.py': no such file"),
])
def test_what_cannot_be_found__is_refused_in_one_line(table, folder, monkeypatch, name, content, expected):
    monkeypatch.delitem(sys.modules, "mine", raising=False)  # another test's, and where that lies
    monkeypatch.setattr(sys, "path", [place for place in sys.path if not Path(place or ".", "mine.py").exists()])
    (folder / "mine.py").write_text(content)
    with pytest.raises(RegistryError) as caught:
        table.find(name)
    assert expected in str(caught.value).replace(str(folder) + "/", "")
    assert str(caught.value).startswith("word: ")
    assert len(str(caught.value).splitlines()) == 1


def test_a_file_that_failed__is_loaded_again_once_it_is_mended(table, folder):
    (folder / "mine.py").write_text("THREE = nothing")
    with pytest.raises(RegistryError):
        table.find("mine.py:THREE")
    (folder / "mine.py").write_text("THREE = 'drei' # mended")
    assert table.find("mine.py:THREE") == "drei"


def test_a_name__is_given_once(table):
    table.add("three", "drei")
    table.add("three", "drei")
    for name in ("three", "one"):
        with pytest.raises(RegistryError, match=f"word: the name '{name}' is taken"):
            table.add(name, "x y")
    assert table["one"] == "eins"


def test_known__loads_nothing_and_says_what_to_name(table, folder):
    (folder / "mine.py").write_text("raise RuntimeError('executed')")
    with pytest.raises(RegistryError, match=r"'mine.py:THREE' is code of your own, .*: add --word 'mine.py:THREE'"):
        table.known("mine.py:THREE")
    with pytest.raises(RegistryError, match="word: 'onne' is unknown, did you mean one"):
        table.known("onne")


def test_option__is_what_the_error_begins_with(table):
    with pytest.raises(RegistryError, match="other-word: 'onne'"):
        table.find("onne", "other-word")
    with pytest.raises(RegistryError, match="add --other-word"):
        table.known("a.py:b", "other-word")


@pytest.fixture
def plugins(folder):
    def install(package, points):
        info = folder / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(points)
        source = "raise RuntimeError('broken')\n" if package == "broken" else "THREE = 'drei'\n"
        (folder / f"{package}.py").write_text(source)

    sys.path.insert(0, str(folder))
    return install


def test_entry_points__are_found_by_name_and_a_broken_one_breaks_no_other(table, plugins):
    plugins("good", "[bittrue.words]\nthree = good:THREE\n")
    plugins("broken", "[bittrue.words]\nfour = broken:FOUR\n")
    plugins("damaged", "[bittrue.words\nfive == ?\n\x00")
    assert table.find("three") == table["three"] == "drei"
    assert table.find("one") == "eins"
    with pytest.raises(RegistryError, match=r"word: 'four' of package broken: module 'broken', line 1.*Error: broken"):
        table.find("four")
    with pytest.raises(RegistryError, match="did you mean three"):
        table.find("threee")


def test_entry_points__are_not_loaded_because_a_file_names_them(table, plugins):
    plugins("good", "[bittrue.words]\nthree = good:THREE\n")
    with pytest.raises(RegistryError, match="loaded only where you name it"):
        table.known("three")
    assert "good" not in sys.modules


def test_entry_points__of_two_packages_with_one_name_are_told_apart_by_the_module(table, plugins):
    plugins("good", "[bittrue.words]\nthree = good:THREE\n")
    plugins("other", "[bittrue.words]\nthree = other:THREE\none = other:THREE\n")
    with pytest.raises(RegistryError, match="more than one package offers 'three': good:THREE, other:THREE"):
        table.find("three")
    assert table.find("other:THREE") == "drei"
    assert table.find("one") == "eins"


def test_name_of__names_an_object_so_that_it_is_found_again(folder):
    calls = Registry("call", {"len": len}, "bittrue.calls", lambda name, value: value)
    (folder / "mine.py").write_text("def f():\n    pass\nclass C:\n    pass\nthing = C()\n")
    module = load_file(folder / "mine.py")
    assert calls.name_of(len) == "len"
    for attribute in ("f", "C", "thing"):
        name = calls.name_of(getattr(module, attribute))
        assert name == f"{folder / 'mine.py'}:{attribute}"
        assert calls.find(name) is calls[name] is getattr(module, attribute)
    with pytest.raises(RegistryError, match="no name that would find it again"):
        calls.name_of(lambda: None)


@pytest.mark.parametrize(("name", "expected"), [
    ("resnet20", "resnet20"), ("nets/vgg.py:build", "vgg-build"), ("my.nets:Vgg.build", "nets-Vgg.build"),
    ("/a/b c.py:x", "b c-x")])
def test_short_name__is_fit_for_a_file(name, expected):
    assert short_name(name) == expected


def test_registry__needs_neither_torch_nor_numba():
    program = ("import sys; sys.modules['torch'] = sys.modules['numba'] = None; import sim.registry; "
               "assert 'numpy' not in sys.modules")
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.fixture
def notebook(monkeypatch):
    """A module that is run, without a file."""
    module = types.ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", module)
    return lambda text: exec(text, vars(module)) or module


def test_name_of__takes_what_a_notebook_defines_again(notebook):
    calls = Registry("call", {"len": len}, "bittrue.calls", lambda name, value: value)
    for text in ("def f():\n    return 1\n", "def f():\n    return 2\n"):
        module = notebook(text)
        assert calls.name_of(module.f) == "__main__:f"
        assert calls["__main__:f"] is module.f
    module = notebook("f = lambda: 3\n_ = f\n_1 = f\n")
    assert calls.name_of(module.f) == "__main__:f"
    assert calls["__main__:f"]() == 3


def test_name_of__of_an_object_with_a_found_name_is_refused(folder):
    calls = Registry("call", {"len": len}, "bittrue.calls", lambda name, value: value)
    (folder / "mine.py").write_text("def f():\n    pass\n")
    calls.find(f"{folder / 'mine.py'}:f")
    module = load_file(folder / "mine.py")
    module.f = lambda: None
    with pytest.raises(RegistryError, match="is taken"):
        calls.name_of(module.f)


@pytest.mark.parametrize("value", [5, True, None, 0.5, b"x", (), [1], {}])
def test_name_of__refuses_plain_values_by_their_type(table, value):
    with pytest.raises(RegistryError, match=f"word: a value of type {type(value).__name__} is not allowed"):
        table.name_of(value)
