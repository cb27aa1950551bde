"""Look at the data before training: one batch of a config, as the model gets it, and the classes of each split.

    python -m data_loader -c config.json

Images are drawn to a PNG. Of a data set with `decode(inputs)`, a text for each sample, the texts are printed.
"""

import argparse
import sys
from pathlib import Path

from utils.config.parser import Parser
from utils.exit_codes import exit_code_of

SPLITS = ("train", "valid", "test")


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = Parser(
        prog="python -m data_loader", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-c", "--config", metavar="FILE", required=True, help="the config of a run, JSON or YAML")
    parser.add_argument("--split", choices=SPLITS, default="train", help="which split the batch is of")
    parser.add_argument(
        "--out", metavar="FILE", type=Path, default=Path("saved/batch.png"), help="where images are drawn"
    )
    parser.add_argument("--set", metavar="KEY=VALUE", nargs="+", action="extend", default=[], help="change the config")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_arguments(argv)

    from base.build import build_trainer
    from data_loader.look import described, described_split, named_values, show
    from logger.console import messages_to_screen
    from utils.config.places import Places
    from utils.config.plan import make_plan
    from utils.config.reading import read_config
    from utils.distributed.devices import Devices
    from utils.encoding import print_visible
    from utils.errors import UserError
    from utils.paths import usable_path

    with messages_to_screen(), Places() as places:
        plan = make_plan(read_config(args.config, args.set, places), places)
        trainer = build_trainer(plan, Devices(), SPLITS)  # which may bring what a data set needs, such as a vocabulary
        if args.split not in trainer.run.batches:
            raise UserError(f"--split {args.split}: the data set has no samples there.")
        args.out = usable_path(args.out)
        if args.out.is_dir():
            raise UserError(f"--out {args.out}: is a folder. Name a file: --out {args.out / 'batch.png'}.")
        if not args.out.absolute().parent.is_dir():
            raise UserError(f"--out {args.out}: there is no such folder.")
        chosen = trainer.run.batches[args.split]
        batch = chosen.trial()
        for split, batches in trainer.run.batches.items():
            print_visible(f"{split}: {described_split(batches)}")
    print(f"\nthe first batch of {args.split}:")
    for name, value in named_values(batch):
        print_visible(f"  {name or 'batch':12} {described(value)}")
    show(batch, chosen.dataset, args.out)


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
