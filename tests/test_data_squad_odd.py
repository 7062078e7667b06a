"""Files of SQuAD's form that hold what real ones do not: texts of nothing, one article, half characters, control tokens."""

import json

import numpy as np
import pytest

from sim.tasks import TASKS
from tests.squad_files import NILE, article, qa
from tests.test_data_squad import folder  # noqa: F401 - a fixture
from training.data import DataError, load_dataset
from training.data.sources.squad.files import Asked, SquadFile
from training.data.sources.squad.source import held_out_articles
from training.data.sources.squad.tokenizer import Tokenizer


def write_file(folder, name, articles):  # noqa: F811
    (folder / "my-dev.json.xz").unlink(missing_ok=True) if name == "dev" else None
    (folder / f"my-{name}.json").write_text(json.dumps({"data": articles}))


@pytest.mark.parametrize("context", ["", " \n"])
def test_text_without_tokens__has_one_window_and_no_answer(folder, context):  # noqa: F811
    odd = article("odd", qa("what river ?", context=context), context=context)
    write_file(folder, "dev", [odd, article("d", qa("what river ?", "Nile", number="x"))])
    write_file(folder, "train", [odd | {"title": str(n)} for n in range(5)] + [article("t", qa("what ?", "Nile"))])
    data = load_dataset("squad", folder, size="32")
    (without,) = np.flatnonzero([number != "x" for number in data.test.questions.ids])
    (window,) = np.flatnonzero(data.test.questions.owner == without)
    assert not data.test.questions.is_text[window].any()
    assert data.test.ids[window].count_nonzero() == 3 + 3  # [CLS] what river ? [SEP] [SEP]
    for logits in (np.zeros((len(data.test), 32, 2), kind) for kind in (np.int32, np.float32)):
        assert data.test.questions.answered(logits)[without] == ""
        assert TASKS["spans"].measure(logits, data.test)["f1"] <= 50.0
    again = load_dataset("squad", folder, size="32")
    assert again.digest() == data.digest()


@pytest.mark.parametrize("others", [[], [article("empty"), article("none")]])
def test_questions_about_one_article__are_refused_in_one_line(folder, others):  # noqa: F811
    write_file(folder, "train", [article("t", qa("what ?", "Nile"), qa("when ?", "1902")), *others])
    with pytest.raises(DataError, match=r"my-train\.json: all its questions are about one article, .* at least 2") as error:
        load_dataset("squad", folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("sizes", [[1, 100], [100, 1], [0, 1, 0, 100, 0], [1, 1], [3, 3, 300], [0, 0, 0, 2, 0, 200]])
def test_held_out_articles__have_questions_and_leave_some(sizes):
    asked = tuple(Asked("", "", 0, number, ()) for number, size in enumerate(sizes) for _ in range(size))
    held = held_out_articles(SquadFile(("",), asked, ("",) * len(sizes), ""))
    counts = [sizes[number] for number in held]
    assert all(counts)
    assert 0 < sum(counts) < sum(sizes)


@pytest.mark.parametrize(("place", "named"), [
    ("title", "'title'"), ("context", "article 7, paragraph 7: 'context'"), ("question", "question 14: 'question'"),
    ("text", "question 14: 'text'"), ("id", "question 14: 'id'")])
def test_half_a_character__is_named_with_its_place(folder, place, named):  # noqa: F811
    asked = qa("what ?", "Nile", number="n")
    broken = article("t", asked)
    {"title": broken, "context": broken["paragraphs"][0], "question": asked, "id": asked, "text": asked["answers"][0]}[
        place][place] += "\ud800"
    content = json.loads((folder / "my-train.json").read_text())["data"]
    write_file(folder, "train", [*content, broken])
    with pytest.raises(DataError, match=rf"my-train\.json.*{named} has half a character \(U\+D800") as error:
        load_dataset("squad", folder)
    assert "\n" not in str(error.value)


def test_whole_characters_in_two_halves__are_read(folder):  # noqa: F811
    write_file(folder, "dev", [article("d", qa("what ?", "Nile"), context=NILE + " \U0001f30a")])
    assert "\\ud83c\\udf0a" in (folder / "my-dev.json").read_text()
    assert load_dataset("squad", folder).test.questions.texts[0].endswith("\U0001f30a")


@pytest.mark.parametrize("is_split", [True, False])
def test_control_tokens_in_a_text__are_ordinary_text(folder, is_split):  # noqa: F811
    """As in BERT's own tokenizer, which splits brackets off; a vocabulary that does not finds an unknown word."""
    import tokenizers

    file = folder / "tokenizer.json"
    library = tokenizers.Tokenizer.from_file(str(file))
    if not is_split:
        library.normalizer = tokenizers.normalizers.Sequence([])
        library.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    library.add_special_tokens(["[PAD]", "[CLS]", "[SEP]", "[UNK]"])
    library.save(str(file))
    found, = Tokenizer(file).pieces(["dam [SEP] was [PAD] long [CLS]"])
    words = [library.token_to_id(word) for word in ("dam", "was", "long")]
    unknown = [library.token_to_id("[UNK]")] * (3 if is_split else 1)
    assert found.ids == [token for word in words for token in (word, *unknown)]
    assert [end - begin for begin, end in found.offsets] == (
        [3, 1, 3, 1, 3, 1, 3, 1, 4, 1, 3, 1] if is_split else [3, 5, 3, 5, 4, 5])


def test_control_token_as_a_word__without_a_token_for_unknown_ones_is_refused(folder):  # noqa: F811
    import tokenizers

    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({"[PAD]": 0, "[CLS]": 1, "[SEP]": 2, "dam": 3}, unk_token="dam"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    made.save(str(folder / "tokenizer.json"))
    with pytest.raises(DataError, match=r"a text holds \[PAD\], \[CLS\] or \[SEP\] as a word"):
        Tokenizer(folder / "tokenizer.json").pieces(["dam [SEP]"])
