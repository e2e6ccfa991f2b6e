"""Networks of transformers: ``hf:NAME`` on the hub, or ``hf:FOLDER`` from ``save_pretrained``.

Clip length, size and normalisation are those of the repository's own configuration. Weights come
from safetensors only, no code of a repository is run, and the commit goes into the fingerprint.
``weights`` is a revision: a branch, a tag or a commit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidfeat.encoders.sources.hub import SMALL_FILES, TEXT_FILES, Repository, repository
from vidfeat.encoders.sources.processors import preprocess_of
from vidfeat.encoders.sources.weights_of import UNTRAINED
from vidfeat.encoders.spec import LoadedNetwork, TextTower
from vidfeat.errors import MissingExtraError, UsageError, WeightsError
from vidfeat.system.files import canonical_json
from vidfeat.video.clip_plan import ClipPlan
from vidfeat.video.preprocess import Preprocess

if TYPE_CHECKING:
    from vidfeat.encoders.choice import EncoderChoice

PREFIX = "hf"
OLDEST = (5, 17)
_FILES = (*SMALL_FILES, *TEXT_FILES, "model*.safetensors", "model.safetensors.index.json")
# Frames of a clip, for frame networks: two seconds.
FRAME_PLAN = ClipPlan(frames=8, fps=Fraction(4))


@dataclass(frozen=True)
class Family:
    """Facts about a kind of network that transformers does not provide."""

    model_class: str
    """Name of the class in transformers."""
    wrapper: str
    """Name of the class in ``hf_networks.py``."""
    clip_frames: Callable[[Any], int] | None = None
    """Reads the frames per clip from the configuration; None for frame networks."""
    stride: int | Mapping[int, int] | None = 1
    """Step from one frame of a clip to the next, or steps by frames per clip; None where neither
    configuration nor paper specifies it."""
    options: tuple[tuple[str, Any], ...] = ()
    """Arguments of the model's constructor."""
    text: bool = False
    """Whether it has a text tower in the same space."""


def _num_frames(config: Any) -> int:
    return int(config.num_frames)


def _frames_per_clip(config: Any) -> int:
    return int(config.frames_per_clip)


def _sixteen(_: Any) -> int:
    return 16


def _num_vision_frames(config: Any) -> int:
    return int(config.vision_config.num_frames)


FAMILIES: dict[str, Family] = {
    # 64 frames in a row, as transformers' own example takes them; the paper's rates differ
    "vjepa2": Family("VJEPA2Model", "VJEPA2", _frames_per_clip, stride=None),
    "videoprism_vision_model": Family("VideoPrismVisionModel", "VideoPrism", _num_frames),
    "videoprism": Family("VideoPrismClipModel", "VideoPrismLvT", _num_vision_frames, text=True),
    # MCG-NJU/VideoMAE, scripts/kinetics: --num_frames 16 --sampling_rate 4
    "videomae": Family("VideoMAEModel", "VideoMAE", _num_frames, stride=4),
    # facebookresearch/TimeSformer, configs/Kinetics: 8x32, 16x16 (HR), 96x4 (L)
    "timesformer": Family(
        "TimesformerModel", "TimeSformer", _num_frames, stride={8: 32, 16: 16, 96: 4}
    ),
    # google-research/scenic, vivit/configs/kinetics400: num_frames 32, stride 2
    "vivit": Family(
        "VivitModel", "ViViT", _num_frames, stride=2, options=(("add_pooling_layer", False),)
    ),
    "xclip": Family("XCLIPModel", "XCLIP", _num_vision_frames, stride=None, text=True),
    "pe_video": Family("PeVideoModel", "PEVideo", _sixteen, stride=None),
    "dinov3_vit": Family("DINOv3ViTModel", "DINO"),
    "dinov3_convnext": Family("DINOv3ConvNextModel", "DINOConvNext"),
    "dinov2": Family("Dinov2Model", "DINO"),
    "dinov2_with_registers": Family("Dinov2WithRegistersModel", "DINO"),
    "clip": Family("CLIPModel", "CLIPImage", text=True),
    "clip_vision_model": Family("CLIPVisionModel", "CLIPVision"),
    "siglip": Family("SiglipModel", "SigLIP", text=True),
    "siglip_vision_model": Family("SiglipVisionModel", "SigLIPVision"),
}
_SOMETHING_CLASSES = 174
"""Classes of Something-Something v2."""
_NAFLEX = ("siglip2", "siglip2_vision_model")


