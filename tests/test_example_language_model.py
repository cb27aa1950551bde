"""examples/language_model: text whose splits share none, figures per character, samples that disturb nothing."""

import json
import sys
import sysconfig

import pytest
import torch
from conftest import ROOT, Stopping, metrics_of
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.nn import functional as F

from examples.language_model import plot
from examples.language_model.data import ALPHABET, Docstrings, decoded, encoded, texts
from examples.language_model.metric import Perplexity, bits_per_character
from examples.language_model.model import GPT
from examples.language_model.ngram import NGram
from examples.language_model.trainer import LanguageModelTrainer

CONFIG = ROOT / "examples" / "language_model" / "config.json"
SMALL = {"vocabulary_size": 96, "block_size": 64, "layers": 1, "heads": 2, "width": 32}


def sections(**trainer):
    """The example's config with a smaller model, without what a test's run has of its own."""
    config = json.loads(CONFIG.read_text())
    parts = {name: config[name] for name in ("dataset", "loss", "metrics", "optimizer", "lr_scheduler")}
    args = config["trainer"]["args"] | {"sample_length": 5}
    own = {"epoch_steps": 3, "valid_steps": 2, "args": args} | trainer
    return parts | {"model": config["model"] | {"args": SMALL}, "trainer": own}


# ---- the run ----


def test_it_learns_to_write_better_than_letter_by_letter(project, monkeypatch):
    smaller = ["model.args.layers=1", "trainer.args.sample_length=20", "trainer.valid_steps=20"]
    faster = ["optimizer.args.lr=0.01"]
    steps = ["trainer.epochs=2", "trainer.epoch_steps=75", "lr_scheduler.args.milestones=[20]"]
    schedule = ["lr_scheduler.args.schedulers.0.args.total_iters=20", "lr_scheduler.args.schedulers.1.args.T_max=130"]
    settings = [f"trainer.save_dir={project.config['trainer']['save_dir']}", *smaller, *faster, *steps, *schedule]
    run = project.train_with(CONFIG, "--set", *settings)
    train, valid = (texts()[split] for split in ("train", "valid"))
    letters = NGram(train, order=1).bits_per_character(valid)
    last = metrics_of(run)[-1]
    assert last["val_bits_per_character"] < letters - 0.4  # log2(96) = 6.58 untrained
    assert last["val_perplexity"] == pytest.approx(2 ** last["val_bits_per_character"], rel=1e-5)
    assert last["perplexity"] == pytest.approx(2 ** last["bits_per_character"], rel=1e-5)
    assert last["lr"] == last["lr_1"] < 0.01
    values, _ = project.test("-r", run, "--set", "data_loader.batch_size=256")
    assert values["bits_per_character"] < letters - 0.4
    log = (run / "train.log").read_text()
    assert "Sample after step 75:\nReturn " in log and "Sample after step 150:\nReturn " in log
    samples = EventAccumulator(str(run)).Reload().Tensors("sample/text_summary")
    assert [event.step for event in samples] == [75, 150]
    assert samples[1].tensor_proto.string_val[0].decode().startswith("    Return ")
    monkeypatch.setattr(plot, "texts", lambda: {"train": train[:20_000], "valid": valid[:2000]})
    plot.main([str(run), str(project.folder / "plot.png")])
    assert (project.folder / "plot.png").read_bytes().startswith(b"\x89PNG")


class Interrupted(Stopping, LanguageModelTrainer):
    """Stopped by a signal in one step."""


@pytest.mark.parametrize(("stops", "in_validation"), [((2, 5), False), ((3,), True)])
def test_a_stopped_run_ends_as_one_that_never_stopped(run_with_stops, stops, in_validation):
    run_with_stops(*stops, trainer_class=Interrupted, in_validation=in_validation, batch_size=16, **sections())


def test_a_sample_draws_no_number_of_the_run_and_is_the_same_again(project):
    trainer = project.trainer(**sections(type="examples.language_model.trainer.LanguageModelTrainer"))
    trainer.set_training(False)
    state = torch.get_rng_state()
    first = trainer.sample()
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(1)
    assert trainer.sample() == first and first.startswith("Return ") and len(first) == len("Return ") + 5
    trainer.step += 1
    assert trainer.sample() != first


