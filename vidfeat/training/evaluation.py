"""A network's accuracy on videos, by the paper's protocol: uniform clips, their scores averaged.

Each process takes every ``size``-th video, and the first one puts the results back in order:
every video counts exactly once, and no padding distorts the result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from vidfeat.datasets import synthetic_motion
from vidfeat.datasets.base import Sample, VideoDataset
from vidfeat.datasets.synthetic_motion import SceneRequest
from vidfeat.errors import DataError, WeightsError
from vidfeat.evaluation.scores import Scores
from vidfeat.system.callbacks import Progress
from vidfeat.training.batches import to_tensor
from vidfeat.training.clips import VideoRequest, Window
from vidfeat.training.config import Recipe
from vidfeat.training.distributed import World
from vidfeat.training.feed import Ahead, Feed
from vidfeat.training.network import normalize

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class NetworkEvaluation:
    """The paper's measures of a network, and the scores that they come from."""

    scores: Scores
    """Scores of the videos that could be read."""
    clip_accuracy: float
    """clip@1: share of clips whose best class is right."""
    video_accuracy: float
    """video@1: the same for videos, by the mean of their clips' scores."""
    video_top5: float | None
    """video@5; None with fewer than six classes, where it is meaningless."""
    failures: tuple[str, ...] = field(default=(), repr=False)
    """Videos that could not be read, with the reason; they are not counted."""

    def group_accuracy(self) -> dict[str, float]:
        """The accuracy within each group of classes named ``group/name``.

        A video counts as right if its best class of the group is among its labels; videos without
        a label in the group do not count. Empty if the classes are not in groups.
        """
        groups: dict[str, list[int]] = {}
        for index, name in enumerate(self.scores.classes):
            group, slash, _ = name.partition("/")
            if slash:
                groups.setdefault(group, []).append(index)
        accepted = self.scores.accepted()
        result = {}
        for group, members in groups.items():
            best = self.scores.scores[:, members].argmax(axis=1)
            right = [
                members[place] in labels and finite
                for place, labels, finite in zip(
                    best.tolist(), accepted, self.scores.finite.tolist(), strict=True
                )
                if not set(labels).isdisjoint(members)
            ]
            if right:
                result[group] = float(np.mean(right))
        return result if len(groups) > 1 else {}

    def noting(self, **facts: Any) -> NetworkEvaluation:
        """A copy with further facts stored with its scores."""
        source = {**self.scores.source, **facts}
        return replace(self, scores=replace(self.scores, source=source))

    def to_dict(self) -> dict[str, Any]:
        """The summary as JSON."""
        return {
            "videos": len(self.scores),
            "failed": len(self.failures),
            "clip@1": self.clip_accuracy,
            "video@1": self.video_accuracy,
            **({} if self.video_top5 is None else {"video@5": self.video_top5}),
            **{f"{name}@1": value for name, value in self.group_accuracy().items()},
            **self.scores.source,
        }


def top5_accuracy(scores: Scores) -> float | None:
    """video@5; None with fewer than six classes."""
    return float(hits(scores, 5).mean()) if len(scores.classes) > 5 else None


def hits(scores: Scores, k: int) -> NDArray[np.bool_]:
    """(V,): whether a right class is among the k best; of several labels, the best one counts.

    For k = 1 a video is a hit if the best class is among its labels; for larger k, if one of its
    labels is among the k best. Ties go against the right class. A video with a score that is NaN
    or infinite is never a hit.
    """
    result = np.zeros(len(scores), bool)
    finite = scores.finite
    for row, labels in enumerate(scores.accepted()):
        values = scores.scores[row]
        known = [label for label in labels if label >= 0]
        if not known or not finite[row]:
            continue
        best = max(known, key=lambda label: values[label])
        others = np.delete(values, known)
        result[row] = int((others >= values[best]).sum()) < k
    return result


def request_of(recipe: Recipe, sample: Sample) -> VideoRequest | SceneRequest:
    """The uniform clips of a video under the recipe's protocol."""
    data, protocol = recipe.data, recipe.evaluate
    if data.dataset == synthetic_motion.NAME:
        return synthetic_motion.evaluation_request(
            sample.path, protocol.clips, data.frames, data.crop
        )
    places = [(0.5, 0.5)] if protocol.crops == 1 else [(0.0, 0.0), (0.5, 0.5), (1.0, 1.0)]
    return VideoRequest(
        frames=data.frames,
        stride=data.stride,
        fps=data.clip_fps,
        clips=protocol.clips,
        windows=tuple(
            Window(
                data.scale,
                data.crop,
                top,
                left,
                origin=protocol.crop_origin,
                scaler=protocol.scaler,
            )
            for top, left in places
        ),
        flow=data.modality == "flow",
        start_seconds=sample.start_seconds,
        end_seconds=sample.end_seconds,
        leave_out_short=protocol.short == "leave_out",
    )


