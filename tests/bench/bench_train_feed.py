"""What data loading costs a training step: the tiny recipe, fed from files and from memory.

    python tests/bench/bench_train_feed.py [--steps 20] [--rounds 3] [--folder DIR]

The same steps are timed with clips decoded from prepared videos, from videos as published (320 x
240, a key frame every 250 frames), and from a batch in memory. The three alternate, and medians are
compared, so that another program's load affects all of them equally.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vidfeat.datasets import open_dataset
from vidfeat.datasets.prepare import prepare
from vidfeat.datasets.reencode import Encoding
from vidfeat.datasets.textures import noise_texture, shifted
from vidfeat.training.batches import Batch, training_batches
from vidfeat.training.config import Recipe
from vidfeat.training.distributed import World
from vidfeat.training.feed import Ahead, Feed, workers_of
from vidfeat.training.log import RunLog
from vidfeat.training.loop import Trainer
from vidfeat.training.network import build_network
from vidfeat.training.recipes import get_recipe
from vidfeat.training.settings import change
from vidfeat.training.setup import RunData, settle


class Row(NamedTuple):
    """One line of the table."""

    name: str
    figure: float
    target: str


def render(folder: Path, videos: int, frames: int) -> None:
    """Write drifting textures, 320 x 240, encoded as a phone would."""
    import av

    for number in range(videos):
        rng = np.random.default_rng(number)
        texture = noise_texture(rng, 240, 320)
        drift = rng.uniform(-3, 3, 2)
        path = folder / f"class{number % 2}" / f"{number:03d}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=30)
            stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
            stream.options = {"preset": "veryfast", "g": "250"}
            for index in range(frames):
                image = shifted(texture, *(drift * index))
                frame = av.VideoFrame.from_ndarray((image * 255).astype(np.uint8))
                container.mux(stream.encode(frame))
            container.mux(stream.encode())


class Bench:
    """A trainer, and batches for it from files or from memory."""

    def __init__(self, recipe: Recipe, data: Path) -> None:
        dataset = open_dataset("folder", data)
        self.data = RunData(dataset.part("train"), dataset.part("test"), "")
        self.recipe = settle(recipe, len(self.data.train), World())
        network = build_network(self.recipe, len(dataset.classes))
        self.trainer = Trainer(self.recipe, network, self.data, data, World(), RunLog(None))

    def from_files(self, steps: int) -> list[float]:
        """Seconds of each step, the wait for its batch included."""
        share = (0, self.recipe.train.batch)
        with Feed(self.recipe, workers_of(self.recipe)) as feed:
            batches = training_batches(
                feed, self.trainer.order, self.data.train, self.recipe, range(steps), share
            )
            with Ahead(batches) as ahead:
                return self._time(iter(ahead))

    def from_memory(self, steps: int) -> list[float]:
        """The same for one batch, repeated."""
        share = (0, self.recipe.train.batch)
        with Feed(self.recipe, 0) as feed:
            batch = next(
                training_batches(
                    feed, self.trainer.order, self.data.train, self.recipe, range(1), share
                )
            )
        return self._time(replace(batch, step=step) for step in range(steps))

    def _time(self, batches: Iterator[Batch]) -> list[float]:
        seconds = []
        began = time.perf_counter()
        for batch in batches:
            self.trainer._train(batch, (0, self.recipe.train.batch))
            now = time.perf_counter()
            seconds.append(now - began)
            began = now
        return seconds[2:]  # the first steps wait for processes to start


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    """Measure, print, return the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--videos", type=int, default=24)
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--set", dest="settings", action="append", default=[])
    options = parser.parse_args(arguments)
    recipe = change(get_recipe("tiny"), ["train.epoch_clips=100000", *options.settings])
    seconds: dict[str, list[float]] = {"memory": [], "prepared": [], "raw": []}
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        raw, prepared = folder / "raw", folder / "prepared"
        if not raw.is_dir():
            render(raw, options.videos, options.frames)
        prepare(raw, prepared, Encoding(size=recipe.data.scale))
        benches = {"prepared": Bench(recipe, prepared), "raw": Bench(recipe, raw)}
        for _ in range(options.rounds):
            seconds["memory"] += benches["prepared"].from_memory(options.steps)
            for name, bench in benches.items():
                seconds[name] += bench.from_files(options.steps)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    rows = [
        Row("seconds of a step from memory", median["memory"], ""),
        Row("prepared videos / memory", median["prepared"] / median["memory"], "at most 1.1"),
        Row("videos as they come / memory", median["raw"] / median["memory"], "as it comes"),
    ]
    for row in rows:
        print(f"{row.name}: {row.figure:.3f}  {row.target}")
    return rows


if __name__ == "__main__":
    main()