def load(choice: EncoderChoice) -> LoadedNetwork:
    """The network of a repository or folder.

    Raises:
        UsageError: a kind of network that is not known here, or clips that it cannot take.
        MissingExtraError: transformers is not installed.
        WeightsError: files that do not exist, or that lack tensors.
    """
    from vidfeat.encoders.sources import hf_networks
    from vidfeat.weights.statedict import tensor_hash

    transformers = _transformers(choice)
    name, revision, untrained = _asked(choice)
    repo = repository(name, revision, _FILES, source=PREFIX)
    config_json = repo.json("config.json")
    kind = str(config_json.get("model_type", ""))
    family = _family(kind, repo)
    if not hasattr(transformers, family.model_class):
        raise UsageError(
            f"{repo.name} is a {kind} network, which transformers {transformers.__version__} "
            "lacks: take a newer one with pip install -U 'vidfeat[transformers]'",
            field="model",
        )
    config = transformers.AutoConfig.from_pretrained(
        repo.folder, local_files_only=True, trust_remote_code=False
    )
    plan, notes = _plan(family, config, choice, repo)
    _check_frames(kind, config, choice, plan, repo)
    processor = _processor(transformers, family, repo)
    preprocess = _preprocess(kind, config, processor)
    model = (
        _untrained(transformers, family, config, choice.seed)
        if untrained
        else _trained(transformers, family, repo)
    )
    weights = f"random (seed {choice.seed})" if untrained else repo.revision or repo.folder.name
    if untrained:
        notes = (UNTRAINED, *notes)
    network = getattr(hf_networks, family.wrapper)(model.eval(), config)
    return LoadedNetwork(
        network,
        model=f"{PREFIX}:{repo.name}",
        weights=weights,
        weights_sha256=tensor_hash(network.state_dict()),
        architecture={
            "source": PREFIX,
            "model": config_json["model_type"],
            "config_sha256": config_hash(config_json),
            **({"revision": repo.revision} if repo.revision else {}),
        },
        plan=plan,
        preprocess=preprocess,
        weights_given="random" if untrained else repo.revision or None,
        weights_file=repo.name if repo.is_folder and not untrained else "",
        licence=repo.licence,
        notes=notes,
        text=_text(repo, family, model),
    )


def _asked(choice: EncoderChoice) -> tuple[str, str | None, bool]:
    """Repository or folder, revision, and whether random weights were requested."""
    assert choice.model is not None
    name = choice.model.partition(":")[2]
    if not name:
        raise UsageError("hf: needs a name or a folder, such as hf:facebook/vjepa2-vitl-fpc64-256")
    weights = None if choice.weights is None else str(choice.weights)
    if weights == "random" or (weights or "").startswith("random (seed "):
        return name, None, True
    if weights is not None and Path(weights).expanduser().is_dir():
        return weights, None, False
    return name, weights, False


def _transformers(choice: EncoderChoice) -> Any:
    try:
        import transformers
    except ImportError:
        raise MissingExtraError("transformers", "transformers", str(choice.model)) from None
    version = tuple(int(part) for part in transformers.__version__.split(".")[:2])
    if version < OLDEST:
        raise UsageError(
            f"{choice.model} needs transformers {OLDEST[0]}.{OLDEST[1]} or newer, not "
            f"{transformers.__version__}: pip install -U 'vidfeat[transformers]'",
            field="model",
        )
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return transformers


def _family(kind: str, repo: Repository) -> Family:
    if kind in _NAFLEX:
        raise UsageError(
            f"{repo.name} is a network for pictures of any shape (NaFlex), which is not supported: "
            "take one of a fixed size, such as google/siglip2-base-patch32-256",
            field="model",
        )
    if kind not in FAMILIES:
        raise UsageError(
            f"{repo.name} is a network of the kind {kind or 'unknown'!r}: hf: knows "
            f"{', '.join(FAMILIES)}; any other can be given as your own (docs/encoders.md)",
            field="model",
        )
    return FAMILIES[kind]


# Their positions in time are computed, or interpolated, for any number of frames.
_ANY_FRAMES = ("vjepa2", "timesformer", "pe_video")


