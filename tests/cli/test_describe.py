"""``vidfeat info`` in words: nested values read as lines, not as Python."""

from __future__ import annotations

import json

from vidfeat.cli.describe import describe, in_words


def test_a_list_of_things_is_a_line_each() -> None:
    trials = [{"params": {"C": 0.1}, "accuracy": 0.5}, {"params": {"C": 1.0}, "accuracy": 0.625}]
    described = {"kind": "thing", "path": "x", "training": {"trials": trials, "seed": None}}
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


# ---------------------------------------------------------------- heads, indexes, runs, weights


def test_a_head_and_an_index_are_told_in_the_order_people_ask_in(tmp_path):
    from tests.support.heads_fixtures import three_classes
    from vidfeat.heads.finetuning import FinetuneOptions, finetune
    from vidfeat.heads.selection import HeadOptions
    from vidfeat.index import VideoIndex

    features = three_classes(tmp_path)
    options = FinetuneOptions(head=HeadOptions(params={"C": 0.1}), report=False)
    finetune(features, "folders", options, out=tmp_path / "head")
    VideoIndex.build(features, tmp_path / "index")

    described = describe(tmp_path / "head")
    assert (described["kind"], described["head"]) == ("head", "linear")
    lines = in_words(described)
    assert lines[0].endswith("head: a linear head for 3 classes")
    assert [line.split("  ")[1] for line in lines[1 : lines.index("")]] == [
        "classes",
        "network",
        "trained on",
        "chosen",
        "accuracy",
    ]
    assert "% of 8 test samples (95 % interval " in "\n".join(lines)
    hashes = [line for line in lines if "sha256:" in line or "fingerprint:" in line]
    assert len(hashes) == 3 and lines[-3:] == hashes

    lines = in_words(describe(tmp_path / "index"))
    assert "index: an index of 36 videos, 144 clips of " in lines[0] and "(flat)" in lines[0]
    assert [line.split("  ")[1] for line in lines[1 : lines.index("")]] == [
        "recall@10",
        "network",
        "root",
        "written",
    ]
    assert all("fingerprint" in line for line in lines[-2:])


def test_a_run_and_weights_are_told_in_the_order_people_ask_in(tmp_path):
    from tests.support.train_fixtures import micro
    from vidfeat.training.toml import write_recipe

    run = tmp_path / "run"
    run.mkdir()
    write_recipe(run / "recipe.toml", micro("model.init=bundled"))
    data = {"classes": ["a", "b"], "train": 1, "evaluate": 2, "root": "/videos"}
    (run / "data.json").write_text(json.dumps(data))
    best = {"step": 2, "video@1": 0.5}
    (run / "log.jsonl").write_text(json.dumps({"event": "pause", "step": 1, "best": best}))
    lines = in_words(describe(run))
    assert lines[0].endswith("not finished after 1 step")
    assert lines[1:6] == [
        "  network  r2plus1d_10_w16, from bundled weights",
        "  classes  a, b",
        "  data     1 video to train on, 2 videos to evaluate",
        "  root     /videos",
        "  best     video@1 50.0% at step 2",
    ]
    lines = in_words(describe("bundled"))
    assert lines[0] == (
        "bundled: weights of r2plus1d_10_w16, 913,262 parameters in 128 tensors, 3.7 MB"
    )
    assert "sha256" in lines[-1]
