"""Answers in words against those of people: exact match and F1, by the rules of SQuAD 1.1's own program.

Source: Rajpurkar et al. 2016 (arXiv 1606.05250) and their evaluate-v1.1.py.
"""

import re
import string
from collections import Counter
from collections.abc import Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalized(answer: str) -> str:
    """Lower case, without ASCII punctuation, then without articles, words apart by one space.

    >>> normalized(" The U.S. (and  an   Ally) ")
    'us and ally'
    """
    return " ".join(_ARTICLES.sub(" ", answer.lower().translate(_PUNCTUATION)).split())


def exact_match(answer: str, right: Sequence[str]) -> bool:
    """Whether it is one of the right answers, all normalized.

    >>> exact_match("the Nile.", ["Amazon", "Nile"])
    True
    """
    return any(normalized(answer) == normalized(other) for other in right)


def f1(answer: str, right: Sequence[str]) -> float:
    """The largest harmonic mean of precision and recall of words over the right answers, 0 to 1.

    >>> f1("in March 1974", ["March 1974", "1974"])
    0.8
    """
    return max((_f1(normalized(answer).split(), normalized(other).split()) for other in right), default=0.0)


def _f1(words: list[str], right: list[str]) -> float:
    same = sum((Counter(words) & Counter(right)).values())
    if not same:
        return 0.0
    precision, recall = same / len(words), same / len(right)
    return 2.0 * precision * recall / (precision + recall)
