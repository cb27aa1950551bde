"""What happens to one of several processes, and what the run makes of it: real processes, real signals."""

import re
import signal
import time
from functools import partial
from itertools import takewhile
from pathlib import Path

import pytest
from conftest import ROOT, Project, assert_same, load, metrics_of, wait_for
from ranks import ranks_of, run_dir_with, start_torch_distributed_run, start_torchrun, stop, torchrun

from data_loader.datasets import Digits
from utils.batches.loaders import make_batches
from utils.config.loading import load_config
from utils.config.plan import make_plan
from utils.errors import ConfigError

SCRIPT = str(ROOT / "tests" / "faulty_train.py")
SIGNALS = "--signals-to-handle=SIGTERM,SIGINT,SIGUSR1"


def write(project, trainer=None, **sections):
    settings = {"epochs": 2, "log_steps": 5} | (trainer or {})
    arguments = {"type": "Faulty", "args": settings.pop("args", {})}
    return project.write_config(data_loader={"batch_size": 128}, trainer=arguments | settings, **sections)


@pytest.fixture
def config(project):
    """Write the config of a run with a fault."""
    return partial(write, project)


def assert_same_run(run, other):
    assert_same(load(run / "last.pth")["model"], load(other / "last.pth")["model"])
    assert_same(load(run / "last.pth")["optimizer"], load(other / "last.pth")["optimizer"])
    assert_same(load(run / "last.pth")["other_ranks"], load(other / "last.pth")["other_ranks"])
    assert metrics_of(run) == metrics_of(other)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run without a fault."""
    project = Project(tmp_path_factory.mktemp("whole"), None)
    done = torchrun("-c", write(project), script=SCRIPT)
    assert done.returncode == 0, done.stdout + done.stderr
    return project.run_dirs()[-1]


@pytest.mark.parametrize(("in_validation", "step"), [(False, 13), (True, 10)])
def test_a_signal_to_one_rank_stops_all_at_the_same_step(project, config, whole, in_validation, step):
    """And the run goes on as if it had never stopped, dropout and all."""
    fault = {"fault": "SIGTERM", "at_step": step, "in_validation": in_validation}
    done = torchrun("-c", config(trainer={"args": fault}), script=SCRIPT)
    said = done.stdout + done.stderr
    assert done.returncode == 1, said  # torchrun's own: its processes ended with 143
    (stopped_at,) = re.findall(r"Saved after step (\d+)\.", said)
    assert int(stopped_at) >= step
    codes = re.findall(r"exitcode\s*: (-?\d+)", said)
    assert codes[-1] == "143" and set(codes) <= {"143", "-15"}  # torchrun ends one that leaves later
    run = project.run_dirs()[-1]
    done = torchrun("-r", run, script=SCRIPT, env={"FAULT": "off"})
    assert done.returncode == 0, done.stdout + done.stderr
    assert_same_run(run, whole)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGUSR1, 138)])
def test_a_signal_to_the_agent_saves_the_run_once(project, config, tmp_path, number, code):
    agent = start_torchrun(
        "-c", config(trainer={"args": {"seconds": 0.1}, "epochs": 50}), script=SCRIPT, agent=("--standalone", SIGNALS)
    )
    run = run_dir_with(tmp_path, "New run", agent)
    time.sleep(2)
    agent.send_signal(number)
    said, _ = agent.communicate(timeout=60)
    assert said.count("Saved after step") == 1
    assert agent.returncode != 0
    step = int(re.search(r"Saved after step (\d+)", said)[1])
    assert load(run / "last.pth")["step"] == step > 0


def test_ranks_whose_agent_is_killed_save_and_end(project, config, tmp_path):
    trainer = {"args": {"seconds": 0.1}, "epochs": 50, "save_steps": 2}
    agent = start_torchrun("-c", config(trainer=trainer), script=SCRIPT)
    run = run_dir_with(tmp_path, "New run", agent)
    wait_for(lambda: (run / "checkpoint-step2.pth").exists(), "a step")
    ranks = ranks_of(agent)
    stop(agent, signal.SIGKILL)
    wait_for(lambda: not any(Path(f"/proc/{rank}").exists() for rank in ranks), "the end of the ranks", seconds=30)
    agent.communicate()
    assert len(ranks) == 2 and "Saved after step" in (run / "train.log").read_text()


def test_a_rank_that_raises_ends_the_run_with_its_traceback(project, config):
    start = time.monotonic()
    done = torchrun("-c", config(trainer={"args": {"fault": "raise"}}), script=SCRIPT)
    said = done.stdout + done.stderr
    assert done.returncode == 1 and time.monotonic() - start < 60
    assert said.count("KeyError: 'what rank 1 misses'") == 1
    assert "error: rank 1 of 2 has ended." in said
    assert load(project.run_dirs()[-1] / "last.pth")["step"] == 0


def test_a_rank_that_is_killed_is_started_again_and_ends_the_same(project, config, whole, times):
    for _ in range(times(1, 3)):
        fault = {"fault": "SIGKILL", "at_step": 14}
        done = torchrun(
            "-c", config(trainer={"args": fault, "save_steps": 4}), script=SCRIPT,
            agent=("--standalone", "--max-restarts=1"),
        )  # fmt: skip
        said = done.stdout + done.stderr
        assert done.returncode == 0, said
        assert "Going on after step 12, within epoch 2" in said
        assert_same_run(project.run_dirs()[-1], whole)


def test_a_rank_that_hangs_is_named(project, config):
    settings = {"type": "ddp", "args": {"timeout_minutes": 0.1}}
    agent = start_torchrun("-c", config(trainer={"args": {"fault": "hang"}}, parallel=settings), script=SCRIPT)
    message = "error: rank 1 of 2 has not answered for 0.1 minutes (parallel.args.timeout_minutes): it hangs."
    said = list(takewhile(lambda line: message not in line, agent.stdout))
    hanging = ranks_of(agent)[-1]
    assert agent.poll() is None, "".join(said)
    stop(hanging, signal.SIGKILL)  # as torchrun would, half a minute later
    assert "[rank0]: Traceback" not in "".join(said) + agent.communicate(timeout=60)[0] and agent.returncode == 1


def test_a_rank_without_a_batch_ends_the_run_and_says_why(project, config):
    done = torchrun("-c", config(dataset="BadSample"), script=SCRIPT)
    said = done.stdout + done.stderr
    assert done.returncode == 1
    assert len(re.findall(r"error: the train samples, pass 1, batch \d+: sample 700: ", said)) == 1
    assert re.search(r"error: rank [01] of 2 has ended\.|\[rank 1\] error: ", said)


def test_what_is_not_finite_on_one_rank_stops_all(project, config):
    done = torchrun("-c", config(trainer={"args": {"fault": "nan", "at_step": 3}}), script=SCRIPT)
    said = done.stdout + done.stderr
    assert done.returncode == 1
    assert said.count("error: step 3 (batch 3 of epoch 1") == 1


def test_streams_of_unequal_length_end_together(project, config):
    dataset = {"type": "Stream", "args": {"counts": [1259 // 2, 500]}}
    done = torchrun("-c", config(dataset=dataset), script=SCRIPT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line["step"] for line in metrics_of(project.run_dirs()[-1])] == [8, 16]  # 500 samples in batches of 64


def test_fewer_validation_samples_than_processes(project, config):
    done = torchrun("-c", config(dataset="FewToValidate", trainer={"monitor": "min val_loss"}), script=SCRIPT)
    assert done.returncode == 0, done.stdout + done.stderr
    run = project.run_dirs()[-1]
    assert load(run / "last.pth")["step"] == 20 and all(line["val_accuracy"] in (0, 1) for line in metrics_of(run))


@pytest.mark.parametrize(
    ("args", "where"),
    [
        (
            {"users": 1},
            "error: parallel: model.spare.bias, model.spare.weight: no gradient in the first step of a process.",
        ),
        (
            {"users": 0},
            "error: parallel: model.spare.bias, model.spare.weight: no gradient in the first step of a process.",
        ),
        ({"users": 0, "from_step": 12}, "got no gradient, and ddp waits for one from each parameter."),
    ],
)
def test_a_parameter_without_a_gradient_is_named_and_not_waited_for(project, config, args, where):
    section = {"type": "WithSpare", "args": {"num_classes": 10} | args}
    done = torchrun("-c", config(model=section, trainer={"type": "Trainer"}), script=SCRIPT)
    said = done.stdout + done.stderr
    assert done.returncode == 1 and where in said and '"find_unused_parameters": true' in said
    assert "spare.weight" in said and (project.run_dirs() == []) == ("from_step" not in args)


def test_a_parameter_that_is_thawed_is_not_trained_apart(project, config):
    done = torchrun("-c", config(trainer={"type": "Thawing", "args": {}, "epochs": 2}), script=SCRIPT)
    said = done.stdout + done.stderr
    assert done.returncode == 1 and "error: parallel: fc1.weight, fc1.bias did not train when the run started" in said
    assert load(project.run_dirs()[-1] / "last.pth")["epoch"] == 1


@pytest.mark.parametrize("ranks", [[0], [1], [0, 1]])
def test_what_fails_after_the_training_phase_on_some_processes_leaves_it(project, config, ranks):
    start = config(trainer={"type": "Thawing", "args": {"fails_at": ranks}, "epochs": 1})
    done = torchrun("-c", start, script=SCRIPT)
    said = done.stdout + done.stderr
    run = project.run_dirs()[-1]
    assert done.returncode == 1 and "KeyError: 'no such figure'" in said
    state = load(run / "last.pth")
    assert state["epoch"] == 1 or state["epoch_so_far"]["trained"], said  # the first process may have ended the epoch
    done = torchrun("-r", run, script=SCRIPT, env={"FAULT": "off"})
    assert done.returncode == 0 and load(run / "last.pth")["epoch"] == 1, done.stdout + done.stderr


def test_a_wrong_config_is_told_once(project):
    done = torchrun("-c", project.write_config(trainer={"epochs": 0}))
    said = done.stdout + done.stderr
    assert said.count("error: ") == 1 and "trainer.epochs: " in said
    assert project.run_dirs() == []


def test_what_several_processes_cannot_do(project, monkeypatch):
    monkeypatch.setenv("RANK", "0")
    for name, value in {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    message = "argument --overfit: is for one process. Start it without torchrun"
    assert message in project.refused_config("--overfit", "2")


@pytest.mark.parametrize(
    ("loader", "message"),
    [
        (
            {"batch_size": 64, "sampler": "DistributedSampler"},
            "data_loader.sampler: each process has its part already. Leave DistributedSampler out.",
        ),
        ({"batch_size": 1}, "data_loader.batch_size: 1 samples cannot be shared among 2 processes."),
    ],
)
def test_loaders_that_several_processes_cannot_have(project, monkeypatch, loader, message):
    plan = make_plan(load_config(project.write_config(data_loader=loader)))
    monkeypatch.setenv("RANK", "0")
    for name, value in {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=re.escape(message)):
        make_batches(Digits("train"), "train", 0, plan.loader_options)


def test_two_agents_make_one_run(project, config):
    """As two machines do, by one rendezvous; here both are this one."""
    agent = ("--nnodes=2", "--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:29713", "--rdzv-id=test")
    path = config()
    start = partial(start_torch_distributed_run, "-c", path, processes=1, script=SCRIPT, agent=agent)
    agents = [start() for _ in range(2)]
    said = [agent.communicate(timeout=120)[0] for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0], said
    (run,) = project.run_dirs()
    assert sorted(text.count("New run in") for text in said) == [0, 1]
    assert [line["epoch"] for line in metrics_of(run)] == [1, 2]
