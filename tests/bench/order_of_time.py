"""In which direction a scene is played: a linear head on mean vectors, an attentive one on frames.

    python tests/bench/order_of_time.py [-o FOLDER]

Renders 120 scenes in which a disc grows or changes colour, writes each forwards and backwards as a
video, extracts a row per frame with an untrained image network, and cross-validates both heads in
five folds by scene. The mean over the frames is blind to order, so a linear head should be at 50 %.
The folder keeps the videos, the features and the head.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[2]))

import vidfeat
from tests.support.odd_videos import write_video
from tests.support.reversible_scenes import reversible_scene
from vidfeat.heads.results import FinetuneOptions
from vidfeat.heads.selection import HeadOptions

SCENES = 120


class Frames(nn.Module):
    """The means and maxima of random filters of two sizes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fine, self.coarse = nn.Conv2d(3, 32, 5, stride=3), nn.Conv2d(3, 32, 11, stride=5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) to (N, 128)."""
        maps = [self.fine(x).relu(), self.coarse(x).relu()]
        parts = [part for found in maps for part in (found.mean((2, 3)), found.amax((2, 3)))]
        return torch.cat(parts, dim=1)


def main(folder: Path) -> None:
    """Print both accuracies."""
    videos = folder / "videos"
    videos.mkdir(parents=True, exist_ok=True)
    lines = ["path,label,group"]
    for scene in range(SCENES):
        frames = reversible_scene(scene, frames=16, size=64)
        for label, shown in (("forwards", frames), ("backwards", frames[::-1])):
            name = f"{scene:03d}_{label}.mp4"
            write_video(videos / name, list(shown), rate=8)
            lines.append(f"{name},{label},{scene}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    encoder = vidfeat.Encoder.from_module(
        Frames(),
        input=vidfeat.Preprocess(64, (64, 64), antialias=True, resampler="pillow"),
        plan=vidfeat.ClipPlan(1),
        modality="frame",
        aggregate="none",
        device="cpu",
        batch_size=64,
    )
    options = vidfeat.ExtractOptions(workers=1, overwrite=True)
    vidfeat.extract(videos, folder / "features.h5", encoder, options=options)
    begun = time.perf_counter()
    head = HeadOptions("attentive", folds=3)
    result = vidfeat.finetune(
        folder / "features.h5",
        folder / "labels.csv",
        FinetuneOptions(head, test_share=0, map="none"),
        out=folder / "head",
    )
    print(f"both heads in {time.perf_counter() - begun:.0f} s")
    compared = result.parts[0].comparison
    assert compared is not None
    for name, found in compared.found.items():
        print(f"{name:10s} {found.interval}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, help="Folder to keep.")
    given = parser.parse_args().output
    torch.set_num_threads(1)
    if given is not None:
        main(given)
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
