"""A workload's training as it is written without the template: by hand, and with three frameworks.

Each tells its steps to a `Meter`, when it is within an epoch's training loop (without set-up and saving), and the mean
loss of the epoch. All log to TensorBoard and redraw their bar every 20 steps, and save a checkpoint an epoch. One to a
process: frameworks keep global state.
"""

import logging
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision import transforms
from torchvision.datasets import FashionMNIST
from tqdm import tqdm

from benchmarks.measure import Meter
from benchmarks.workloads import ROOT, Batched, Workload
from data_loader.splits import stratified_split

LOG_STEPS = 20


class Images(Dataset):
    """PIL images and their classes, transformed one at a time."""

    def __init__(self, workload: Workload, transform: Callable):
        pixels, targets = workload.pixels()
        self.images = [Image.fromarray(image) for image in pixels.permute(0, 2, 3, 1).squeeze(-1).numpy()]
        self.targets = targets.tolist()
        self.transform = transform

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.transform(self.images[index]), self.targets[index]


def peer_loader(workload: Workload, is_batched: bool) -> DataLoader:
    """Shuffled (inputs, targets). `is_batched`: whole batches, never augmented; else sample by sample."""
    torch.manual_seed(1)
    options = {"batch_size": workload.batch_size, "shuffle": True}
    if workload.device == "cuda":  # as many as the template takes there
        options |= {"num_workers": 4, "persistent_workers": True, "pin_memory": True}
    if is_batched:
        return DataLoader(Batched(workload), collate_fn=lambda batch: batch, **options)
    to_input = [transforms.ToTensor(), transforms.Normalize(workload.mean, workload.std)]
    if workload.dataset["type"] == "FashionMNIST":
        whole = FashionMNIST(str(ROOT / "data"), train=True, transform=transforms.Compose(to_input))
        chosen, _ = stratified_split(whole.targets, workload.dataset["args"]["valid_size"], 0)
        dataset = Subset(whole, chosen.tolist())
    else:
        size = workload.dataset["args"]["size"]
        augment = [transforms.RandomCrop(size, padding=4), transforms.RandomHorizontalFlip()]
        dataset = Images(workload, transforms.Compose([*augment, *to_input]))
    return DataLoader(dataset, **options)


def loop(workload, meter, model, optimizer, loader, backward, log, save) -> None:
    """The loop that people write. `backward(loss)`, `log(scalars, step)` and `save()` are what accelerate replaces."""
    step = 0
    for epoch in range(workload.epochs):
        meter.start_epoch()
        model.train()
        sums = Counter()
        bar = tqdm(loader, desc=f"Epoch {epoch + 1}")
        for batch in bar:
            inputs, targets = (tensor.to(workload.device, non_blocking=True) for tensor in batch)
            optimizer.zero_grad()
            outputs = model(inputs)
            loss = workload.loss_fn(outputs, targets)
            backward(loss)
            optimizer.step()
            sums["loss"] += loss.item() * len(targets)
            for name, value in workload.metrics(outputs.detach(), targets).items():
                sums[name] += value.item() * len(targets)
            step += 1
            meter.step()
            if step % LOG_STEPS == 0:
                log({"loss": loss.item(), "lr": optimizer.param_groups[0]["lr"]}, step)
                bar.set_postfix(loss=loss.item())
        means = {name: value / workload.samples for name, value in sums.items()}
        log({f"epoch/{name}": value for name, value in means.items()}, epoch)
        meter.end_epoch()
        meter.loss(means["loss"])
        save()


def hand_written(workload: Workload, folder: Path, meter: Meter, is_batched: bool) -> None:
    from torch.utils.tensorboard import SummaryWriter

    model = workload.make_model().to(workload.device)
    optimizer = workload.make_optimizer(model)
    loader = peer_loader(workload, is_batched)

    def log(scalars, step):
        for name, value in scalars.items():
            writer.add_scalar(name, value, step)

    def save():
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, folder / "checkpoint.pt")

    with SummaryWriter(folder) as writer:
        loop(workload, meter, model, optimizer, loader, torch.Tensor.backward, log, save)


def accelerate(workload: Workload, folder: Path, meter: Meter, is_batched: bool) -> None:
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=workload.device == "cpu", log_with="tensorboard", project_dir=folder)
    accelerator.init_trackers("logs")
    model = workload.make_model()
    optimizer = workload.make_optimizer(model)
    loader = peer_loader(workload, is_batched)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)

    def save():
        accelerator.save_state(folder / "checkpoint")

    loop(workload, meter, model, optimizer, loader, accelerator.backward, accelerator.log, save)
    accelerator.end_training()


