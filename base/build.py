"""Build every part of a run by name, in the order in which the parts need each other."""

from collections.abc import Sequence
from typing import cast

from base.base_trainer import BaseTrainer
from base.lr_schedule import LRSchedule
from base.run import Run
from logger.metrics import Metrics
from utils.batches.folds import make_datasets
from utils.batches.loaders import make_batches_of_splits
from utils.config.plan import Plan
from utils.distributed.devices import Devices
from utils.modules.auto_tuning import fused_if_possible, in_memory_format, with_safe_kernels
from utils.modules.parameter_groups import parameter_groups
from utils.modules.weights import prepared
from utils.seed import seed_everything


def build_trainer(
    plan: Plan, devices: Devices, splits: Sequence[str], is_new: bool = False, init_from: str | None = None
) -> BaseTrainer:
    """Build a trainer with the data of some splits.

    `is_new`: the run starts here, so that the weights that its config names are loaded; `init_from`: or those of this
    run or checkpoint.

    Raises:
        UserError: a part refuses its arguments, or a file cannot be used.
    """
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
    parts = {"model": model, "loss_fn": loss_fn, "optimizer": optimizer, "lr_scheduler": lr_scheduler}
    return cast(BaseTrainer, plan.trainer.build(run=run, **parts))
