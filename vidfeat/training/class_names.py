"""Comparing class names: a network's with a dataset's, and names with their mirror images."""

from __future__ import annotations

import re
from collections.abc import Sequence

from vidfeat.system.identities import normal_form

# Words that mirroring exchanges; longer ones first, since counterclockwise contains clockwise.
_MIRRORED = (
    ("counterclockwise", "clockwise"),
    ("anticlockwise", "clockwise"),
    ("left", "right"),
    ("leftward", "rightward"),
    ("leftwards", "rightwards"),
    ("lefthand", "righthand"),
    ("lefty", "righty"),
    ("ccw", "cw"),
    ("acw", "cw"),
    ("l", "r"),
    ("lh", "rh"),
    ("ltr", "rtl"),
    ("l2r", "r2l"),
    ("east", "west"),
    ("eastward", "westward"),
    ("port", "starboard"),
)
_FOLDED = str.maketrans("_", " ", "'()")
_SIDES = re.compile("left|right")
_TURN_NAMES = re.compile(r"\b(counter|anti) clockwise\b")


def plain_name(name: str) -> str:
    """A class name for comparison: case-folded, underscores as spaces, without ``'()``.

    Accents may be in either Unicode form.

    ``torchvision.datasets.Kinetics`` omits those three characters in the folders that it creates.
    """
    return " ".join(normal_form(name).translate(_FOLDED).casefold().split())


def order_of(names: Sequence[str], wanted: Sequence[str]) -> list[int] | None:
    """Index of each wanted class among some names; None if the two are not the same set."""
    for compare in (str, plain_name):
        places = {compare(name): place for place, name in enumerate(names)}
        keys = [compare(name) for name in wanted]
        if len(places) == len(names) == len(keys) and set(keys) == set(places):
            return [places[key] for key in keys]
    return None


def mirrored_pairs(classes: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of classes that differ only in words that a mirror exchanges.

    ``turn left`` and ``turn right``, ``TurnLeft`` and ``TurnRight``, ``clockwise`` and
    ``anti-clockwise``: mirroring a video of one makes a video of the other.
    """
    words = {name: _words(name) for name in classes}
    by_words: dict[tuple[str, ...], str] = {own: name for name, own in words.items()}
    pairs = set()
    for name, own in words.items():
        for other in _reflections(own):
            twin = by_words.get(other)
            if twin is not None and twin != name:
                pairs.add((min(name, twin), max(name, twin)))
    return sorted(pairs)


def _words(name: str) -> tuple[str, ...]:
    """The words of a name: separated by other characters, and by capitals inside a word."""
    text = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    text = " ".join(re.findall(r"[^\W_]+", text.casefold()))
    return tuple(_TURN_NAMES.sub(r"\1clockwise", text).split())


def _reflections(words: tuple[str, ...]) -> list[tuple[str, ...]]:
    """The mirrored forms of a name, one for each way in which its words can be exchanged."""
    exchanges: dict[str, list[str]] = {}
    for one, other in _MIRRORED:
        exchanges.setdefault(one, []).append(other)
        exchanges.setdefault(other, []).append(one)
    found: list[tuple[str, ...]] = [()]
    for word in words:
        options = exchanges.get(word) or [_other_side(word)]
        found = [(*start, option) for start in found for option in options]
    return [own for own in found if own != words]


def _other_side(word: str) -> str:
    """A longer word with left and right exchanged: ``leftturn``, ``righthanded``."""
    sides = {"left": "right", "right": "left"}
    return _SIDES.sub(lambda found: sides[found[0]], word)