def ignite(workload: Workload, folder: Path, meter: Meter, is_batched: bool) -> None:
    from ignite.engine import Events, create_supervised_trainer
    from ignite.handlers import ModelCheckpoint, ProgressBar, TensorboardLogger
    from ignite.metrics import Accuracy, Loss, TopKCategoricalAccuracy

    model = workload.make_model().to(workload.device)
    optimizer = workload.make_optimizer(model)
    loader = peer_loader(workload, is_batched)
    trainer = create_supervised_trainer(
        model,
        optimizer,
        workload.loss_fn,
        workload.device,
        non_blocking=True,
        output_transform=lambda _, targets, outputs, loss: (outputs, targets, loss),
    )
    trainer.add_event_handler(Events.EPOCH_STARTED, meter.start_epoch)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, meter.step)
    metrics = {  # the loss is the step's own: no second computation
        "loss": Loss(lambda loss, _: loss, output_transform=lambda output: (output[2], output[1])),
        "accuracy": Accuracy(output_transform=lambda output: output[:2]),
        "top_k_accuracy": TopKCategoricalAccuracy(k=3, output_transform=lambda output: output[:2]),
    }
    for name, metric in metrics.items():
        metric.attach(trainer, name)
    now_and_then = Events.ITERATION_COMPLETED(every=LOG_STEPS)
    step_loss = {"output_transform": lambda output: {"loss": output[2].item()}}
    ProgressBar().attach(trainer, event_name=now_and_then, **step_loss)
    with TensorboardLogger(log_dir=folder) as logger:
        logger.attach_output_handler(trainer, now_and_then, tag="step", **step_loss)
        logger.attach_opt_params_handler(trainer, now_and_then, optimizer)
        logger.attach_output_handler(trainer, Events.EPOCH_COMPLETED, tag="epoch", metric_names=list(metrics))
        trainer.add_event_handler(Events.EPOCH_COMPLETED, meter.end_epoch)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: meter.loss(trainer.state.metrics["loss"]))
        checkpoint = ModelCheckpoint(folder / "checkpoints", require_empty=False)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, checkpoint, {"model": model, "optimizer": optimizer})
        trainer.run(loader, max_epochs=workload.epochs)


def lightning_module(workload: Workload):
    from lightning import LightningModule

    class Module(LightningModule):
        def __init__(self):
            super().__init__()
            self.model = workload.make_model()

        def training_step(self, batch, _):
            inputs, targets = batch
            outputs = self.model(inputs)
            loss = workload.loss_fn(outputs, targets)
            count = len(targets)
            self.log("loss", loss, on_step=True, on_epoch=True, prog_bar=True, batch_size=count)
            metrics = workload.metrics(outputs.detach(), targets)
            self.log_dict(metrics, on_step=False, on_epoch=True, batch_size=count)
            return loss

        def configure_optimizers(self):
            return workload.make_optimizer(self.model)

    return Module()


def lightning(workload: Workload, folder: Path, meter: Meter, is_batched: bool) -> None:
    from lightning import Trainer
    from lightning.pytorch.callbacks import LambdaCallback, LearningRateMonitor, ModelCheckpoint, TQDMProgressBar
    from lightning.pytorch.loggers import TensorBoardLogger

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", ".*(does not have many workers|LeafSpec)")

    def end_epoch(trainer, _):
        meter.end_epoch()
        meter.loss(trainer.callback_metrics["loss_epoch"].item())

    trainer = Trainer(
        accelerator=workload.device,
        devices=1,
        max_epochs=workload.epochs,
        log_every_n_steps=LOG_STEPS,
        enable_model_summary=False,
        logger=TensorBoardLogger(folder),
        callbacks=[
            LambdaCallback(
                on_train_epoch_start=lambda *_: meter.start_epoch(),
                on_train_batch_end=lambda *_: meter.step(),
                on_train_epoch_end=end_epoch,
            ),
            LearningRateMonitor("step"),
            ModelCheckpoint(folder / "checkpoints"),
            TQDMProgressBar(refresh_rate=LOG_STEPS),
        ],
    )
    trainer.fit(lightning_module(workload), peer_loader(workload, is_batched))


PEERS = {"hand-written": hand_written, "ignite": ignite, "accelerate": accelerate, "lightning": lightning}
