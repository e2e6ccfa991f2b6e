"""A recipe's network: building, initial weights, frozen parts, learning rates by part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from vidfeat.errors import StateDictError, UsageError
from vidfeat.models import build_model
from vidfeat.models.motion_energy import motion_energy_stem
from vidfeat.training.class_names import order_of
from vidfeat.training.config import Recipe, TrainConfig
from vidfeat.training.order import Stream, generator
from vidfeat.video.clip_plan import ClipPlan
from vidfeat.video.flow import FLOW_MEAN, FLOW_STD
from vidfeat.video.preprocess import KINETICS_MEAN, KINETICS_STD, Preprocess
from vidfeat.weights.files import WeightsFacts, save_weights
from vidfeat.weights.load import LoadedWeights
from vidfeat.weights.statedict import CLASSIFIERS

_BATCH_NORM = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def build_network(recipe: Recipe, num_classes: int) -> nn.Module:
    """The recipe's network with random weights that depend only on its seed.

    Raises:
        UsageError: an unknown name, or options that the network does not have.
    """
    seed = int(generator(recipe.train.seed, Stream.WEIGHTS).integers(2**62))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_model(
            recipe.model.name,
            num_classes,
            clip_frames=recipe.data.frames,
            in_channels=recipe.in_channels,
            midplanes=None if recipe.model.midplanes == "default" else recipe.model.midplanes,
            bn_eps=recipe.model.bn_eps or None,
        )
    if recipe.model.motion_stem:
        try:
            motion_energy_stem(network)
        except ValueError as error:
            raise UsageError(
                f"model.motion_stem with {recipe.model.name}: {error}; leave it out with "
                "model.motion_stem=false"
            ) from None
    return network


def started_from(recipe: Recipe, loaded: LoadedWeights) -> Recipe:
    """The recipe with the settings that its initial weights determine.

    Midplanes, batch norm's epsilon, and the frame rate of clips, if the recipe leaves them open.

    Raises:
        UsageError: the recipe's epsilon or midplanes are not those that the weights were trained
            with: the same tensors would be another network.
    """
    model, data = recipe.model, recipe.data
    if loaded.bn_eps is not None and model.bn_eps not in (0, loaded.bn_eps):
        raise UsageError(
            f"{loaded.name} was trained with a batch-norm epsilon of {loaded.bn_eps:g}, and the "
            f"recipe says {model.bn_eps:g}: set model.bn_eps=0 to take that of the weights"
        )
    if loaded.midplanes is not None and model.midplanes not in ("default", loaded.midplanes):
        raise UsageError(
            f"{loaded.name} has midplanes by the rule {loaded.midplanes!r}, and the recipe says "
            f"{model.midplanes!r}: set model.midplanes=default to take that of the weights"
        )
    if data.fps == "" and loaded.plan is not None and loaded.plan.fps is not None:
        data = replace(data, fps=str(loaded.plan.fps))
    if model.midplanes == "default" and loaded.midplanes is not None:
        model = replace(model, midplanes=loaded.midplanes)
    if model.bn_eps == 0 and loaded.bn_eps is not None:
        model = replace(model, bn_eps=loaded.bn_eps)
    return replace(recipe, model=model, data=data)


def load_init(
    network: nn.Module, loaded: LoadedWeights, classes: Sequence[str]
) -> tuple[list[str], str]:
    """Load weights to start from; a last layer for other classes keeps its random weights.

    The last layer is kept if it knows the same classes by name; if it has them in another order,
    its rows are reordered.

    Args:
        network: with random weights.
        loaded: the weights.
        classes: those that the network is trained for, in order.

    Returns:
        Names of the tensors that were left at random, and a note on what became of the last layer,
        empty if it was kept as it is.

    Raises:
        StateDictError: the tensors before the last layer do not fit.
    """
    state, own = dict(loaded.state_dict), network.state_dict()
    last = [name for name in own if name.startswith(CLASSIFIERS)]
    fits = all(name in state and state[name].shape == own[name].shape for name in last)
    order = None if loaded.class_names is None else order_of(loaded.class_names, classes)
    left: list[str] = []
    note = ""
    if fits and loaded.class_names is None:
        note = (
            f"{loaded.name} does not name its classes: its last layer is kept as if they were "
            "those of the data in the same order"
        )
    elif not fits or order is None:
        left = last
        note = f"{loaded.name} knows other classes: the last layer starts from random weights"
    elif order != list(range(len(order))):
        state |= {name: state[name][order] for name in last}
        note = f"{loaded.name} has the classes in another order: its last layer is reordered"
    for name, value in own.items():
        if name not in left and (name not in state or state[name].shape != value.shape):
            found = tuple(state[name].shape) if name in state else "nothing"
            raise StateDictError(
                f"{loaded.name} does not fit the network: {name} is {tuple(value.shape)} here and "
                f"{found} there; check model.name, model.midplanes, data.frames, data.modality"
            )
    network.load_state_dict({name: state[name] for name in own if name not in left}, strict=False)
    return left, note


@dataclass(frozen=True)
class Group:
    """Parameters that share a learning rate."""

    factor: float
    names: tuple[str, ...]
    decays: bool = True
    """Whether weight decay applies to them."""


def parameter_groups(
    network: nn.Module, layer_lr: Mapping[str, float], *, decay_biases: bool = True
) -> list[Group]:
    """Trained parameters grouped by their factor of the learning rate, in a fixed order.

    Without ``decay_biases``, biases are in separate groups without weight decay.

    The longest matching prefix in ``layer_lr`` counts, which may name both ``layer4`` and
    ``layer4.1``. A factor of 0 keeps weights unchanged.

    Raises:
        UsageError: a name that is not a part of the network, or nothing is left to train.
    """
    _check_parts(network, layer_lr)
    groups: dict[tuple[float, bool], list[str]] = {}
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        prefixes = [part for part in layer_lr if name.startswith(f"{part}.")]
        factor = layer_lr[max(prefixes, key=len)] if prefixes else 1.0
        decays = decay_biases or not name.endswith("bias")
        if factor:
            groups.setdefault((factor, decays), []).append(name)
    if not groups:
        raise UsageError("nothing is left to train: model.freeze and train.layer_lr stop all parts")
    return [Group(factor, tuple(names), decays) for (factor, decays), names in groups.items()]


def make_optimizer(
    train: TrainConfig,
    groups: Sequence[Sequence[nn.Parameter]],
    *,
    decays: Sequence[bool] | None = None,
    fused: bool = False,
) -> Optimizer:
    """The recipe's optimiser over groups of parameters, whose learning rates the loop sets.

    Args:
        train: the optimisation.
        groups: parameters on their device.
        decays: which of the groups have weight decay; None: all.
        fused: one kernel for all of them, on CUDA.
    """
    decays = [True] * len(groups) if decays is None else decays
    options = [
        {"params": list(group), **({} if decayed else {"weight_decay": 0.0})}
        for group, decayed in zip(groups, decays, strict=True)
    ]
    one_kernel = True if fused else None
    if train.optimizer == "adamw":
        return torch.optim.AdamW(
            options, lr=train.lr, weight_decay=train.weight_decay, fused=one_kernel
        )
    return torch.optim.SGD(
        options,
        lr=train.lr,
        momentum=train.momentum,
        nesterov=train.nesterov,
        weight_decay=train.weight_decay,
        fused=one_kernel,
    )


def _check_parts(network: nn.Module, layer_lr: Mapping[str, float]) -> None:
    parts = {name for name, _ in network.named_modules() if name}
    for name in layer_lr:
        if name not in parts:
            top = ", ".join(name for name, _ in network.named_children())
            raise UsageError(f"train.layer_lr.{name}: no such part; the network has {top}")


def freeze(network: nn.Module, recipe: Recipe) -> None:
    """Turn off gradients for what the recipe freezes.

    Raises:
        UsageError: a name that is not a part of the network.
    """
    children = dict(network.named_children())
    _check_parts(network, recipe.train.layer_lr)
    for name in recipe.model.freeze:
        if name not in children:
            known = ", ".join(children)
            raise UsageError(f"model.freeze: no part {name!r}; the network has {known}")
        children[name].requires_grad_(requires_grad=False)
    for name, factor in recipe.train.layer_lr.items():
        if factor == 0:
            network.get_submodule(name).requires_grad_(requires_grad=False)
    if recipe.model.freeze_batch_norm:
        for module in network.modules():
            if isinstance(module, _BATCH_NORM):
                module.requires_grad_(requires_grad=False)


def training_mode(network: nn.Module, recipe: Recipe) -> None:
    """Set training mode, except for frozen batch norms, which keep their running statistics."""
    network.train()
    frozen = set(recipe.model.freeze)
    for name, module in network.named_modules():
        if isinstance(module, _BATCH_NORM) and (
            recipe.model.freeze_batch_norm or any(name.startswith(f"{part}.") for part in frozen)
        ):
            module.eval()


def preprocess_of(recipe: Recipe) -> Preprocess:
    """Scaling, crop and normalisation that the trained network expects."""
    scale = recipe.data.scale
    flow = recipe.data.modality == "flow"
    return Preprocess(
        resize=(scale[0], scale[1]) if len(scale) == 2 else scale[0],
        crop=(recipe.data.crop, recipe.data.crop),
        mean=recipe.data.mean or (FLOW_MEAN if flow else KINETICS_MEAN),
        std=recipe.data.std or (FLOW_STD if flow else KINETICS_STD),
    )


def normalize(clips: Tensor, recipe: Recipe) -> Tensor:
    """Convert clips (N, T, H, W, C), uint8 RGB or float flow, to network input (N, C, T, H, W)."""
    preprocess = preprocess_of(recipe)
    if recipe.data.modality == "rgb":
        return preprocess.normalize(clips)
    mean = torch.tensor(preprocess.mean, device=clips.device)
    std = torch.tensor(preprocess.std, device=clips.device)
    return clips.to(torch.float32).sub(mean).div(std).permute(0, 4, 1, 2, 3)


class Average:
    """Exponentially averaged weights; batch norm's statistics are copied as they are."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        self._model = AveragedModel(network, multi_avg_fn=average)
        # The average starts from the first weights; torch's would start from those of step 1.
        self._model.n_averaged.fill_(1)

    @property
    def state(self) -> dict[str, Tensor]:
        """The averaged tensors, by the network's own names."""
        state: dict[str, Tensor] = self._model.module.state_dict()
        return state

    def update(self, network: nn.Module) -> None:
        """Update with the weights of a step."""
        self._model.update_parameters(network)

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Load the averaged weights of a checkpoint."""
        self._model.module.load_state_dict(state)

    @contextmanager
    def in_place(self, network: nn.Module) -> Iterator[None]:
        """Put the averaged weights into the network for the duration of the context."""
        own = {name: value.detach().clone() for name, value in network.state_dict().items()}
        network.load_state_dict(self.state)
        try:
            yield
        finally:
            network.load_state_dict(own)


def save_network(
    path: Path,
    network_state: Mapping[str, Tensor],
    recipe: Recipe,
    classes: tuple[str, ...],
    training: Mapping[str, Any],
) -> None:
    """Write the trained tensors with all that is needed to use them."""
    data = recipe.data
    save_weights(
        path,
        # safetensors accepts only the default memory format
        {name: value.contiguous() for name, value in network_state.items()},
        WeightsFacts(
            model=recipe.model.name,
            class_names=classes,
            bn_eps=recipe.model.bn_eps or None,
            preprocess=preprocess_of(recipe),
            plan=ClipPlan(
                data.frames, data.stride, Fraction(data.clip_fps) if data.clip_fps else None
            ),
            source=f"trained by vidfeat with the recipe {recipe.name}",
            more={"modality": data.modality, "training": dict(training)},
        ),
    )
