"""A scripted teacher on the page: accuracy on real fights by the number of labels.

    python tests/bench/teach_fights.py ../shared/data/fights [--features fights.h5] [--seeds 10]

Each seed splits the recordings into five folds and holds out each of the first ``--folds`` of them.
The page gets an index of the other videos, and the teacher answers its questions with the true
labels: the clip on top of ``most uncertain``, one label at a time. For comparison, the same number
of clips is drawn at random. After 20, 40, 80 and 235 labels the head is saved and classifies the
held-out videos, as ``vidfeat classify --head`` does.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1])]

from starlette.testclient import TestClient  # noqa: E402

from tests.support.teach_fixtures import Teacher, build_page  # noqa: E402
from vidfeat import extract, load_encoder  # noqa: E402
from vidfeat.datasets.labels import read_labels  # noqa: E402
from vidfeat.evaluation.metrics import mean_interval  # noqa: E402
from vidfeat.heads import Head  # noqa: E402
from vidfeat.index import VideoIndex  # noqa: E402
from vidfeat.store.reader import FeatureStore  # noqa: E402
from vidfeat.store.writer import write_store  # noqa: E402

MARKS = (20, 40, 80, 235)
FOLDS = 5


class Row(NamedTuple):
    """One line of the table."""

    name: str
    figure: float
    target: str


class Lesson:
    """One fold: an index of the videos to learn from, and the held-out videos.

    Args:
        store: features of all videos.
        truth: path to class.
        test: the held-out videos.
        seed: of the random draws.
        folder: for the index.
    """

    def __init__(
        self, store: FeatureStore, truth: dict[str, str], test: set[str], seed: int, folder: Path
    ) -> None:
        self.store, self.truth, self.folder = store, truth, folder
        self.rng = np.random.default_rng(seed)
        self.test = sorted(test)
        records = {record.path: record for record in store.records()}
        train = [path for path in store.paths if path in truth and path not in test]
        rows = [(records[path], store.read(path)) for path in train]
        write_store(folder / "train.h5", store.identity, rows)
        VideoIndex.build(folder / "train.h5", folder / "INDEX", kind="flat")

    def accuracies(self, by_the_page: bool) -> dict[int, float]:
        """Accuracy on the held-out videos, by the number of labels."""
        labels = self.folder / "INDEX/labels.csv"
        labels.unlink(missing_ok=True)
        page = build_page(self.folder, VideoIndex(self.folder / "INDEX"))
        found = {}
        with TestClient(page.app, base_url="http://127.0.0.1:8765") as client:
            teacher = Teacher(client)
            clips = teacher.clips(count=1)["total"]
            chance = self.rng.permutation(clips).tolist()
            done = 0
            for count in MARKS:
                if by_the_page:
                    for _ in range(done, count):
                        clip = teacher.clips()["clips"][0]
                        self._label(teacher, [clip["clip"]], self.truth[clip["path"]])
                else:
                    self._label_drawn(teacher, page.index, chance[done:count])
                done = count
                found[count] = self._judge(client)
        return found

    def _label(self, teacher: Teacher, clips: list[int], name: str) -> None:
        answer = teacher.label([{"clip": clip} for clip in clips], name)
        assert answer.status_code == 200, answer.text

    def _label_drawn(self, teacher: Teacher, index: VideoIndex, clips: list[int]) -> None:
        videos = index.searcher.clips["video"]
        names = [self.truth[index.videos.paths[int(videos[clip])]] for clip in clips]
        for name in sorted(set(names)):
            self._label(teacher, [c for c, n in zip(clips, names, strict=True) if n == name], name)

    def _judge(self, client: TestClient) -> float:
        while (told := client.get("/api/teach/quality").json())["judged"] != told["revision"]:
            time.sleep(0.02)
        answer = client.post("/api/teach/head", json={"name": "taught", "replace": True})
        assert answer.status_code == 200, answer.text
        head = Head.load(self.folder / "INDEX/heads/taught")
        right = [
            head.classes[int(head.scores(self.store.read(path).vectors).argmax())]
            == self.truth[path]
            for path in self.test
        ]
        return float(np.mean(right))


def folds_of(groups: dict[str, str], truth: dict[str, str], seed: int) -> list[set[str]]:
    """The videos in five parts, each recording in one of them, with balanced classes."""
    from sklearn.model_selection import StratifiedGroupKFold

    paths = sorted(truth)
    splitter = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    parts = splitter.split(paths, [truth[p] for p in paths], [groups[p] for p in paths])
    return [{paths[i] for i in test} for _, test in parts]


def features_of(folder: Path, target: Path) -> Path:
    """The features of the bundled network, extracted if they do not exist yet."""
    if not target.exists():
        extract(folder, target, load_encoder("bundled"))
    return target


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    """Print the table and return its rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--features", type=Path, help="of the bundled network, kept there")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--folds", type=int, default=FOLDS, help="of each seed's five")
    options = parser.parse_args(arguments)
    labels = read_labels(options.folder / "labels.csv")
    truth = {row.path: row.label for row in labels.rows}
    groups = {row.path: row.group or row.path for row in labels.rows}
    table: dict[bool, list[dict[int, float]]] = {True: [], False: []}
    with tempfile.TemporaryDirectory() as temporary:
        features = features_of(options.folder, options.features or Path(temporary) / "fights.h5")
        with FeatureStore(features) as store:
            truth = {path: truth[path] for path in store.paths if path in truth}
            for seed in range(options.seeds):
                found: dict[bool, list[dict[int, float]]] = {True: [], False: []}
                for fold, test in enumerate(folds_of(groups, truth, seed)[: options.folds]):
                    place = Path(temporary) / f"{seed}-{fold}"
                    place.mkdir()
                    lesson = Lesson(store, truth, test, 100 * seed + fold, place)
                    for by_the_page, accuracies in found.items():
                        accuracies.append(lesson.accuracies(by_the_page))
                for by_the_page, accuracies in found.items():
                    table[by_the_page].append(
                        {n: float(np.mean([one[n] for one in accuracies])) for n in MARKS}
                    )
                shown = [
                    " ".join(f"{table[way][-1][n]:.3f}" for n in MARKS) for way in (True, False)
                ]
                print(f"seed {seed}: page {shown[0]}, random {shown[1]}", flush=True)
    rows = []
    print(f"\n{'labels':>6}  {'chosen by the page':<24} at random")
    for count in MARKS:
        shown = {way: mean_interval([one[count] for one in found]) for way, found in table.items()}
        print(f"{count:>6}  {shown[True]!s:<24} {shown[False]}")
        rows += [Row(f"{count} labels, page", shown[True].value, "")]
        rows += [Row(f"{count} labels, random", shown[False].value, "")]
    apart = mean_interval(
        [one[80] - other[235] for one, other in zip(table[True], table[False], strict=True)]
    )
    print(f"80 chosen ones against 235 at random: {apart} (at least -1 %)")
    return [*rows, Row("80 chosen - 235 at random", apart.value, ">= -0.01")]


if __name__ == "__main__":
    main()
