"""What TensorBoard is given, read back from the event files."""

import json
import shutil

import pytest
import torch
from conftest import ROOT, metrics_of, run_python
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from logger.pictures import matrix_picture
from logger.tensorboard import TensorBoardWriter
from logger.writers import JSONLWriter, Writer, Writers
from trainer.preview import Preview, prediction_grid

ON = {"tensorboard": True}


def events_of(run):
    accumulator = EventAccumulator(str(run), size_guidance={"scalars": 0, "images": 0, "tensors": 0, "histograms": 0})
    return accumulator.Reload()


def test_train_and_valid_share_a_chart_and_the_values_are_those_of_the_run(project):
    run = project.train(trainer=ON)
    events, lines = events_of(run), metrics_of(run)
    tags = events.Tags()["scalars"]
    assert {"loss/train", "loss/valid", "accuracy/train", "accuracy/valid", "lr", "run/grad_norm"} <= set(tags)
    assert {"run/seconds", "run/items_per_second", "run/data_wait_share"} <= set(tags)
    for tag, name in (("loss/train", "loss"), ("accuracy/valid", "val_accuracy"), ("lr", "lr")):
        read = [(event.step, event.value) for event in events.Scalars(tag)]
        assert read == [(line["step"], pytest.approx(line[name])) for line in lines]


def test_an_epoch_is_on_the_disk_before_the_run_ends(tmp_path):
    writer = TensorBoardWriter(tmp_path, {})
    writer.epoch({"epoch": 1, "step": 7, "loss": 0.5})
    writer.flush()
    assert [event.step for event in events_of(tmp_path).Scalars("loss/train")] == [7]
    writer.close({})


def test_the_picture_of_an_epoch_shows_the_model_of_that_epoch():
    """The check before training scores a batch, too; its outputs are not those to draw."""
    seen = []

    class Recording(Writer):
        def picture(self, tag, draw, step):
            seen.append(draw())

    inputs, targets = torch.rand(1, 1, 8, 8), torch.tensor([1])
    right, wrong = torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 0.0]])
    preview = Preview()
    preview.keep(0, inputs, wrong, targets)
    preview.keep(20, inputs, right, targets)
    preview.keep(20, inputs, wrong, targets)
    preview.write_to(Writers(Recording()), step=20)
    assert torch.equal(seen[0], prediction_grid(inputs, torch.tensor([1]), targets))


def test_a_picture_is_given_or_drawn(tmp_path):
    writer, picture = TensorBoardWriter(tmp_path, {}), torch.zeros(3, 4, 5)
    picture[0] = 1.0
    writer.picture("given", picture, 1)
    writer.picture("drawn", lambda: (255 * picture).byte(), 1)
    writer.close({})
    first, second = (events_of(tmp_path).Images(tag)[0] for tag in ("given", "drawn"))
    assert (first.width, first.height) == (5, 4) and first.encoded_image_string == second.encoded_image_string


def test_custom_scalars_draw_each_pair_in_one_chart(project):
    from tensorboard.plugins.custom_scalar import layout_pb2

    events = events_of(project.train(trainer=ON))
    (event,) = events.Tensors("custom_scalars__config__")
    layout = layout_pb2.Layout.FromString(event.tensor_proto.string_val[0])
    charts = {chart.title: list(chart.multiline.tag) for chart in layout.category[0].chart}
    assert charts["loss"] == ["loss/train$", "loss/valid$"]  # regular expressions
    assert charts["accuracy"] == ["accuracy/train$", "accuracy/valid$"]


def test_no_step_stands_twice_after_a_resume(project):
    run = project.train(trainer=ON | {"epochs": 4, "log_steps": 5})
    project.resume(run / "checkpoint-epoch2.pth")
    events = events_of(run)
    assert "Going on after epoch 2" in (run / "train.log").read_text()
    for tag in ("config/text_summary", "custom_scalars__config__"):
        steps = [event.step for event in events.Tensors(tag)]
        assert steps == sorted(set(steps)), tag
    for tag in ("loss/train", "loss/valid", "step/loss"):
        steps = [event.step for event in events.Scalars(tag)]
        assert steps == sorted(set(steps)) and steps[-1] == 80, tag
    assert len(events.Scalars("step/loss")) == 80 // 5


def test_config_as_text_and_hparams_with_the_final_metrics(project):
    run = project.train(trainer=ON)
    events = events_of(run)
    (text,) = events.Tensors("config/text_summary")
    assert '"type": "LeNet"' in text.tensor_proto.string_val[0].decode()
    final = events.Scalars("final/val_loss")[-1].value
    assert final == pytest.approx(metrics_of(run)[-1]["val_loss"])
    assert len(list(run.glob("**/events*"))) == 1, "hparams stand in the run itself"
    plugins = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    assert b"optimizer.args.lr" in plugins


def test_pictures_of_predictions_and_of_the_confusion_matrix(project):
    run = project.train(trainer=ON)
    events = events_of(run)
    assert {"predictions/valid", "ConfusionMatrix/valid", "ConfusionMatrix/train"} == set(events.Tags()["images"])
    picture = events.Images("predictions/valid")[-1]
    assert picture.width > 300 and picture.height > 300


