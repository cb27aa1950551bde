"""examples/transfer_learning: a backbone from other classes, held at first, then free at a smaller rate."""

import json
import re

import pytest
import torch
from conftest import ROOT, load, metrics_of, run_python
from torchvision.models import ResNet18_Weights, resnet18

from examples.packages import needed
from examples.transfer_learning import compare
from examples.transfer_learning.data import SomeDigits
from examples.transfer_learning.model import TaskNet
from examples.transfer_learning.schedule import Unfreeze
from utils.errors import UserError

HERE = ROOT / "examples" / "transfer_learning"
README = (HERE / "README.md").read_text(encoding="utf-8")
ODD = [5, 6, 7, 8, 9]


def config_of(name):
    return json.loads((HERE / name).read_text())


def sections_of(name):
    config = config_of(name)
    return {key: config[key] for key in ("model", "dataset", "loss", "metrics", "optimizer", "lr_scheduler")}


def batch_of(dataset):
    return dataset.__getitems__(list(range(len(dataset))))


# ---- the runs ----


def test_the_backbone_is_held_then_free_and_the_result_is_good(project):
    save_dir = project.config["trainer"]["save_dir"]
    settings = [f"trainer.save_dir={save_dir}", "trainer.epochs=20", "trainer.keep_last=null"]
    run = project.train_with(HERE / "config.json", "--set", *settings)
    shipped = load(HERE / "backbone.pth")
    by_epoch = {epoch: load(run / f"checkpoint-epoch{epoch}.pth")["model"] for epoch in (1, 10, 11)}
    backbone = [name for name in shipped if name.startswith("backbone.")]
    assert len(backbone) == 4
    for name in backbone:
        assert torch.equal(by_epoch[1][name], shipped[name]) and torch.equal(by_epoch[10][name], shipped[name])
        assert not torch.equal(by_epoch[11][name], shipped[name])
    head = "heads.five_to_nine.weight"
    assert not torch.equal(by_epoch[1][head], by_epoch[10][head]) and set(by_epoch[1]) - set(shipped)
    rates = [(line["lr"], line["lr_1"]) for line in metrics_of(run)]
    assert rates == [(0.003, 0)] * 10 + [(0.003, 0.001)] * 10
    values, _ = project.test("-r", run)
    assert values["accuracy"] > 0.8  # 0.2 by chance


@pytest.mark.parametrize("stops", [(3, 7), (13,)], ids=["while it is held", "when it is free"])
def test_a_stopped_run_ends_as_one_that_never_stopped(run_with_stops, stops):
    sections = sections_of("config.json")
    sections["lr_scheduler"]["args"]["frozen_epochs"] = 2
    run_with_stops(*stops, batch_size=10, trainer={"epochs": 3}, **sections)  # of 5 steps


def test_the_two_ways_differ_in_what_is_compared_alone():
    tuned, scratch = config_of("config.json"), config_of("scratch.json")
    for key in ("weights", "strict"):
        del tuned["model"][key]
    for config in (tuned, scratch):
        config.pop("lr_scheduler", None)
        config["optimizer"].pop("groups", None)
        del config["name"]
    assert tuned == scratch


# ---- the shipped backbone ----


def test_the_shipped_weights_are_small_and_know_the_digits_0_to_4():
    assert (HERE / "backbone.pth").stat().st_size < 100_000
    model = TaskNet(**config_of("pretrain.json")["model"]["args"]).eval()
    model.load_state_dict(load(HERE / "backbone.pth"))
    images, targets = batch_of(SomeDigits("test", [0, 1, 2, 3, 4]))
    assert (model(images).argmax(dim=1) == targets).float().mean() > 0.97


def test_the_backbone_of_a_run_takes_its_place(project):
    save_dir = f"trainer.save_dir={project.config['trainer']['save_dir']}"
    first = project.train_with(HERE / "pretrain.json", "--set", save_dir, "trainer.epochs=1")
    run = project.train_with(HERE / "config.json", "--init-from", first, "--set", save_dir, "trainer.epochs=1")
    trained, tuned = load(first / "model_best.pth")["model"], load(run / "last.pth")["model"]
    assert torch.equal(trained["backbone.0.weight"], tuned["backbone.0.weight"])
    log = (run / "train.log").read_text()
    assert re.search(r"unexpected, not used: heads\.zero_to_four\.weight", log)


# ---- its parts ----


def test_labels_are_drawn_of_the_training_set_alone():
    drawn = SomeDigits("train", ODD, labels_per_class=7, draw_seed=1)
    assert drawn.targets.bincount().tolist() == [7] * 5
    assert torch.equal(drawn.images, SomeDigits("train", ODD, 7, 1).images)
    assert not torch.equal(drawn.images, SomeDigits("train", ODD, 7, 2).images)
    for split, count in {"valid": 89, "test": 179}.items():
        assert len(SomeDigits(split, ODD, labels_per_class=7)) == count
    whole = {image.numpy().tobytes() for image in SomeDigits("train", ODD).images}
    assert all(image.numpy().tobytes() in whole for image in drawn.images)


