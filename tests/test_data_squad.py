"""Questions and answers: where an answer stands, windows of tokens, what is kept, and how answers are judged."""

import doctest
import itertools
import lzma
import string

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sim.tasks import TASKS, Questions, answers, questions
from sim.tasks.answers import exact_match, f1, normalized
from sim.tasks.questions import NOWHERE, best_spans
from tests.squad_files import NILE, WORDS, one, write
from training.data import DataError, Texts, augment_of, load_dataset, shuffled_batches
from training.data.sources.squad import answers as places
from training.data.sources.squad import kept, source, windows
from training.data.sources.squad.answers import place_of
from training.data.sources.squad.files import Answer
from training.data.sources.squad.windows import Cut


@pytest.mark.parametrize("module", [answers, questions, places, windows], ids=lambda module: module.__name__)
def test_examples_in_docstrings__are_true(module):
    assert doctest.testmod(module).failed == 0


# how answers are judged

@pytest.mark.parametrize(("answer", "right", "exact", "overlap"), [
    ("Denver Broncos", ["Denver Broncos", "The Denver Broncos"], 1, 1.0),
    ("the  denver broncos!", ["Denver Broncos"], 1, 1.0),
    ("Broncos", ["Denver Broncos"], 0, 2 / 3),
    ("the a an", ["an apple"], 0, 0.0),                       # nothing is left of it
    ("a b c", ["b c d", "c"], 0, 0.8),                        # "b c" against "b c d"
    ("10 10 ten", ["10 ten ten"], 0, 2 / 3),                  # each word counts as often as in both
    ("theory", ["ory"], 0, 0.0),                              # an article is a word
    ("U.S.", ["us"], 1, 1.0),                                 # punctuation goes before words are told apart
    ("twenty-one", ["twentyone"], 1, 1.0),
    ("", ["anything"], 0, 0.0),
    ("x", [], 0, 0.0),
])
def test_answer__is_judged_by_the_official_rules(answer, right, exact, overlap):
    assert (exact_match(answer, right), f1(answer, right)) == (bool(exact), pytest.approx(overlap, abs=1e-15))


@given(st.text(st.sampled_from("aA .-the n"), max_size=12))
def test_normalized__is_what_the_rules_say_one_after_another(text):
    lowered = "".join(char for char in text.lower() if char not in string.punctuation)
    words = [word for word in lowered.split() if word not in ("a", "an", "the")]
    assert normalized(text) == " ".join(words)


@st.composite
def span_cases(draw):
    count, tokens = draw(st.integers(1, 3)), draw(st.integers(1, 36))
    numbers = st.lists(st.integers(-4, 4), min_size=count * tokens * 2, max_size=count * tokens * 2)
    flags = st.lists(st.booleans(), min_size=count * tokens, max_size=count * tokens)
    logits = np.array(draw(numbers)).reshape(count, tokens, 2)
    kind = draw(st.sampled_from([np.int32, np.int64, np.float32]))
    return logits.astype(kind), np.array(draw(flags)).reshape(count, tokens)


@given(span_cases())
def test_best_span__is_that_of_all_spans_one_by_one(case):
    logits, is_text = case
    spans, scores = best_spans(logits, is_text)
    for window, (begin, end) in enumerate(zip(logits[:, :, 0].tolist(), logits[:, :, 1].tolist(), strict=True)):
        text = [index for index, flag in enumerate(is_text[window]) if flag]
        every = [(begin[i] + end[j], -i, -j) for i in text for j in text if i <= j < i + 30]
        if every:
            score, i, j = max(every)
            assert (tuple(spans[window]), scores[window]) == ((-i, -j), score)


def asked(right, owner, offsets, texts=("abcdefgh",)):
    return Questions(tuple(f"q{n}" for n in range(len(right))), tuple(right), tuple(texts), np.zeros(len(right), np.int64),
                     np.array(owner), np.array(offsets, np.int32))


