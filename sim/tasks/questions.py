"""Questions about texts that are longer than a network's window, and the answer that logits of all their windows give."""

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sim.tasks.answers import exact_match, f1

MOST_ANSWER_TOKENS = 30
"""Of an answer, as in BERT's own program for SQuAD (Devlin et al. 2019)."""
NOWHERE = -1
"""Offsets of tokens that are none of the text: of the question, separators, padding."""


@dataclass(frozen=True, eq=False, repr=False)
class Questions:
    """Questions and the windows [N] through which a network sees them.

    `ids`, `answers` (all that count as right) of each question, `texts` and `text` int64 [questions], the index of the text
    that each asks about; `owner` int64 [N], the question of each window, ascending; `offsets` int32 [N, tokens, 2], where a
    token begins and ends in the text, NOWHERE for other tokens.
    """

    ids: tuple[str, ...]
    answers: tuple[tuple[str, ...], ...]
    texts: tuple[str, ...]
    text: np.ndarray
    owner: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"<{len(self)} questions in {len(self.owner)} windows of {self.offsets.shape[1]} tokens>"

    def first(self, count: int) -> "Questions":
        """The first `count` of them, with all their windows."""
        windows = self.windows(count)
        return dataclasses.replace(self, ids=self.ids[:count], answers=self.answers[:count], text=self.text[:count],
                                   owner=self.owner[:windows], offsets=self.offsets[:windows])

    def windows(self, count: int) -> int:
        """Windows of the first `count` questions."""
        return int(np.searchsorted(self.owner, count))

    def digest(self) -> str:
        """SHA-256 in hexadecimal of all that answers are judged by."""
        digest = hashlib.sha256(repr((self.ids, self.answers)).encode("utf-8", "surrogatepass"))
        for text in self.texts:
            digest.update(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest())
        for array in (self.text, self.owner, self.offsets):
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    @cached_property
    def is_text(self) -> np.ndarray:
        """bool [N, tokens]: what may be part of an answer."""
        return np.asarray(self.offsets[:, :, 0] != NOWHERE)

    def answered(self, logits: np.ndarray) -> list[str]:
        """The answer to each question whose windows' logits [N, tokens, 1, 2] or [N, tokens, 2] are given.

        That is the text from a first to a last token, of MOST_ANSWER_TOKENS at most, whose two logits have the largest sum
        of all windows; of equal ones that of the first window, which begins first, which is shortest.  Sums of integer
        logits are integers, of others float64.
        """
        spans, scores = best_spans(logits.reshape(len(self.owner), -1, 2), self.is_text)
        answers = [""] * len(self)
        best: list[float | None] = [None] * len(self)
        for window, (question, score) in enumerate(zip(self.owner.tolist(), scores.tolist(), strict=True)):
            before = best[question]
            if before is not None and score <= before:
                continue
            first, last = spans[window]
            best[question] = score
            begin, end = int(self.offsets[window, first, 0]), int(self.offsets[window, last, 1])
            answers[question] = self.texts[self.text[question]][begin:end]
        return answers

    def scores(self, answers: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Exact match and F1 of an answer to each question: float64 [questions] of 0 to 1."""
        pairs = list(zip(answers, self.answers, strict=True))
        return (np.array([float(exact_match(answer, right)) for answer, right in pairs]),
                np.array([f1(answer, right) for answer, right in pairs]))


def best_spans(logits: np.ndarray, is_text: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and last token int64 [N, 2] with the largest sum of logits [N, tokens, 2], and these sums [N].

    Only tokens of the text (bool [N, tokens]) count; of equal spans the one that begins first, then the shortest.
    """
    begin, end = (logits[:, :, which].astype(np.float64 if logits.dtype.kind == "f" else np.int64) for which in (0, 1))
    least = -np.inf if begin.dtype.kind == "f" else np.iinfo(np.int64).min
    count, tokens = begin.shape
    rows = np.arange(count)
    best, spans = np.full(count, least, begin.dtype), np.zeros((count, 2), np.int64)
    for length in range(min(MOST_ANSWER_TOKENS, tokens)):
        reach = tokens - length
        sums = np.where(is_text[:, :reach] & is_text[:, length:], begin[:, :reach] + end[:, length:], least)
        first = sums.argmax(1)
        found = sums[rows, first]
        is_better = (found > best) | ((found == best) & (found > least) & (first < spans[:, 0]))
        best[is_better] = found[is_better]
        spans[is_better] = np.stack([first, first + length], 1)[is_better]
    return spans, best
