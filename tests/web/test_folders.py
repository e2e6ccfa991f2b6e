"""The tree of folders: every folder and parent is there, with the videos below it."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from vidfeat.web.folders import FolderTree

NAMES = st.sampled_from(["a", "b", "A", "ab", "ä b", "."])
FOLDERS = st.lists(st.lists(NAMES, min_size=1, max_size=4).map("/".join), max_size=30)


@given(FOLDERS)
@settings(deadline=None, max_examples=80)
def test_every_folder_is_reached_from_the_top(folders):
    tree = FolderTree(folders)
    reached = {}
    queue = list(tree.level(""))
    while queue:
        folder = queue.pop()
        assert folder["path"] not in reached
        below = tree.level(folder["path"])
        assert len(below) == folder["folders"]
        reached[folder["path"]] = folder["videos"]
        queue += below
    assert set(folders) <= set(reached)
    for path, videos in reached.items():
        assert videos == sum(f == path or f.startswith(f"{path}/") for f in folders)
    assert len(tree) == len(reached)
    total, found = tree.matching("B", most=10_000)
    assert total == len(found) == sum("b" in path.casefold() for path in reached)


def test_many_folders_are_counted_and_own_names_come_first():
    tree = FolderTree([f"year/day{number:05}/deep" for number in range(5000)])
    assert tree.level("")[0] == {"path": "year", "name": "year", "videos": 5000, "folders": 5000}
    assert len(tree.level("year")) == 5000
    total, found = tree.matching("day0001", most=200)
    assert total == 20
    assert [one["path"] for one in found[:2]] == ["year/day00010", "year/day00011"]
    assert found[10]["path"] == "year/day00010/deep"