@pytest.mark.parametrize(("period", "steps"), [(None, []), (2, [40, 80])])
def test_histograms_only_when_asked_for(project, period, steps):
    run = project.train(trainer=ON | {"epochs": 4, "histogram_period": period})
    events = events_of(run)
    tags = events.Tags()["histograms"]
    assert ("model.conv1.weight" in tags) == bool(steps)
    if steps:
        assert [event.step for event in events.Histograms("model.conv1.weight")] == steps


def test_a_histogram_of_nan_is_left_out_with_one_message(tmp_path, caplog):
    writer = TensorBoardWriter(tmp_path, {})
    module = torch.nn.Linear(2, 2)
    torch.nn.init.constant_(module.weight, float("nan"))
    for step in (1, 2):
        writer.histograms({"model": module}, step)
    writer.close({})
    assert events_of(tmp_path).Tags()["histograms"] == ["model.bias"]
    assert caplog.text.count("the histogram of model.weight is not written: ValueError: the parameter is not fini") == 1


def test_tensorboard_off_writes_no_events(project):
    assert not list(project.train(trainer={"tensorboard": False}).glob("events*"))


# ---- a writer that fails ----


def test_a_full_disk_ends_tensorboard_and_not_the_run(project):
    """A limit on the size of files stands in for a full disk: the events outgrow it, the checkpoints do not."""
    script = (
        "import resource, sys; sys.path.insert(0, sys.argv[1]); import train;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000));"
        "train.main(['-c', sys.argv[2]])"
    )
    done = run_python("-c", script, ROOT, project.write_config(trainer=ON | {"epochs": 6}))
    assert done.returncode == 0, done.stderr
    (run,) = project.run_dirs()
    assert done.stdout.count("TensorBoardWriter cannot write any more, training continues without it: ") == 1
    assert len(metrics_of(run)) == 6
    assert torch.load(run / "last.pth", weights_only=True)["epoch"] == 6


def test_a_deleted_folder_ends_a_writer_and_not_the_others(tmp_path, caplog):
    class Recording(Writer):
        seen = []

        def epoch(self, values):
            self.seen.append(values)

    folder = tmp_path / "run"
    folder.mkdir()
    writers = Writers(TensorBoardWriter(folder, {}), Recording())
    shutil.rmtree(folder.rename(tmp_path / "deleted"))
    for epoch in (1, 2, 3):
        writers.epoch({"epoch": epoch, "step": epoch, "loss": 1.0})
    writers.close({})
    assert len(Recording.seen) == 3
    assert caplog.text.count("TensorBoardWriter cannot write any more") == 1


def test_what_is_not_finite_is_null_in_json(tmp_path):
    writer = JSONLWriter(tmp_path / "metrics.jsonl")
    writer.epoch({"epoch": 1, "loss": float("nan"), "lr": float("inf")})
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"epoch": 1, "loss": None, "lr": None}


# ---- pictures ----


def test_a_matrix_is_darkest_where_a_row_has_most():
    picture = matrix_picture(torch.tensor([[10, 0], [5, 5]])).float().mean(0)
    assert picture.shape == (56, 56)
    assert picture[40, 26] > picture[14, 5] and picture[10, 50] > 200


def test_a_grid_frames_what_is_right_in_green_and_what_is_wrong_in_red():
    grid = prediction_grid(torch.rand(2, 1, 8, 8), predictions=torch.tensor([1, 2]), targets=torch.tensor([1, 3]))
    red, green, _ = grid.float()
    right, wrong = (slice(60, 90), slice(3, 5)), (slice(60, 90), slice(101, 103))
    assert green[right].mean() > red[right].mean() and red[wrong].mean() > green[wrong].mean()


@pytest.mark.parametrize(
    ("inputs", "outputs", "targets"),
    [
        (torch.zeros(4, 7, dtype=torch.int64), torch.zeros(4, 2), torch.zeros(4, dtype=torch.int64)),  # token ids
        (torch.zeros(4, 5), torch.zeros(4, 1), torch.zeros(4)),  # regression
        (torch.zeros(4, 3, 2, 8, 8), torch.zeros(4, 2), torch.zeros(4, dtype=torch.int64)),  # video
        (torch.zeros(4, 3, 8, 8), torch.zeros(4, 3, 8, 8), torch.zeros(4, 3, 8, 8)),  # image to image
        ([torch.zeros(3)], torch.zeros(1, 2), torch.zeros(1, dtype=torch.int64)),  # a list
    ],
)
def test_nothing_is_drawn_of_what_is_no_image_with_a_class(inputs, outputs, targets):
    drawn = []

    class Drawing(Writer):
        def picture(self, tag, draw, step):
            drawn.append(tag)

    preview = Preview()
    preview.keep(1, inputs, outputs, targets)
    preview.write_to(Writers(Drawing()), step=1)
    assert drawn == []
