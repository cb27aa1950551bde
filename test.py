"""Score a checkpoint on a split, with the config saved beside it.

    python test.py -r saved/NAME/RUN_ID

The last line on stdout is one JSON object of metrics.
"""

import argparse
import sys
from pathlib import Path

from utils.distributed import world_size
from utils.errors import exit_code_of


def parse_arguments(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
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

    from torch import Tensor, nn

    from logger.console import messages_to_screen
    from logger.predictions import Predictions
    from logger.tables import matrix_table
    from logger.writers import to_json
    from train import build_trainer
    from utils.config.places import Places
    from utils.config.plan import make_plan
    from utils.device import select_devices
    from utils.distributed import connected, is_first
    from utils.errors import UserError
    from utils.paths import shown_path
    from utils.resume import saved_config
    from utils.run_checkpoints import BEST, open_checkpoint

    if args.predictions and not (folder := Path(args.predictions).absolute().parent).is_dir():
        raise UserError(f"--predictions: there is no folder {folder}.")
    with messages_to_screen(), connected(), Places() as places:
        path, checkpoint = open_checkpoint(args.resume, prefer=BEST)
        plan = make_plan(saved_config(path, checkpoint, args.set, places), places)
        devices = select_devices(plan.top.n_gpu, args.device, plan.parallel.build())
        trainer = build_trainer(plan, devices, [args.split])
        if args.split not in trainer.run.batches:
            raise UserError(f"--split {args.split}: the data set has no samples there.")
        trainer.load_state_dict(checkpoint, shown_path(path), names=trainer.parts(nn.Module))
        if args.predictions:
            predictions = trainer.metrics.objects["--predictions"] = Predictions()
        values = trainer.evaluate(args.split)
        if args.predictions:
            dataset = trainer.run.batches[args.split].dataset
            predictions.write(Path(args.predictions), getattr(dataset, "sample_numbers", None))
            del values["--predictions"]
    if not is_first():
        return
    print(f"{shown_path(path)}, epoch {checkpoint['epoch']}, split {args.split}")
    for name, value in values.items():
        if isinstance(value, Tensor) and value.dim() == 2:
            print(f"\n{name}\n{matrix_table(value)}")
    print(to_json({name: value for name, value in values.items() if not isinstance(value, Tensor)}))


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
