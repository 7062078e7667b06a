"""Questions as windows of tokens: [CLS] question [SEP] part of the context [SEP], padding behind.

A context that does not fit is seen through several windows, which overlap.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sim.tasks import Questions
from sim.tasks.questions import NOWHERE
from training.data.dataset import DataError
from training.data.sources.squad.answers import place_of
from training.data.sources.squad.files import Asked, SquadFile
from training.data.sources.squad.tokenizer import Pieces, Tokenizer
from training.data.texts import PADDING, Texts, texts_of

LEAST_TOKENS, MOST_TOKENS = 16, 512
MOST_QUESTION = 64
"""Tokens of a question, as in BERT's own program for SQuAD; of short windows a third."""
SPECIAL = 3
"""[CLS] and two [SEP]."""


@dataclass(frozen=True)
class Cut:
    """`tokens` of a window; `overlap` tokens of the context are in the next one as well."""

    tokens: int

    def __post_init__(self) -> None:
        if not LEAST_TOKENS <= self.tokens <= MOST_TOKENS:
            raise DataError(f"size: windows have {LEAST_TOKENS} to {MOST_TOKENS} tokens, not {self.tokens}")

    @property
    def most_question(self) -> int:
        """Tokens of a question that are kept."""
        return min(MOST_QUESTION, self.tokens // 3)

    def starts(self, context: int, question: int) -> Iterator[tuple[int, int]]:
        """First and last token but one of the parts of a context; two parts share a third of a window, or half a part.

        >>> list(Cut(30).starts(40, 7))
        [(0, 20), (10, 30), (20, 40)]
        """
        room = self.tokens - SPECIAL - question
        step = room - min(self.tokens // 3, room // 2)
        start = 0
        while start == 0 or start - step + room < context:
            yield start, min(start + room, context)
            start += step


class Windows:
    """What a file's questions become; `counts` says what was cut off or not found on the way."""

    def __init__(self, file: SquadFile, tokenizer: Tokenizer, cut: Cut) -> None:
        self.file, self.tokenizer, self.cut = file, tokenizer, cut
        self.counts: Counter[str] = Counter()
        self._contexts = tokenizer.pieces(file.contexts)
        self._questions = tokenizer.pieces([asked.question.strip() for asked in file.asked])

    def of(self, chosen: Sequence[int], *, judged: bool) -> Texts:
        """The windows of the questions of these indices, in their order; `judged` with what answers are compared with."""
        parts = [self._question(index) for index in chosen]
        count = sum(map(len, parts))
        ids = np.full((count, self.cut.tokens), PADDING, np.int32)
        labels = np.zeros((count, 2), np.int64)
        offsets = np.full((count, self.cut.tokens, 2), NOWHERE, np.int32) if judged else None
        for row, (tokens, label, begin, pieces) in enumerate(part for windows in parts for part in windows):
            ids[row, : len(tokens)], labels[row] = tokens, label
            if offsets is not None:
                offsets[row, begin : begin + len(pieces)] = np.reshape(pieces, (-1, 2))  # of a text without tokens none
        if offsets is None:
            return texts_of(ids, labels)
        owner = np.repeat(np.arange(len(chosen)), [len(windows) for windows in parts])
        return texts_of(ids, labels, questions_of(self.file, chosen, owner, offsets))

    def _question(self, index: int) -> list[tuple[list[int], tuple[int, int], int, list[tuple[int, int]]]]:
        """Of each window: ids, label, the first token of the context, characters of the context's tokens."""
        asked, context = self.file.asked[index], self._contexts[self.file.asked[index].context]
        question = self._questions[index].ids
        if len(question) > self.cut.most_question:
            self.counts["questions cut off"] += 1
            question = question[: self.cut.most_question]
        span = self._span(asked, context)
        found, whole = [], 0
        for start, end in self.cut.starts(len(context.ids), len(question)):
            begin, label = len(question) + 2, (0, 0)
            if span is not None and start <= span[0] and span[1] < end:
                label, whole = (span[0] - start + begin, span[1] - start + begin), whole + 1
            elif span is not None and span[0] < end and span[1] >= start:
                self.counts["windows that cut an answer"] += 1
            separator = self.tokenizer.separator
            ids = [self.tokenizer.first, *question, separator, *context.ids[start:end], separator]
            found.append((ids, label, begin, context.offsets[start:end]))
        self.counts["questions"] += 1
        self.counts["windows"] += len(found)
        if span is not None and not whole:
            self.counts["answers in no window"] += 1
        return found

    def _span(self, asked: Asked, context: Pieces) -> tuple[int, int] | None:
        """First and last token of the first answer; None if there is none, or its text does not stand in the context."""
        if not asked.answers:
            self.counts["questions without an answer"] += 1
            return None
        answer, text = asked.answers[0], self.file.contexts[asked.context]
        start = place_of(answer, text, asked.question)
        if start is None:
            self.counts["answers that are not in their text"] += 1
            return None
        if start != answer.start:
            self.counts["answers placed at another occurrence"] += 1
        end = start + len(answer.text)
        tokens = [token for token, (first, last) in enumerate(context.offsets) if first < end and last > start]
        if not tokens:
            self.counts["answers that are not in their text"] += 1
            return None
        return tokens[0], tokens[-1]


def questions_of(file: SquadFile, chosen: Sequence[int], owner: np.ndarray, offsets: np.ndarray) -> Questions:
    """The questions of a file of these indices, in their order, with whose windows they are and where their tokens stand."""
    asked = [file.asked[index] for index in chosen]
    used = sorted({each.context for each in asked})
    place = {context: index for index, context in enumerate(used)}
    return Questions(tuple(each.id for each in asked), tuple(tuple(a.text for a in each.answers) for each in asked),
                     tuple(file.contexts[context] for context in used),
                     np.array([place[each.context] for each in asked], np.int64), owner.astype(np.int64), offsets)
