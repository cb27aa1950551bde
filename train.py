"""Train a model as a config says, or continue a run.

python train.py -c config.json
python train.py -r saved/NAME/RUN_ID
"""

import argparse
import logging
import sys

from utils.errors import exit_code_of

# Each is short for --set KEY=VALUE. Add yours here.
SHORT_OPTIONS = {"--lr": "optimizer.args.lr", "--bs": "data_loader.batch_size"}


def parse_arguments(argv=None):
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form, allow_abbrev=False)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("-c", "--config", metavar="FILE", help="start a run with this config")
    source.add_argument("-r", "--resume", metavar="RUN", help="continue this run directory, or from this checkpoint")
    parser.add_argument("-d", "--device", help="cpu, cuda, mps, or GPU numbers such as 0,1; else n_gpu decides")
    parser.add_argument("--init-from", metavar="FILE", help="start with the weights of this checkpoint")
    parser.add_argument("--set", metavar="KEY=VALUE", nargs="+", action="extend", default=[], help="change the config")
    for option, key in SHORT_OPTIONS.items():
        assignment = (key + "={}").format
        parser.add_argument(
            option, dest="set", action="append", type=assignment, metavar="VALUE", help=f"--set {key}=VALUE"
        )
    args = parser.parse_args(argv)
    if args.resume and args.init_from:
        parser.error("argument --init-from: not allowed with argument -r/--resume, which has its own weights")
    return args


def main(argv=None):
    args = parse_arguments(argv)  # before the heavy imports, so that --help and typing errors show at once

    from base.base_model import summary
    from base.checkpoints import Checkpoints
    from base.preflight import check_before_training
    from logger.console import messages_to_file, messages_to_screen
    from logger.open_writers import open_writers
    from utils.checkpoint import drop_later, load_weights
    from utils.device import select_devices
    from utils.plan import make_plan
    from utils.resume import read_source, refuse_changes
    from utils.run_dir import LOG, create_run_dir, describe_run

    log = logging.getLogger("train")
    with messages_to_screen():
        config, checkpoint, run_dir = read_source(args.config, args.resume, args.set)
        plan = make_plan(config)
        if checkpoint:
            refuse_changes(make_plan(checkpoint["config"]).config, plan.config)
        trainer = build_trainer(plan, select_devices(plan.config["n_gpu"], args.device), ["train", "valid"])
        if checkpoint:
            trainer.load_state_dict(checkpoint, args.resume)
        if args.init_from:
            load_weights(trainer.stateful()["model"], args.init_from)
        if trainer.is_finished:
            log.info("%s is finished: %s", args.resume, trainer.why_finished())
            return
        check_before_training(trainer)
        run_dir = run_dir or create_run_dir(plan.run_options.save_dir, plan.config["name"])
        drop_later(run_dir, trainer.epoch, trainer.monitor.best_epoch)
        describe_run(run_dir, plan.config)
        with messages_to_file(run_dir / LOG):
            how = "New run" if not checkpoint else f"Going on after epoch {trainer.epoch}"
            log.info("%s in %s", how + f" from the weights of {args.init_from}" * bool(args.init_from), run_dir)
            log.info(summary(trainer.stateful()["model"]))
            writers = open_writers(run_dir, plan.run_options.tensorboard, plan.config, trainer.epoch, trainer.step)
            trainer.train(Checkpoints(run_dir, plan.run_options, plan.config), writers)


def build_trainer(plan, devices, splits):
    """Every part by name, in the order in which they need each other."""
    from base.lr_schedule import LRSchedule
    from base.run import Run
    from data_loader.loaders import make_batches_of_splits
    from logger.metrics import Metrics
    from utils.seed import seed_everything

    seed = plan.config["seed"]
    seed_everything(seed)
    datasets = {split: plan.dataset.build(split=split) for split in splits}
    batches = make_batches_of_splits(datasets, seed, plan.loader_options)
    metrics = Metrics({name: metric.build() for name, metric in plan.metrics.items()}).to(devices.main)
    model = plan.model.build().to(devices.main)
    loss_fn = devices.move(plan.loss.build())
    optimizer = plan.optimizer.build(params=[weight for weight in model.parameters() if weight.requires_grad])
    lr_scheduler = LRSchedule(plan.lr_scheduler.build(optimizer=optimizer), **plan.lr_scheduler.extra)
    run = Run(plan.run_options, batches, metrics, devices, seed)
    return plan.trainer.build(run=run, model=model, loss_fn=loss_fn, optimizer=optimizer, lr_scheduler=lr_scheduler)


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
