"""What is large: many parameter tensors, a large model to score, many classes, many runs: `python benchmarks/scale.py`.

python benchmarks/scale.py [--tensors N ...] [--megabytes N] [--classes N] [--runs N]

Each number comes from its own processes; a loop by hand is timed beside those that train. A process that takes more
than five minutes counts as infinitely slow. Exit code 1 if a goal is missed.
"""

import argparse
import json
import math
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

END = "SCALE_ENDS_AT_THE_FIRST_STEP"
MOST_SECONDS = 300
PART = [sys.executable, str(Path(__file__).resolve()), "--part"]
Check = tuple[str, float, float]  # what, found, the goal

# ---- parts, each in a process of its own; a part prints one number last ----


def peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def make_models() -> tuple[type, type]:
    """Return a model of many tensors, and a large model."""
    import torch
    from torch import nn

    class Many(nn.Module):
        """A linear model beside `tensors` parameters of four numbers."""

        def __init__(self, tensors: int):
            super().__init__()
            self.weights = nn.ParameterList([nn.Parameter(torch.full((4,), 0.01)) for _ in range(tensors)])
            self.out = nn.Linear(64, 10)

        def forward(self, images):
            return torch.log_softmax(self.out(images.flatten(1)) + torch.stack(list(self.weights)).sum(), dim=1)

    class Large(nn.Module):
        """A convolution, and an embedding of so many megabytes."""

        def __init__(self, megabytes: int):
            super().__init__()
            self.conv, self.out = nn.Conv2d(1, 1, 3, padding=1), nn.Linear(64, 10)
            self.table = nn.Embedding(megabytes * 1024, 256)

        def forward(self, images):
            first = self.table(torch.zeros(1, dtype=torch.int64, device=images.device))[:, :10]
            return torch.log_softmax(self.out(self.conv(images).flatten(1)) + first, dim=1)

    return Many, Large


def add_classes() -> None:
    """Put the models, and a trainer that ends after its first step, into the project."""
    import model.model
    import trainer.trainer

    class Ending(trainer.trainer.Trainer):
        """Ends the process after the first step of the run, and prints when, if the environment asks for it."""

        def train_step(self, batch):
            result = super().train_step(batch)
            if END in os.environ and hasattr(self, "_checkpoints"):
                raise SystemExit(print(time.time()))
            return result

    many, large = make_models()
    for module, cls in ((model.model, many), (model.model, large), (trainer.trainer, Ending)):
        cls.__module__ = module.__name__
        setattr(module, cls.__name__, cls)


def part_train(arguments: list[str]) -> None:
    add_classes()
    import train

    train.main(arguments)


def part_test(arguments: list[str]) -> None:
    """Score; print the megabytes that the peak is above the interpreter's own."""
    import torchvision  # noqa: F401

    add_classes()
    import test as test_script

    before = peak_megabytes()
    test_script.main(arguments)
    print(peak_megabytes() - before)


def part_by_hand(arguments: list[str]) -> None:
    """Build, load or save, and make one step, as people write it."""
    import torch

    count, path, is_resumed = int(arguments[0]), Path(arguments[1]), len(arguments) > 2
    network = make_models()[0](count)
    optimizer = torch.optim.Adam(network.parameters(), fused=True)
    if is_resumed:
        state = torch.load(path, weights_only=True)
        network.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    else:
        torch.save({"model": network.state_dict(), "optimizer": optimizer.state_dict()}, path)
    inputs, targets = torch.rand(64, 1, 8, 8), torch.randint(0, 10, (64,))
    torch.nn.functional.nll_loss(network(inputs), targets).backward()
    optimizer.step()
    print(time.time())
    if not is_resumed:
        torch.save({"model": network.state_dict(), "optimizer": optimizer.state_dict()}, path)


def part_matrix(arguments: list[str]) -> None:
    """The end of an epoch with a confusion matrix of so many classes: seconds and megabytes."""
    import torch

    from logger.metrics import Metrics
    from logger.tables import matrix_table
    from logger.tensorboard import TensorBoardWriter
    from model.metric import ConfusionMatrix

    with tempfile.TemporaryDirectory() as folder:
        writer, classes = TensorBoardWriter(Path(folder), {}), int(arguments[0])
        writer.matrix("warm", torch.eye(3), 0)
        outputs, before = torch.zeros(64, classes), peak_megabytes()
        metrics = Metrics({"matrix": ConfusionMatrix(classes)})
        for i in range(1000):
            outputs[range(64), torch.randint(0, classes, (64,))] = 1.0 + i
            metrics(outputs, torch.randint(0, classes, (64,)))
        start = time.perf_counter()
        matrix = metrics.compute()["matrix"]
        writer.matrix("matrix", matrix, 1)
        matrix_table(matrix)
        writer.flush()
        metrics.reset()
        print(time.perf_counter() - start, peak_megabytes() - before)
        writer.close({})


# ---- measurements ----


def output_of(command: list[str], **environment: str) -> str:
    variables = os.environ | environment
    done = subprocess.run(  # noqa: S603
        command, cwd=ROOT, capture_output=True, text=True, env=variables, timeout=MOST_SECONDS
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)} has failed:\n{done.stdout}{done.stderr}"[-4000:])
    return done.stdout


