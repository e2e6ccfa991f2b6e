"""Options and results of fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from vidfeat.datasets.samples import Samples
from vidfeat.errors import UsageError
from vidfeat.heads.cross_validation import Comparison, CrossValidation
from vidfeat.heads.multi_label import MultiLabelResult
from vidfeat.heads.protocols import FewShot, Outcome
from vidfeat.heads.selection import HeadOptions

Split = Literal["1", "2", "3", "all"]


@dataclass(frozen=True)
class FinetuneOptions:
    """Options of fine-tuning: what is trained, and how it is tested.

    Attributes:
        head: kind, hyper-parameters and seed.
        compare: heads to compare on the same folds of the training part; the best of them is
            trained. Empty trains ``head``.
        test_share: share of each class held out if the labels have no split column; 0 for no test.
        dataset: ``ucf101`` or ``hmdb51``, in place of labels.
        lists: the folder of its official split files.
        split: which of them, or all three.
        shots: numbers of training samples per class to try as well.
        draws: random draws for each of ``shots``.
        cross_validation: folds of a cross-validation over all samples; 0 for none. In a comparison:
            its number of folds, in place of five.
        repeats: repetitions of the cross-validation, with other folds.
        min_per_class: classes with fewer samples are left out.
        ignore_case: paths and classes of the CSV that differ only in case are the same.
        skip_bad_rows: leave out clips whose vectors are not finite.
        root: folder of the videos for thumbnails; None for the one that the feature file names.
        map: how the report lays the vectors on a plane.
        report: write ``report.html``.
    """

    head: HeadOptions = field(default_factory=HeadOptions)
    compare: tuple[HeadOptions, ...] = ()
    test_share: float = 0.2
    dataset: str | None = None
    lists: str | None = None
    split: Split = "1"
    shots: tuple[int, ...] = ()
    draws: int = 10
    cross_validation: int = 0
    repeats: int = 1
    min_per_class: int = 1
    ignore_case: bool = False
    skip_bad_rows: bool = False
    root: str | None = None
    map: Literal["tsne", "pca", "none"] = "tsne"
    report: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.test_share <= 0.5:
            raise UsageError(
                f"test_share is from 0 to 0.5, not {self.test_share:g}", field="test_share"
            )
        if self.split not in ("1", "2", "3", "all"):
            raise UsageError(f"split is 1, 2, 3 or all, not {self.split!r}", field="split")
        if self.dataset is not None and self.lists is None:
            raise UsageError(
                f"the dataset {self.dataset} needs lists, the folder of its split files",
                field="lists",
            )
        if self.lists is not None and self.dataset is None:
            raise UsageError(
                "lists belongs to dataset, which is ucf101 or hmdb51: give both",
                field=("lists", "dataset"),
            )
        if self.draws < 2 and self.shots:
            raise UsageError(f"draws must be 2 or more, not {self.draws}", field="draws")
        if self.cross_validation == 1 or self.cross_validation < 0 or self.repeats < 1:
            raise UsageError(
                "cross_validation takes 2 folds or more, repeats 1 or more",
                field=("cross_validation", "repeats"),
            )
        if self.min_per_class < 1:
            raise UsageError(
                f"min_per_class must be 1 or more, not {self.min_per_class}", field="min_per_class"
            )


@dataclass(frozen=True)
class TrainedSplit:
    """One head with the samples it was trained and tested on.

    Attributes:
        name: such as ``split 1``; empty if it is the only one.
        samples: all labelled samples.
        outcome: the head and its evaluation.
        few_shots: accuracies with few training samples.
        comparison: of several heads, if requested.
        notes: sentences for the user.
    """

    name: str
    samples: Samples = field(repr=False)
    outcome: Outcome
    few_shots: tuple[FewShot, ...] = ()
    comparison: Comparison | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class FinetuneResult:
    """Results of fine-tuning.

    Attributes:
        parts: one, or one per official split.
        cross_validation: over all samples, if requested.
        multi_label: in place of the parts, if samples have several labels.
    """

    parts: tuple[TrainedSplit, ...]
    cross_validation: CrossValidation | None = None
    multi_label: MultiLabelResult | None = None

    def mean_and_spread(self, what: Literal["video", "clip"]) -> tuple[float, float]:
        """Mean accuracy over the parts and its standard deviation (0 for one part)."""
        values = [
            part.outcome.clip_accuracy
            if what == "clip" or part.outcome.evaluation is None
            else part.outcome.evaluation.accuracy.value
            for part in self.parts
        ]
        return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0

    def to_dict(self) -> dict[str, Any]:
        """All numbers as JSON."""
        if self.multi_label is not None:
            return dict(without_nan(self.multi_label.to_dict()))
        values: dict[str, Any] = {"parts": [_part_dict(part) for part in self.parts]}
        if len(self.parts) > 1:
            for what in ("video", "clip"):
                mean, spread = self.mean_and_spread("video" if what == "video" else "clip")
                values[f"{what}_accuracy"] = {"mean": mean, "standard_deviation": spread}
        if self.cross_validation is not None:
            values["cross_validation"] = {
                "accuracy": self.cross_validation.interval.to_dict(),
                "spread_over_folds": self.cross_validation.spread,
                "folds": self.cross_validation.accuracies.tolist(),
            }
        return {name: without_nan(value) for name, value in values.items()}


def _part_dict(part: TrainedSplit) -> dict[str, Any]:
    outcome, compared = part.outcome, part.comparison
    return {
        "name": part.name,
        "head": outcome.head.scorer.kind,
        "train": len(outcome.train),
        "test": len(outcome.test),
        "video": outcome.evaluation.to_dict() if outcome.evaluation else None,
        "clip_accuracy": outcome.clip_accuracy,
        "majority": None
        if outcome.majority is None
        else {"label": outcome.majority.label, "accuracy": outcome.majority.accuracy},
        "compared": None
        if compared is None
        else {
            kind: {
                "accuracy": found.interval.to_dict(),
                "spread_over_folds": found.spread,
                "majority_accuracy": found.majority_accuracy,
                "video": found.evaluation.to_dict(),
            }
            for kind, found in compared.found.items()
        },
        "params": dict(outcome.choice.params),
        "temperature": outcome.choice.temperature,
        "trials": [trial.to_dict() for trial in outcome.choice.trials],
        "few_shot": [
            {
                "shots": row.shots,
                "accuracy": row.interval.to_dict(),
                "draws": list(row.accuracies),
            }
            for row in part.few_shots
        ],
        "notes": list(part.notes),
    }


def without_nan(value: Any) -> Any:
    """Replace NaN and infinity by None: JSON has neither."""
    if isinstance(value, dict):
        return {name: without_nan(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
