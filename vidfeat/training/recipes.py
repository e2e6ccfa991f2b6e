"""The recipes: functions that return a frozen config, after the paper and its authors' scripts.

Learning rates are per GPU in the sources (32 clips per GPU, 0.01): here ``lr`` belongs to
``lr_batch`` clips and is scaled with the batch, whatever the number of processes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from vidfeat.errors import UsageError
from vidfeat.training.config import (
    RANDOM,
    AugmentConfig,
    DataConfig,
    EvaluateConfig,
    Modality,
    ModelConfig,
    Recipe,
    RunConfig,
    TrainConfig,
)

ABLATIONS = (
    "r2d",
    "fr2d",
    "r3d",
    *(f"mc{x}" for x in range(2, 6)),
    *(f"rmc{x}" for x in range(2, 6)),
    "r2plus1d",
)
"""The networks of the paper's table 2."""

CLIP_LENGTHS = (8, 16, 32)
PAPER_BN_EPS = 1e-3  # Caffe2's, in all networks of the paper; torchvision's own have 1e-5


def _paper_model(name: str, *, needs_init: bool = False) -> ModelConfig:
    """The paper's form of a network: Caffe2's batch-norm epsilon, midplanes per convolution."""
    separable = name.startswith("r2plus1d")
    return ModelConfig(
        name=name,
        bn_eps=PAPER_BN_EPS,
        midplanes="conv" if separable else "default",
        needs_init=needs_init,
    )


def from_scratch(
    dataset: str, model: str, frames: int, *, modality: Modality = "rgb", name: str, about: str
) -> Recipe:
    """The paper's training from random weights: 45 epochs of a million clips.

    32 clips per GPU; a learning rate of 0.01 with a linear warm-up over 10 epochs, divided by 10
    after 20, 30 and 40; Nesterov momentum and no weight decay on biases, as in every run of the
    authors' Caffe2 trainer.
    """
    return Recipe(
        name=name,
        about=about,
        data=DataConfig(dataset=dataset, frames=frames, modality=modality),
        model=_paper_model(model),
        train=TrainConfig(
            epochs=45,
            epoch_clips=1_000_000,
            micro_batch=32,
            lr=0.01,
            lr_batch=32,
            nesterov=True,
            warmup_epochs=10.0,
            milestones=(20, 30, 40),
            weight_decay=1e-4,
            decay_biases=False,
        ),
        evaluate=EvaluateConfig(clips=100 if dataset == "sports1m" else 10, videos=5000),
    )


def kinetics_from_sports1m(
    model: str, frames: int, *, modality: Modality = "rgb", name: str, about: str
) -> Recipe:
    """From Sports-1M to Kinetics as in the paper: 15 epochs from 0.001, divided by 10 every 4."""
    base = from_scratch("kinetics400", model, frames, modality=modality, name=name, about=about)
    return replace(
        base,
        model=replace(base.model, needs_init=True),
        train=replace(base.train, epochs=15, lr=0.001, warmup_epochs=0.0, milestones=(4, 8, 12)),
    )


def longer_clips(model: str, *, name: str, about: str) -> Recipe:
    """8-frame weights fine-tuned with 32 frames, on the schedule of a change of dataset."""
    return kinetics_from_sports1m(model, 32, name=name, about=about)


def fine_tuning(
    dataset: str, *, model: str = "r2plus1d_34", modality: Modality = "rgb", name: str, about: str
) -> Recipe:
    """The authors' fine-tuning on UCF101 and HMDB51 from a large network.

    32 frames, 4 clips per GPU, 8 epochs of 100,000 (HMDB51: 40,000) clips; a learning rate per GPU
    of 0.0001 (HMDB51: 0.0002), divided by 10 every 2 epochs; weight decay 0.005, not on biases;
    Nesterov momentum.
    """
    hmdb = dataset == "hmdb51"
    return Recipe(
        name=name,
        about=about,
        data=DataConfig(dataset=dataset, frames=32, modality=modality),
        model=_paper_model(model, needs_init=True),
        train=TrainConfig(
            epochs=8,
            epoch_clips=40_000 if hmdb else 100_000,
            micro_batch=4,
            lr=0.0002 if hmdb else 0.0001,
            lr_batch=4,
            nesterov=True,
            warmup_epochs=0.0,
            milestones=(2, 4, 6),
            weight_decay=0.005,
            decay_biases=False,
        ),
        evaluate=EvaluateConfig(clips=10),
    )


