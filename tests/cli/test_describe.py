"""``vidfeat info`` in words: nested values read as lines, not as Python."""

from __future__ import annotations

from vidfeat.cli.describe import in_words


def test_a_list_of_things_is_a_line_each() -> None:
    trials = [{"params": {"C": 0.1}, "accuracy": 0.5}, {"params": {"C": 1.0}, "accuracy": 0.625}]
    described = {"kind": "linear", "path": "head", "training": {"trials": trials, "seed": None}}
    assert in_words(described)[2:] == [
        "training:",
        "  trials:",
        "    C 0.1, accuracy 0.5",
        "    C 1, accuracy 0.625",
        "  seed: none",
    ]


def test_long_lists_are_cut() -> None:
    described = {"kind": "run", "path": "run", "classes": [f"c{n}" for n in range(20)]}
    assert in_words(described)[-1].endswith("c7, ... (20 in all)")
