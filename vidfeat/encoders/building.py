"""Builds the engine and the spec from a source's network and a user's choices."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vidfeat.encoders.choice import EncoderChoice
from vidfeat.encoders.engines.base import Engine
from vidfeat.encoders.rows import Aggregate
from vidfeat.encoders.spec import EncoderSpec, LoadedNetwork
from vidfeat.errors import UsageError

if TYPE_CHECKING:
    from vidfeat.models.base import VideoNetwork

_CPU_BATCH = 4
# Small networks: on one thread, torch uses its fast kernels for convolutions over time only for
# 16 clips or more, and padding the last batch costs next to nothing.
_CPU_BATCH_SMALL = 16
_SMALL_FLOPS_PER_INPUT = 2e9
_GPU_BATCH = 64
_GPU_BATCH_FRAMES = 256


@dataclass(frozen=True)
class Built:
    """The parts that make up an encoder."""

    engine: Engine
    spec: EncoderSpec
    recipe: EncoderChoice
    """Loads the same encoder in another process, on another device."""
    batch_size: int
    """Inputs per batch."""


def build(loaded: LoadedNetwork, choice: EncoderChoice) -> Built:
    """Put a network on an engine, and settle every choice that was left open.

    Raises:
        UsageError: a device, engine, layer or pooling that does not exist.
    """
    from vidfeat.encoders.engines import make_engine
    from vidfeat.encoders.engines.cost import flops_per_clip, steps_per_clip
    from vidfeat.encoders.engines.torch_engine import choose_device
    from vidfeat.models.base import TIME

    engine = choice.engine or ("openvino" if choice.precision == "int8" else "torch")
    to_cpu = engine == "openvino" and choice.device == "auto"
    device = choose_device("cpu" if to_cpu else choice.device)
    # Measured on an H100: faster than bf16 and ten times as accurate; checked on the first batch.
    precision = choice.precision or ("fp16" if device.type == "cuda" else "fp32")
    network = loaded.network
    aggregate = _aggregate_of(network, choice.aggregate)
    preprocess = replace(loaded.preprocess, crops=choice.crops or 1)
    plan = choice.plan_over(loaded.plan)
    input_frames = 1 if network.modality == "frame" else plan.frames
    layers = network.check_layers(choice.layers or loaded.layers)
    pool = network.check_pools(choice.pool or loaded.pool)
    input_shape = (input_frames, *preprocess.crop, 3)
    flops = flops_per_clip(network, layers, input_shape)
    steps = steps_per_clip(network, layers, input_shape) if pool == (TIME,) else 1
    width = network.embedding_size(layers, pool)
    spec = EncoderSpec(
        model=loaded.model,
        weights=loaded.weights,
        weights_sha256=loaded.weights_sha256,
        architecture=loaded.architecture,
        plan=plan,
        preprocess=preprocess,
        layers=layers,
        pool=pool,
        dimension=2 * width if aggregate == "mean_std" else width,
        precision=precision,
        engine=engine,
        modality=network.modality,
        aggregate=aggregate,
        average_crops=choice.average_crops,
        time_steps=steps,
        weights_file=loaded.weights_file,
        class_names=loaded.class_names,
        licence=loaded.licence,
        notes=(*loaded.notes, *_licence_note(loaded.licence)),
        flops_per_input=flops,
    )
    runner = make_engine(spec, network, device, compiled=choice.compiled)
    recipe = replace(
        choice,
        model=loaded.model,
        weights=loaded.weights_given,
        plan=plan,
        layers=layers,
        pool=pool,
        precision=precision,
        device="auto",
        engine=engine,
    )
    return Built(runner, spec, recipe, choice.batch_size or _own_batch(spec, runner))


def _own_batch(spec: EncoderSpec, engine: Engine) -> int:
    """Default number of inputs per batch."""
    if engine.device_type == "cuda":
        return _GPU_BATCH_FRAMES if spec.modality == "frame" else _GPU_BATCH
    if engine.preferred_batch:
        return engine.preferred_batch
    return _CPU_BATCH_SMALL if spec.flops_per_input < _SMALL_FLOPS_PER_INPUT else _CPU_BATCH


def _licence_note(licence: str) -> tuple[str, ...]:
    from vidfeat.store.licence import is_non_commercial

    return (f"the weights' licence forbids commercial use: {licence}",) * is_non_commercial(licence)


def _aggregate_of(network: VideoNetwork, aggregate: Aggregate | None) -> Aggregate | None:
    """How the frames of a clip become its row; None for clip networks.

    Raises:
        UsageError: given for a clip network.
    """
    if network.modality == "frame":
        return aggregate or "mean"
    if aggregate is not None:
        raise UsageError("aggregate is for frame networks: this one takes clips", field="aggregate")
    return None