def test_classes_are_numbered_in_the_order_given():
    forth, back = SomeDigits("test", [5, 9]), SomeDigits("test", [9, 5])
    nines = forth.images[forth.targets == 1]
    assert len(nines) and torch.equal(nines, back.images[back.targets == 0])


def test_more_labels_than_there_are_is_an_error(project):
    config = HERE / "config.json"
    message = project.refused("-c", config, "--set", "dataset.args.labels_per_class=500")
    assert "dataset.args: SomeDigits cannot be made: labels_per_class is 500, and there are no more than" in message


def test_nothing_to_hold_is_an_error(project):
    message = project.refused("-c", HERE / "config.json", "--set", "optimizer.groups=null")
    assert (
        "lr_scheduler.args: Unfreeze cannot be made: nothing to hold: optimizer.groups names no parameters" in message
    )
    message = project.refused("-c", HERE / "config.json", "--set", "lr_scheduler.args.frozen_epochs=-1")
    assert "frozen_epochs is -1, not a number of epochs" in message


def test_each_group_has_a_rate_of_its_own_again():
    groups = [{"params": [torch.zeros(1, requires_grad=True)], "lr": rate} for rate in (1.0, 0.1, 0.01)]
    optimizer = torch.optim.SGD(groups)
    schedule, rates = Unfreeze(optimizer, frozen_epochs=2), []
    for _ in range(4):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    assert rates == [[1.0, 0, 0], [1.0, 0, 0], [1.0, 0.1, 0.01], [1.0, 0.1, 0.01]]


# ---- the pretrained ResNet-18 ----


def test_without_a_network_the_resnet_says_what_to_put_where(project, monkeypatch):
    """A closed port of this machine: a real connection, really refused."""
    monkeypatch.setenv("TORCH_HOME", str(project.folder))
    monkeypatch.setattr(ResNet18_Weights.DEFAULT.value, "url", "http://127.0.0.1:9/resnet18-f37072fd.pth")
    message = project.refused("-c", HERE / "resnet18.json")
    assert "model.weights: ResNet18_Weights.IMAGENET1K_V1 of resnet18 cannot be had" in message
    assert message.count("\n") == 1


def test_the_resnet_trains_from_weights_for_a_thousand_classes(project):
    """The file is one of torchvision's form, in the place of the download."""
    file = project.folder / "resnet18.pth"
    torch.save(resnet18().state_dict(), file)
    settings = [f"trainer.save_dir={project.folder / 'saved'}", f"model.weights={file}", "trainer.epochs=1"]
    run = project.train_with(HERE / "resnet18.json", "--limit-batches", "1", "--set", *settings)
    before, after = load(file), load(run / "last.pth")["model"]
    assert torch.equal(before["layer2.0.conv1.weight"], after["layer2.0.conv1.weight"])
    assert after["fc.weight"].shape == (5, 512)
    log = (run / "train.log").read_text()
    assert "model.freeze: 683,072 of" in log and "fc.weight (1000, 512) for (5, 512)" in log


# ---- the comparison and the page ----


def test_the_comparison_prints_a_table_and_draws(tmp_path, capsys):
    compare.main(["--seeds", "1", "--labels", "10", "20", "--epochs", "1", "--plot", str(tmp_path / "plot.png")])
    head, _, *rows = capsys.readouterr().out.splitlines()
    assert head == "| labels a class | 10 | 20 |"
    assert [row.split(" | ")[0] for row in rows] == [f"| {way}" for way in compare.WAYS]
    assert all(re.fullmatch(r"0\.\d{3} ± 0\.000", cell) for row in rows for cell in row.strip("| ").split(" | ")[1:])
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_a_mean_has_its_spread_beside_it():
    lines = compare.table({"a way": {10: [0.5, 0.7]}}).splitlines()
    assert lines[2] == "| a way | 0.600 ± 0.141 |"


def test_a_package_that_is_missing_is_named_with_what_installs_it():
    with pytest.raises(UserError) as error:
        needed("sklearn_of_tomorrow.datasets")
    assert str(error.value) == ("sklearn_of_tomorrow is not installed. Run: pip install -r requirements-examples.txt")


def test_the_page_names_commands_and_files_that_are_there():
    assert {"config.json", "pretrain.json", "resnet18.json"} <= {
        path.rpartition("/")[2] for path in re.findall(r"-c (\S+\.json)", README)
    }
    assert all((ROOT / path).is_file() for path in re.findall(r"-c (examples/\S+\.json)", README))
    assert all((HERE / link).is_file() for link in re.findall(r"\]\((?!http)([^)]+)\)", README))
    done = run_python("-m", "examples.transfer_learning.compare", "--help")
    assert done.returncode == 0 and "--labels" in done.stdout
