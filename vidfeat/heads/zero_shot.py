"""Zero-shot classification: a head from class names only, by the encoder's text tower.

Each name is put into some templates, and the mean direction of these phrases represents the class
(Radford et al. 2021, arXiv 2103.00020, section 3.1.4). Scores are the softmax of the cosines, times
the scale that the network learned. It is a linear head, and can do everything that a trained one
can.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from vidfeat.encoders.text import TextEncoder
from vidfeat.errors import DataError, UsageError
from vidfeat.heads.head import Head
from vidfeat.heads.scorers import Scorer, l2_normalize
from vidfeat.system.text_tables import read_lines
from vidfeat.system.wording import counted

TEMPLATES = (
    "{}",
    "a video of {}.",
    "a video of a person {}.",
    "a video of people {}.",
    "a photo of {}.",
    "an example of {}.",
)


def read_prompts(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Read class names, one per line.

    Raises:
        DataError: there is no such file, fewer than two names, or a duplicate.
    """
    name = os.fspath(path)
    lines: dict[str, int] = {}
    for number, line in read_lines(path):
        label = " ".join(line.split())
        if label in lines:
            raise DataError(f"{name}, line {number}: {label!r} is already in line {lines[label]}")
        lines[label] = number
    labels = tuple(lines)
    if labels and labels[0].lower().replace(" ", "").startswith("path,label"):
        raise DataError(f"{name} is a table of labelled videos: expected one class name per line")
    if len(labels) < 2:
        raise DataError(
            f"{name} names {counted(len(labels), 'class', 'classes')}, expected two or more: "
            "add a class for everything else, such as 'something else'"
        )
    return labels


def check_templates(templates: Sequence[str]) -> tuple[str, ...]:
    """Check that each template has one place for the name; without any, the default ones.

    Raises:
        UsageError: one has no ``{}``, or several.
    """
    for template in templates:
        if template.count("{}") != 1:
            raise UsageError(
                f"the template {template!r} has {template.count('{}')} places for the name, "
                "expected one: a video of {}",
                field="template",
            )
    return tuple(dict.fromkeys(templates)) or TEMPLATES


def prompt_head(
    labels: Sequence[str],
    texts: TextEncoder,
    *,
    run_fingerprint: str,
    templates: Sequence[str] = (),
) -> Head:
    """Make a head from class names.

    Args:
        labels: names of the classes, C of them.
        texts: the text tower of the encoder whose vectors will be classified.
        run_fingerprint: of the run that makes those vectors.
        templates: phrases with ``{}`` in place of the name; none takes ``TEMPLATES``.

    Raises:
        UsageError: a template without a place for the name, or fewer than two classes.
        DataError: the phrases of a class cancel each other.
    """
    chosen = check_templates(templates)
    if len(labels) < 2 or len(set(labels)) != len(labels):
        raise UsageError(
            f"{counted(len(labels), 'class', 'classes')}, expected two or more different ones"
        )
    phrases = [template.replace("{}", label) for label in labels for template in chosen]
    vectors = l2_normalize(texts.encode(phrases).astype(np.float64))
    classes_CD = vectors.reshape(len(labels), len(chosen), -1).mean(axis=1)
    lengths = np.linalg.norm(classes_CD, axis=1)
    if not (lengths > 1e-6).all():
        lost = labels[int(lengths.argmin())]
        raise DataError(f"the phrases of {lost!r} cancel each other: give other templates")
    scorer = Scorer(
        kind="linear",
        arrays={
            "weights": (classes_CD / lengths[:, None]).astype(np.float32),
            "bias": np.zeros(len(labels), np.float32),
        },
        num_classes=len(labels),
        normalize=True,
        temperature=1 / texts.scale,
    )
    return Head(
        scorer=scorer,
        classes=tuple(labels),
        unit="videos",
        encoder=dict(texts.description),
        space_fingerprint=texts.space_fingerprint,
        run_fingerprint=run_fingerprint,
        training={"prompts": True, "templates": list(chosen)},
    )
