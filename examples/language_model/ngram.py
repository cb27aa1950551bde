"""The reference: n-gram models of the same characters, measured on the same text.

python -m examples.language_model.ngram
"""

import sys
from collections import Counter, defaultdict
from math import log2

from examples.commands import parser
from examples.language_model.data import ALPHABET, decoded, encoded, texts
from utils.exit_codes import exit_code_of

ORDERS = (3, 4, 5, 6)


class NGram:
    """P(character | the `order - 1` before it), mixed with that of one before it less, and so on to an even chance.

    As Witten and Bell (1991) mix: a context that was followed n times, by k different characters, has n parts of n + k.
    """

    def __init__(self, text: str, order: int):
        self.order = order
        self.following: defaultdict[str, Counter[str]] = defaultdict(Counter)  # characters after a context
        for place, character in enumerate(text):
            for length in range(min(order, place + 1)):
                self.following[text[place - length : place]][character] += 1
        self.totals = {context: counts.total() for context, counts in self.following.items()}

    def probability(self, character: str, before: str) -> float:
        probability = 1 / len(ALPHABET)
        for length in range(min(self.order, len(before) + 1)):
            context = before[len(before) - length :]
            if context not in self.totals:
                break
            counts, total = self.following[context], self.totals[context]
            probability = (counts[character] + len(counts) * probability) / (total + len(counts))
        return probability

    def bits_per_character(self, text: str) -> float:
        starts = (max(0, place - self.order + 1) for place in range(len(text)))
        chances = (self.probability(text[place], text[start:place]) for place, start in enumerate(starts))
        return -sum(map(log2, chances)) / len(text)


def main(argv: list[str] | None = None) -> None:
    parser(__doc__).parse_args(argv)
    train, valid, test = (decoded(encoded(texts()[split])) for split in ("train", "valid", "test"))
    print("bits per character   valid    test")
    for order in ORDERS:
        model = NGram(train, order)
        print(f"{order}-gram              {model.bits_per_character(valid):8.3f}{model.bits_per_character(test):8.3f}")


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
