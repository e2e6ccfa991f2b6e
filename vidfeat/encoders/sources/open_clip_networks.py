"""Networks of open_clip: ``open_clip:NAME/PRETRAINED``, or ``open_clip:FOLDER``.

Vectors are the image tower's projection, frame by frame, into the space of its texts.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vidfeat.encoders.sources.frame_networks import ImageTower
from vidfeat.encoders.sources.hf import FRAME_PLAN, config_hash
from vidfeat.encoders.sources.hub import TEXT_FILES, Repository, repository
from vidfeat.encoders.sources.weights_of import UNTRAINED, asks_for_random, seeded
from vidfeat.encoders.spec import LoadedNetwork
from vidfeat.errors import MissingExtraError, UsageError, WeightsError
from vidfeat.video.preprocess import Preprocess
from vidfeat.weights.statedict import tensor_hash

if TYPE_CHECKING:
    from vidfeat.encoders.choice import EncoderChoice

PREFIX = "open_clip"
_CONFIG = "open_clip_config.json"
_WEIGHTS = "open_clip_model.safetensors"
_FILES = (_CONFIG, _WEIGHTS, "README.md", *TEXT_FILES)


def load(choice: EncoderChoice) -> LoadedNetwork:
    """The network, with published weights, the weights of a folder, or random ones.

    Raises:
        UsageError: open_clip has no such network or weights.
        MissingExtraError: open_clip is not installed.
        WeightsError: weights that do not exist, or belong to another network.
    """
    try:
        import open_clip
    except ImportError:
        raise MissingExtraError("open_clip", "open_clip_torch", str(choice.model)) from None
    logging.getLogger("open_clip").setLevel(logging.ERROR)
    assert choice.model is not None
    name = choice.model.partition(":")[2]
    random = asks_for_random(choice)
    given = choice.weights if choice.weights is not None and not random else None
    repo = _repository(open_clip, name, given, random=random)
    if repo is None:
        source, config = name.partition("/")[0], {}
    else:
        source, config = f"local-dir:{repo.folder}", repo.json(_CONFIG)
        if not random:
            repo.check_safetensors(_WEIGHTS)
    try:
        model = seeded(
            lambda: open_clip.create_model(
                source,
                load_weights=not random,
                require_pretrained=not random,
                pretrained_text=False,
            ),
            choice.seed,
        )
    except (RuntimeError, ValueError, OSError) as error:
        raise WeightsError(
            f"{repo.name if repo else name} cannot be loaded: {str(error).splitlines()[0][:200]}"
        ) from None
    model = model.eval()
    width = int(_embedding_size(open_clip, name, config))
    network = ImageTower(model.visual, width)
    is_folder = repo is not None and repo.is_folder
    return LoadedNetwork(
        network,
        model=f"{PREFIX}:{repo.name if repo is not None and is_folder else name}",
        weights=_weights_name(choice, repo, random=random),
        weights_sha256=tensor_hash(network.state_dict()),
        architecture={
            "source": PREFIX,
            **(
                {"config_sha256": config_hash(dict(config["model_cfg"]))}
                if "model_cfg" in config
                else {"model": name.partition("/")[0]}
            ),
            **({"revision": repo.revision} if repo is not None and repo.revision else {}),
        },
        plan=FRAME_PLAN,
        preprocess=_preprocess(model.visual.preprocess_cfg),
        weights_given="random" if random else None if repo is None else repo.revision or None,
        weights_file=repo.name if repo is not None and is_folder and not random else "",
        licence="" if repo is None else repo.licence,
        notes=(UNTRAINED,) if random else (),
        text=OpenClipTexts(model, source),
    )


def _repository(open_clip: Any, name: str, weights: Any, *, random: bool) -> Repository | None:
    """Where the files are; None for random weights of a network that needs none."""
    for folder in (weights, name):
        if folder is not None and Path(folder).expanduser().is_dir():
            return repository(str(folder), None, _FILES, source=PREFIX)
    network, _, tag = name.partition("/")
    if network not in open_clip.list_models():
        near = [known for known in open_clip.list_models() if network.lower() in known.lower()]
        raise UsageError(
            f"open_clip {open_clip.__version__} has no network {network!r}: "
            + (f"it has {', '.join(near[:5])}" if near else "see open_clip.list_models()"),
            field="model",
        )
    if random:
        return None
    tags = open_clip.list_pretrained_tags_by_model(network)
    if tag not in tags:
        raise UsageError(
            f"open_clip knows the weights {', '.join(tags) or 'none'} of {network}, not {tag!r}: "
            f"give {PREFIX}:{network}/{tags[0] if tags else 'WEIGHTS'}",
            field="model",
        )
    from open_clip.pretrained import get_pretrained_cfg

    hub_id = str(get_pretrained_cfg(network, tag).get("hf_hub") or "").rstrip("/")
    if not hub_id:
        raise WeightsError(
            f"the weights {tag} of {network} are published as a pickle only, which could run code: "
            "take others, or save them as safetensors with open_clip.push_to_hub's save_for_hf"
        )
    return repository(hub_id, None if weights is None else str(weights), _FILES, source=PREFIX)


def _weights_name(choice: EncoderChoice, repo: Repository | None, *, random: bool) -> str:
    if random:
        return f"random (seed {choice.seed})"
    assert repo is not None
    return repo.revision or repo.folder.name


def _embedding_size(open_clip: Any, name: str, config: dict[str, Any]) -> int:
    facts = config.get("model_cfg") or open_clip.get_model_config(name.partition("/")[0])
    return int(facts["embed_dim"])


def _preprocess(facts: dict[str, Any]) -> Preprocess:
    """open_clip's own preprocessing of images."""
    size = facts["size"]
    height, width = (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
    mode = facts["resize_mode"]
    square = height == width
    fit = {"squash": "exact", "longest": "contain"}.get(mode, "exact" if square else "cover")
    interpolation = "bilinear" if facts["interpolation"] == "bilinear" else "bicubic"
    if mode == "shortest" and not square:
        interpolation = "bicubic"  # open_clip passes no interpolation to ResizeKeepRatio here
    return Preprocess(
        height if mode == "shortest" and square else (height, width),
        (height, width),
        tuple(facts["mean"]),
        tuple(facts["std"]),
        interpolation=interpolation,  # type: ignore[arg-type]
        antialias=True,
        resampler="pillow",
        fit=fit,  # type: ignore[arg-type]
        fill=(int(facts["fill_color"]),) * 3,
    )


class OpenClipTexts:
    """Embeds texts into the space of frames; see ``spec.TextTower``."""

    def __init__(self, model: Any, source: str) -> None:
        """The tokenizer is loaded with the first text."""
        self._model = model
        self._source = source
        self._tokenizer: Any = None

    @property
    def scale(self) -> float:
        """See `spec.TextTower`; the mean if each dimension has its own."""
        return float(self._model.logit_scale.detach().exp().mean())

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors (N, D) of N texts, as the network returns them: not normalised."""
        import open_clip
        import torch

        if self._tokenizer is None:
            self._tokenizer = open_clip.get_tokenizer(self._source)
        with torch.inference_mode():
            found = self._model.encode_text(self._tokenizer(list(texts)))
        vectors: NDArray[np.float32] = found.float().numpy()
        return vectors
