"""The arguments of `train.py`: those of the command, and the tools that try a config out."""

import re
from argparse import ArgumentParser, ArgumentTypeError, Namespace, RawDescriptionHelpFormatter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path

from utils.config.parser import Parser
from utils.distributed.processes import world_size
from utils.encoding import print_visible
from utils.errors import shown

_OF_FILES = dict.fromkeys((".json", ".yaml", ".yml"), "-c")  # the option of a file with this ending; of others, -r


def parse_arguments(description: str, short_options: Mapping[str, str], argv: Sequence[str] | None = None) -> Namespace:
    """`short_options`: names of options that are short for `--set KEY=VALUE`, with the key of each."""
    parser = Parser(description=description, formatter_class=RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("-c", "--config", metavar="FILE", help="start a run with this config, JSON or YAML")
    parser.add_argument("-r", "--resume", metavar="RUN", help="continue this run or checkpoint; auto: the newest of -c")
    parser.add_argument("-d", "--device", help="cpu, cuda, mps, or GPU numbers such as 0,1; else n_gpu decides")
    parser.add_argument("--init-from", metavar="FILE", help="where a run starts: with the weights of this checkpoint")
    parser.add_argument("--set", metavar="KEY=VALUE", nargs="+", action="extend", default=[], help="change the config")
    for option, key in short_options.items():
        parser.add_argument(option, dest="set", action="append", type=f"{key}={{}}".format, metavar="X", help=key)
    parser.add_argument(
        "--folds", metavar="K", type=_count, help="K runs, each validated on another part of the samples"
    )
    parser.add_argument("--seeds", metavar="S,S,...", type=_seeds, help="a run for each of these seeds")
    _add_tools(parser)
    args, unknown = parser.parse_known_args(argv)
    if unknown:
        parser.error(_what_was_meant(unknown, [name for action in parser._actions for name in action.option_strings]))
    if args.list:
        from utils.config.listing import listing

        print_visible(listing(args.list))
        parser.exit()
    _check(parser, args)
    return args


def _what_was_meant(unknown: Sequence[str], options: Iterable[str]) -> str:
    """What to write instead of unknown arguments. `options`: the known ones."""
    from utils.config.options import LoaderOptions, RunOptions, TopOptions

    name, equals, value = unknown[0].partition("=")
    value = value or next((argument for argument in unknown[1:2] if not argument.startswith("-")), "")
    if not name.startswith("-"):
        option = "--set" if equals else _OF_FILES.get(Path(name).suffix, "-r")
        return f"unknown argument {unknown[0]}. Write {option} {unknown[0]}"
    sections = {"": TopOptions, "trainer.": RunOptions, "data_loader.": LoaderOptions}
    keys = {item.name: f"{section}{item.name}" for section, own in sections.items() for item in fields(own)}
    keys |= {"learning_rate": "optimizer.args.lr"}
    meant = {key: f"--set {where}={value or 'VALUE'}" for key, where in keys.items()}
    meant |= {option.lstrip("-").replace("-", "_"): f"{option} {value}".rstrip() for option in options}
    near = get_close_matches(name.lstrip("-").replace("-", "_"), meant, n=1)
    return f"unknown argument {name}. " + (f"Write {meant[near[0]]}" if near else "--help lists those that are known")


def _add_tools(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("tools", "Each does one thing in place of training.")
    tools = group.add_mutually_exclusive_group()
    for name, what in {
        "check": "check the config, the data and one batch each way; write nothing",
        "print-config": "print the config with all defaults, as JSON",
        "profile": "time some steps, operator by operator, and write a trace",
        "fast-dev-run": "a whole run of one batch each way, of which nothing is kept",
        "replay": "repeat the step at which the run of -r came upon NaN",
    }.items():
        tools.add_argument(f"--{name}", dest="tool", action="store_const", const=name, help=what)
    tools.add_argument("--list", metavar="SECTION", help="print the names that this section may have as its type")
    tools.add_argument(
        "--overfit", metavar="N", type=_count, help="train on the same N batches until the loss is near zero"
    )
    parser.add_argument(
        "--limit-batches", metavar="N", dest="set", action="extend", type=_limits, help="N batches each way an epoch"
    )
    parser.add_argument("--anomaly", action="store_true", help="name the line whose gradient is NaN (slow)")


def _count(text: str) -> int:
    if not re.fullmatch(r"\d{1,9}", text) or int(text) < 1:
        raise ArgumentTypeError(f"found {shown(text)}. Write a whole number of at least 1 and below a billion.")
    return int(text)


def _seeds(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(re.fullmatch(r"\d{1,18}", part) for part in parts) or len(set(map(int, parts))) < len(parts):
        raise ArgumentTypeError(f"found {shown(text)}. Write whole numbers, each once, such as 1,2,3.")
    return [int(part) for part in parts]


def _limits(text: str) -> list[str]:
    return [f"trainer.{name}={_count(text)}" for name in ("epoch_steps", "valid_steps")]


def _check(parser: ArgumentParser, args: Namespace) -> None:
    goes_on = args.resume not in (None, "auto")
    if args.config and goes_on:
        parser.error("argument -r/--resume: a run has its own config, and only -r auto is allowed with -c/--config")
    if not args.config and not goes_on:
        parser.error("one of the arguments -c/--config -r/--resume is required, and with -r auto, both")
    if goes_on and Path(args.resume).suffix in _OF_FILES:
        parser.error(f"argument -r/--resume: RUN is a run directory or a checkpoint. Write -c {args.resume}")
    if args.init_from and goes_on:
        parser.error("argument --init-from: not allowed with argument -r/--resume, which has its own weights")
    if args.tool == "replay" and not goes_on:
        parser.error("argument --replay: needs -r/--resume with the run")
    for option in ("folds", "seeds"):
        if getattr(args, option) and (args.tool or args.overfit or args.resume):
            parser.error(f"argument --{option}: needs -c/--config alone; the same command again goes on with its runs")
        if getattr(args, option) and world_size() > 1:
            key = "dataset.fold=1/5" if option == "folds" else "seed=1"
            parser.error(f"argument --{option}: is for one process. With torchrun, a run at a time: --set {key}")
    if args.folds == 1:
        parser.error("argument --folds: found 1. Write a whole number of at least 2")
    if world_size() > 1 and (args.overfit or args.tool not in (None, "print-config", "fast-dev-run")):
        parser.error(f"argument --{args.tool or 'overfit'}: is for one process. Start it without torchrun")
    tool = args.tool if args.tool != "replay" else None
    if (tool or args.overfit) and args.resume:
        parser.error(f"argument --{tool or 'overfit'}: needs -c/--config alone, since it continues no run")
