"""An answer to each question: a span of a text, seen through one window or several."""

import numpy as np

from sim.tasks.questions import Questions
from sim.tasks.task import Measured, Task


class Spans(Task):
    """Logits [N, tokens, 1, 2] of an answer's first and last token, against the answers of people."""

    name = "spans"
    unit = "questions"
    measures = {"f1": "F1", "em": "EM"}  # noqa: RUF012 - read alone

    def scores(self, logits: np.ndarray, examples: Measured) -> dict[str, np.ndarray]:
        """F1 and exact match of each question (sim/tasks/answers.py)."""
        questions = _questions(examples)
        exact, overlap = questions.scores(questions.answered(logits))
        return {"f1": overlap, "em": exact}

    def count(self, examples: Measured) -> int:
        """Questions."""
        return len(_questions(examples))


def _questions(examples: Measured) -> Questions:
    if examples.questions is None:
        raise ValueError("questions: these examples know of none, only splits with questions are measured")
    return examples.questions
