"""Train a model as a config says, or continue a run.

python train.py -c config.json
python train.py -r saved/NAME/RUN_ID
"""

import utils  # noqa: F401 - first, since it says what is wrong with the start itself
from utils.config.arguments import parse_arguments
from utils.config.loading import config_text
from utils.config.reading import config_of
from utils.exit_codes import exit_code_of
from utils.extras import extra

# Each is short for --set KEY=VALUE. Add yours here.
SHORT_OPTIONS = {"--lr": "optimizer.args.lr", "--bs": "data_loader.batch_size"}


def main(argv=None):
    args = parse_arguments(__doc__, SHORT_OPTIONS, argv)
    if args.folds or args.seeds:
        return extra("multi_run", "--folds" if args.folds else "--seeds").each_run(args, train)
    with config_of(args) as (config, places):
        train(args, config, places)


def train(args, config, places):
    """Train, or do what a tool does in the place of training."""
    import logging

    from base.base_model import summary
    from base.build import build_trainer
    from base.checkpoints import Checkpoints
    from base.checks.anomaly import detect_anomaly
    from base.checks.choose import tool_of
    from base.checks.preflight import check_before_training
    from logger.console import messages_to_file, messages_to_screen
    from logger.open_writers import open_writers
    from utils.checkpoints.auto import new_run_dir
    from utils.checkpoints.lock import RunLock
    from utils.checkpoints.resume import read_source
    from utils.distributed.devices import select_devices
    from utils.distributed.processes import connected

    log = logging.getLogger("train")
    with messages_to_screen(), connected(), RunLock() as lock, detect_anomaly(args.anomaly):
        plan, checkpoint, source = read_source(config, args.resume, args.set, lock, places, args.init_from)
        if args.tool == "print-config":
            return print(config_text(plan.config), end="")
        options, is_new = plan.run_options, checkpoint is None
        devices = select_devices(plan.top.n_gpu, args.device, plan.parallel.build())
        trainer = build_trainer(plan, devices, ["train", "valid"], is_new, args.init_from)
        if checkpoint:
            trainer.load_state_dict(checkpoint, str(source))
            checkpoint.clear()  # or it would stay in memory beside the model
        if tool := tool_of(args, options.save_dir, plan.top.name):
            return tool(trainer)
        if trainer.is_finished:
            return log.info("%s is finished: %s", source and source.parent, trainer.why_finished())
        check_before_training(trainer)
        run_dir = source.parent if source else new_run_dir(plan, lock, args.resume)
        with messages_to_file(run_dir):
            log.info("%s in %s", f"Going on after {trainer.position}" if source else "New run", run_dir)
            log.info(summary(trainer.stateful()["model"]))
            checkpoints = Checkpoints(run_dir, options, plan.config, lock)
            checkpoints.start(trainer, source)
            writers = open_writers(run_dir, options.tensorboard, plan.config, trainer.epochs_done, trainer.step)
            trainer.train(checkpoints, writers)


if __name__ == "__main__":
    raise SystemExit(exit_code_of(main))