def test_weights_decay_but_for_norms_and_biases_and_the_shared_one_is_there_once(project):
    trainer = project.trainer(**sections(type="examples.language_model.trainer.LanguageModelTrainer"))
    decayed, spared = trainer.optimizer.param_groups
    names = {weight: name for name, weight in trainer.model.named_parameters()}
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0)
    assert all(weight.dim() == 2 for weight in decayed["params"])
    assert all("norm" in names[weight] or names[weight].endswith("bias") for weight in spared["params"])
    assert len(decayed["params"]) + len(spared["params"]) == len(names) == len(set(names.values()))
    assert trainer.model.output.weight is trainer.model.tokens.weight


def test_means_over_blocks_are_means_over_characters_whatever_the_batches(project):
    """The last batch of the validation is smaller."""
    trainer = project.trainer(**sections(type="examples.language_model.trainer.LanguageModelTrainer"))
    dataset = trainer.run.batches["valid"].dataset
    dataset.inputs, dataset.targets = dataset.inputs[:37], dataset.targets[:37]
    values = trainer.evaluate("valid", steps=3)
    with torch.no_grad():
        losses = F.cross_entropy(trainer.model(dataset.inputs), dataset.targets, reduction="none").double()
    assert losses.shape == (37, 64)
    assert values["loss"] == pytest.approx(losses.mean().item(), rel=1e-6)
    assert values["bits_per_character"] == pytest.approx(losses.mean().item() / 0.6931471805599453, rel=1e-6)
    assert values["perplexity"] == pytest.approx(losses.mean().exp().item(), rel=1e-6)


# ---- the model ----


@pytest.fixture
def model():
    torch.manual_seed(0)
    return GPT(**SMALL | {"block_size": 8}).eval()


def test_no_character_is_told_what_comes_after_it(model):
    tokens = torch.randint(96, (2, 8))
    changed = tokens.clone()
    changed[:, 5:] = (tokens[:, 5:] + 1) % 96
    before, after = model(tokens), model(changed)
    assert before.shape == (2, 96, 8)
    assert torch.equal(before[..., :5], after[..., :5])
    assert (before[..., 5:] != after[..., 5:]).any(dim=1).all()


def test_every_character_is_told_what_came_before_it_and_where(model):
    tokens = torch.randint(96, (1, 8))
    for place in range(7):
        changed = tokens.clone()
        changed[:, place] = (tokens[:, place] + 1) % 96
        assert not torch.allclose(model(tokens)[..., -1], model(changed)[..., -1], atol=1e-7), place
    swapped = tokens[:, [1, 0, *range(2, 8)]]
    assert not torch.allclose(model(tokens)[..., -1], model(swapped)[..., -1], atol=1e-7)


def test_a_continuation_follows_the_model_beyond_its_block(model):
    def seeded():
        return torch.Generator().manual_seed(3)

    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(20)  # so that what comes next depends on all that came before
    prompt = encoded("ab")
    whole = model.continued(prompt, 20, seeded())
    assert whole[:2].equal(prompt) and len(whole) == 22
    assert model.continued(prompt, 20, seeded()).equal(whole)
    most_probable = model.continued(prompt, 20, seeded(), temperature=1e-6)
    for end in range(2, 22):
        block = most_probable[None, max(0, end - 8) : end]
        assert most_probable[end] == model(block)[0, :, -1].argmax()


def test_a_width_that_heads_cannot_share_is_refused(project):
    message = project.refused_config(
        **sections()
        | {
            "model": {"type": "examples.language_model.model.GPT", "args": SMALL | {"heads": 5}},
            "trainer": {"type": "Trainer"},
        }
    )
    assert "model.args: GPT cannot be made: width is 32, which cannot be shared among 5 heads." in message


# ---- the text ----


