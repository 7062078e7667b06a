"""The JSON files of SQuAD 1.1, plain or compressed: every field checked, sizes before memory."""

import hashlib
import json
import lzma
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sim.text import printable
from training.data.dataset import DataError

MOST_BYTES = 1 << 29
"""Of a file's JSON: SQuAD's training file has 30 MB."""
SUFFIXES = (".json", ".json.xz")
_HALF = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Answer:
    """`text`, and where it begins in the context; of a file that notes `occurrences` that is only where it occurs first."""

    text: str
    start: int
    is_first: bool = False


@dataclass(frozen=True)
class Asked:
    """A question; `context` and `article` are indices of its file."""

    id: str
    question: str
    context: int
    article: int
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class SquadFile:
    """The contexts of a file, the questions about them in their order, the titles of its articles, its digest."""

    contexts: tuple[str, ...]
    asked: tuple[Asked, ...]
    titles: tuple[str, ...]
    digest: str


def find_files(folder: Path) -> tuple[Path, Path]:
    """The training and the dev file of a folder: the one whose name holds "train", the one with "dev".  DataError."""
    found = []
    for word in ("train", "dev"):
        fitting = sorted(path for path in folder.iterdir() if word in path.name.lower() and path.name.endswith(SUFFIXES))
        if len(fitting) != 1:
            there = ", ".join(printable(path.name) for path in fitting[:4]) or "none"
            raise DataError(f"{printable(folder)}: one file of SQuAD with {word!r} in its name, {' or '.join(SUFFIXES)}, is "
                            f"wanted, there is {there}")
        found.append(fitting[0])
    return found[0], found[1]


def read_file(path: Path) -> SquadFile:
    """Read and check a file; raises DataError that says where it is not as SQuAD 1.1 has it."""
    where, content = printable(path), _content(path)
    try:
        data = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not readable as JSON ({printable(error)})") from None
    contexts: list[str] = []
    asked: list[Asked] = []
    titles: list[str] = []
    for article in _list(where, data, "data"):
        titles.append(_text(where, article, "title") if isinstance(article, dict) and "title" in article else "")
        for paragraph in _list(f"{where}: article {len(titles)}", article, "paragraphs"):
            place = f"{where}: article {len(titles)}, paragraph {len(contexts) + 1}"
            contexts.append(_text(place, paragraph, "context"))
            asked += _asked(place, paragraph, contexts[-1], len(asked), (len(contexts) - 1, len(titles) - 1))
    if not asked:
        raise DataError(f"{where}: holds no question")
    return SquadFile(tuple(contexts), tuple(asked), tuple(titles), hashlib.sha256(content).hexdigest())


def _content(path: Path) -> bytes:
    where = printable(path)
    try:
        if path.suffix == ".xz":
            with lzma.open(path) as packed:
                content = packed.read(MOST_BYTES + 1)
        else:
            with path.open("rb") as file:
                content = file.read(MOST_BYTES + 1)
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise DataError(f"{where}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if len(content) > MOST_BYTES:
        raise DataError(f"{where}: more than {MOST_BYTES >> 20} MiB, no file of SQuAD")
    return content


def _asked(where: str, paragraph: Any, context: str, number: int, place: tuple[int, int]) -> Iterator[Asked]:
    for entry in _list(where, paragraph, "qas"):
        number += 1
        here = f"{where}, question {number}"
        answers = tuple(_answer(here, answer, context) for answer in _list(here, entry, "answers"))
        given = _text(here, entry, "id") if isinstance(entry.get("id"), str) else f"#{number}"
        yield Asked(given, _text(here, entry, "question"), *place, answers)


def _answer(where: str, entry: Any, context: str) -> Answer:
    text, start = _text(where, entry, "text"), entry.get("answer_start")
    if type(start) is not int or not 0 <= start <= len(context):
        raise DataError(f"{where}: answer_start {printable(repr(start))} is no place in a context of {len(context)} "
                        "characters")
    return Answer(text, start, is_first="occurrences" in entry)


def _list(where: str, entry: Any, key: str) -> list[Any]:
    if not isinstance(entry, dict) or not isinstance(entry.get(key), list):
        raise DataError(f"{where}: no list {key!r}, which every file of SQuAD 1.1 has there")
    found: list[Any] = entry[key]
    return found


def _text(where: str, entry: Any, key: str) -> str:
    if not isinstance(entry, dict) or not isinstance(entry.get(key), str):
        raise DataError(f"{where}: no text {key!r}, which every file of SQuAD 1.1 has there")
    text: str = entry[key]
    if half := _HALF.search(text):  # JSON may hold it, no encoding of texts can, and so no tokenizer reads it
        raise DataError(f"{where}: {key!r} has half a character (U+{ord(half[0]):04X}, a surrogate alone) at place "
                        f"{half.start()}, which no text has")
    return text