def test_answer_of_several_windows__is_the_best_of_all_and_the_first_of_equal_ones():
    offsets = [[[NOWHERE] * 2, [0, 2], [2, 4]], [[NOWHERE] * 2, [4, 6], [6, 8]], [[NOWHERE] * 2, [0, 1], [1, 2]]]
    each = asked([("cd",), ("b",)], [0, 0, 1], offsets)
    logits = np.zeros((3, 3, 1, 2), np.int32)
    logits[:, 0] = 99                                     # [CLS] is no answer
    logits[0, 2], logits[1, 1], logits[2, 2] = 5, 5, 1
    assert each.answered(logits) == ["cd", "b"]
    logits[1, 1, 0, 1] = 6
    assert each.answered(logits) == ["ef", "b"]
    task, split = TASKS["spans"], Texts(torch.zeros(3, 3), torch.zeros(3, 2), each)
    assert (task.main, task.count(split), task.measure(logits, split)) == ("f1", 2, {"f1": 50.0, "em": 50.0})
    assert task.measure(logits[:2], split.first(1)) == {"f1": 0.0, "em": 0.0}


# where an answer stands

@pytest.mark.parametrize(("text", "question", "expected"), [
    ("1902", "When was the dam at Aswan built?", NILE.index("1902")),
    ("1902", "When did nobody know of a second?", NILE.rindex("1902")),
    ("1902", "Which year?", NILE.index("1902")),                      # nothing tells: the first
    ("Nile", "Which river?", 4),
    ("1999", "When?", None),
    ("", "When?", None),
    ("n", "Which letter?", NILE.index("n")),                          # a part of words only where it is nothing else
])
def test_place_of_an_answer_that_occurs_often__is_where_the_question_points(text, question, expected):
    assert place_of(Answer(text, 0, is_first=True), NILE, question) == expected


def test_place_of_an_answer__is_believed_where_a_file_says_it():
    last = NILE.rindex("1902")
    assert place_of(Answer("1902", last), NILE, "When was the dam at Aswan built?") == last
    assert place_of(Answer("1902", last + 1), NILE, "When was the dam at Aswan built?") == NILE.index("1902")


@given(st.integers(16, 60), st.integers(1, 300), st.integers(0, 20))
def test_windows__cover_a_context_and_overlap(tokens, context, question):
    cut = Cut(tokens)
    question = min(question, cut.most_question)
    parts, room = list(cut.starts(context, question)), tokens - 3 - question
    assert parts[0][0] == 0
    assert parts[-1][1] == context
    assert all(end - start == min(room, context) for start, end in parts[:-1])
    for (start, end), (then, _) in itertools.pairwise(parts):
        assert start < then < end


# files

@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("BITTRUE_CACHE_DIR", str(tmp_path / "cache"))
    return write(tmp_path / "squad", pytest.importorskip("tokenizers", reason="extra text is not installed"))


def test_squad__is_read_split_and_cut(folder):
    data = load_dataset("squad", folder, size="32")
    assert (data.is_text, data.task, data.tokens, data.classes, data.vocabulary) == (True, "spans", 32, 2, len(WORDS) + 4)
    assert (data.size, data.label, data.augment) == ("32", "squad", "none")
    asked = data.test.questions
    assert sorted(asked.ids) == ["#2", "#3", "x"]
    assert asked.answers[asked.ids.index("#2")] == ("Nile", "The Nile")
    assert np.bincount(asked.owner)[asked.ids.index("#3")] > np.bincount(asked.owner)[asked.ids.index("#2")]
    for split in (data.validation, data.test):
        for row, (first, last) in enumerate(split.labels.tolist()):
            number = split.questions.owner[row]
            text = split.questions.texts[split.questions.text[number]]
            span = text[split.questions.offsets[row, first, 0] : split.questions.offsets[row, last, 1]]
            assert first == 0 or span in split.questions.answers[number]
            assert bool(first) == any(a in text for a in split.questions.answers[number]) or len(text) > 100
    assert ((data.test.ids == 0).numpy() <= ~asked.is_text).all()
    perfect = torch.nn.functional.one_hot(data.test.labels, 32).permute(0, 2, 1)[:, :, None].numpy()
    perfect[data.test.labels[:, 0].numpy() == 0] = -1
    assert TASKS["spans"].measure(perfect, data.test) == {"f1": 100.0, "em": 100.0}


