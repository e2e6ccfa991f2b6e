"""``vidfeat info`` in words: nested values read as lines, not as Python."""

from __future__ import annotations

from vidfeat.cli.describe import describe, in_words


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


# ---------------------------------------------------------------- features


def test_features_are_told_in_the_order_people_ask_in(tmp_path):
    from tests.support.store_fixtures import failure_of, make_store

    file = tmp_path / "features.h5"
    make_store(file, {"a.mp4": 3, "b.mp4": 2}, (failure_of("c.mp4"),))
    lines = in_words(describe(file))
    assert "2 videos, 5 clips of 6 dimensions" in lines[0]
    names = [line.split()[0] for line in lines[1:]]
    wanted = ["footage", "clips", "network", "failures"]
    assert [name for name in names if name in wanted] == wanted
    assert names[-2:] == ["space", "run"]
    assert "r2plus1d_18, weights random" in "\n".join(lines)
    assert names.index("failures") < names.index("root") < names.index("space")


def test_features_that_are_being_written(tmp_path):
    from tests.support.store_fixtures import failure_of, identity_of, part_of, segment_of
    from vidfeat.store.parts import open_parts, write_part

    file = tmp_path / "features.h5"
    folder = open_parts(file, identity_of())
    segments = (segment_of("a.mp4", 3), segment_of("b.mp4", 2, complete=False))
    write_part(folder, part_of(*segments, failures=(failure_of("c.mp4"),)), 0)
    before = sorted(path.name for path in folder.iterdir())
    for path in (file, folder):
        described = describe(path)
        assert (described["videos"], described["clips"]) == (1, 3)
        assert described["unfinished"] and described["errors"] == 1
        lines = in_words(described)
        assert "1 video, 3 clips" in lines[0] and "1 video begun" in lines[1]
    assert sorted(path.name for path in folder.iterdir()) == before


def test_features_that_are_gone_on_with(tmp_path):
    from tests.support.store_fixtures import identity_of, make_store, part_of, segment_of
    from vidfeat.store.parts import open_parts, write_part

    file = tmp_path / "features.h5"
    make_store(file, {"a.mp4": 3})
    write_part(open_parts(file, identity_of()), part_of(segment_of("b.mp4", 2)), 0)
    described = describe(file)
    assert (described["videos"], described["going_on"]["videos"]) == (1, 1)
    assert "1 more video and 2 more clips are finished" in in_words(described)[1]
