"""Where bytes go: links are followed, streams are written through and never replaced, files are complete or absent."""

import errno
import os
import pty
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sim.files import remove_stale, write_atomically, write_text_atomically

WRITE = "import sys; from sim.files import write_text_atomically as w; [w(path, 'new') for path in sys.argv[1:]]"
ROOT = Path(__file__).resolve().parent.parent


def write_in_process(*paths, shell=None, **kwargs):
    """A process of its own, so that its standard streams are pipes of this test."""
    command = [sys.executable, "-c", WRITE, *map(str, paths)]
    if shell is not None:
        command = ["bash", "-c", shell, "bash", sys.executable, WRITE]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=60, **kwargs)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# links

def test_link__stays_and_its_target_is_written(tmp_path):
    (tmp_path / "target").write_text("old")
    (tmp_path / "middle").symlink_to("target")
    (tmp_path / "link").symlink_to(tmp_path / "middle")
    write_text_atomically(tmp_path / "link", "new")
    assert (tmp_path / "target").read_text() == "new"
    assert os.readlink(tmp_path / "link") == str(tmp_path / "middle")
    assert os.readlink(tmp_path / "middle") == "target"
    assert names(tmp_path) == ["link", "middle", "target"]


def test_link__that_dangles_makes_its_target(tmp_path):
    (tmp_path / "link").symlink_to("folder/../made/target")
    write_text_atomically(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "made" / "target").read_text() == "new"


def test_link__of_a_folder_is_a_folder(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    write_text_atomically(tmp_path / "link" / "x", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "x").read_text() == "new"


def test_link__into_another_file_system(tmp_path):
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("one file system")
    target = other / f"bittrue-test-{os.getpid()}"
    (tmp_path / "link").symlink_to(target)
    try:
        write_text_atomically(tmp_path / "link", "new")
        assert target.read_text() == "new"
        assert (tmp_path / "link").is_symlink()
    finally:
        target.unlink(missing_ok=True)


def test_link__to_itself_is_refused(tmp_path):
    (tmp_path / "link").symlink_to("link")
    with pytest.raises(OSError, match=r"cannot write .*link: Too many levels"):
        write_text_atomically(tmp_path / "link", "new")
    assert names(tmp_path) == ["link"]


def test_hard_link__keeps_what_it_held(tmp_path):
    (tmp_path / "x").write_text("old")
    os.link(tmp_path / "x", tmp_path / "backup")
    write_text_atomically(tmp_path / "x", "new")
    assert ((tmp_path / "x").read_text(), (tmp_path / "backup").read_text()) == ("new", "old")


# streams; devices are named through links, so that a mistake breaks the test and not the machine that root runs it on

def device(folder, path):
    """A link of the folder to a device; what is put in its place is put into the folder."""
    (folder / "device").symlink_to(path)
    return folder / "device"


@pytest.mark.parametrize("path", ["-", "/dev/fd/1", "/proc/self/fd/1", "/proc/thread-self/fd/1"])
def test_standard_output__is_written_through(path):
    result = write_in_process(path)
    assert (result.returncode, result.stdout, result.stderr) == (0, "new", "")


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_standard_streams__are_written_through_a_link_that_stays(tmp_path, name):
    link = device(tmp_path, f"/dev/{name}")
    assert getattr(write_in_process(link), name) == "new"
    assert os.readlink(link) == f"/dev/{name}"


def test_standard_output__of_a_file_goes_on_where_it_stands(tmp_path):
    """Opened anew, the file would begin again and lose what was printed."""
    shell = f"""cd {ROOT} && "$1" -c "print('before')
$2
print('after')" {device(tmp_path, '/dev/stdout')} > {tmp_path}/out.txt"""
    result = write_in_process(shell=shell)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "out.txt").read_text() == "before\nnewafter\n"


def test_process_substitution__gets_the_bytes(tmp_path):
    result = write_in_process(shell=f'"$1" -c "$2" >(cat > {tmp_path}/got); sleep 0.2')
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "got").read_text() == "new"


def test_terminal__is_written_to():
    controller, terminal = pty.openpty()
    path = os.ttyname(terminal)
    before = os.stat(path).st_ino
    write_text_atomically(path, "new")
    assert os.read(controller, 10) == b"new"
    assert os.stat(path).st_ino == before
    os.close(controller)
    os.close(terminal)