def evaluate_network(
    network: nn.Module,
    dataset: VideoDataset,
    recipe: Recipe,
    feed: Feed,
    world: World | None = None,
    *,
    autocast: Callable[[], Any] = nullcontext,
    progress: Progress | None = None,
) -> NetworkEvaluation:
    """Score all videos of a dataset.

    Args:
        network: already on the world's device; its mode is restored afterwards.
        dataset: the part to evaluate; each sample is a row of the result.
        recipe: defines a clip, and the protocol.
        feed: decodes the clips.
        world: this process's rank and group; None: a single process.
        autocast: context in which the network runs.
        progress: called with the number of videos done in this process, and the total.

    Raises:
        DataError: no video could be read.
        WeightsError: an output of the network is NaN or infinite.
    """
    world = world or World()
    own = list(range(world.rank, len(dataset), world.size))
    requests = (
        (str(dataset.file(dataset.samples[row].path)), request_of(recipe, dataset.samples[row]))
        for row in own
    )
    answers: list[tuple[int, NDArray[np.float32] | None, list[int], str]] = []
    was_training = network.training
    network.eval()
    with Ahead(feed.read(requests), depth=2) as reads:
        for row, read in zip(own, reads, strict=True):
            if read.clips is None:
                answers.append((row, None, [], str(read.error)))
            else:
                probabilities = _predict(network, read.clips, recipe, world.device, autocast)
                best = probabilities.argmax(axis=1).tolist()
                answers.append((row, probabilities.mean(axis=0), best, ""))
            if progress is not None:
                progress(len(answers), len(own))
    network.train(was_training)
    everything = sorted(item for part in world.gather(answers) for item in part)
    return _summary(dataset, recipe, everything)


@torch.inference_mode()
def _predict(
    network: nn.Module,
    clips: NDArray[np.uint8],
    recipe: Recipe,
    device: torch.device,
    autocast: Callable[[], Any],
) -> NDArray[np.float32]:
    """Class probabilities (clips, classes), ``micro_batch`` clips at a time.

    The row of a clip whose logits are not all finite is NaN.
    """
    results = []
    everything = to_tensor(clips, recipe)
    size = recipe.train.micro_batch
    for chunk in (everything[i : i + size] for i in range(0, len(everything), size)):
        inputs: Tensor = normalize(chunk.to(device), recipe)
        with autocast():
            logits = network(inputs)
        logits = logits.float()
        finite = logits.isfinite().all(dim=1, keepdim=True)
        results.append(logits.softmax(dim=1).where(finite, torch.nan).cpu().numpy())
    joined: NDArray[np.float32] = np.concatenate(results)
    return joined


def _summary(
    dataset: VideoDataset,
    recipe: Recipe,
    answers: Sequence[tuple[int, NDArray[np.float32] | None, list[int], str]],
) -> NetworkEvaluation:
    good = [(row, scores, best) for row, scores, best, _ in answers if scores is not None]
    failures = tuple(
        f"{dataset.samples[row].path}: {why}" for row, scores, _, why in answers if scores is None
    )
    if not good:
        first = failures[0] if failures else "there is none"
        raise DataError(f"none of {len(dataset)} videos could be evaluated: {first}")
    bad = [dataset.samples[row].path for row, scores, _ in good if not np.isfinite(scores).all()]
    if bad:
        raise WeightsError(
            f"the network's outputs are NaN or infinite for {len(bad)} of {len(good)} videos (the "
            f"first: {bad[0]}): its weights have diverged, and nothing can be measured with them"
        )
    samples = [dataset.samples[row] for row, _, _ in good]
    several = any(len(sample.labels) > 1 for sample in samples)
    clip_hits = [best in sample.labels for sample, (_, _, bests) in zip(samples, good, strict=True)
                 for best in bests]  # fmt: skip
    stacked = np.stack([scores for _, scores, _ in good]).astype(np.float32)
    protocol = {
        "clips": recipe.evaluate.clips,
        "crops": recipe.evaluate.crops,
        "frames": recipe.data.frames,
        "modality": recipe.data.modality,
        "model": recipe.model.name,
        "dataset": dataset.name,
    }
    scores = Scores(
        paths=tuple(sample.identity for sample in samples),
        scores=stacked,
        classes=dataset.classes,
        labels=np.array([sample.labels[0] for sample in samples], np.int64),
        label_sets=tuple(sample.labels for sample in samples) if several else (),
        source=protocol,
    )
    return NetworkEvaluation(
        scores=scores,
        clip_accuracy=float(np.mean(clip_hits)),
        video_accuracy=float(hits(scores, 1).mean()),
        video_top5=top5_accuracy(scores),
        failures=failures,
    )


def spread(dataset: VideoDataset, count: int) -> VideoDataset:
    """``count`` videos, evenly spread over a dataset; all of them for 0 or if there are fewer."""
    total = len(dataset)
    if not count or count >= total:
        return dataset
    rows = [index * total // count for index in range(count)]
    return replace(dataset, samples=tuple(dataset.samples[row] for row in rows))