def test_the_splits_share_no_paragraph_and_hardly_a_line():
    split = texts()
    assert 500_000 < len(split["train"]) < 2_000_000
    assert all(50_000 < len(split[name]) < 300_000 for name in ("valid", "test"))
    paragraphs = {name: {" ".join(part.split()) for part in text.split("\n\n")} for name, text in split.items()}
    pieces = {name: {text[i : i + 60] for i in range(len(text) - 60)} for name, text in split.items()}
    for name in ("valid", "test"):
        assert not paragraphs[name] & paragraphs["train"]
        assert len(pieces[name] & pieces["train"]) < 0.03 * len(pieces[name])
    assert not paragraphs["valid"] & paragraphs["test"]


def test_modules_come_in_order_each_in_its_split_and_what_they_share_once(monkeypatch):
    monkeypatch.setattr(sys, "stdlib_module_names", frozenset({"json", "textwrap", "heapq", "bisect", "_heapq"}))
    split = texts.__wrapped__()
    assert split["train"].startswith("Bisection algorithms.") and split["test"].startswith("Text wrapping and filling.")
    assert split["train"].index("Heap queue algorithm") < split["train"].index("JSON (JavaScript Object Notation)")
    paragraphs = [" ".join(part.split()) for part in "\n\n".join((split["train"], split["test"])).split("\n\n")]
    assert len(paragraphs) == len(set(paragraphs)) > 50
    assert split["valid"] == ""


def test_blocks_are_the_text_and_what_comes_one_character_later():
    dataset = Docstrings("valid", block_size=100)
    inputs, targets = dataset.__getitems__([0, 1, 7])
    assert inputs.shape == targets.shape == (3, 100) and inputs.dtype == torch.int64
    text = decoded(encoded(texts()["valid"]))
    assert decoded(inputs[2]) == text[700:800] and decoded(targets[2]) == text[701:801]
    assert torch.equal(dataset[7][1], targets[2])
    assert len(dataset) == (len(text) - 1) // 100


def test_what_is_not_in_the_alphabet_is_a_question_mark():
    assert decoded(encoded("a\tü\n~ ")) == "a??\n~ "
    assert len(ALPHABET) == len(set(ALPHABET)) == 96


def test_a_python_without_sources_is_told(project, monkeypatch):
    texts.cache_clear()
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(project.folder))
    message = project.refused("-c", CONFIG)
    assert f"error: dataset: {project.folder} has no sources of the standard library to read." in message


# ---- the figures ----


def test_perplexity_is_of_all_characters_and_no_mean_of_batches():
    torch.manual_seed(0)
    logits, tokens = 3 * torch.randn(5, 7, 4), torch.randint(7, (5, 4))
    whole, first, second = Perplexity(), Perplexity(), Perplexity()
    whole.update(logits, tokens)
    expected = F.cross_entropy(logits, tokens).exp().item()
    assert whole.compute() == pytest.approx(expected, rel=1e-6)
    first.update(logits[:1], tokens[:1])
    second.update(logits[1:], tokens[1:])
    mean_of_two = (first.compute() + 4 * second.compute()) / 5
    first.merge_state([second])
    assert first.compute() == pytest.approx(expected, rel=1e-6) and mean_of_two > expected * 1.01
    assert bits_per_character(logits, tokens) == pytest.approx(torch.tensor(expected).log2().item(), rel=1e-6)


def test_the_reference_gives_probabilities_that_sum_to_one():
    model = NGram("abracadabra", order=3)
    for before in ("", "a", "br", "zz", "xa"):
        assert sum(model.probability(character, before) for character in ALPHABET) == pytest.approx(1)
    letter = (5 + 5 / 96) / (11 + 5)  # 11 letters of 5 kinds, 5 of them an "a"
    after_r = (2 + letter) / (2 + 1)  # an "a" both times
    assert model.probability("a", "") == pytest.approx(letter)
    assert model.probability("a", "br") == pytest.approx((2 + after_r) / 3)
    assert model.probability("a", "zr") == pytest.approx(after_r)
    assert NGram("ab" * 500, order=2).bits_per_character("ab" * 500) < 0.05
