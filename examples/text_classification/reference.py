"""What counting words is worth: TF-IDF and logistic regression of scikit-learn, on the same texts and splits.

python -m examples.text_classification.reference
"""

import sys
from typing import Any

from examples.commands import parser
from examples.packages import needed
from examples.text_classification.corpus import read_corpus
from examples.text_classification.tokenizer import words_of
from utils.exit_codes import exit_code_of


def main(argv: list[str] | None = None) -> None:
    parser(__doc__).parse_args(argv)
    print("words:       ", scores("test", analyzer=words_of))
    print("2-5 letters: ", scores("test", analyzer="char_wb", ngram_range=(2, 5)))


def scores(split: str, **features: Any) -> dict[str, float]:
    """Accuracy and macro-F1 on a split, of a fit to the training texts. `features`: of `TfidfVectorizer`."""
    text, linear, metrics = (
        needed(f"sklearn.{name}") for name in ("feature_extraction.text", "linear_model", "metrics")
    )
    corpus = read_corpus()
    vectorizer = text.TfidfVectorizer(sublinear_tf=True, **features)
    classifier = linear.LogisticRegression(C=10.0, max_iter=1000)
    classifier.fit(vectorizer.fit_transform(_texts(corpus["train"])), _families(corpus["train"]))
    predicted, families = classifier.predict(vectorizer.transform(_texts(corpus[split]))), _families(corpus[split])
    return {
        "accuracy": float(metrics.accuracy_score(families, predicted)),
        "macro_f1": float(metrics.f1_score(families, predicted, average="macro")),
    }


def _texts(samples: list[Any]) -> list[str]:
    return [sample.text for sample in samples]


def _families(samples: list[Any]) -> list[int]:
    return [sample.family for sample in samples]


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
