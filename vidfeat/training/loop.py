"""The training loop: steps, evaluations, check-points.

Bit-identical resumption rests on four things: the order and all random numbers are functions of
the step (``order.py``), the threads of torch are fixed, a check-point is taken between two steps,
and everything that a step changes is in it.
"""

from __future__ import annotations

import math
import threading
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from vidfeat.datasets.base import VideoDataset
from vidfeat.errors import TrainingError
from vidfeat.training import checkpoint
from vidfeat.training.augment import mix, mixup_weights, smoothed_targets
from vidfeat.training.batches import Batch, augment_pixels, training_batches
from vidfeat.training.checkpoint import Checkpoint
from vidfeat.training.config import Recipe
from vidfeat.training.distributed import World
from vidfeat.training.evaluation import NetworkEvaluation, spread
from vidfeat.training.evaluation_step import advice, evaluate_step
from vidfeat.training.feed import Ahead, Feed, workers_of
from vidfeat.training.half_precision import (
    HALF,
    Context,
    Forward,
    autocast_of,
    check_first_step,
    run_in_fp32,
)
from vidfeat.training.log import RunLog
from vidfeat.training.network import (
    Average,
    freeze,
    make_optimizer,
    normalize,
    parameter_groups,
    training_mode,
)
from vidfeat.training.order import EpochOrder, Stream, generator, share
from vidfeat.training.schedule import learning_rate
from vidfeat.training.setup import CHECKPOINTS, RunData
from vidfeat.training.signals import on_sigterm


@dataclass
class _Step:
    """Sums over the clips of one step, over all processes."""

    loss: float
    correct: float
    clips: float
    failures: int
    stop: bool
    gradient_norm: float


