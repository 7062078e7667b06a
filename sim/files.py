"""Files that are either complete or absent, and streams that are written through.

A path is followed to the file that it stands for: of a link the target is replaced and the link stays.  What is no plain
file (a pipe, a terminal, a device, a socket, `-`, `/dev/stdout`) is a stream: bytes go into it, nothing is put in its place.
"""

import contextlib
import errno
import io
import os
import re
import secrets
import socket
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, cast

from sim.text import printable

if sys.platform != "win32":
    import fcntl

STANDARD_OUTPUT = "-"
MAX_LINKS = 40
_TEMPORARY = re.compile(r"\.bittrue-[0-9a-f]{16}\.tmp")

Write = Callable[[BinaryIO], object]


def write_atomically(path: Path | str, write: Write) -> None:
    """Let `write` fill a temporary file beside the target, flush it to the disk, then put it in the target's place.

    Whatever fails, the target is untouched and nothing is left behind.  Links are followed, missing folders are made, an
    existing file keeps its mode and owner; another hard link to it keeps what it held.  A stream is written through once
    `write` is done.  Raises OSError with the path and the reason; a folder and a write-protected file are refused.
    """
    try:
        if str(path) == STANDARD_OUTPUT:
            _write_standard_output(_content(write))
        elif isinstance(target := _target(os.fspath(path)), int):
            _write_descriptor(target, _content(write))
        else:
            _write_path(target, write)
    except OSError as error:
        raise OSError(f"cannot write {printable(path)}: {error.strerror or error}") from error


def write_text_atomically(path: Path | str, text: str) -> None:
    """`write_atomically` for UTF-8 text."""
    content = text.encode()
    write_atomically(path, lambda file: file.write(content))


def remove_stale(folder: Path | str) -> list[Path]:
    """Remove the temporary files that killed writers left in a folder, and return them.

    A writer holds a lock on its file, which ends with it, so that nobody who is still writing is robbed.
    """
    removed: list[Path] = []
    if sys.platform == "win32" or not os.path.isdir(folder):
        return removed
    for name in sorted(os.listdir(folder)):
        path = Path(folder) / name
        with contextlib.suppress(OSError):
            if _TEMPORARY.fullmatch(name) and stat.S_ISREG(path.lstat().st_mode):
                handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()
                    removed.append(path)
                finally:
                    os.close(handle)
    return removed


def _target(path: str) -> str | int:
    """What a path stands for, links followed one by one: a path that is no link, or the number of an open file."""
    if path.endswith(os.sep):
        raise IsADirectoryError(errno.EISDIR, "it names a folder")
    for _ in range(MAX_LINKS):
        folder, name = os.path.split(path)
        folder = os.path.realpath(folder or os.curdir)
        path = os.path.join(folder, name)
        if name.isdecimal() and re.fullmatch(rf"/dev/fd|/proc/{os.getpid()}(/task/\d+)?/fd", folder):
            return int(name)
        if not os.path.islink(path) or _is_stream(path):
            return path
        path = os.path.join(folder, os.readlink(path))
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))


def _is_stream(path: str) -> bool:
    """Whether a link ends at something that is no file and no folder; a pipe of another process has no other name."""
    with contextlib.suppress(OSError):
        mode = os.stat(path).st_mode
        return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))
    return False


def _write_path(path: str, write: Write) -> None:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        _replace(path, None, write)
        return
    mode = status.st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder")
    if stat.S_ISBLK(mode):
        raise OSError(errno.EINVAL, "it is a disk")
    if stat.S_ISREG(mode):
        if not mode & 0o222 or not os.access(path, os.W_OK):  # root may do everything, but was told not to
            raise PermissionError(errno.EACCES, "the file is write-protected")
        _replace(path, status, write)
    elif stat.S_ISSOCK(mode):
        content = _content(write)
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(path)
            connection.sendall(content)
    else:
        content = _content(write)
        with open(os.open(path, os.O_WRONLY | os.O_NOCTTY), "wb") as stream:
            stream.write(content)


def _replace(path: str, before: os.stat_result | None, write: Write) -> None:
    handle, name = _temporary(os.path.dirname(path))
    try:
        with os.fdopen(handle, "wb") as file:  # open, and so locked, until it has its name
            write(cast(BinaryIO, file))
            file.flush()
            if before is not None:
                _keep_attributes(file.fileno(), before)
            os.fsync(file.fileno())
            os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


def _temporary(folder: str) -> tuple[int, str]:
    """A new file of its own name in a folder, locked; its mode is that of any new file.

    `remove_stale` may find it before it is locked: then its name is gone, and another is made.
    """
    while True:
        name = os.path.join(folder, f".bittrue-{secrets.token_hex(8)}.tmp")  # short, however long the target's name is
        handle = os.open(name, os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_BINARY", 0), 0o666)
        if sys.platform == "win32":
            return handle, name
        with contextlib.suppress(OSError):  # some file systems have no locks; then nothing is removed there, either
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.path.exists(name):
            return handle, name
        os.close(handle)


def _keep_attributes(handle: int, before: os.stat_result) -> None:
    """Owner, then mode; a user may not give files away."""
    with contextlib.suppress(OSError):
        if (before.st_uid, before.st_gid) != (os.geteuid(), os.getegid()):
            os.fchown(handle, before.st_uid, before.st_gid)
    os.fchmod(handle, stat.S_IMODE(before.st_mode))


def _content(write: Write) -> bytes:
    """All of it at once, so that a stream gets no half."""
    buffer = io.BytesIO()
    write(buffer)
    return buffer.getvalue()


def _write_standard_output(content: bytes) -> None:
    """Where `print` goes, be it a notebook."""
    if sys.stdout is None:
        raise OSError(errno.EBADF, "the standard output is closed")
    sys.stdout.flush()
    if (binary := getattr(sys.stdout, "buffer", None)) is None:
        sys.stdout.write(content.decode(errors="backslashreplace"))
    else:
        binary.write(content)
    sys.stdout.flush()


def _write_descriptor(number: int, content: bytes) -> None:
    """Into an open file where it stands: opening its path anew would begin a file again that it was redirected to."""
    for printed in filter(None, (sys.stdout, sys.stderr)):
        printed.flush()
    with open(os.dup(number), "wb") as stream:
        stream.write(content)
