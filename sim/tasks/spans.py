"""An answer to each question: a span of a text, seen through one window or several."""

from types import MappingProxyType
from typing import Any

import numpy as np

from sim.tasks.questions import Questions
from sim.tasks.task import Measured, Task


class Spans(Task):
    """Logits [N, tokens, 1, 2] of an answer's first and last token, against the answers of people."""

    name = "spans"
    unit = "questions"
    input = "windows"
    measures = MappingProxyType({"f1": "F1", "em": "EM"})
    meanwhile = "with the exact span"

    def scores(self, logits: np.ndarray, examples: Measured) -> dict[str, np.ndarray]:
        """F1 and exact match of each question (sim/tasks/answers.py)."""
        questions = _questions(examples)
        exact, overlap = questions.scores(questions.answered(logits))
        return {"f1": overlap, "em": exact}

    def count(self, examples: Measured) -> int:
        """Questions."""
        return len(_questions(examples))

    def right(self, logits: np.ndarray, labels: np.ndarray) -> int:
        """Windows whose largest logits are those of the labels, both."""
        return int((logits.reshape(len(labels), -1, 2).argmax(1) == labels).all(1).sum())

    def labels_below(self, shape: tuple[int, ...]) -> int:
        """Tokens of a window."""
        return shape[0]

    def predictions(self, logits: np.ndarray, examples: Measured) -> np.ndarray:
        """Answers, texts [questions]."""
        return np.array(_questions(examples).answered(logits), dtype=object)

    def table(self, logits: np.ndarray, predictions: np.ndarray, examples: Any) -> list[list[Any]]:
        """A line for each question: index, its id, the answer, F1 and exact match."""
        questions = _questions(examples)
        exact, overlap = questions.scores(predictions.tolist())
        lines: list[list[Any]] = [["index", "id", "answer", "f1", "em"]]
        lines += [[index, *line] for index, line in enumerate(zip(
            questions.ids, predictions.tolist(), overlap.tolist(), exact.astype(int).tolist(), strict=True))]
        return lines


def _questions(examples: Measured) -> Questions:
    if examples.questions is None:
        raise ValueError("questions: these examples know of none, only splits with questions are measured")
    return examples.questions