def seconds_until(command: list[str]) -> float:
    """Seconds from the start of a part to the time that it prints last."""
    start = time.time()
    try:
        return float(output_of(command, **{END: "1"}).splitlines()[-1]) - start
    except subprocess.TimeoutExpired:
        return math.inf


def write_config(folder: Path, model: dict[str, object], trainer: str = "Ending") -> list[str]:
    options = {"type": trainer, "epochs": 1, "epoch_steps": 1, "valid_steps": 1, "save_dir": str(folder / "saved")}
    config = json.loads((ROOT / "config.json").read_text(encoding="utf-8"))
    config |= {"n_gpu": 0, "model": model, "metrics": [], "trainer": options | {"tensorboard": False}}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return ["-c", str(folder / "config.json")]


def many_tensors(count: int, folder: Path) -> list[Check]:
    model = {"type": "Many", "args": {"tensors": count}}
    by_hand = [*PART, "by_hand", str(count), str(folder / "by_hand.pth")]
    train = [*PART, "train", *write_config(folder, model)]
    starts = seconds_until(train), seconds_until(by_hand)
    shutil.rmtree(folder / "saved", ignore_errors=True)
    try:
        output_of(train)
        (run,) = (folder / "saved").glob("*/*")
        resume = [*PART, "train", "-r", str(run), "--set", "trainer.epochs=2"]
        resumes = seconds_until(resume), seconds_until([*by_hand, "resumed"])
    except subprocess.TimeoutExpired:
        resumes = math.inf, seconds_until([*by_hand, "resumed"])
    print(f"{count} tensors: first step {starts[0]:.1f} s, by hand {starts[1]:.1f} s; ", end="")
    print(f"resume {resumes[0]:.1f} s, by hand {resumes[1]:.1f} s")
    return [
        (f"{count} tensors: seconds to the first step / by hand, saving", starts[0] / starts[1], 3.0),
        (f"{count} tensors: seconds to the first step / by hand, loading", starts[0] / resumes[1], 1.5),
        (f"{count} tensors: seconds to resume / by hand, loading", resumes[0] / resumes[1], 1.5),
    ]


def scoring(megabytes: int, folder: Path) -> Check:
    model = {"type": "Large", "args": {"megabytes": megabytes}}
    output_of([*PART, "train", *write_config(folder, model), "--set", "optimizer.type=SGD"])
    (run,) = (folder / "saved").glob("*/*")
    sizes = megabytes + (run / "last.pth").stat().st_size / 2**20
    peak = float(output_of([*PART, "test", "-r", str(run)]).splitlines()[-1])
    return f"test.py: peak MB / (model + checkpoint), {sizes:.0f} MB", peak / sizes, 1.2


def many_runs(count: int, folder: Path) -> Check:
    """Seconds that `-r auto` adds beside so many finished runs of other seeds."""
    arguments = write_config(folder, {"type": "LeNet", "args": {"num_classes": 10}}, "Trainer")
    train = [sys.executable, str(ROOT / "train.py"), *arguments]
    output_of(train)
    (run,) = (folder / "saved").glob("*/*")
    config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    for number in range(count):
        copy = run.parent / f"20000101-000000_{number + 2}"
        copy.mkdir()
        for file in run.iterdir():
            if file.name != "config.json":
                (copy / file.name).hardlink_to(file)
        (copy / "config.json").write_text(json.dumps(config | {"seed": number + 1}), encoding="utf-8")
    shutil.rmtree(run)
    seconds = []
    for others in (["--set", f"trainer.save_dir={folder}/empty"], ["-r", "auto"]):  # each starts a run
        start = time.perf_counter()
        output_of([*train, *others])
        seconds.append(time.perf_counter() - start)
    return f"-r auto beside {count} runs: seconds", seconds[1] - seconds[0], 2.0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tensors", type=int, nargs="*", default=[10_000, 100_000])
    parser.add_argument("--megabytes", type=int, default=256, help="of the model that is scored; 256")
    parser.add_argument("--classes", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=10_000)
    args = parser.parse_args(arguments)
    found: list[Check] = []
    seconds, megabytes = map(float, output_of([*PART, "matrix", str(args.classes)]).split())
    found.append((f"{args.classes} classes: seconds of an epoch's end", seconds, 1.0))
    found.append((f"{args.classes} classes: MB added", megabytes, 100.0))
    for measure in (scoring, many_runs, *([many_tensors] * len(args.tensors))):
        with tempfile.TemporaryDirectory() as name:
            if measure is scoring:
                found.append(scoring(args.megabytes, Path(name)))
            elif measure is many_runs:
                found.append(many_runs(args.runs, Path(name)))
            else:
                found += many_tensors(args.tensors.pop(0), Path(name))
    for what, value, goal in found:
        print(f"{'ok    ' if value <= goal else 'MISSED'} {what:64} {value:8.2f}   (at most {goal:.3g})")
    return int(any(value > goal for _, value, goal in found))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--part"]:
        globals()[f"part_{sys.argv[2]}"](sys.argv[3:])
    else:
        sys.exit(main())
