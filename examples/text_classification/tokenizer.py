"""From text to numbers: the words that training texts share, and for all others pieces of these."""

import re
from collections import Counter
from collections.abc import Iterable
from string import ascii_lowercase

PADDING = 0  # the number of no piece
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")  # `parseURLPath` and `parse_url_path` are the same three words


class Tokenizer:
    """Cuts text into lower-case words, and a word that is no piece into the longest pieces from its start on.

    `pieces`: numbered from 1. Every letter is one, so there is no text without numbers but one without letters.
    """

    def __init__(self, pieces: Iterable[str]):
        self.pieces = list(pieces)
        self._numbers = {piece: number for number, piece in enumerate(self.pieces, start=1)}
        self._longest = max(map(len, self.pieces))
        self._known: dict[str, list[int]] = {}  # words that have been cut already

    @classmethod
    def fitted(cls, texts: Iterable[str], size: int) -> "Tokenizer":
        """The letters, and the words that most of the texts have, `size` numbers in all with that of the padding."""
        counts = Counter(word for text in texts for word in sorted(set(words_of(text))) if len(word) > 1)
        most = sorted(counts, key=lambda word: (-counts[word], word))[: size - 1 - len(ascii_lowercase)]
        return cls([*ascii_lowercase, *most])

    def encode(self, text: str) -> list[int]:
        return [number for word in words_of(text) for number in self._numbers_of(word)]

    def decode(self, numbers: Iterable[int]) -> str:
        return " ".join(self.pieces[number - 1] for number in numbers if number != PADDING)

    def _numbers_of(self, word: str) -> list[int]:
        if word not in self._known:
            numbers, start = [], 0
            while start < len(word):
                ends = range(min(len(word), start + self._longest), start, -1)
                end = next(end for end in ends if word[start:end] in self._numbers)
                numbers.append(self._numbers[word[start:end]])
                start = end
            self._known[word] = numbers
        return self._known[word]


def words_of(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(text)]
