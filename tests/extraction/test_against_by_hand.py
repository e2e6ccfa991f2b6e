"""The embeddings of `vidfeat extract` against doing the whole job by hand.

By hand means: PyAV's sequential decode, frames by floor(k rate / 15), torchvision's preset and
torchvision's own network. Vectors of an untrained network are nearly parallel (cosines above 0.99
between any two videos), so the mean over all clips is subtracted before they are compared.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import h5py
import numpy as np
import pytest
import torch
from torchvision.models.video import R2Plus1D_18_Weights, r2plus1d_18
from torchvision.transforms import functional

from tests.support.video_fixtures import REAL_VIDEOS

BOUND = 1e-3
FRAMES = 16
# Hops so wide that each file gives a few clips only: a clip takes most of a second.
RUNS = {"15": (Fraction(15), 100), "native": (None, 400)}
CONTROL_FILES = (REAL_VIDEOS[0], REAL_VIDEOS[5])


@dataclass
class ByHand:
    """What the job gives when it is done by hand.

    Attributes:
        frames: first clip's uint8 frames (T, H, W, 3) of each file; for some also the clip a
            frame later, under the name with "+1".
        vectors: float32 (clips, 512) of each file.
        starts: seconds at which each clip starts.
    """

    network: torch.nn.Module
    frames: dict[str, np.ndarray] = field(default_factory=dict)
    vectors: dict[str, np.ndarray] = field(default_factory=dict)
    starts: dict[str, list[float]] = field(default_factory=dict)

    @property
    def mean(self) -> np.ndarray:
        return np.concatenate(list(self.vectors.values())).mean(axis=0)

    def embed(self, clip_THWC: np.ndarray, *, antialias: bool = False) -> np.ndarray:
        clip = torch.from_numpy(clip_THWC).permute(0, 3, 1, 2)
        if antialias:
            # the preset would resize without: what it does next changes nothing in frames of the
            # final size
            clip = functional.resize(clip, [128, 171], antialias=True)
        batch = R2Plus1D_18_Weights.KINETICS400_V1.transforms()(clip)[None]
        with torch.inference_mode():
            vector: np.ndarray = self.network(batch)[0].numpy()
        return vector


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.nn.Module]:
    """A seeded state dict with batch-norm statistics unlike those of a fresh network."""
    torch.manual_seed(7)
    network = r2plus1d_18()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            torch.nn.init.uniform_(module.weight, 0.8, 1.2)
            torch.nn.init.normal_(module.bias, 0, 0.1)
    path = tmp_path_factory.mktemp("weights") / "seeded.pth"
    torch.save(network.state_dict(), path)
    network.fc = torch.nn.Identity()
    return path, network.eval()


def do_it_by_hand(folder: Path, network: torch.nn.Module, fps: Fraction | None, hop: int) -> ByHand:
    result = ByHand(network)
    for name in REAL_VIDEOS:
        with av.open(str(folder / name), metadata_errors="replace") as container:
            stream = container.streams.video[0]
            rate = stream.average_rate
            assert rate is not None
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        target = fps or rate
        shown = [k * rate // target for k in range(len(frames)) if k * rate // target < len(frames)]
        starts = range(0, len(shown) - FRAMES + 1, hop)
        picked = [shown[start : start + FRAMES] for start in starts]
        result.frames[name] = np.stack([frames[i] for i in picked[0]])
        if name in CONTROL_FILES:  # the clip a frame later
            result.frames[name + "+1"] = np.stack([frames[i + 1] for i in picked[0]])
        result.vectors[name] = np.stack(
            [result.embed(np.stack([frames[i] for i in clip])) for clip in picked]
        )
        result.starts[name] = [clip[0] / float(rate) for clip in picked]
    return result


@pytest.fixture(scope="module", params=RUNS)
def both(
    request: pytest.FixtureRequest,
    shared_data: Path,
    weights: tuple[Path, torch.nn.Module],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[ByHand, Path]:
    """The job done by hand, and the feature file of the command line."""
    fps, hop = RUNS[request.param]
    output = tmp_path_factory.mktemp("features") / "features.h5"
    subprocess.run(
        [
            *(sys.executable, "-m", "vidfeat", "extract", str(shared_data / "videos")),
            *("-o", str(output), "--model", "r2plus1d_18", "--weights", str(weights[0])),
            *("--clip-frames", str(FRAMES), "--fps", request.param, "--hop-frames", str(hop)),
            *("--device", "cpu"),
        ],
        check=True,
    )
    return do_it_by_hand(shared_data / "videos", weights[1], fps, hop), output


def relative_error(ours: np.ndarray, theirs: np.ndarray, mean: np.ndarray) -> float:
    """L2 norm of the difference by that of the vector itself, the mean taken away."""
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs - mean))


def test_embeddings_are_those_made_by_hand(both: tuple[ByHand, Path]) -> None:
    by_hand, output = both
    with h5py.File(output) as file:
        paths = [path.decode() for path in file["videos/path"]]
        assert sorted(paths) == sorted(REAL_VIDEOS)
        assert len(file["errors/path"]) == 0
        for row, path in enumerate(paths):
            offset, count = int(file["videos/offset"][row]), int(file["videos/count"][row])
            expected = by_hand.vectors[path]
            assert count == len(expected), path
            ours = file["vectors"][offset : offset + count]
            assert ours.dtype == np.float32
            errors = [
                relative_error(*pair, by_hand.mean) for pair in zip(ours, expected, strict=True)
            ]
            print(f"largest relative error {max(errors):.1e} in {count} clips of {path}")
            assert max(errors) <= BOUND, (path, errors)
            starts = file["start_seconds"][offset : offset + count]
            assert starts == pytest.approx(by_hand.starts[path], abs=1e-9)
            assert (file["end_seconds"][offset : offset + count] > starts).all()
            assert (file["video"][offset : offset + count] == row).all()


@pytest.mark.parametrize("both", ["15"], indirect=True)
def test_mistakes_would_be_noticed(both: tuple[ByHand, Path]) -> None:
    """Each mistake puts every clip tried far beyond the bound."""
    by_hand, _ = both
    for name in CONTROL_FILES:
        right, clip = by_hand.vectors[name][0], by_hand.frames[name]
        wrong = {
            "a frame index off by one": by_hand.embed(by_hand.frames[name + "+1"]),
            "antialiasing": by_hand.embed(clip, antialias=True),
            "the last frame repeated": by_hand.embed(np.concatenate([clip[:-1], clip[-2:-1]])),
            "blue for red": by_hand.embed(clip[..., ::-1].copy()),
        }
        for mistake, vector in wrong.items():
            error = relative_error(vector, right, by_hand.mean)
            print(f"{mistake}: {error:.1e} ({name})")
            assert error > 2 * BOUND, (name, mistake, error)
