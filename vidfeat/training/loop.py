"""The training loop: steps, evaluations, checkpoints.

Bit-identical resumption rests on four things: the order and all random numbers are functions of
the step (``order.py``), the threads of torch are fixed, a checkpoint is taken between two steps,
and everything that a step changes is in it.
"""

from __future__ import annotations

import threading
import time
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from vidfeat.datasets.base import VideoDataset
from vidfeat.errors import UsageError
from vidfeat.system.compiled_code import keep_compiled_code
from vidfeat.system.float32_rules import float32_rules
from vidfeat.training import checkpoint
from vidfeat.training.augment import mix, mixup_weights, smoothed_targets
from vidfeat.training.batches import augment_pixels, training_batches
from vidfeat.training.checkpoint import Checkpoint
from vidfeat.training.config import Recipe
from vidfeat.training.device_batches import DeviceBatch, sent_ahead, to_device
from vidfeat.training.distributed import World
from vidfeat.training.evaluation import NetworkEvaluation, evaluate_network, spread
from vidfeat.training.evaluation_step import evaluate_step
from vidfeat.training.feed import Ahead, feed_of
from vidfeat.training.half_precision import (
    HALF,
    Context,
    Forward,
    HalfStep,
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
from vidfeat.training.readings import QueuedStep, Readings
from vidfeat.training.schedule import learning_rate
from vidfeat.training.setup import CHECKPOINTS, RunData
from vidfeat.training.signals import on_sigterm


class Trainer:
    """Trains one network.

    Args:
        recipe: settled (see ``setup.settle``).
        network: with the weights to start from.
        data: the videos.
        folder: of the run.
        world: this process's rank and group.
        log: the run's log.
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
        """The step of the newest checkpoint."""
        self.best: dict[str, Any] = {}
        self._stop = threading.Event()
        self.autocast = partial(autocast_of, train.precision, world.device.type)
        self._precision_checked = train.precision not in HALF
        self._fp32_layers: list[str] | None = None
        self._tf32 = train.precision == "tf32"
        self._readings = Readings(recipe, world, log, self.total_steps)
        self._prepare(network)

    def _prepare(self, network: nn.Module) -> None:
        recipe, world = self.recipe, self.world
        on_gpu = world.device.type == "cuda"
        if self._tf32 and not on_gpu:
            raise UsageError("train.precision=tf32 needs a GPU: use fp32 on a CPU")
        freeze(network, recipe)
        network.to(world.device)
        # Half precision on a GPU is 1.6 times as fast with channels last, measured on an H100.
        half = recipe.train.precision in HALF
        self._channels_last = recipe.train.channels_last or (on_gpu and half)
        if self._channels_last:
            network.to(memory_format=torch.channels_last_3d)
        if recipe.train.sync_batch_norm and world.size > 1 and on_gpu:
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
        self.network = network
        named = dict(network.named_parameters())
        self.groups = parameter_groups(
            network, recipe.train.layer_lr, decay_biases=recipe.train.decay_biases
        )
        self.optimizer = make_optimizer(
            recipe.train,
            [[named[name] for name in group.names] for group in self.groups],
            decays=[group.decays for group in self.groups],
            fused=on_gpu,
        )
        self.average = (
            Average(network, recipe.train.ema_decay) if recipe.train.ema_decay > 0 else None
        )
        scaled = recipe.train.precision == "fp16" and on_gpu
        self.scaler = torch.amp.GradScaler(world.device.type, enabled=scaled)
        self.forward: nn.Module = network
        if recipe.train.compile:
            keep_compiled_code()
            self.forward = torch.compile(network)  # type: ignore[assignment]
        if world.size > 1:
            devices = [world.device] if on_gpu else None
            self.forward = DistributedDataParallel(self.forward, device_ids=devices)

    def restore(self, saved: Checkpoint) -> None:
        """Resume from a checkpoint."""
        self.network.load_state_dict(saved.model)
        for options, group in zip(
            saved.optimizer["param_groups"], self.optimizer.param_groups, strict=True
        ):
            options["fused"] = group["fused"]  # depends on the machine, not on the run
        self.optimizer.load_state_dict(saved.optimizer)
        if self.average is not None and saved.average is not None:
            self.average.load(saved.average)
        if saved.scaler:
            self.scaler.load_state_dict(saved.scaler)
        self.step = self.saved_step = saved.step
        self.best = dict(saved.facts.get("best", {}))
        if self.world.device.type == "cuda" == saved.facts.get("device"):
            # Up to version 0.1, fp32 silently meant TF32 on a GPU: such a run keeps TF32.
            self._tf32 = bool(saved.facts.get("tf32", self.recipe.train.precision == "fp32"))
        if "fp32_layers" in saved.facts:
            self._fp32_layers = list(saved.facts["fp32_layers"])
            run_in_fp32(self.network, self._fp32_layers, self.world.device.type)

    def save(self) -> None:
        """Write a checkpoint in the main process, and remove the older ones."""
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
                **({"tf32": self._tf32} if self.world.device.type == "cuda" else {}),
                **({} if self._fp32_layers is None else {"fp32_layers": self._fp32_layers}),
            },
        )
        path = checkpoint.write_checkpoint(folder, state)
        checkpoint.purge(folder, self.recipe.run.keep, [self.best["step"]] if self.best else [])
        seconds = time.perf_counter() - began
        self.log.write("checkpoint", step=self.step, name=path.name, seconds=seconds)

    def run(self, until: int | None = None) -> bool:
        """Train to the end, or until step ``until``, or until SIGTERM arrives.

        Returns:
            Whether the run is complete.

        Raises:
            TrainingError: the loss is NaN or infinite.
            DataError: no clip of a whole batch could be read.
        """
        last = self.total_steps if until is None else min(until, self.total_steps)
        if self.step >= last:
            return self.step >= self.total_steps
        own = share(self.recipe.train.batch, self.world.rank, self.world.size)
        steps = range(self.step, last)
        training_mode(self.network, self.recipe)
        with on_sigterm(self._stop), feed_of(self.recipe, self.world.local_size) as feed:
            batches = training_batches(feed, self.order, self.data.train, self.recipe, steps, own)
            sent = sent_ahead(batches, self.world.device, len(self.data.train.classes))
            with Ahead(sent) as ahead:
                for batch in ahead:
                    if self._one(batch, ahead, own, last=last):
                        break
        return self.step >= self.total_steps

    def _one(
        self, batch: DeviceBatch, ahead: Ahead[DeviceBatch], own: tuple[int, int], *, last: int
    ) -> bool:
        """Do one step and what is due after it; return whether to stop."""
        waited = ahead.waited_seconds
        ahead.waited_seconds = 0.0
        began = time.perf_counter()
        epoch = self.step // self.order.steps_per_epoch
        rate = self._set_learning_rate()
        with self._float32():
            batch.arrive()
            if not self._precision_checked:
                self._check_precision(batch, own)
            numbers = self._train(batch, own)
        self.step += 1
        failures = batch.batch.failures
        counts = len(batch.clips), len(failures)
        self._readings.add(QueuedStep(self.step, epoch, rate, began, waited, *counts, numbers))
        for failure in failures:
            self.log.write("unreadable", step=self.step - 1, path=failure.path, reason=str(failure))
        epoch_done = self.step % self.order.steps_per_epoch == 0
        save = epoch_done or self.step % self.recipe.run.checkpoint_every == 0
        told = self._stop.is_set() and self.world.size == 1  # several processes must read together
        if not (save or told or self.step == last or self._readings.due):
            return False
        stop = self._readings.read(stop=self._stop.is_set())
        if epoch_done:
            self._after_epoch(epoch + 1)
        if stop or save:
            self.save()
        if stop:
            self.log.write("stop", step=self.step, reason="SIGTERM")
        return stop

    def _float32(self) -> Context:
        """The context for float32 products on a GPU."""
        return float32_rules(tf32=self._tf32, device=self.world.device)

    def _set_learning_rate(self) -> float:
        train = self.recipe.train
        rate = learning_rate(train, self.step, self.order.steps_per_epoch, train.batch)
        for options, group in zip(self.optimizer.param_groups, self.groups, strict=True):
            options["lr"] = rate * group.factor
        return rate

    def _train(self, batch: DeviceBatch, own: tuple[int, int]) -> Tensor:
        """Forward, backward, update; returns the numbers of :class:`QueuedStep`."""
        train = self.recipe.train
        self._seed()
        size = len(batch.clips)
        sums: list[Tensor] = []
        for start in range(0, size, train.micro_batch):
            stop = min(start + train.micro_batch, size)
            with self._sync(last=stop == size):
                loss, right = self._forward(batch, own[0], start, stop)
                weight = (stop - start) / size
                self.scaler.scale(loss * weight).backward()  # type: ignore[no-untyped-call]
            sums.append(torch.stack([loss.detach().double() * (stop - start), right]))
        norm = self._clip_gradient()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update(self.network)
        return torch.cat([torch.stack(sums).sum(0), norm.double()[None]])

    def _forward(
        self,
        batch: DeviceBatch,
        offset: int,
        start: int,
        stop: int,
        forward: Forward | None = None,
        context: Context | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Loss (a mean) and number of right answers (float64) of a part of the batch.

        ``forward`` and ``context`` replace the run's own forward pass and autocast.
        """
        forward = forward or self.forward
        context = self.autocast() if context is None else context
        recipe, device = self.recipe, self.world.device
        clips = augment_pixels(batch.clips[start:stop], batch.batch.operations[start:stop])
        inputs = normalize(clips, recipe)
        if self._channels_last:
            inputs = inputs.contiguous(memory_format=torch.channels_last_3d)
        smoothing = recipe.augment.label_smoothing
        if recipe.augment.mixup or recipe.data.labels == "all":
            classes = len(self.data.train.classes)
            labels = batch.batch.labels[start:stop]
            targets = to_device(smoothed_targets(labels, classes, smoothing), device)
            if recipe.augment.mixup:
                first = offset + start
                weights = mixup_weights(
                    recipe.augment, recipe.train.seed, batch.batch.step, first, first + stop - start
                )
                inputs, targets = mix(inputs, targets, to_device(weights, device))
            with context:
                logits = forward(inputs)
            loss = functional.cross_entropy(logits.float(), targets)
        else:
            with context:
                logits = forward(inputs)
            loss = functional.cross_entropy(
                logits.float(), batch.labels[start:stop], label_smoothing=smoothing
            )
        best = logits.detach().argmax(dim=1, keepdim=True)
        return loss, batch.accepted[start:stop].gather(1, best).sum().double()

    def _check_precision(self, batch: DeviceBatch, own: tuple[int, int]) -> None:
        """Compare the coming step in half precision with fp32.

        Raises:
            TrainingError: they differ by more than rounding does.
        """
        self._precision_checked = True
        clips = min(self.recipe.train.micro_batch, len(batch.clips))

        def loss_of(count: int, forward: Forward, context: Context) -> Tensor:
            return self._forward(batch, own[0], 0, count, forward, context)[0]

        precision = self.recipe.train.precision
        step = HalfStep(loss_of, self.autocast, clips, precision, self.scaler.get_scale())
        log = partial(self.log.write, step=self.step)
        self._fp32_layers = check_first_step(self.network, step, self.world, log, self._fp32_layers)

    def _sync(self, *, last: bool) -> AbstractContextManager[Any]:
        """Gradients are exchanged only with the last part of a batch."""
        if last or not isinstance(self.forward, DistributedDataParallel):
            return nullcontext()
        context: AbstractContextManager[Any] = self.forward.no_sync()
        return context

    def _clip_gradient(self) -> Tensor:
        limit = self.recipe.train.clip_gradient
        self.scaler.unscale_(self.optimizer)
        parameters = [p for options in self.optimizer.param_groups for p in options["params"]]
        if limit > 0:
            return nn.utils.clip_grad_norm_(parameters, limit)
        return nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])

    def _seed(self) -> None:
        """Seed torch's generator, which dropout and the like draw from, for this step."""
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
        with averaged, self._float32(), feed_of(self.recipe, self.world.local_size) as feed:

            def evaluate(recipe: Recipe) -> NetworkEvaluation:
                return evaluate_network(
                    self.network, part, recipe, feed, self.world, autocast=self.autocast
                )

            final = self.step >= self.total_steps
            result = evaluate_step(evaluate, self.recipe, self.log, step=self.step, final=final)
        training_mode(self.network, self.recipe)
        return result
