"""`--dataset squad --data FOLDER`: the training file learned from, but for some articles; the dev file as the test set."""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np

from sim.text import printable
from training.data.dataset import DataError
from training.data.sources.source import Size, Source, TextContent
from training.data.sources.squad.files import SquadFile, find_files, read_file
from training.data.sources.squad.kept import keep, load_kept
from training.data.sources.squad.tokenizer import Tokenizer, find_tokenizer
from training.data.sources.squad.windows import Cut, Windows, questions_of
from training.data.splits import SPLIT_SEED, shuffled
from training.data.texts import Texts, texts_of

DEFAULT_TOKENS = 192
VALIDATION_PART = 40
"""One question of so many, about, is held out: with its whole article, so that no text is in two splits."""
OFFICIAL = (87_599, 10_570)
"""Questions of SQuAD 1.1's training and dev file."""
VERSION = "2"
"""Of what files.py, answers.py and windows.py do: another one, and what was kept is made anew."""


def load(path: Path | None, size: Size | None) -> TextContent:
    """Read both files, choose places, cut windows or take those that were kept."""
    assert path is not None
    tokens, _ = size or (DEFAULT_TOKENS, DEFAULT_TOKENS)
    if size is not None and size[0] != size[1]:
        raise DataError(f"size: a window has one length, --size {size[0]}")
    cut = Cut(tokens)
    files = find_files(path)
    train, dev = (read_file(file) for file in files)
    if len(asked_articles(train)) < 2:
        raise DataError(f"{printable(files[0])}: all its questions are about one article, and those of at least 2 are "
                        "wanted: whole articles are held out for validation")
    tokenizer = Tokenizer(find_tokenizer(path))
    facts = (VERSION, train.digest, dev.digest, tokenizer.digest, str(cut))
    key = hashlib.sha256("\n".join(facts).encode()).hexdigest()
    if (kept := load_kept(key)) is not None:
        arrays, noted = kept
        splits, notes = _kept(arrays, train, dev), tuple(map(str, noted["notes"]))
    else:
        splits, notes = _made(train, dev, tokenizer, cut)
        keep(key, _to_arrays(splits), {"notes": notes})
    is_whole = (len(train.asked), len(dev.asked)) == OFFICIAL
    return TextContent(splits["train"], splits["validation"], splits["test"], tokenizer.vocabulary,
                       tokenizer.separator, "SQuAD 1.1" if is_whole else "", notes)


def _made(train: SquadFile, dev: SquadFile, tokenizer: Tokenizer, cut: Cut) -> tuple[dict[str, Texts], tuple[str, ...]]:
    chosen = chosen_questions(train, dev)
    training, testing = Windows(train, tokenizer, cut), Windows(dev, tokenizer, cut)
    learned = training.of(chosen["train"], judged=False)
    order = np.ascontiguousarray(shuffled(np.arange(len(learned))))
    splits = {"train": texts_of(learned.ids.numpy()[order], learned.labels.numpy()[order]),
              "validation": training.of(chosen["validation"], judged=True), "test": testing.of(chosen["test"], judged=True)}
    notes = [f"validation: {len(chosen['validation']):,} of {len(train.asked):,} questions, those of "
             f"{len(held_out_articles(train))} of {len(asked_articles(train))} articles"]
    for name, windows in (("train and validation", training), ("test", testing)):
        counts = ", ".join(f"{count:,} {what}" for what, count in windows.counts.items())
        notes.append(f"{name}, in windows of {cut.tokens} tokens: {counts}")
    return splits, tuple(notes)


def asked_articles(file: SquadFile) -> np.ndarray:
    """Articles that there are questions about, ascending."""
    return np.unique([asked.article for asked in file.asked])


def held_out_articles(file: SquadFile) -> np.ndarray:
    """Articles drawn without their questions being looked at, until they hold a part in VALIDATION_PART of all.

    One is always left to train on, even if it is the smallest.
    """
    sizes = np.bincount([asked.article for asked in file.asked], minlength=len(file.titles))
    order = np.random.default_rng(SPLIT_SEED).permutation(len(sizes))
    order = order[sizes[order] > 0]
    enough = int(np.searchsorted(np.cumsum(sizes[order]), max(1, len(file.asked) // VALIDATION_PART))) + 1
    return np.asarray(np.sort(order[: min(enough, len(order) - 1)]))


def chosen_questions(train: SquadFile, dev: SquadFile) -> dict[str, list[int]]:
    """Indices of the questions of each split; of those that are judged in an order of which the first are a fair sample."""
    is_held = np.isin([asked.article for asked in train.asked], held_out_articles(train))
    return {"train": np.flatnonzero(~is_held).tolist(), "validation": shuffled(np.flatnonzero(is_held)).tolist(),
            "test": shuffled(np.arange(len(dev.asked))).tolist()}


def _to_arrays(splits: dict[str, Texts]) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    for name, split in splits.items():
        arrays |= {f"{name}.ids": split.ids.numpy(), f"{name}.labels": split.labels.numpy()}
        if (asked := split.questions) is not None:
            arrays |= {f"{name}.owner": asked.owner, f"{name}.offsets": asked.offsets}
    return arrays


def _kept(arrays: dict[str, np.ndarray], train: SquadFile, dev: SquadFile) -> dict[str, Texts]:
    """Splits that were kept; what answers are compared with is read from the files again."""
    splits = {}
    for name, chosen in chosen_questions(train, dev).items():
        texts = texts_of(arrays[f"{name}.ids"], arrays[f"{name}.labels"])
        if f"{name}.owner" in arrays:
            file = dev if name == "test" else train
            asked = questions_of(file, chosen, arrays[f"{name}.owner"], arrays[f"{name}.offsets"])
            texts = dataclasses.replace(texts, questions=asked)
        splits[name] = texts
    return splits


SQUAD = Source(load, "SQuAD 1.1", "none", reads="folder",
               needs="--data DIR with SQuAD's training and dev file, *train*.json and *dev*.json, or .json.xz",
               resizes=True, is_text=True)
