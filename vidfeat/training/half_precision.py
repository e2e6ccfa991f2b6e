"""Half precision compared with fp32 before a run's first step, so that errors name their cause.

Some kernels compute wrong gradients in half precision for some shapes on some processors. oneDNN's
bf16 weight gradient of a 3-D convolution, for one, reads uninitialised memory (torch 2.14, on
processors with AVX512-BF16 and with AMX): occasionally it is NaN, and the run ends a step later
with a NaN loss. Such convolutions are found one by one and run in fp32; if the step still differs
from fp32 by more than rounding, the run ends before it has begun.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from vidfeat.errors import TrainingError
from vidfeat.training.distributed import World

HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}

# One convolution: rounding explains less than a hundredth.
LARGEST_LAYER_ERROR = 0.1
# The whole network. Its gradient cannot be used: where a batch norm sees few values, rounding alone
# turns it by 45 degrees or more (a relative error of 30 % to 140 % in bf16, 4 clips).
LARGEST_LOSS_ERROR = 0.25

Forward = Callable[[Tensor], Tensor]
Context = AbstractContextManager[Any]
LossOf = Callable[[int, Forward, Context], Tensor]
"""The loss of a step's first clips: their number, the forward pass, and the context it runs in."""
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def autocast_of(precision: str, device: str) -> Context:
    """The context for running a network in a precision: autocast for half precision, or none."""
    dtype = HALF.get(precision)
    return nullcontext() if dtype is None else torch.autocast(device, dtype)


@dataclass(frozen=True)
class PrecisionCheck:
    """Loss and gradient of one step in half precision, compared with fp32."""

    clips: int
    loss_half: float
    loss_exact: float
    gradient_error: float
    """Norm of the difference over the norm of fp32's gradient."""
    not_finite: tuple[str, ...]
    """Parameters whose gradient is finite only in fp32."""

    @property
    def problem(self) -> str:
        """What rounding does not explain, in words; empty if all is well."""
        if self.not_finite:
            names = ", ".join(self.not_finite[:3])
            more = f" and {len(self.not_finite) - 3} more" if len(self.not_finite) > 3 else ""
            return f"the gradients of {names}{more} are NaN or infinite, and finite in fp32"
        allowed = LARGEST_LOSS_ERROR * max(1.0, abs(self.loss_exact))
        if not abs(self.loss_half - self.loss_exact) <= allowed:
            return f"the loss is {self.loss_half:.4g}, and {self.loss_exact:.4g} in fp32"
        return ""


@dataclass(frozen=True)
class HalfStep:
    """A step in half precision."""

    loss_of: LossOf
    autocast: Callable[[], Context]
    """The context of half precision."""
    clips: int
    """Clips of one pass."""
    precision: str = "bf16"
    """Its name, for messages."""
    loss_scale: float = 1.0
    """What the loss is multiplied by before the backward pass, for fp16."""


def compare_with_fp32(network: nn.Module, step: HalfStep) -> PrecisionCheck | None:
    """Compute the gradient of a step in both precisions. Nothing of the network is changed.

    Args:
        network: in training mode; dropout is off, since its draws differ in each precision.
        step: tried again with fewer clips if fp32 does not fit into memory, and with smaller
            loss scales if it overflows, as the gradient scaler does.

    Returns:
        The comparison; None if fp32 gives no finite gradient either, or does not fit into memory.
    """
    clips = step.clips
    while clips:
        try:
            return _compare(network, replace(step, clips=clips))
        except torch.OutOfMemoryError:
            clips = clips // 2 if clips > 2 else 0  # mixup needs pairs
    return None


def _compare(network: nn.Module, step: HalfStep) -> PrecisionCheck | None:
    loss_of, clips, loss_scale = step.loss_of, step.clips, step.loss_scale
    with _without_dropout(network):
        exact_loss, exact = _gradients(network, loss_of, nullcontext(), clips, 1.0)
        if not all(gradient.isfinite().all() for gradient in exact.values()):
            return None
        while True:
            loss, half = _gradients(network, loss_of, step.autocast(), clips, loss_scale)
            bad = tuple(name for name, gradient in half.items() if not gradient.isfinite().all())
            if not bad or loss_scale <= 1:
                break
            loss_scale /= 4
    # In double: squares of fp16's largest gradients overflow.
    norm = sum(float(gradient.double().square().sum()) for gradient in exact.values()) ** 0.5
    apart = sum(float((half[n].double() - exact[n].double()).square().sum()) for n in exact) ** 0.5
    return PrecisionCheck(clips, loss, exact_loss, apart / norm if norm else 0.0, bad)


def _gradients(
    network: nn.Module, loss_of: LossOf, context: Context, clips: int, scale: float
) -> tuple[float, dict[str, Tensor]]:
    """Loss and gradients; running statistics go into copies."""
    parameters = {name: p for name, p in network.named_parameters() if p.requires_grad}
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}

    def forward(x: Tensor) -> Tensor:
        result: Tensor = functional_call(network, {**parameters, **buffers}, (x,))
        return result

    loss = loss_of(clips, forward, context)
    found = torch.autograd.grad(loss * scale, list(parameters.values()), allow_unused=True)
    gradients = {
        name: gradient.float() / scale
        for name, gradient in zip(parameters, found, strict=True)
        if gradient is not None
    }
    return float(loss.detach()), gradients