class Trainer:
    """Trains one network.

    Args:
        recipe: settled (see ``setup.settle``).
        network: with the weights to start from.
        data: the videos.
        folder: of the run.
        world: this process among its fellows.
        log: takes the lines.
    """

    def __init__(
        self,
        recipe: Recipe,
        network: nn.Module,
        data: RunData,
        folder: Path,
        world: World,
        log: RunLog,
    ) -> None:
        self.recipe = recipe
        self.data = data
        self.folder = folder
        self.world = world
        self.log = log
        train = recipe.train
        torch.set_num_threads(recipe.run.threads)
        self.order = EpochOrder(train.seed, len(data.train), train.epoch_clips, train.batch)
        self.total_steps = train.epochs * self.order.steps_per_epoch
        self.step = 0
        self.saved_step = -1
        """Of the newest check-point."""
        self.best: dict[str, Any] = {}
        self._stop = threading.Event()
        self.autocast = partial(autocast_of, train.precision, world.device.type)
        self._precision_checked = train.precision not in HALF
        self._fp32_layers: list[str] | None = None
        self._prepare(network)

    def _prepare(self, network: nn.Module) -> None:
        recipe, world = self.recipe, self.world
        freeze(network, recipe)
        network.to(world.device)
        if recipe.train.channels_last:
            network.to(memory_format=torch.channels_last_3d)
        if recipe.train.sync_batch_norm and world.size > 1 and world.device.type == "cuda":
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
        self.network = network
        named = dict(network.named_parameters())
        self.groups = parameter_groups(network, recipe.train.layer_lr)
        self.optimizer = make_optimizer(
            recipe.train, [[named[name] for name in group.names] for group in self.groups]
        )
        self.average = (
            Average(network, recipe.train.ema_decay) if recipe.train.ema_decay > 0 else None
        )
        half = recipe.train.precision == "fp16" and world.device.type == "cuda"
        self.scaler = torch.amp.GradScaler(world.device.type, enabled=half)
        self.forward: nn.Module = network
        if recipe.train.compile:
            self.forward = torch.compile(network)  # type: ignore[assignment]
        if world.size > 1:
            devices = [world.device] if world.device.type == "cuda" else None
            self.forward = DistributedDataParallel(self.forward, device_ids=devices)

    def restore(self, saved: Checkpoint) -> None:
        """Go on from a check-point."""
        self.network.load_state_dict(saved.model)
        self.optimizer.load_state_dict(saved.optimizer)
        if self.average is not None and saved.average is not None:
            self.average.load(saved.average)
        if saved.scaler:
            self.scaler.load_state_dict(saved.scaler)
        self.step = self.saved_step = saved.step
        self.best = dict(saved.facts.get("best", {}))
        if "fp32_layers" in saved.facts:
            self._fp32_layers = list(saved.facts["fp32_layers"])
            run_in_fp32(self.network, self._fp32_layers, self.world.device.type)

    def save(self) -> None:
        """Write a check-point in the main process, and remove the older ones."""
        self.saved_step = self.step
        if not self.world.is_main:
            return
        began = time.perf_counter()
        folder = self.folder / CHECKPOINTS
        state = Checkpoint(
            step=self.step,
            model=self.network.state_dict(),
            optimizer=self.optimizer.state_dict(),
            average=None if self.average is None else self.average.state,
            scaler=self.scaler.state_dict(),
            facts={
                "epoch": self.step / self.order.steps_per_epoch,
                "batch": self.recipe.train.batch,
                "processes": self.world.size,
                "threads": self.recipe.run.threads,
                "device": self.world.device.type,
                "torch": torch.__version__,
                "best": self.best,
                **({} if self._fp32_layers is None else {"fp32_layers": self._fp32_layers}),
            },
        )
        path = checkpoint.write_checkpoint(folder, state)
        checkpoint.purge(folder, self.recipe.run.keep, [self.best["step"]] if self.best else [])
        seconds = time.perf_counter() - began
        self.log.write("checkpoint", step=self.step, name=path.name, seconds=seconds)

    def run(self, until: int | None = None) -> bool:
        """Train to the end, or until so many steps are done, or a SIGTERM comes.

        Returns:
            Whether the run is complete.

        Raises:
            TrainingError: the loss is no longer a number.
            DataError: of a whole batch not one clip could be read.
        """
        last = self.total_steps if until is None else min(until, self.total_steps)
        if self.step >= last:
            return self.step >= self.total_steps
        own = share(self.recipe.train.batch, self.world.rank, self.world.size)
        steps = range(self.step, last)
        training_mode(self.network, self.recipe)
        with on_sigterm(self._stop), self._feed() as feed:
            batches = training_batches(feed, self.order, self.data.train, self.recipe, steps, own)
            with Ahead(batches) as ahead:
                for batch in ahead:
                    if self._one(batch, ahead, own):
                        break
        return self.step >= self.total_steps

    def _one(self, batch: Batch, ahead: Ahead[Batch], own: tuple[int, int]) -> bool:
        """One step and what is due after it; returns whether to stop."""
        waited = ahead.waited_seconds
        ahead.waited_seconds = 0.0
        began = time.perf_counter()
        epoch = self.step // self.order.steps_per_epoch
        rate = self._set_learning_rate()
        if not self._precision_checked:
            self._check_precision(batch, own)
        done = self._train(batch, own)
        self.step += 1
        seconds = time.perf_counter() - began + waited
        self.log.write(
            "step",
            step=self.step,
            epoch=epoch,
            loss=done.loss / done.clips,
            accuracy=done.correct / done.clips,
            lr=rate,
            gradient_norm=done.gradient_norm,
            clips_per_second=done.clips / seconds,
            seconds=seconds,
            wait_share=waited / seconds,
            steps=self.total_steps,
            **({"unreadable": done.failures} if done.failures else {}),
        )
        if not math.isfinite(done.loss):
            raise TrainingError(
                f"the loss is {done.loss} at step {self.step:,}: {advice(self.recipe)}"
            )
        epoch_done = self.step % self.order.steps_per_epoch == 0
        if epoch_done:
            self._after_epoch(epoch + 1)
        if done.stop or epoch_done or self.step % self.recipe.run.checkpoint_every == 0:
            self.save()
        if done.stop:
            self.log.write("stop", step=self.step, reason="SIGTERM")
        return done.stop

    def _set_learning_rate(self) -> float:
        train = self.recipe.train
        rate = learning_rate(train, self.step, self.order.steps_per_epoch, train.batch)
        for options, group in zip(self.optimizer.param_groups, self.groups, strict=True):
            options["lr"] = rate * group.factor
        return rate

    def _train(self, batch: Batch, own: tuple[int, int]) -> _Step:
        """Forward, backward, update."""
        train = self.recipe.train
        self._seed()
        loss_sum = correct = 0.0
        size = len(batch.labels)
        starts = range(0, size, train.micro_batch)
        for start in starts:
            stop = min(start + train.micro_batch, size)
            with self._sync(last=stop == size):
                loss, right = self._forward(batch, own[0], start, stop)
                weight = (stop - start) / size
                self.scaler.scale(loss * weight).backward()  # type: ignore[no-untyped-call]
            loss_sum += float(loss.detach()) * (stop - start)
            correct += right
        norm = self._clip_gradient()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update(self.network)
        numbers = (loss_sum, correct, size, len(batch.failures), float(self._stop.is_set()))
        totals = self.world.sum(numbers)
        for failure in batch.failures:
            self.log.write("unreadable", step=self.step, path=failure.path, reason=str(failure))
        return _Step(totals[0], totals[1], totals[2], int(totals[3]), totals[4] > 0, norm)

    def _forward(
        self,
        batch: Batch,
        offset: int,
        start: int,
        stop: int,
        forward: Forward | None = None,
        context: Context | None = None,
    ) -> tuple[Tensor, float]:
        """Loss (a mean) and number of right answers of a part of the batch.

        ``forward`` and ``context`` take the place of the run's own forward pass and autocast.
        """
        forward = forward or self.forward
        context = self.autocast() if context is None else context
        recipe, device = self.recipe, self.world.device
        clips = batch.clips[start:stop].to(device, non_blocking=True)
        clips = augment_pixels(clips, batch.operations[start:stop])
        inputs = normalize(clips, recipe)
        if recipe.train.channels_last:
            inputs = inputs.contiguous(memory_format=torch.channels_last_3d)
        labels = batch.labels[start:stop]
        smoothing = recipe.augment.label_smoothing
        if recipe.augment.mixup or recipe.data.labels == "all":
            classes = len(self.data.train.classes)
            targets = smoothed_targets(labels, classes, smoothing).to(device)
            if recipe.augment.mixup:
                first = offset + start
                weights = mixup_weights(
                    recipe.augment, recipe.train.seed, batch.step, first, first + stop - start
                )
                inputs, targets = mix(inputs, targets, weights)
            with context:
                logits = forward(inputs)
            loss = functional.cross_entropy(logits.float(), targets)
        else:
            with context:
                logits = forward(inputs)
            only = torch.tensor([own[0] for own in labels], device=device)
            loss = functional.cross_entropy(logits.float(), only, label_smoothing=smoothing)
        best = logits.argmax(dim=1).tolist()
        return loss, float(sum(b in own for b, own in zip(best, labels, strict=True)))

    def _check_precision(self, batch: Batch, own: tuple[int, int]) -> None:
        """Compare the step at hand in half precision with fp32, before it is done.

        Raises:
            TrainingError: they differ by more than rounding does.
        """
        self._precision_checked = True
        clips = min(self.recipe.train.micro_batch, len(batch.labels))

        def loss_of(count: int, forward: Forward, context: Context) -> Tensor:
            return self._forward(batch, own[0], 0, count, forward, context)[0]

        self._fp32_layers = check_first_step(
            self.network,
            loss_of,
            self.autocast,
            clips,
            self.world,
            partial(self.log.write, step=self.step),
            precision=self.recipe.train.precision,
            loss_scale=self.scaler.get_scale(),
            fp32_layers=self._fp32_layers,
        )

    def _sync(self, *, last: bool) -> AbstractContextManager[Any]:
        """Gradients are exchanged with the last part of a batch alone."""
        if last or not isinstance(self.forward, DistributedDataParallel):
            return nullcontext()
        context: AbstractContextManager[Any] = self.forward.no_sync()
        return context

    def _clip_gradient(self) -> float:
        limit = self.recipe.train.clip_gradient
        self.scaler.unscale_(self.optimizer)
        parameters = [p for options in self.optimizer.param_groups for p in options["params"]]
        if limit > 0:
            norm = nn.utils.clip_grad_norm_(parameters, limit)
        else:
            norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        return float(norm)

    def _seed(self) -> None:
        """Dropout and its like draw from torch's generator: give it numbers of this step."""
        counters = (self.recipe.train.seed, Stream.DROPOUT, self.step, self.world.rank)
        torch.manual_seed(int(generator(*counters).integers(2**62)))

    def _after_epoch(self, epochs_done: int) -> None:
        every = self.recipe.evaluate.every_epochs
        final = epochs_done == self.recipe.train.epochs
        if not final and (every == 0 or epochs_done % every):
            return
        part = self.data.evaluate
        result = self.evaluate(part if final else spread(part, self.recipe.evaluate.videos))
        if result.video_accuracy > self.best.get("video@1", -1.0):
            self.best = {"step": self.step, "video@1": result.video_accuracy}

    def evaluate(self, part: VideoDataset) -> NetworkEvaluation:
        """Evaluate the network, or its averaged weights, and log the result.

        Raises:
            TrainingError: an output of the network is NaN or infinite.
        """
        averaged = self.average.in_place(self.network) if self.average else nullcontext()
        with averaged, self._feed() as feed:
            result = evaluate_step(
                self.network,
                part,
                self.recipe,
                feed,
                self.world,
                self.log,
                step=self.step,
                final=self.step >= self.total_steps,
                autocast=self.autocast,
            )
        training_mode(self.network, self.recipe)
        return result

    def _feed(self) -> Feed:
        workers = workers_of(self.recipe, self.world.local_size)
        return Feed(self.recipe, workers, timeout_seconds=self.recipe.run.seconds_per_video)
