"""Questions and answers of SQuAD 1.1 (Rajpurkar et al. 2016, arXiv 1606.05250), as windows of tokens.

files.py reads the JSON files, answers.py chooses where in a text an answer stands, tokenizer.py and windows.py cut texts
into what a network reads, kept.py keeps that between runs, source.py puts it together.
"""

from training.data.sources.squad.source import SQUAD

__all__ = ["SQUAD"]