@contextmanager
def _without_dropout(network: nn.Module) -> Iterator[None]:
    names = ("StochasticDepth", "DropPath")
    random = [
        module
        for module in network.modules()
        if module.training
        and ("Dropout" in type(module).__name__ or type(module).__name__ in names)
    ]
    for module in random:
        module.train(mode=False)
    try:
        yield
    finally:
        for module in random:
            module.train()


def check_first_step(
    network: nn.Module,
    step: HalfStep,
    world: World,
    log: Callable[..., None],
    fp32_layers: list[str] | None = None,
) -> list[str]:
    """Compare a run's first step in half precision with fp32, before taking it.

    On a CPU the convolutions that half precision computes wrongly are set to run in fp32.

    Args:
        network: in training mode.
        step: the first step.
        world: this process's rank and group; all processes call this.
        log: writes a line of the run's log.
        fp32_layers: those found at the start of the run, if it is resumed; None at its start.

    Returns:
        The layers that run in fp32.

    Raises:
        TrainingError: the step differs by more than rounding does.
    """
    loss_of, autocast, precision = step.loss_of, step.autocast, step.precision
    if fp32_layers is None:
        found = []
        if world.device.type == "cpu":
            found = faulty_convolutions(
                network, lambda forward: loss_of(step.clips, forward, autocast()), autocast
            )
        fp32_layers = sorted({name for own in world.gather(found) for name in own})
        run_in_fp32(network, fp32_layers, world.device.type)
    check = compare_with_fp32(network, step)
    if check is not None:
        log(
            "precision",
            precision=precision,
            loss=check.loss_half,
            loss_fp32=check.loss_exact,
            gradient_error=check.gradient_error,
            fp32_layers=fp32_layers,
        )
    for problem in world.gather("" if check is None else check.problem):
        if problem:
            raise TrainingError(
                f"{precision} does not compute this network as fp32 does on this "
                f"{world.device.type}: in the first step {problem}. The cause is a faulty kernel "
                f"of torch {torch.__version__}, or numbers outside {precision}'s range, and not "
                f"the learning rate: use train.precision=fp32"
            )
    return fp32_layers


# -- single convolutions, on the CPU ---------------------------------------------------------------


def faulty_convolutions(
    network: nn.Module, run: Callable[[Forward], object], autocast: Callable[[], Context]
) -> list[str]:
    """Names of the convolutions that half precision computes wrongly on this processor.

    Each is tested separately, with inputs of its shapes in the network and surrounded by memory
    that holds NaN or large numbers: this exposes a kernel that reads uninitialised memory.

    Args:
        network: as it will be trained.
        run: sends a step's clips through a forward pass, in half precision.
        autocast: the context of half precision.
    """
    inputs: dict[str, Tensor] = {}
    hooks = [
        module.register_forward_pre_hook(
            lambda _, given, name=name: inputs.__setitem__(name, given[0].detach())
        )
        for name, module in network.named_modules()
        if isinstance(module, _CONVOLUTIONS)
    ]
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    try:
        with torch.no_grad():
            run(lambda x: functional_call(network, buffers, (x,)))
    finally:
        for hook in hooks:
            hook.remove()
    known: dict[Any, bool] = {}
    faulty = []
    for name, x in inputs.items():
        module = network.get_submodule(name)
        key = (repr(module), tuple(x.shape), x.stride())
        if key not in known:
            known[key] = _is_faulty(module, torch.empty_like(x, dtype=torch.float32), autocast)
        if known[key]:
            faulty.append(name)
    return faulty


def _is_faulty(module: nn.Module, like: Tensor, autocast: Callable[[], Context]) -> bool:
    numbers = torch.Generator(like.device).manual_seed(0)
    x = like.normal_(generator=numbers).requires_grad_()
    weights = {
        name: value.detach().float().clone().requires_grad_()
        for name, value in module.named_parameters()
    }
    direction: Tensor | None = None

    def results(context: Context, around: float | None = None) -> list[Tensor]:
        nonlocal direction
        if around is not None:
            _fill_free_memory(around)
        with context:
            y: Tensor = functional_call(module, weights, (x,))
        if direction is None:
            direction = torch.empty_like(y, dtype=torch.float32).normal_(generator=numbers)
        if around is not None:
            _fill_free_memory(around)
        wanted = torch.autograd.grad((y.float() * direction).sum(), [x, *weights.values()])
        return [y.detach().float(), *(gradient.float() for gradient in wanted)]

    exact = results(nullcontext())
    for around in (float("nan"), 1e3, float("nan")):
        for found, expected in zip(results(autocast(), around), exact, strict=True):
            if not (found - expected).norm() <= LARGEST_LAYER_ERROR * expected.norm() + 1e-30:
                return True
    return False


def _fill_free_memory(value: float) -> None:
    """Fill free memory with a value, for later allocations to find."""
    sizes = {1_000: 20, 5_000: 20, 20_000: 20, 50_000: 10, 100_000: 10, 300_000: 5, 1_000_000: 3}
    blocks = [torch.full((size,), value) for size, count in sizes.items() for _ in range(count)]
    del blocks


def run_in_fp32(network: nn.Module, names: Sequence[str], device: str) -> None:
    """Make layers compute in fp32 within a network in mixed precision."""
    for name in names:
        module = network.get_submodule(name)
        module.forward = _exact(module.forward, device)


def _exact(plain: Forward, device: str) -> Forward:
    def forward(x: Tensor) -> Tensor:
        with torch.autocast(device, enabled=False):
            return plain(x.float())

    return forward