def test_squad__notes_say_what_was_lost(folder):
    _, train, test = load_dataset("squad", folder, size="16").notes
    whole = load_dataset("squad", folder, size="128").notes[1]
    assert "questions cut off" in train
    assert "1 answers that are not in their text" in train
    assert "1 questions without an answer" in train
    assert "windows that cut an answer" in train
    assert "answers in no window" in train
    assert "in no window" not in whole
    assert "3 questions" in test


def test_validation__shares_no_article_with_training(folder):
    data = load_dataset("squad", folder)
    assert data.notes[0].startswith("validation: ")
    assert "of 1 of 6 articles" in data.notes[0]
    assert len(data.validation.questions) in (2, 3)
    assert len(data.train) + len(data.validation) == 13


def test_windows_that_were_kept__are_the_same_and_damaged_ones_are_made_anew(folder, monkeypatch):
    made = load_dataset("squad", folder, size="32")
    (file,) = (folder.parent / "cache" / kept.FOLDER).iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(source, "_made", None)
        again = load_dataset("squad", folder, size="32")
    assert (again.digest(), again.notes) == (made.digest(), made.notes)
    content = bytearray(file.read_bytes())
    content[-100] ^= 1
    file.write_bytes(content)
    assert load_dataset("squad", folder, size="32").digest() == made.digest()
    assert file.read_bytes() != bytes(content)
    other = load_dataset("squad", folder, size="48")
    assert other.digest() != made.digest()


def test_digest__knows_of_the_answers(folder):
    before = load_dataset("squad", folder).digest()
    with lzma.open(folder / "my-dev.json.xz", "rt") as file:
        text = file.read()
    with lzma.open(folder / "my-dev.json.xz", "wt") as file:
        file.write(text.replace('"The Nile"', '"A Nile"'))
    assert load_dataset("squad", folder).digest() != before


def test_epoch_of_texts__is_every_window_once_and_as_it_is(folder):
    train = load_dataset("squad", folder, size="32").train
    found = torch.cat([part.ids for part in shuffled_batches(train, 4, augment="none", seed=3)])
    assert sorted(found.tolist()) == sorted(train.ids.tolist())
    assert not torch.equal(found, train.ids)
    with pytest.raises(DataError, match="texts are learned from as they are"):
        shuffled_batches(train, 4, augment="crop", seed=3)
    with pytest.raises(DataError, match="data set squad is of texts"):
        augment_of("squad", "crop")


@pytest.mark.parametrize(("content", "message"), [
    ("[1, 2", "not readable as JSON"), ('{"data": 3}', "no list 'data'"),
    ('{"data": [{"paragraphs": [{"qas": []}]}]}', "article 1, paragraph 1: no text 'context'"),
    ('{"data": [{"paragraphs": [{"context": "a", "qas": [{"question": "q"}]}]}]}', "question 1: no list 'answers'"),
    (one({"text": "a", "answer_start": 9}), "answer_start 9 is no place"), (one(3), "no text 'text'"),
    ('{"data": []}', "holds no question"),
])
def test_file_of_another_form__is_refused_in_one_line(folder, content, message):
    (folder / "my-train.json").write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        load_dataset("squad", folder)
    assert "\n" not in str(caught.value)


def test_folder_without_what_is_needed__is_refused(folder):
    with pytest.raises(DataError, match="windows have 16 to 512 tokens, not 8"):
        load_dataset("squad", folder, size="8")
    with pytest.raises(DataError, match="a window has one length, --size 32"):
        load_dataset("squad", folder, size="32x16")
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(DataError, match="no tokenizer of the library tokenizers"):
        load_dataset("squad", folder)
    (folder / "other-train.json").write_text("{}")
    with pytest.raises(DataError, match=r"one file of SQuAD with 'train' in its name.*my-train.json, other-train.json"):
        load_dataset("squad", folder)
