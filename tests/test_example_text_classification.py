"""examples/text_classification: texts of unequal lengths, in batches of like ones."""

import ast
import json
import re
from collections import Counter
from functools import lru_cache

import pytest
import torch
from conftest import ROOT, Interrupting, load, metrics_of

from base.build import build_trainer
from examples.text_classification import corpus
from examples.text_classification.corpus import FAMILIES, SHARES, read_corpus, without_hints
from examples.text_classification.data import LengthBuckets, Padded, StandardLibrary
from examples.text_classification.metric import MacroF1
from examples.text_classification.model import TextClassifier
from examples.text_classification.padding import padding_share
from examples.text_classification.reference import scores
from examples.text_classification.tokenizer import Tokenizer, words_of
from examples.text_classification.trainer import TextTrainer
from utils.batches.folds import make_datasets
from utils.batches.sharding import own_parts
from utils.config.plan import make_plan
from utils.distributed.devices import Devices

PATH = ROOT / "examples" / "text_classification" / "config.json"
CONFIG = json.loads(PATH.read_text())
library = lru_cache(StandardLibrary)  # none of these tests changes one


# ---- a run ----


def test_it_trains_and_scores_better_than_by_chance(project):
    options = [f"trainer.save_dir={project.folder / 'saved'}", "n_gpu=0", "trainer.tensorboard=false"]
    run = project.train_with(PATH, "--set", *options, "model.args.blocks=0", "trainer.epochs=1")
    values, _ = project.test("-r", run)
    most_frequent = Counter(sample.family for sample in read_corpus()["test"]).most_common(1)[0][1]
    assert values["accuracy"] > 2 * most_frequent / len(read_corpus()["test"]) and values["macro_f1"] > 0.45
    assert metrics_of(run)[0]["step"] == -(-len(read_corpus()["train"]) // 32)
    assert load(run / "last.pth")["vocabulary"]["_extra_state"] == library("train").tokenizer.pieces


class InterruptingText(Interrupting, TextTrainer):
    """Stops itself; all else is the example's."""


def test_a_run_that_is_stopped_ends_as_one_that_is_not(run_with_stops):
    model = {**CONFIG["model"], "args": {"num_classes": 7, "vocabulary_size": 500, "width": 8, "heads": 2}}
    run_with_stops(
        3, 14, trainer_class=InterruptingText, batch_size=200, model=model, loss="cross_entropy",
        dataset={**CONFIG["dataset"], "args": {"vocabulary_size": 500, "most_pieces": 16}}, metrics=CONFIG["metrics"],
        data_loader={"batch_sampler": CONFIG["data_loader"]["batch_sampler"]},
    )  # fmt: skip


def test_the_reference_finds_more_than_chance_on_the_same_splits():
    assert 0.5 < scores("valid", analyzer=words_of)["macro_f1"] < 0.95  # else it is too hard, or given away


# ---- the texts ----


def test_files_are_in_one_split_and_texts_are_there_once():
    splits = read_corpus()
    files = {split: {(sample.family, sample.file) for sample in samples} for split, samples in splits.items()}
    assert not (files["train"] & files["valid"] or files["train"] & files["test"] or files["valid"] & files["test"])
    texts = [sample.text for samples in splits.values() for sample in samples]
    assert len(set(texts)) == len(texts) > 2500
    corpus.read_corpus.cache_clear()
    assert read_corpus() == splits


def test_a_file_is_in_one_fold():
    cut = make_datasets(StandardLibrary, ["train", "valid"], "1/3")
    assert not set(cut["train"].groups) & set(cut["valid"].groups)
    assert len(cut["train"]) + len(cut["valid"]) == len(library("train")) + len(library("valid"))


@pytest.mark.parametrize("family", range(len(FAMILIES)))
def test_every_family_is_dealt_out_by_the_shares(family):
    counts = {split: sum(sample.family == family for sample in samples) for split, samples in read_corpus().items()}
    assert sum(counts.values()) > 150
    for split, share in SHARES.items():
        assert counts[split] / sum(counts.values()) == pytest.approx(share, abs=0.05)


def test_no_text_names_a_family_or_imports():
    packages = re.compile("|".join(package for packages in FAMILIES.values() for package in packages), re.IGNORECASE)
    for sample in (sample for samples in read_corpus().values() for sample in samples):
        assert not packages.search(sample.text) and not re.search(r"^\s*import ", sample.text, re.MULTILINE)
    text = "def f(a):\n    from os import (\n        path)\n    import json\n    raise HTTPError(a.xml_id)\n"
    assert without_hints(text) == "def f(a):\n\n\n    raise (a.)\n"


def test_functions_within_functions_are_a_part_of_their_text():
    tree = ast.parse("def a():\n  def b(): pass\nclass C:\n  if 1:\n    async def d(): pass\n")
    assert [function.name for function in corpus._functions(tree)] == ["a", "d"]


# ---- pieces ----


def test_words_are_cut_where_names_are():
    assert words_of("parseURLPath(parse_url, 'A12') # Größe") == [
        "parse",
        "url",
        "path",
        "parse",
        "url",
        "a",
        "gr",
        "e",
    ]


def test_words_that_are_no_pieces_are_cut_into_the_longest_ones():
    tokenizer = Tokenizer.fitted(["key keyed func", "key func", "key keyed", "ab"], size=1 + 26 + 3)
    assert tokenizer.pieces[26:] == ["key", "func", "keyed"]
    pieces = [tokenizer.pieces[number - 1] for number in tokenizer.encode("keyedfunc keyfunction Keys")]
    assert pieces == ["keyed", "func", "key", "func", "t", "i", "o", "n", "key", "s"]
    assert tokenizer.encode("12 + é") == []


def test_the_pieces_are_those_of_the_training_texts():
    words = {word for sample in read_corpus()["train"] for word in words_of(sample.text)}
    for split in SHARES:
        dataset = library(split)
        assert set(dataset.tokenizer.pieces[26:]) <= words and len(dataset.tokenizer.pieces) == 2999
        assert 0 < min(dataset.lengths) and max(dataset.lengths) == 256
        assert max(int(pieces.max()) for pieces in dataset.pieces) <= 2999


def test_a_checkpoint_brings_its_vocabulary():
    plan = make_plan(CONFIG)
    built, other = (build_trainer(plan, Devices(), ["valid"]) for _ in range(2))
    others = list(reversed(built.vocabulary.get_extra_state()))
    built.vocabulary.set_extra_state(others)
    state = {name: part.state_dict() for name, part in built.stateful().items()}
    other.load_state_dict(state, names=other.parts(torch.nn.Module))  # as test.py does
    dataset = other.run.batches["valid"].dataset
    assert dataset.tokenizer.pieces == others
    assert dataset.pieces[0].tolist() == Tokenizer(others).encode(dataset.texts[0])[: dataset.most_pieces]


# ---- padding ----


@pytest.fixture
def texts():
    dataset = library("valid")
    return dataset.collate([dataset[index] for index in range(16)])[0]


@pytest.fixture
def model():
    torch.manual_seed(0)
    return TextClassifier(num_classes=7, vocabulary_size=3000, blocks=2).double().eval()


def test_texts_are_padded_to_the_longest_of_the_batch():
    dataset = library("valid")
    texts, targets = dataset.collate([dataset[index] for index in range(16)])
    lengths = torch.tensor(dataset.lengths[:16])
    assert texts.pieces.shape == texts.mask.shape == (16, int(lengths.max()))
    assert torch.equal(texts.mask.sum(dim=1), lengths) and torch.equal(targets, dataset.targets[:16])
    assert torch.equal(texts.pieces[3][texts.mask[3]], dataset.pieces[3]) and not texts.pieces[~texts.mask].any()


def test_a_text_means_the_same_alone_and_in_any_batch(texts, model):
    alone = [model(Padded(pieces[None, mask], mask[None, mask])) for pieces, mask in zip(*texts, strict=True)]
    assert torch.allclose(torch.cat(alone), model(texts), rtol=0, atol=1e-12)


def test_what_stands_in_the_padding_changes_nothing(texts, model):
    noise = torch.where(texts.mask, texts.pieces, torch.randint(1, 3000, texts.pieces.shape))
    assert torch.equal(model(Padded(noise, texts.mask)), model(texts))


# ---- buckets ----


def buckets(pool_batches=20, batch_size=32, seed=0):
    dataset = library("train")
    return dataset, LengthBuckets(dataset, batch_size, torch.Generator().manual_seed(seed), pool_batches)


@pytest.mark.parametrize("pool_batches", [1, 7, 20, 1000])
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_buckets_give_every_text_once(pool_batches, ranks):
    dataset, sampler = buckets(pool_batches)
    batches = list(sampler)
    assert len(batches) == len(sampler) and max(map(len, batches)) == 32
    shares = [[own for own, _ in own_parts(batches, rank, ranks)] for rank in range(ranks)]
    assert len({len(share) for share in shares}) == 1
    assert sorted(index for share in shares for own in share for index in own) == list(range(len(dataset)))


def test_buckets_are_others_in_each_pass_and_the_same_from_the_same_generator():
    _, sampler = buckets()
    first, second = list(sampler), list(sampler)
    assert first == list(buckets()[1]) and first != list(buckets(seed=1)[1])
    assert {frozenset(batch) for batch in first}.isdisjoint(map(frozenset, second))
    lengths = [sampler._dataset.lengths[batch[0]] for batch in first[:20]]
    assert lengths != sorted(lengths)  # of a pool, short ones do not come first


def test_buckets_need_little_padding():
    shares = [padding_share(*buckets(pool_batches)) for pool_batches in (1, 5, 20, 1000)]
    assert shares == sorted(shares, reverse=True) and shares[0] > 0.5 and shares[2] < 0.15


def test_a_pool_of_no_batches_is_refused(project):
    sampler = {**CONFIG["data_loader"]["batch_sampler"], "args": {"pool_batches": 0}}
    config = project.folder / "config.json"
    config.write_text(json.dumps(CONFIG | {"data_loader": {"batch_size": 32, "batch_sampler": sampler}}))
    assert "pool_batches is 0, not a number of batches" in project.refused("-c", config)


# ---- the metric ----


def test_macro_f1_is_that_of_scikit_learn_on_any_number_of_processes():
    from sklearn.metrics import f1_score

    torch.manual_seed(0)
    outputs, targets = torch.randn(50, 7), torch.randint(7, (50,))
    first, second = MacroF1(7), MacroF1(7)
    first.update(outputs[:20], targets[:20])
    second.update(outputs[20:], targets[20:])
    first.merge_state([second])
    assert first.compute().item() == pytest.approx(f1_score(targets, outputs.argmax(dim=1), average="macro"))
