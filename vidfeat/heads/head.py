"""A trained head: a scorer, its classes, and the encoder whose vectors it takes; as a folder.

::

    head/
      head.safetensors   the scorer's arrays
      head.json          kind, classes, settings, encoder and fingerprints, training summary
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidfeat.errors import FingerprintError, StoreError
from vidfeat.heads.attention import Floats, Sequences
from vidfeat.heads.scorers import DINO_TEMPERATURE, Scorer
from vidfeat.heads.selection import Unit
from vidfeat.store.differences import settings_that_differ
from vidfeat.system.files import atomic_folder
from vidfeat.version import __version__

FORMAT = "vidfeat-head"
FORMAT_VERSION = 2
"""Version 1 was written until 0.2.0, and still is for heads that an earlier vidfeat scores
correctly: those without ``whitening`` and ``activation``."""
# the positions of clips in a video: they do not change a clip's vector
_LAYOUT = ("plan.clips ", "plan.hop_frames ", "plan.hop_seconds ", "plan.tail ")


@dataclass(frozen=True)
class Head:
    """A trained head.

    Attributes:
        scorer: class scores of vectors.
        classes: names, in the order of the scores.
        unit: ``videos``: the mean vector of a video's clips is scored (by an attentive head: the
            clips together, in their order); ``clips``: each clip is scored, and the scores are
            averaged.
        encoder: the JSON description of the encoder that it was trained on.
        space_fingerprint: of that encoder.
        run_fingerprint: of the run that made the features.
        training: how it was trained and how well it did.
    """

    scorer: Scorer
    classes: tuple[str, ...]
    unit: Unit = "videos"
    encoder: Mapping[str, Any] = field(default_factory=dict)
    space_fingerprint: str = ""
    run_fingerprint: str = ""
    training: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if len(self.classes) != self.scorer.num_classes:
            raise ValueError(
                f"{len(self.classes)} class names for {self.scorer.num_classes} scores"
            )
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("a class is named twice")

    def __repr__(self) -> str:
        names = ", ".join(self.classes[:4]) + (", ..." if len(self.classes) > 4 else "")
        tested = self.training.get("test")
        accuracy = ""
        for name, told in (("accuracy", "accuracy"), ("mean_average_precision", "mAP")):
            if tested and name in tested:
                accuracy = f", {told} {tested[name]['value']:.1%}"
        return (
            f"Head({self.scorer.kind}: {len(self.classes)} classes ({names}), "
            f"{self.dimension} dimensions{accuracy})"
        )

    @property
    def dimension(self) -> int:
        """Length D of the vectors that it takes."""
        return self.scorer.dimension

    def clip_scores(self, vectors: Floats) -> NDArray[np.float64]:
        """Class scores (N, C) of clip vectors (N, D), each separately."""
        return self.scorer.scores(np.asarray(vectors, dtype=np.float32))

    def scores(self, vectors: Floats) -> NDArray[np.float64]:
        """Class scores (C,) of one video from its clip vectors (N, D), in the order of time.

        Raises:
            ValueError: no clips.
        """
        if len(vectors) == 0:
            raise ValueError("a video without clips has no scores")
        if self.scorer.of_sequences:
            rows = np.asarray(vectors, dtype=np.float32)
            together = Sequences(rows, np.array([0, len(rows)], np.int64))
            return np.asarray(self.scorer.scores(together)[0])
        if self.unit == "videos":
            mean = np.asarray(vectors).mean(axis=0, dtype=np.float64)[None]
            return np.asarray(self.clip_scores(mean)[0])
        average: NDArray[np.float64] = self.clip_scores(vectors).mean(axis=0)
        return average

    def check_encoder(
        self,
        encoder: Mapping[str, Any],
        space_fingerprint: str,
        run_fingerprint: str,
        *,
        name: str,
        any_layout: bool = False,
    ) -> str | None:
        """Check that an encoder's vectors can be scored; returns a warning if only the run differs.

        Args:
            encoder: JSON description of the encoder that made the vectors.
            space_fingerprint: of that encoder.
            run_fingerprint: of the run that made the vectors.
            name: where the vectors are from, for the message.
            any_layout: no warning if only the positions of the clips differ, as they do in a
                timeline.

        Raises:
            FingerprintError: vectors of another space; the message names the settings that differ.
        """
        if space_fingerprint != self.space_fingerprint:
            differing = settings_that_differ(self.encoder, encoder)
            told = "; ".join(differing[:4]) or (
                f"fingerprint {self.space_fingerprint} there, {space_fingerprint} here"
            )
            raise FingerprintError(
                f"{name} has vectors of another encoder than the head was trained on: {told}; "
                "use the head's own encoder, or train a head on these features"
            )
        if run_fingerprint == self.run_fingerprint:
            return None
        differing = settings_that_differ(self.encoder, encoder)
        if any_layout and differing and all(text.startswith(_LAYOUT) for text in differing):
            return None
        told = "; ".join(differing[:4]) or "another run"
        return f"{name}: the head was trained with another plan or precision ({told})"

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the head as a folder, completely or not at all; an existing head is replaced.

        Raises:
            StoreError: something other than a head is there.
        """
        target = Path(folder)
        check_target(target)
        with atomic_folder(target) as temporary:
            self.write_into(temporary)

    def write_into(self, folder: Path) -> None:
        """Write the two files into a folder that exists."""
        from safetensors.numpy import save

        arrays = {name: np.ascontiguousarray(a) for name, a in self.scorer.arrays.items()}
        # Not save_file: it makes files that only their owner may read, whatever the umask says.
        (folder / "head.safetensors").write_bytes(save(arrays, metadata={"format": FORMAT}))
        scorer = self.scorer
        description = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION if _is_new(scorer) else 1,
            "vidfeat_version": __version__,
            "kind": scorer.kind,
            "classes": list(self.classes),
            "dimension": self.dimension,
            "unit": self.unit,
            "normalize": scorer.normalize,
            "temperature": scorer.temperature,
            "neighbors": scorer.neighbors,
            "weighting": scorer.weighting,
            **(
                {"vote_temperature": scorer.vote_temperature}
                if scorer.weighting == "softmax"
                else {}
            ),
            **({} if scorer.activation == "softmax" else {"activation": scorer.activation}),
            "encoder": dict(self.encoder),
            "space_fingerprint": self.space_fingerprint,
            "run_fingerprint": self.run_fingerprint,
            "training": dict(self.training),
            "arrays_sha256": _sha256(folder / "head.safetensors"),
        }
        text = json.dumps(description, indent=2, ensure_ascii=False, allow_nan=False)
        (folder / "head.json").write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Head:
        """Read a head.

        Raises:
            StoreError: there is no head, it has a newer version, or its files are damaged.
        """
        source = Path(folder)
        if not (source / "head.json").is_file():
            raise StoreError(
                f"{source} is not a head: expected a folder with head.json and head.safetensors, "
                "as vidfeat finetune writes it"
            )
        try:
            values = json.loads((source / "head.json").read_text(encoding="utf-8"))
            version = values["format_version"] if values.get("format") == FORMAT else None
        except (ValueError, AttributeError, KeyError) as error:
            raise StoreError(f"{source / 'head.json'} is damaged: {error}") from None
        if version is None:
            raise StoreError(f"{source / 'head.json'} does not describe a head of vidfeat")
        if not isinstance(version, int) or version > FORMAT_VERSION:
            raise StoreError(
                f"{source} has format version {version}, this vidfeat reads up to "
                f"{FORMAT_VERSION}: upgrade vidfeat"
            )
        try:
            return cls._rebuild(source, values)
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise StoreError(f"{source} is damaged: {error}; train the head again") from None

    @classmethod
    def _rebuild(cls, source: Path, values: dict[str, Any]) -> Head:
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        arrays_file = source / "head.safetensors"
        if _sha256(arrays_file) != values["arrays_sha256"]:
            raise ValueError("head.safetensors is not the file that head.json was written with")
        try:
            arrays = load_file(arrays_file)
        except SafetensorError as error:
            raise ValueError(f"head.safetensors: {error}") from None
        scorer = Scorer(
            kind=values["kind"],
            arrays=arrays,
            num_classes=len(values["classes"]),
            normalize=bool(values["normalize"]),
            temperature=float(values["temperature"]),
            neighbors=int(values["neighbors"]),
            weighting=values["weighting"],
            vote_temperature=float(values.get("vote_temperature", DINO_TEMPERATURE)),
            activation=values.get("activation", "softmax"),
        )
        return cls(
            scorer=scorer,
            classes=tuple(str(name) for name in values["classes"]),
            unit=values["unit"],
            encoder=dict(values["encoder"]),
            space_fingerprint=str(values["space_fingerprint"]),
            run_fingerprint=str(values["run_fingerprint"]),
            training=dict(values["training"]),
        )


def _is_new(scorer: Scorer) -> bool:
    """Whether an earlier vidfeat would score it wrongly, and so must refuse it."""
    return "whitening" in scorer.arrays or scorer.activation != "softmax"


def check_target(folder: Path, *, also: Sequence[str] = (), overwrite: bool = True) -> None:
    """Refuse to replace anything but a head: an output named by mistake must not be deleted.

    Args:
        folder: where a head is to be written.
        also: names of files and folders that may be there in addition to a head's own.
        overwrite: an existing head may be replaced.

    Raises:
        StoreError: there is a file, a folder that holds something else, or a head not to replace.
    """
    if not folder.parent.is_dir():
        raise StoreError(f"{folder}: its parent folder does not exist: make it first")
    if not folder.exists():
        return
    known = {"head.json", "head.safetensors", "report.html", "predictions.csv", *also}
    if not folder.is_dir() or any(entry.name not in known for entry in folder.iterdir()):
        raise StoreError(f"{folder} exists and is not a head of vidfeat: choose another output")
    if not overwrite and any((folder / name).is_file() for name in ("head.json", "results.json")):
        raise StoreError(
            f"{folder} has a head already: choose another folder, or replace it with "
            "overwrite=True",
            field="overwrite",
        )


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
