"""Loads encoders by name: a network, its weights, and an engine on a device."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from vidfeat.encoders.choice import EncoderChoice
from vidfeat.encoders.encoder import Encoder
from vidfeat.encoders.engines.base import Precision
from vidfeat.encoders.rows import Aggregate
from vidfeat.encoders.sources import load_network
from vidfeat.encoders.spec import LoadedNetwork
from vidfeat.errors import FingerprintError, UsageError, WeightsError
from vidfeat.video.clip_plan import ClipPlan
from vidfeat.video.plan_choice import PlanChoice


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
    aggregate: Aggregate | None = None,
    crops: int | None = None,
    average_crops: bool = False,
) -> Encoder:
    """Load a network with its weights, ready to encode.

    Args:
        model: a name that ``vidfeat models`` lists, or ``bundled`` for the small network that comes
            with vidfeat; a source and a name, such as ``hf:facebook/vjepa2-vitl-fpc64-256``;
            ``FILE.py:FUNCTION``, which is run; the folder of a training run. None takes
            the network of ``weights``, or r2plus1d_18.
        weights: a name that ``vidfeat weights list`` shows, a file, the folder of a training run
            or of a quantised network, or ``random``; None takes the model's default.
        seed: seed for random weights.
        plan: how clips are laid over a video; a :class:`PlanChoice` changes single values of the
            published plan.
        layers: layers to embed with; None takes the last one before the classifier.
        pool: ``mean``, ``max`` or both, joined; ``time`` keeps the time steps of a clip as separate
            rows; None takes the network's own projection, or the mean.
        precision: fp32; fp16 or bf16 where the device supports them well; tf32 on a GPU; int8 for a
            quantised network. None takes fp16 on a GPU, fp32 elsewhere, or the precision of
            ``weights``.
        device: ``auto`` takes the first GPU if there is one.
        engine: what runs the network; None takes torch, or openvino for int8.
        batch_size: clips per batch, or frames for a frame network; None chooses by device.
        compiled: use ``torch.compile``; takes a minute at the start.
        aggregate: for frame networks, how the frames of a clip become its vector: ``mean``,
            ``mean_std`` (both joined), ``max``, or ``none`` for one vector per frame.
        crops: crops of each frame: 1, 3 along the long side, 5 (corners and centre), or 10 (those
            five, and mirrored); each gets its own row. None takes the centre.
        average_crops: one row per clip, the mean of its crops.

    Raises:
        UsageError: an invalid name or value.
        WeightsError: weights that do not exist, or belong to another network.
    """
    return load_choice(
        EncoderChoice(
            model,
            weights,
            seed=seed,
            plan=plan,
            layers=layers,
            pool=pool,
            precision=precision,
            device=device,
            engine=engine,
            batch_size=batch_size,
            compiled=compiled,
            aggregate=aggregate,
            crops=crops,
            average_crops=average_crops,
        )
    )


def load_choice(choice: EncoderChoice) -> Encoder:
    """Like :func:`load_encoder`, from a choice.

    Raises:
        UsageError: an invalid name or value.
        WeightsError: weights that do not exist, or belong to another network.
    """
    from vidfeat.encoders.int8.folder import is_net

    if choice.model is not None and choice.weights is None and Path(choice.model).is_dir():
        choice = replace(choice, model=None, weights=choice.model)
    if is_net(choice.weights):
        from vidfeat.encoders.int8.load import encoder_of_net

        return encoder_of_net(choice)
    return Encoder.of_network(load_network(choice), choice)


def encoder_from_description(
    description: Mapping[str, Any],
    weights: str | os.PathLike[str] | None = None,
    *,
    device: str = "auto",
    plan: PlanChoice | None = None,
    precision: Precision | None = None,
    batch_size: int | None = None,
    model: str | None = None,
) -> Encoder:
    """The encoder that a feature file, an index or a head was made with, ready for new videos.

    Args:
        description: as :meth:`Encoder.describe` returns it.
        weights: where the weights are, if they have moved.
        device: where to run; the vectors stay comparable.
        plan: another layout of the clips.
        precision: None takes fp32, whatever the vectors were made with: they stay comparable.
        batch_size: clips per batch; None chooses by device.
        model: ``FILE.py:FUNCTION`` of your own network, which is run; without it, a file is run
            only if it is, byte for byte, one that this user has run before.

    Raises:
        WeightsError: the weights have moved: ``weights`` says where they are.
        FingerprintError: other tensors were found there.
        UsageError: the features were joined from several networks.
    """
    from vidfeat.encoders.int8.folder import is_net
    from vidfeat.encoders.sources.code_trust import only_known_files

    if "joined" in description:
        raise UsageError(
            f"these features were joined from several networks ({description['model']}): extract "
            "the videos with each, join the files with vidfeat join, and give the joined file "
            "instead of videos"
        )
    spec, seed = _weights_of(description, weights)
    published = ClipPlan.from_dict(dict(description["plan"]))
    try:
        with nullcontext() if model else only_known_files():
            encoder = load_encoder(
                model or str(description["model"]),
                spec,
                seed=seed,
                plan=published if plan is None else plan.apply(published),
                layers=list(description["layers"]),
                pool=list(description["pool"]),
                device=device,
                precision=precision or (None if is_net(spec) else "fp32"),
                batch_size=batch_size,
                aggregate=description.get("aggregate"),
                crops=description["preprocess"].get("crops"),
                average_crops=bool(description.get("average_crops")),
            )
    except UsageError as error:
        raise WeightsError(f"{error} (or say where they are now with weights=FILE)") from None
    _check_weights(description, encoder.spec.weights, encoder.spec.weights_sha256)
    return encoder


def described_network(
    description: Mapping[str, Any], weights: str | os.PathLike[str] | None = None
) -> LoadedNetwork:
    """The network that a feature file, an index or a head describes, without an engine.

    Args:
        description: as :meth:`Encoder.describe` returns it.
        weights: where the weights are, if they have moved.

    Raises:
        WeightsError: the weights have moved.
        FingerprintError: other tensors were found there.
    """
    from vidfeat.encoders.sources.code_trust import only_known_files

    spec, seed = _weights_of(description, weights)
    try:
        with only_known_files():
            loaded = load_network(EncoderChoice(str(description["model"]), spec, seed=seed))
    except UsageError as error:
        raise WeightsError(f"{error} (or say where they are now with weights=FILE)") from None
    _check_weights(description, loaded.weights, loaded.weights_sha256)
    return loaded


def _weights_of(
    description: Mapping[str, Any], weights: str | os.PathLike[str] | None
) -> tuple[str | os.PathLike[str], int]:
    """Where the weights of an encoder are, and the seed of random ones."""
    name = str(description["weights"])
    found = re.fullmatch(r"random \(seed (\d+)\)", name)
    seed = int(found[1]) if found else 0
    if weights is not None:
        return weights, seed
    return "random" if found else (description.get("weights_file") or name), seed


def _check_weights(description: Mapping[str, Any], name: str, weights_sha256: str) -> None:
    if weights_sha256 != description["weights_sha256"]:
        raise FingerprintError(
            f"the weights {name} are not those of {description['model']} "
            f"{description['weights']}: their tensors differ; say where the right ones are with "
            "weights=FILE"
        )
