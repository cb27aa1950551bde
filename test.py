"""Score a checkpoint on a split, with the config saved beside it.

    python test.py -r saved/NAME/RUN_ID

The last line on stdout is one JSON object of metrics.
"""

import argparse
import sys

from utils.config.parser import Parser
from utils.distributed.processes import world_size
from utils.exit_codes import exit_code_of


def parse_arguments(argv=None):
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("-r", "--resume", metavar="RUN", required=True, help="run directory (its best), or checkpoint")
    parser.add_argument("--split", choices=("test", "valid"), default="test")
    parser.add_argument("-d", "--device", help="cpu, cuda, mps, or GPU numbers such as 0,1; else n_gpu decides")
    parser.add_argument("--predictions", metavar="FILE", help="write what the model gives for each sample, as CSV")
    parser.add_argument("--set", metavar="KEY=VALUE", nargs="+", action="extend", default=[], help="change the config")
    args = parser.parse_args(argv)
    if args.predictions and world_size() > 1:
        parser.error("argument --predictions: is for one process. Start it without torchrun")
    return args


def main(argv=None):
    args = parse_arguments(argv)
    from base.build import build_trainer
    from logger.scoring import score

    score(build_trainer, args)


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