def layerwise(dataset: str, *, name: str, about: str) -> Recipe:
    """A learning rate per layer, as in the authors' PyTorch scripts: stem 0, layers 0.001, fc 0.1.

    45 epochs of five clips per training video, 10 of them a warm-up, divided by 10 at 20, 30 and
    40; 24 clips per GPU at 15 frames per second, scaled to 128 x 174. The weights of the stem stay
    as they are; its batch norms still update their running statistics. SGD without Nesterov
    momentum, unlike the Caffe2 trainer. Midplanes and epsilon are those of the initial weights.
    """
    return Recipe(
        name=name,
        about=about,
        data=DataConfig(dataset=dataset, frames=16, fps="15", scale=(128, 174)),
        model=ModelConfig(name="r2plus1d_18", needs_init=True),
        train=TrainConfig(
            epochs=45,
            epoch_clips=5 * (9_537 if dataset == "ucf101" else 3_570),
            micro_batch=24,
            lr=0.001,
            lr_batch=24,
            layer_lr={"stem": 0.0, "fc": 100.0},
            warmup_epochs=10.0,
            milestones=(20, 30, 40),
            weight_decay=1e-4,
        ),
        evaluate=EvaluateConfig(clips=10),
    )


def tiny() -> Recipe:
    """For a small labelled folder, on a CPU, in minutes: few small frames, ten narrow layers.

    AdamW and a first layer that sees motion: with SGD from random weights, networks of this size
    learn only appearance (docs/train.md has the figures).
    """
    return Recipe(
        name="tiny",
        about="any small labelled folder, on a CPU, in minutes",
        data=DataConfig(dataset="auto", frames=8, stride=2, scale=(48, 64), crop=40),
        augment=AugmentConfig(flip=0.5),
        model=ModelConfig(name="r2plus1d_10_w16", motion_stem=True),
        train=TrainConfig(
            epochs=20,
            epoch_clips=0,
            batch=16,
            micro_batch=16,
            optimizer="adamw",
            lr=0.003,
            lr_batch=16,
            schedule="cosine",
            milestones=(),
            warmup_epochs=1.0,
            weight_decay=0.01,
            clip_gradient=5.0,
            channels_last=True,
        ),
        evaluate=EvaluateConfig(clips=4, every_epochs=2),
        run=RunConfig(checkpoint_every=100),
    )


def bundled() -> Recipe:
    """The bundled network: trained on rendered motion only, in about two hours on two CPU cores.

    8 frames at 10 fps, the whole picture squashed to 64 x 64. The averaged weights are kept.
    """
    return Recipe(
        name="bundled",
        about="the bundled network, on rendered motion only: needs no data",
        data=DataConfig(
            dataset="synthetic_motion",
            labels="all",
            frames=8,
            fps="10",
            scale=(64, 64),
            crop=64,
        ),
        augment=AugmentConfig(flip=0.0),
        model=ModelConfig(name="r2plus1d_10_w16", init=RANDOM, motion_stem=True),
        train=TrainConfig(
            epochs=20,
            epoch_clips=7_168,
            batch=32,
            micro_batch=32,
            optimizer="adamw",
            lr=0.002,
            lr_batch=32,
            schedule="cosine",
            milestones=(),
            cosine_cycles=2,
            warmup_epochs=0.25,
            weight_decay=0.01,
            clip_gradient=5.0,
            ema_decay=0.99,
            channels_last=True,
        ),
        evaluate=EvaluateConfig(clips=1),
        run=RunConfig(threads=1, workers=1, checkpoint_every=64, scan=False),
    )


