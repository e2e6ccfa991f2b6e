"""The attentive head: it sees the order of time, which a mean does not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import vidfeat
from tests.support.heads_fixtures import record
from tests.support.reversible_scenes import reversible_scene
from vidfeat.errors import StoreError, UsageError
from vidfeat.heads.attention import MOST_STEPS, Sequences, attentive_logits, time_features
from vidfeat.heads.attentive_head import AttentiveHead
from vidfeat.heads.classify import HeadJudge, classify_clips
from vidfeat.heads.finetuning import finetune
from vidfeat.heads.head import Head
from vidfeat.heads.results import FinetuneOptions
from vidfeat.heads.selection import HeadOptions
from vidfeat.store.records import RunIdentity
from vidfeat.store.writer import write_store
from vidfeat.video.preprocess import Preprocess

SCENES = 40
QUICK = {"alpha": 0.01, "epochs": 25}


class Frames(nn.Module):
    """Random filters over a frame, their maxima and means: a stand-in for an image network."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Conv2d(3, 24, 5, stride=3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = self.net(x).relu()
        return torch.cat([found.mean(dim=(2, 3)), found.amax(dim=(2, 3))], dim=1)


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """One row per frame, of scenes played forwards and backwards; and labels by scene."""
    torch.set_num_threads(1)
    encoder = vidfeat.Encoder.from_module(
        Frames(),
        input=Preprocess(48, (48, 48), antialias=True, resampler="pillow"),
        plan=vidfeat.ClipPlan(1),
        modality="frame",
        aggregate="none",
        device="cpu",
        batch_size=64,
    )
    folder = tmp_path_factory.mktemp("scenes")
    videos, lines = [], ["path,label,group"]
    for scene in range(SCENES):
        frames = reversible_scene(scene)
        for label, shown in (("forwards", frames), ("backwards", frames[::-1])):
            name = f"{scene:02d}_{label}.mp4"
            videos.append((record(name), encoder.encode(np.ascontiguousarray(shown), fps=6)))
            lines.append(f"{name},{label},{scene}")
    identity = RunIdentity(
        encoder=encoder.describe(),
        space_fingerprint=encoder.space_fingerprint,
        run_fingerprint=encoder.run_fingerprint,
        dimension=encoder.dimension,
    )
    write_store(folder / "f.h5", identity, videos)
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder / "f.h5", folder / "labels.csv"


def test_the_order_of_time_is_seen_and_reported(
    features: tuple[Path, Path], tmp_path: Path
) -> None:
    options = FinetuneOptions(
        HeadOptions("attentive", params=QUICK, calibrate=False), cross_validation=4, map="none"
    )
    result = finetune(*features, options, out=tmp_path / "head")
    (part,) = result.parts
    assert part.comparison is not None
    attentive, linear = part.comparison.found["attentive"], part.comparison.found["linear"]
    assert attentive.accuracies.shape == linear.accuracies.shape == (1, 4)
    assert attentive.interval.value >= 0.8
    assert 0.4 <= linear.interval.value <= 0.6
    values = json.loads((tmp_path / "head" / "results.json").read_text())
    assert values["parts"][0]["compared"]["linear"]["accuracy"]["value"] == linear.interval.value
    page = (tmp_path / "head" / "report.html").read_text()
    assert "<th>attentive</th>" in page
    assert "<th>linear</th>" in page

    head = Head.load(tmp_path / "head")
    with vidfeat.FeatureStore(features[0]) as store:
        right, changes = [], []
        for sample in part.outcome.test:
            row = part.samples.rows[int(sample)]
            clips = store.read(row.path)
            found = classify_clips(HeadJudge(head), row.path, clips)
            right.append(found.predictions[0].label == row.label)
            turned = head.scores(clips.vectors[::-1])
            changes.append(np.abs(turned - head.scores(clips.vectors)).max())
    assert np.median(changes) > 0.3
    assert part.outcome.evaluation is not None
    assert np.array_equal(right, part.outcome.evaluation.correct)


def test_a_damaged_head_is_refused(features: tuple[Path, Path], tmp_path: Path) -> None:
    X = Sequences.of_single_rows(np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32))
    scorer = AttentiveHead(epochs=1).fit(X, np.arange(20) % 2).scorer_
    Head(scorer, ("a", "b")).save(tmp_path / "head")
    loaded = Head.load(tmp_path / "head")
    assert np.array_equal(loaded.clip_scores(X.rows), scorer.scores(X))
    description = tmp_path / "head" / "head.json"
    description.write_text(description.read_text().replace('"attentive"', '"linear"'))
    with pytest.raises(StoreError, match="damaged"):
        Head.load(tmp_path / "head")


def test_single_clips_are_no_unit_for_it() -> None:
    with pytest.raises(UsageError, match="unit is videos"):
        HeadOptions("attentive", unit="clips")


def some_arrays(dimension: int, seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    shapes = {
        "keys": (dimension, 3),
        "time_keys": (8, 3),
        "values": (dimension, 6),
        "weights": (2, 6),
        "bias": (2,),
    }
    return {name: random.normal(size=shape) for name, shape in shapes.items()}


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(1, 2 * MOST_STEPS + 5), min_size=1, max_size=5), st.integers(0, 99))
def test_a_sample_scores_the_same_alone_and_among_others(counts: list[int], seed: int) -> None:
    first = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    rows = np.random.default_rng(seed).normal(size=(first[-1], 3))
    arrays = some_arrays(3)
    together = attentive_logits(arrays, Sequences(rows, first))
    for place, count in enumerate(counts):
        own = rows[first[place] : first[place + 1]]
        alone = Sequences(own, np.array([0, count], np.int64))
        assert np.allclose(attentive_logits(arrays, alone)[0], together[place])
        short = alone.shortened()
        assert len(short.rows) == min(count, MOST_STEPS)
        sizes = np.diff(np.arange(len(short.rows) + 1) * count // len(short.rows))
        assert np.allclose(sizes @ short.rows, own.sum(axis=0))


def test_places_in_time() -> None:
    there = np.array([[True, True, True], [True, False, False]])
    features = time_features(there)
    assert np.allclose(features[0, :, 0], [1, 0, -1], atol=1e-6)  # the first cosine
    assert np.allclose(features[1, 0, 0], 0, atol=1e-6)  # alone: in the middle
