"""A user's own network, given as a torch module.

It is copied, so that running it in half precision, or on a GPU, leaves the original unchanged.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from torch import Tensor, inference_mode, nn, zeros

from vidfeat.encoders.spec import LoadedNetwork, Modality
from vidfeat.errors import UsageError, WeightsError
from vidfeat.models.base import POOLS, VideoNetwork
from vidfeat.video.clip_plan import ClipPlan
from vidfeat.video.preprocess import Preprocess
from vidfeat.weights.statedict import tensor_hash

if TYPE_CHECKING:
    from vidfeat.encoders.choice import EncoderChoice

PREFIX = "module"
LAYER = "output"


class OwnClips(VideoNetwork):
    """A module from (N, 3, T, H, W) to vectors (N, D) or a map (N, D, T, H, W)."""

    has_classes = False
    layer_names = (LAYER,)
    map_dimensions = 5

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def measure(self, frames: int, height: int, width: int) -> None:
        """Determine its output for one input.

        Raises:
            UsageError: the output is neither vectors nor a map.
        """
        with inference_mode():
            found: object = self.output(zeros(self.input_shape(frames, height, width)))
        if not isinstance(found, Tensor) or found.dim() not in (2, self.map_dimensions):
            what = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            shape = "(N, D, T, H, W)" if self.map_dimensions == 5 else "(N, D, H, W)"
            raise UsageError(
                f"the module returns {what} for one {self.modality}: expected a tensor (N, D), or "
                "a "
                f"map {shape}"
            )
        self.poolings = POOLS if found.dim() > 2 else ("mean",)
        self.layer_widths = {LAYER: int(found.shape[1])}

    def input_shape(self, frames: int, height: int, width: int) -> tuple[int, ...]:
        """Shape of one input of the module."""
        return (1, 3, frames, height, width)

    def output(self, x: Tensor) -> Tensor:
        """The module's output for its own kind of input."""
        return self.module(x)  # type: ignore[no-any-return]

    def features(self, x: Tensor, layers: Sequence[str] = ()) -> dict[str, Tensor]:
        """See `VideoNetwork.features`."""
        self.check_layers(layers)
        return {LAYER: self.output(x)}


class OwnFrames(OwnClips):
    """A module from frames (N, 3, H, W) to vectors (N, D) or a map (N, D, H, W)."""

    modality = "frame"
    map_dimensions = 4

    def input_shape(self, frames: int, height: int, width: int) -> tuple[int, ...]:  # noqa: ARG002
        """Shape of one input of the module."""
        return (1, 3, height, width)

    def features(self, x: Tensor, layers: Sequence[str] = ()) -> dict[str, Tensor]:
        """Frame by frame; a vector is the mean over the frames of a clip."""
        self.check_layers(layers)
        found = self.output(x.transpose(1, 2).flatten(0, 1))
        found = found.reshape(len(x), -1, *found.shape[1:])
        return {LAYER: found.mean(dim=1) if found.dim() == 3 else found.transpose(1, 2)}


def network_of_module(
    module: nn.Module,
    *,
    preprocess: Preprocess | None,
    plan: ClipPlan | None,
    name: str | None,
    modality: Modality,
) -> LoadedNetwork:
    """A module with everything that belongs to it; a note names the defaults that were used.

    Args:
        module: see :class:`OwnClips` and :class:`OwnFrames`, or a ``VideoNetwork``.
        preprocess: how its frames are prepared; None resizes to 128 x 171, crops 112 x 112, and
            uses Kinetics' mean and standard deviation.
        plan: how its clips are laid; None takes 16 frames at each video's own rate.
        name: its name in feature files; None takes the class's.
        modality: ``clip`` or ``frame``.

    Raises:
        UsageError: a module whose output is neither vectors nor a map.
    """
    if not isinstance(module, nn.Module):
        raise UsageError(f"expected a torch module, not {type(module).__name__}")
    called = name or type(module).__name__
    if not re.fullmatch(r"[\w.+-]+", called):
        raise UsageError(f"a name takes letters, digits and ._+-, not {called!r}", field="name")
    own_preprocess, own_plan = preprocess or Preprocess(), plan or ClipPlan()
    held = copy.deepcopy(module).float().cpu().eval()
    if isinstance(held, VideoNetwork):
        network: VideoNetwork = held
    else:
        network = OwnFrames(held) if modality == "frame" else OwnClips(held)
        network.measure(own_plan.frames, *own_preprocess.crop)
    return LoadedNetwork(
        network,
        model=f"{PREFIX}:{called}",
        weights=called,
        weights_sha256=tensor_hash(network.state_dict()),
        architecture={"source": PREFIX, "model": called},
        plan=own_plan,
        preprocess=own_preprocess,
        notes=_notes(called, preprocess, plan),
    )


def _notes(name: str, preprocess: Preprocess | None, plan: ClipPlan | None) -> tuple[str, ...]:
    taken = []
    if plan is None:
        taken.append("16 frames at each video's own rate")
    if preprocess is None:
        taken.append("frames of 128 x 171 cropped to 112 x 112, Kinetics' mean and std")
    return (f"{name} does not specify its input: {'; '.join(taken)}",) if taken else ()


def load(choice: EncoderChoice) -> NoReturn:
    """Refuse to load a module, which cannot be found by its name.

    Raises:
        WeightsError: always.
    """
    name = (choice.model or "").partition(":")[2]
    raise WeightsError(
        f"{name} was given as a module in Python and is in no file: make its encoder again with "
        "Encoder.from_module, and give that as encoder="
    )
