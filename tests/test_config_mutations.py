"""Good configs with one key dropped, renamed or retyped: never a traceback, never a success that changes what runs."""

import copy
import json
import re
from collections import Counter

import jsonschema
import pytest
from conftest import ROOT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from base.build import build_trainer
from base.checks.preflight import check_before_training
from utils.config.frame import check_frame, with_defaults
from utils.config.json_schema import SCHEMA
from utils.config.loading import load_config, with_long_sections
from utils.config.places import Places
from utils.config.plan import make_plan
from utils.distributed.devices import Devices
from utils.errors import BatchError, UserError

DEFAULT = json.loads((ROOT / "tests" / "config.json").read_text())
SMALL = {"type": "LeNet", "args": {"num_classes": 10, "channels": [4, 8], "hidden": 16, "dropout": 0.1}}
FULL = DEFAULT | {
    "model": SMALL
    | {"init": {"type": "kaiming_normal_", "args": {"nonlinearity": "relu"}}, "strict": True, "freeze": ["conv1.*"]},
    "dataset": {
        "type": "Digits",
        "args": {
            "train_transform": [
                {"type": "RandomShift", "args": {"padding": 1}},
                {"type": "RandomApply", "args": {"transforms": [{"type": "RandomHorizontalFlip"}], "p": 0.5}},
            ]
        },
    },
    "data_loader": {
        "batch_size": 64,
        "batch_sampler": {
            "type": "BatchSampler",
            "args": {"sampler": {"type": "RandomSampler", "args": {"num_samples": 640}}, "drop_last": True},
        },
        "pin_memory": False,
    },
    "loss": {"type": "NLLLoss", "args": {"ignore_index": -100}},
    "optimizer": {
        "type": "SGD",
        "args": {"lr": 0.1, "momentum": 0.9, "nesterov": True},
        "groups": [{"params": "*.bias", "weight_decay": 0.0}],
    },
    "lr_scheduler": {
        "type": "SequentialLR",
        "interval": "step",
        "args": {
            "schedulers": [
                {"type": "LinearLR", "args": {"start_factor": 0.1, "total_iters": 5}},
                {"type": "CosineAnnealingLR", "args": {"T_max": 600}},
            ],
            "milestones": [5],
        },
    },
}
CONFIGS = [DEFAULT | {"model": SMALL}, FULL]
VALUES = ["text", "", 1.5, -1, 0, 2**100, True, False, None, [], {}, [1, "a"], {"type": "LeNet"}]
VALIDATOR = jsonschema.Draft7Validator(json.loads((ROOT / SCHEMA).read_text()))


def paths(value, path=()):
    """Each key of a config, in lists, too."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from paths(item, (*path, key))


def holder_of(config, path):
    for key in path[:-1]:
        config = config[key]
    return config


@st.composite
def mutations(draw):
    config = copy.deepcopy(draw(st.sampled_from(CONFIGS)))
    path = draw(st.sampled_from(sorted(paths(config), key=str)))
    holder, key = holder_of(config, path), path[-1]
    kind = draw(st.sampled_from(["drop", "rename", "retype"]))
    if kind == "rename" and isinstance(holder, dict):
        holder[draw(st.sampled_from([key + "s", key[:-1], key.upper(), key[::-1] + "x"]))] = holder.pop(key)
    elif kind == "retype":
        old = holder[key]
        holder[key] = draw(st.sampled_from([value for value in [*VALUES, json.dumps(old), [old]] if value != old]))
    else:
        kind = "drop"
        del holder[key]
    return kind, path, config


@pytest.fixture
def accepted(tmp_path):
    """Whether a config is accepted, up to the first batch; what it then is, resolved."""

    def check(config):
        path, places = tmp_path / "config.json", Places()
        path.write_text(json.dumps(config))
        try:
            with places:
                read = load_config(path, places)
                check_frame(read, places)
                plan = make_plan(read, places)
                trainer = build_trainer(plan, Devices(), ["train", "valid"])
                check_before_training(trainer)
        except (UserError, BatchError) as error:
            lines = str(error).splitlines()
            assert lines and all(
                re.match(rf"{path}:\d|What|The (first|last) (train|valid) batch|the (train|valid) samples|  ", line)
                for line in lines
            ), lines
            return None
        return plan.config

    return check


@pytest.mark.faults
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.timeout(3600)
def test_a_mutated_config_is_refused_or_runs_as_it_says(accepted, times):
    outcomes = Counter()

    @settings(max_examples=times(500, 3000), deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(mutation=mutations())
    def check(mutation):
        kind, path, config = mutation
        resolved = accepted(config)
        outcomes["refused" if resolved is None else "accepted"] += 1
        if resolved is None:
            return
        assert kind != "rename", path
        assert not list(VALIDATOR.iter_errors(config)), (path, config)
        assert resolved == with_defaults(with_long_sections(config)), (
            "every value as it was written, and defaults for the rest"
        )

    check()
    print(dict(outcomes))


def test_the_good_ones_are_good(accepted):
    assert all(accepted(config) for config in CONFIGS)
