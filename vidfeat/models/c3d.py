"""C3D (arXiv 1412.0767) as the R(2+1)D paper's authors published it: with batch norm.

Eight 3x3x3 convolutions in five groups with max-pools between, and two wide linear layers, of which
the first, ``fc6``, gives the features. They fix its input: 16 frames of 112 x 112.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn
from torch.nn import functional as F

from vidfeat.errors import UsageError
from vidfeat.models.base import SequentialNetwork

NAMES = ("c3d",)
INPUT = (16, 112, 112)
BN_EPS = 1e-3
WIDE = 4096
GROUPS = OrderedDict(stem=(64,), conv2=(128,), conv3=(256, 256), conv4=(512, 512), conv5=(512, 512))


def _unit(inputs: int, outputs: int) -> list[nn.Module]:
    convolution = nn.Conv3d(inputs, outputs, 3, padding=1)
    return [convolution, nn.BatchNorm3d(outputs), nn.ReLU(inplace=True)]


class C3D(SequentialNetwork):
    """The network; ``fc6`` after its ReLU is the default layer."""

    def __init__(self, num_classes: int = 400, in_channels: int = 3, wide: int = WIDE) -> None:
        super().__init__()
        channels = in_channels
        for name, widths in GROUPS.items():
            parts: list[nn.Module] = []
            for width in widths:
                parts += _unit(channels, width)
                channels = width
            parts.append(nn.MaxPool3d((1, 2, 2) if name == "stem" else 2))
            self.add_module(name, nn.Sequential(*parts))
        self.fc6 = nn.Sequential(nn.Flatten(), nn.Linear(channels * 3 * 3, wide), nn.ReLU())
        self.fc7 = nn.Linear(wide, wide)
        self.fc = nn.Linear(wide, num_classes)
        widest = {name: widths[-1] for name, widths in GROUPS.items()}
        self.set_layers({**widest, "fc6": wide}, BN_EPS)

    def features(self, x: Tensor, layers: tuple[str, ...] | list[str] = ()) -> dict[str, Tensor]:  # type: ignore[override]
        """Maps of the groups after their pools, and ``fc6`` as vectors (N, 4096)."""
        if "fc6" in self.check_layers(layers) and tuple(x.shape[2:]) != INPUT:
            raise UsageError(
                f"C3D takes 16 frames of 112 x 112, got {' x '.join(map(str, x.shape[2:]))}: leave "
                "its frames and preprocessing to its weights"
            )
        return super().features(x, layers)

    def classify(self, vectors: Tensor) -> Tensor:
        """Class scores (N, classes) of vectors of fc6 (N, 4096), through the second layer."""
        return self.fc(F.relu(self.fc7(vectors)))  # type: ignore[no-any-return]


def build(name: str, *, num_classes: int, clip_frames: int, in_channels: int) -> C3D:
    """Build the network with random weights.

    Raises:
        UsageError: clips of a length other than 16 frames.
    """
    if clip_frames != INPUT[0]:
        raise UsageError(f"{name} takes clips of 16 frames, not {clip_frames}: use another network")
    return C3D(num_classes, in_channels)
