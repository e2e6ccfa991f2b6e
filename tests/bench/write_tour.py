"""Write docs/tour.ipynb: run the cells below and keep what they print and draw.

python tests/bench/write_tour.py
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.support.notebook import Cell, run_cells, to_notebook  # noqa: E402

TEXT = "markdown"
CELLS = [
    Cell(
        "# From a folder of videos to answers\n\n"
        "Videos become vectors, one row per clip of 0.8 seconds, and everything below works on\n"
        "these. The network is the small one that comes with vidfeat, so nothing is downloaded.",
        TEXT,
    ),
    Cell(
        "from pathlib import Path\n\n"
        "import vidfeat\n"
        "from vidfeat.datasets.demo import render_demo\n\n"
        "# 40 short videos of five actions, rendered here: your own folder does as well\n"
        'videos = render_demo(Path("videos"), per_class=8, long=1)\n'
        "len(videos)",
    ),
    Cell("## Extract", TEXT),
    Cell(
        'encoder = vidfeat.load_encoder("bundled")\n'
        'report = vidfeat.extract("videos", "features.h5", encoder)\n'
        'print(f"{report.videos} videos, {report.clips} clips")\n\n'
        'store = vidfeat.FeatureStore("features.h5")\n'
        "store",
    ),
    Cell('store["fall/fall-1.mp4"]'),
    Cell(
        "table = store.to_pandas()\n"
        'table[["path", "start_seconds", "end_seconds", "v0", "v1"]].head()'
    ),
    Cell("## A classifier\n\nThe folder of each video is its class.", TEXT),
    Cell(
        "from vidfeat.datasets.labels import read_labels\n\n"
        'labels = read_labels("videos/labels.csv")\n'
        'result = vidfeat.finetune("features.h5", labels, head="linear,knn", out="head")\n'
        "part = result.parts[0]\n"
        "for kind, found in part.comparison.found.items():\n"
        '    print(f"{kind:8}{found.interval} ({found.interval.method})")\n'
        'print(f"always the most common class: {part.outcome.majority.accuracy:.1%}")',
    ),
    Cell('head = vidfeat.Head.load("head")\nhead'),
    Cell(
        "## Along a longer video\n\n"
        "It shows one action after the other. Lanes are the scores of the classes.",
        TEXT,
    ),
    Cell(
        "import io\n\n"
        "from vidfeat.heads.classify import HeadJudge, classify_clips\n"
        "from vidfeat.heads.prediction_plot import classified\n\n"
        'line = classify_clips(HeadJudge(head), "long-1.mp4", store["long/long-1.mp4"], '
        "every_seconds=1)\n"
        "picture = io.BytesIO()\n"
        "with classified([line]) as figure:\n"
        '    figure.savefig(picture, format="png", dpi=90)\n'
        "picture.getvalue()",
    ),
    Cell("## Search", TEXT),
    Cell(
        'index = vidfeat.VideoIndex.build("features.h5", overwrite=True)\n'
        'for match in index.search("walk/walk-1.mp4", k=4):\n'
        "    print(match)",
    ),
    Cell("store.close()\nindex"),
]


def main() -> None:
    """Run the cells in an empty folder and write the notebook."""
    target = ROOT / "docs" / "tour.ipynb"
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        run_cells(CELLS, {"__name__": "__main__"})
        os.chdir(ROOT)
    text = json.dumps(to_notebook(CELLS), indent=1, ensure_ascii=False)
    target.write_text(text + "\n", encoding="utf-8")
    print(target)


if __name__ == "__main__":
    main()