def _recipes() -> dict[str, Callable[[], Recipe]]:
    table: dict[str, Callable[[], Recipe]] = {"tiny": tiny, "bundled": bundled}
    titles = {"kinetics": ("kinetics400", "Kinetics-400"), "sports1m": ("sports1m", "Sports-1M")}

    def add(
        maker: Callable[..., Recipe], name: str, about: str, *args: object, **more: object
    ) -> None:
        table[name] = lambda: maker(*args, name=name, about=about, **more)

    for short, (dataset, title) in titles.items():
        for depth in (18, 34):
            for frames in CLIP_LENGTHS:
                model = f"r2plus1d_{depth}"
                about = f"R(2+1)D-{depth} on {title} from scratch, {frames} frames"
                add(from_scratch, f"{short}_{model}_{frames}f", about, dataset, model, frames)
        for frames in (8, 32):
            name = f"{short}_flow_r2plus1d_34_{frames}f"
            about = f"R(2+1)D-34 on {title} from scratch, {frames} fields of optical flow"
            add(from_scratch, name, about, dataset, "r2plus1d_34", frames, modality="flow")
    for family in ABLATIONS:
        for frames in (8, 16):
            name = f"kinetics_{family}_18_{frames}f"
            about = (
                f"{family} with 18 layers on Kinetics-400, {frames} frames (the paper's table 2)"
            )
            if name not in table:
                add(from_scratch, name, about, "kinetics400", f"{family}_18", frames)
    for depth in (18, 34):
        for frames in CLIP_LENGTHS:
            name = f"kinetics_from_sports1m_r2plus1d_{depth}_{frames}f"
            about = f"R(2+1)D-{depth} from Sports-1M to Kinetics-400, {frames} frames"
            add(kinetics_from_sports1m, name, about, f"r2plus1d_{depth}", frames)
        name = f"kinetics_r2plus1d_{depth}_8f_then_32f"
        about = f"R(2+1)D-{depth} trained on Kinetics-400 with 8 frames, fine-tuned with 32"
        add(longer_clips, name, about, f"r2plus1d_{depth}")
    for frames in (8, 32):
        name = f"kinetics_flow_from_sports1m_r2plus1d_34_{frames}f"
        about = f"R(2+1)D-34 from Sports-1M to Kinetics-400, {frames} fields of optical flow"
        add(kinetics_from_sports1m, name, about, "r2plus1d_34", frames, modality="flow")
    for dataset, title in (("ucf101", "UCF101"), ("hmdb51", "HMDB51")):
        for source, from_ in (("kinetics", "Kinetics"), ("sports1m", "Sports-1M")):
            about = f"R(2+1)D-34 from {from_} to {title}, 32 frames"
            add(fine_tuning, f"{dataset}_from_{source}", about, dataset)
            about = f"R(2+1)D-34 from {from_} to {title}, 32 fields of optical flow"
            add(fine_tuning, f"{dataset}_flow_from_{source}", about, dataset, modality="flow")
        about = f"R(2+1)D-18 from Kinetics to {title}, 16 frames, a learning rate per layer"
        add(layerwise, f"{dataset}_layerwise", about, dataset)
    return table


RECIPES = _recipes()


def get_recipe(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        UsageError: there is none; the message names similar ones.
    """
    if name not in RECIPES:
        import difflib

        close = difflib.get_close_matches(name, RECIPES, n=3)
        hint = (
            f"did you mean {', '.join(close)}?"
            if close
            else "the recipes are listed by vidfeat train --list"
        )
        raise UsageError(f"no recipe {name!r}: {hint}")
    return RECIPES[name]()