def _plan(
    family: Family, config: Any, choice: EncoderChoice, repo: Repository
) -> tuple[ClipPlan, tuple[str, ...]]:
    if family.clip_frames is None:
        return FRAME_PLAN, ()
    own_frames = family.clip_frames(config)
    stride = family.stride
    if isinstance(stride, Mapping):
        stride = stride.get(own_frames)
    if getattr(config, "num_labels", None) == _SOMETHING_CLASSES:
        stride = None  # fine-tuned on frames spread evenly over each video
    plan = ClipPlan(frames=own_frames, stride=stride or 1)
    asked = choice.plan_choice
    whole = isinstance(choice.plan, ClipPlan)
    if stride is not None or whole or asked.stride is not None or asked.fps is not None:
        return plan, ()
    frames = choice.clip_frames or plan.frames
    return plan, (
        f"{Path(repo.name).name} does not specify how far apart its frames are: {frames} in a row "
        "at each video's own rate, unless stride and fps say otherwise",
    )


def _check_frames(
    kind: str, config: Any, choice: EncoderChoice, plan: ClipPlan, repo: Repository
) -> None:
    frames = choice.clip_frames or plan.frames
    if FAMILIES[kind].clip_frames is None or frames == plan.frames:
        return
    tubelet = getattr(config, "tubelet_size", 1)
    step = tubelet if isinstance(tubelet, int) else 1
    if kind not in _ANY_FRAMES or frames % step:
        several = f"a multiple of {step}" if kind in _ANY_FRAMES else str(plan.frames)
        raise UsageError(
            f"{repo.name} takes clips of {several} frames, not {frames}", field="clip_frames"
        )


def _processor(transformers: Any, family: Family, repo: Repository) -> Any:
    """The repository's processor of frames."""
    if not any(repo.folder.glob("*processor*.json")):
        raise WeightsError(
            f"{repo.name} holds no preprocessor_config.json: save its processor there "
            f"({repo.folder}), since size and normalisation come from it"
        )
    autos = [transformers.AutoImageProcessor, transformers.AutoVideoProcessor]
    if family.clip_frames is not None:
        autos.reverse()
    failures = []
    for auto in autos:
        try:
            return auto.from_pretrained(repo.folder, local_files_only=True, trust_remote_code=False)
        except (OSError, ValueError, ImportError) as error:
            failures.append(str(error).splitlines()[0])
    raise WeightsError(f"the processor of {repo.name} cannot be loaded: {failures[0]}")


def _preprocess(kind: str, config: Any, processor: Any) -> Preprocess:
    if not kind.startswith("videoprism"):
        return preprocess_of(processor)
    # VideoPrismProcessor calls its video processor with these, whatever was saved with that one
    size = getattr(config, "vision_config", config).image_size
    height, width = (size, size) if isinstance(size, int) else size
    return preprocess_of(
        processor,
        size={"height": height, "width": width},
        do_resize=True,
        do_center_crop=False,
        do_normalize=False,
    )


def _trained(transformers: Any, family: Family, repo: Repository) -> Any:
    import torch

    repo.check_safetensors("model*.safetensors")
    try:
        model, report = getattr(transformers, family.model_class).from_pretrained(
            repo.folder,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            dtype=torch.float32,
            output_loading_info=True,
            **dict(family.options),
        )
    except (RuntimeError, OSError) as error:  # tensors of other shapes; damaged files
        raise WeightsError(
            f"the tensors of {repo.name} do not fit its configuration, or cannot be read: "
            f"{str(error).strip().splitlines()[0]}"
        ) from None
    missing = sorted(report["missing_keys"])
    if missing:  # transformers would leave them random
        raise WeightsError(
            f"{repo.name} lacks {len(missing)} tensors of {family.model_class}, such as "
            f"{', '.join(missing[:3])}: it was saved from another model"
        )
    return model


def _untrained(transformers: Any, family: Family, config: Any, seed: int) -> Any:
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return getattr(transformers, family.model_class)(config, **dict(family.options))


# Settings that do not affect the vectors, or change with a library's version.
_UNCOUNTED = ("transformers_version", "_name_or_path", "dtype", "torch_dtype", "architectures")


def config_hash(config: dict[str, Any]) -> str:
    """SHA-256 of a network's configuration, as far as its vectors depend on it."""
    counted = {key: value for key, value in config.items() if key not in _UNCOUNTED}
    return hashlib.sha256(canonical_json(counted).encode()).hexdigest()


def _text(repo: Repository, family: Family, model: Any) -> TextTower | None:
    if not family.text or not any(repo.folder.glob("tokenizer*")):
        return None
    from vidfeat.encoders.sources.hf_text import HFTextTower

    return HFTextTower(repo.folder, model)