@pytest.mark.parametrize("through_link", [False, True])
def test_named_pipe__is_written_through(tmp_path, through_link):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    got = []
    reader = threading.Thread(target=lambda: got.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    write_text_atomically(tmp_path / ("link" if through_link else "pipe"), "new")
    reader.join()
    assert got == [b"new"]
    assert stat.S_ISFIFO((tmp_path / "pipe").lstat().st_mode)
    assert names(tmp_path) == ["link", "pipe"]


def test_socket__is_written_through(tmp_path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        server.listen()
        write_text_atomically(tmp_path / "socket", "new")
        with server.accept()[0] as connection:
            assert connection.recv(10) == b"new"
    assert stat.S_ISSOCK((tmp_path / "socket").lstat().st_mode)


def test_device__is_written_to_and_stays(tmp_path):
    link = device(tmp_path, "/dev/null")
    write_text_atomically(link, "new")
    assert os.readlink(link) == "/dev/null"
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_device__that_is_full_says_so(tmp_path):
    if not Path("/dev/full").exists():
        pytest.skip("no such device")
    with pytest.raises(OSError, match=r"cannot write .*device: No space left"):
        write_text_atomically(device(tmp_path, "/dev/full"), "new")


def test_stream__gets_nothing_of_what_fails_half_way(tmp_path):
    read, write = os.pipe()

    def fails(file):
        file.write(b"half")
        raise OSError(errno.EIO, "broken")

    with pytest.raises(OSError, match=r"cannot write /dev/fd/\d+: broken"):
        write_atomically(f"/dev/fd/{write}", fails)
    os.close(write)
    assert os.read(read, 10) == b""
    os.close(read)


def test_descriptor__that_is_not_open_is_refused():
    with pytest.raises(OSError, match="cannot write /dev/fd/999: Bad file descriptor"):
        write_text_atomically("/dev/fd/999", "new")


# files

@pytest.mark.parametrize("name", [
    "-dash", "two\nlines", "n" * 255, "ü" * 127, ".hidden", "tail.", " blank ", "%s{0}[red]:smile:", "\udcff.bin", "*?",
    "\x1b[31m"])
def test_odd_names__are_names(tmp_path, name):
    path = tmp_path / name
    write_text_atomically(path, "old")
    write_text_atomically(str(path), "new")
    assert path.read_text() == "new"
    assert names(tmp_path) == [name]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o755, 0o666])
def test_mode__of_an_existing_file_is_kept(tmp_path, mode):
    (tmp_path / "x").write_text("old")
    (tmp_path / "x").chmod(mode)
    write_text_atomically(tmp_path / "x", "new")
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == mode


def test_mode__of_a_new_file_follows_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        write_text_atomically(tmp_path / "x", "new")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o640


def test_write_protected_file__is_refused(tmp_path):
    (tmp_path / "x").write_text("old")
    (tmp_path / "x").chmod(0o444)
    with pytest.raises(OSError, match=r"x: the file is write-protected"):
        write_text_atomically(tmp_path / "x", "new")
    assert (tmp_path / "x").read_text() == "old"
    assert names(tmp_path) == ["x"]


@pytest.mark.parametrize("path", ["", ".", "folder", "folder/", "nowhere/"])
def test_folder__is_refused(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder") as caught:
        write_text_atomically(path, "new")
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == ["folder"]
    assert names(tmp_path / "folder") == []


def test_error__shows_an_odd_path_on_one_line(tmp_path):
    (tmp_path / "a\nb\x1b").mkdir()
    with pytest.raises(OSError, match=r"a\\nb\\x1b: it is a folder"):
        write_text_atomically(tmp_path / "a\nb\x1b", "new")


# what killed runs leave

KILLED = """
import os, signal, sys
from sim.files import write_atomically
def write(file):
    file.write(b"half")
    file.flush()
    print("begun", flush=True)
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGKILL)
write_atomically(sys.argv[1], write)
"""


def test_remove_stale__removes_what_a_killed_writer_left_and_only_then(tmp_path):
    for name in ("mine.tmp", ".bittrue-notes.tmp", ".bittrue-0123456789abcdef.tmp.bak", "data"):
        (tmp_path / name).write_text("mine")
    (tmp_path / ".bittrue-0123456789abcdef.tmp").symlink_to("data")
    others = names(tmp_path)
    writer = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path / "x")], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, cwd=ROOT)
    assert writer.stdout.readline() == b"begun\n"
    assert len(names(tmp_path)) == len(others) + 1
    assert remove_stale(tmp_path) == []  # it is still being written
    writer.communicate()
    assert len(names(tmp_path)) == len(others) + 1
    assert len(remove_stale(tmp_path)) == 1
    assert names(tmp_path) == others
    assert remove_stale(tmp_path) == []


def test_remove_stale__robs_no_concurrent_writer(tmp_path):
    """Whoever removes while others write: every writer ends well, with its file."""
    stop = threading.Event()

    def clean():
        while not stop.is_set():
            remove_stale(tmp_path)

    cleaner = threading.Thread(target=clean)
    cleaner.start()
    try:
        for number in range(300):
            write_text_atomically(tmp_path / "x", str(number))
            assert (tmp_path / "x").read_text() == str(number)
    finally:
        stop.set()
        cleaner.join()
    assert names(tmp_path) == ["x"]


def test_remove_stale__of_no_folder_is_nothing(tmp_path):
    assert remove_stale(tmp_path / "nowhere") == []
