"""From names to an encoder: a network, its weights, an engine on a device."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidfeat.encoders.encoder import Encoder
from vidfeat.encoders.engines.base import PRECISIONS, Precision
from vidfeat.errors import FingerprintError, UsageError, WeightsError
from vidfeat.pretrained import bundled
from vidfeat.video.clip_plan import ClipPlan
from vidfeat.video.plan_choice import PlanChoice
from vidfeat.video.preprocess import Preprocess

if TYPE_CHECKING:
    from vidfeat.models.base import VideoNetwork
    from vidfeat.weights.load import LoadedWeights

DEFAULT_MODEL = "r2plus1d_18"
_CPU_BATCH = 4
# Small networks: on one thread, torch gives convolutions over time alone to its quick kernels from
# sixteen clips on, and a padded last batch costs next to nothing.
_CPU_BATCH_SMALL = 16
_SMALL_FLOPS_PER_CLIP = 2e9
_GPU_BATCH = 64


def load_encoder(
    model: str | None = None,
    weights: str | os.PathLike[str] | None = None,
    *,
    seed: int = 0,
    plan: ClipPlan | PlanChoice | None = None,
    layers: Sequence[str] | None = None,
    pool: Sequence[str] | None = None,
    precision: Precision | None = None,
    device: str = "auto",
    engine: str | None = None,
    batch_size: int | None = None,
    compiled: bool = False,
) -> Encoder:
    """Load a network with its weights, ready to encode.

    Args:
        model: a name that ``vidfeat models`` lists, or ``bundled`` for the small network that comes
            with vidfeat; None takes r2plus1d_18, or that of ``weights``.
        weights: a name that ``vidfeat weights list`` shows, a file, the folder of a training run
            or of a quantised network, or ``random``; None takes the model's default.
        seed: of random weights.
        plan: how clips are laid; a :class:`PlanChoice` changes single values of the published one.
        layers: to embed with; None takes the last one before the classifier.
        pool: ``mean``, ``max`` or both, joined; None takes the mean.
        precision: fp32, fp16 and bf16 where the device does them well, tf32 on a GPU, or int8 of a
            network that is quantised; None takes fp16 on a GPU, else fp32, or that of ``weights``.
        device: ``auto`` takes the first GPU where there is one.
        engine: what runs the network; None takes torch, or openvino for int8.
        batch_size: clips at a time; None chooses by device.
        compiled: let ``torch.compile`` make it faster; takes a minute at the start.

    Raises:
        UsageError: a name or value that cannot be meant.
        WeightsError: weights that are not there, or of another network.
    """
    from vidfeat.encoders.engines import make_engine
    from vidfeat.encoders.engines.cost import flops_per_clip, flops_per_second
    from vidfeat.encoders.engines.torch_engine import choose_device
    from vidfeat.encoders.int8.folder import is_net
    from vidfeat.models import check_pools
    from vidfeat.weights.load import load_weights

    if precision is not None and precision not in PRECISIONS:
        raise UsageError(f"--precision takes {', '.join(PRECISIONS)}, not {precision!r}")
    if batch_size is not None and batch_size < 1:
        raise UsageError(f"--batch-size must be at least 1, not {batch_size}")
    if is_net(weights):
        from vidfeat.encoders.int8.load import encoder_of_net

        assert weights is not None
        return encoder_of_net(
            weights,
            model=model,
            plan=plan,
            layers=layers,
            pool=pool,
            precision=precision,
            device=device,
            engine=engine,
            batch_size=batch_size,
            compiled=compiled,
        )
    if model == bundled.NAME:
        layers, pool = layers or bundled.LAYERS, pool or bundled.POOLS
    model, weights = bundled.resolve(model or DEFAULT_MODEL, weights)
    engine = engine or ("openvino" if precision == "int8" else "torch")
    if engine == "openvino" and device == "auto":
        device = "cpu"
    chosen_device = choose_device(device)
    # Measured on an H100: faster than bf16, and ten times as exact; checked on the first batch.
    precision = precision or ("fp16" if chosen_device.type == "cuda" else "fp32")
    choice = PlanChoice() if plan is None else plan
    loaded = load_weights(weights, model, seed=seed, clip_frames=choice.frames or 16)
    final = plan if isinstance(plan, ClipPlan) else _plan(choice, loaded)
    preprocess = loaded.preprocess or default_preprocess(model)
    network = loaded.build()
    if loaded.in_channels != 3:
        network, preprocess = _of_flow(network, loaded, precision)
    chosen_layers = network.check_layers(layers or ())
    chosen_pool = check_pools(pool or ("mean",))
    clip_shape = (final.frames, *preprocess.crop, 3)
    runner = make_engine(
        engine,
        network,
        chosen_layers,
        chosen_pool,
        preprocess,
        precision=precision,
        device=chosen_device,
        clip_frames=final.frames,
        compiled=compiled,
    )
    flops = flops_per_clip(network, chosen_layers, clip_shape)
    small = flops < _SMALL_FLOPS_PER_CLIP
    own_batch = runner.preferred_batch
    own_batch = own_batch or (_CPU_BATCH_SMALL if small else _CPU_BATCH)
    return Encoder(
        runner,
        model_name=model,
        weights_name=loaded.name if loaded.entry or _is_random(weights) else Path(loaded.name).name,
        weights_file=_file_of(weights, loaded),
        weights_sha256=loaded.backbone_sha256,
        architecture={
            "model": model,
            "midplanes": loaded.midplanes,
            "bn_eps": loaded.bn_eps,
            "in_channels": loaded.in_channels,
            **_flow_facts(loaded),
        },
        plan=final,
        preprocess=preprocess,
        layers=chosen_layers,
        pool=chosen_pool,
        dimension=network.embedding_size(chosen_layers, chosen_pool),
        precision=precision,
        batch_size=batch_size or (_GPU_BATCH if chosen_device.type == "cuda" else own_batch),
        class_names=loaded.class_names,
        notes=_notes(loaded, weights),
        flops_per_clip=flops,
        flops_per_second=flops_per_second(chosen_device),
        recipe={
            "model": model,
            "weights": None if weights is None else os.fspath(weights),
            "seed": seed,
            "plan": final,
            "layers": chosen_layers,
            "pool": chosen_pool,
            "precision": precision,
            "engine": engine,
            "batch_size": batch_size,
            "compiled": compiled,
        },
    )


def encoder_from_description(
    description: Mapping[str, Any],
    weights: str | os.PathLike[str] | None = None,
    *,
    device: str = "auto",
    plan: PlanChoice | None = None,
    precision: Precision | None = None,
    batch_size: int | None = None,
) -> Encoder:
    """The encoder that a feature file, an index or a head was made with, ready for new videos.

    Args:
        description: as :meth:`Encoder.describe` gives it.
        weights: where the weights are, if not where they were.
        device: where to run; the vectors stay comparable.
        plan: another layout of the clips.
        precision: None takes fp32, whatever the vectors were made with: they stay comparable.
        batch_size: clips at a time; None chooses by device.

    Raises:
        WeightsError: the weights are not where they were: ``weights`` says where they are.
        FingerprintError: what was found there are other tensors.
    """
    from vidfeat.encoders.int8.folder import is_net

    spec: str | os.PathLike[str] | None = weights
    name = str(description["weights"])
    seed = re.fullmatch(r"random \(seed (\d+)\)", name)
    if spec is None:
        spec = "random" if seed else (description.get("weights_file") or name)
    published = ClipPlan.from_dict(dict(description["plan"]))
    try:
        encoder = load_encoder(
            str(description["model"]),
            spec,
            seed=int(seed[1]) if seed else 0,
            plan=published if plan is None else plan.apply(published),
            layers=list(description["layers"]),
            pool=list(description["pool"]),
            device=device,
            precision=precision or (None if is_net(spec) else "fp32"),
            batch_size=batch_size,
        )
    except UsageError as error:
        raise WeightsError(f"{error} (or say where they are now with --weights FILE)") from None
    if encoder.weights_sha256 != description["weights_sha256"]:
        raise FingerprintError(
            f"the weights {encoder.weights_name} are not those of {description['model']} "
            f"{name}: their tensors differ; say where the right ones are with --weights FILE"
        )
    return encoder


def default_preprocess(model: str) -> Preprocess:
    """What a network is fed where its weights say nothing: what its published weights are fed."""
    from vidfeat.pretrained import default_entry

    entry = default_entry(model)
    return entry.preprocess if entry is not None and entry.preprocess else Preprocess()


def _plan(choice: ClipPlan | PlanChoice, loaded: LoadedWeights) -> ClipPlan:
    assert isinstance(choice, PlanChoice)
    published = loaded.plan or ClipPlan(frames=loaded.clip_frames or 16)
    if loaded.in_channels == 2:  # a field of flow lies between two frames
        published = replace(published, frames=published.frames + 1)
    return choice.apply(published)


def _of_flow(
    network: VideoNetwork, loaded: LoadedWeights, precision: Precision
) -> tuple[VideoNetwork, Preprocess]:
    """A network of optical flow, wrapped so that it takes RGB clips of one frame more."""
    from vidfeat.models.flow_network import FlowNetwork, frames_preprocess

    if loaded.in_channels != 2 or loaded.preprocess is None:
        raise WeightsError(
            f"{loaded.name} takes {loaded.in_channels} channels, and does not say how they are "
            "made: networks of optical flow trained by vidfeat do"
        )
    if precision == "bf16":
        raise UsageError("--precision bf16 is too coarse for pixels that flow is made of: fp16")
    return FlowNetwork(network, loaded.preprocess), frames_preprocess(loaded.preprocess)


def _flow_facts(loaded: LoadedWeights) -> dict[str, Any]:
    """What the vectors of a network of optical flow depend on besides."""
    if loaded.in_channels != 2 or loaded.preprocess is None:
        return {}
    return {"flow_mean": list(loaded.preprocess.mean), "flow_std": list(loaded.preprocess.std)}


def _is_random(weights: str | os.PathLike[str] | None) -> bool:
    return weights is not None and os.fspath(weights) == "random"


def _file_of(weights: str | os.PathLike[str] | None, loaded: LoadedWeights) -> str:
    """The file that was given, absolute; nothing for weights that a name tells."""
    if weights is None or loaded.entry is not None:
        return ""
    if os.fspath(weights) in ("random", bundled.NAME):
        return ""
    return str(Path(weights).expanduser().resolve())


def _notes(loaded: LoadedWeights, asked: str | os.PathLike[str] | None) -> list[str]:
    """What a user should be told about the weights before hours of work."""
    notes = []
    if _is_random(asked):
        notes.append(
            "the network is UNTRAINED (--weights random): its vectors tell videos apart poorly"
        )
    elif loaded.plan is None:
        notes.append(
            f"{loaded.name} says nothing about its clips: 16 frames at each video's own rate, "
            "unless --clip-frames, --frame-stride and --fps say otherwise"
        )
    return notes
