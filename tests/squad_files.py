"""Files of SQuAD's form, small, with a tokenizer of their own."""

import json
import lzma

NILE = "The Nile is long. In 1902 a dam was built at Aswan. A second dam was built in 1970, and in 1902 nobody knew."
WORDS = sorted({*NILE.lower().replace(".", " .").replace(",", " ,").split(), "when", "what", "river", "?", "of"})


def qa(question, *texts, context=NILE, number=None):
    found = [{"text": text, "answer_start": max(0, context.find(text)), "occurrences": context.count(text)}
             for text in texts]
    return {"id": number, "question": question, "answers": found}


def one(*answers):
    """A file with one question."""
    return json.dumps({"data": [{"paragraphs": [{"context": "a", "qas": [{"question": "q", "answers": answers}]}]}]})


def article(title, *qas, context=NILE):
    return {"title": title, "paragraphs": [{"context": context, "qas": list(qas)}]}


def write(folder, tokenizers):
    """Two files of SQuAD's form and a tokenizer with a word for every word."""
    folder.mkdir(exist_ok=True)
    long = " ".join([NILE] * 3)
    train = [article(f"t{n}", qa("When was the dam built ?", "1970"), qa("what river ?", "Nile")) for n in range(5)]
    train.append(article("odd", qa("what ?", "Danube"), qa("what ?"), qa("what " * 40, "a dam was built at Aswan")))
    dev = [article("d", qa("When was the dam at Aswan built ?", "1902", number="x"), qa("what river ?", "Nile", "The Nile"),
                   context=NILE), article("e", qa("what river ?", "Nile", context=long), context=long)]
    (folder / "my-train.json").write_text(json.dumps({"data": train}))
    with lzma.open(folder / "my-dev.json.xz", "wt") as file:
        json.dump({"data": dev}, file)
    vocabulary = {word: index for index, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = tokenizers.normalizers.Lowercase(), tokenizers.pre_tokenizers.BertPreTokenizer()
    made.save(str(folder / "tokenizer.json"))
    return folder
