"""Train a model as a config says, or continue a run.

python train.py -c config.json
python train.py -r saved/NAME/RUN_ID
"""

import utils  # noqa: F401 - first, since it says what is wrong with the start itself
from logger.scoring import score
from utils.config.arguments import parse_arguments
from utils.config.loading import config_text
from utils.config.reading import config_of
from utils.errors import exit_code_of
from utils.several import each_run

# Each is short for --set KEY=VALUE. Add yours here.
SHORT_OPTIONS = {"--lr": "optimizer.args.lr", "--bs": "data_loader.batch_size"}


def main(argv=None):
    def start(args):
        with config_of(args) as (config, places):
            run(args, config, places)

    each_run(parse_arguments(__doc__, SHORT_OPTIONS, argv), start, lambda args: score(build_trainer, args))


def run(args, config, places):
    """Train, or do what a tool does in the place of training."""
    import logging

    from base.base_model import summary
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


def build_trainer(plan, devices, splits, is_new=False, init_from=None):
    """Every part by name, in the order in which they need each other."""
    from base.lr_schedule import LRSchedule
    from base.run import Run
    from logger.metrics import Metrics
    from utils.batches.folds import make_datasets
    from utils.batches.loaders import make_batches_of_splits
    from utils.modules.auto_tuning import fused_if_possible, in_memory_format, with_safe_kernels
    from utils.modules.parameter_groups import parameter_groups
    from utils.modules.weights import prepared
    from utils.seed import seed_everything

    seed_everything(plan.top.seed)
    datasets = make_datasets(plan.dataset.build, splits, plan.dataset.extras.fold)
    batches = make_batches_of_splits(datasets, plan.top.seed, plan.loader_options, devices.main)
    metrics = Metrics({name: metric.build() for name, metric in plan.metrics.items()}).to(devices.main)
    model = prepared(plan.model.build(), plan.model.extras, plan.model.target, is_new, init_from)
    targets = [part.target for part in (plan.optimizer, plan.trainer, plan.loss)]
    model = in_memory_format(devices.share(model), plan.model.extras.channels_last, batches, *targets)
    loss_fn = devices.move(plan.loss.build())
    fused = fused_if_possible(plan.optimizer.target, plan.optimizer.args, model)
    groups = parameter_groups(model, plan.optimizer.extras.groups or ())
    optimizer = with_safe_kernels(plan.optimizer.build(params=groups, **fused))
    lr_scheduler = LRSchedule(plan.lr_scheduler.build(optimizer=optimizer), plan.lr_scheduler.extras.interval)
    run = Run(plan.run_options, batches, metrics, devices, plan.top.seed)
    return plan.trainer.build(run=run, model=model, loss_fn=loss_fn, optimizer=optimizer, lr_scheduler=lr_scheduler)


if __name__ == "__main__":
    raise SystemExit(exit_code_of(main))
