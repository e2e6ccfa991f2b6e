"""Faults of published networks, recipes and datasets, before and after, as a table.

    python tests/bench/published_networks.py [--before DIR] [--checkout .]

Each checkout has its own ``.venv``. Only names that both versions have are used. The exit status is
1 if a value is wrong now.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parents[2]
if str(HERE) not in sys.path:  # run as a file
    sys.path.insert(0, str(HERE))

from tests.bench.odd_inputs import Row, Tool, table  # noqa: E402

PAPER = (
    "kinetics_r2plus1d_18_16f",
    "sports1m_r2plus1d_18_16f",
    "kinetics_r3d_18_16f",
    "ucf101_from_kinetics",
)
_RECIPE = """
import subprocess, sys, tomllib
told = subprocess.run([sys.executable, '-m', 'vidfeat', 'train', {name!r}, '--print'],
                      capture_output=True, text=True, check=True)
r = tomllib.loads(told.stdout)
print({wanted})
"""
_FORM = (
    "'bn_eps', r['model'].get('bn_eps'), 'midplanes', r['model'].get('midplanes'), "
    "'nesterov', r['train'].get('nesterov')"
)
_LAYERWISE = (
    "r['train']['epochs'], r['train']['milestones'], r['train']['warmup_epochs'], "
    "r['train']['micro_batch'], r['data']['fps'], r['data']['scale']"
)
_ENTRY = """
from vidfeat.pretrained import find_entry
e = find_entry({name!r}, {model!r})
print({wanted})
"""
_DATASET = """
from vidfeat.datasets import open_dataset
print(open_dataset({name!r}, {root!r}).summary().partition(' listed')[0])
"""
_NAMESPACE = """
import argparse, torch, torchvision
net = torchvision.models.video.mc3_18()
torch.save({'model': net.state_dict(), 'args': argparse.Namespace(lr=1), 'epoch': 3}, 'run.pth')
"""


def rows(tool: Tool) -> Iterator[Row]:
    """All commands, with the right and the actual values."""
    flow = ("caffe2_sports1m_kinetics_flow_32f", "r2plus1d_34")
    code = _ENTRY.format(name=flow[0], model=flow[1], wanted="e.preprocess is not None")
    yield Row("1 weights for flow have their preprocessing", "True", tool.python(code))
    for name, model, rate in (
        ("caffe2_kinetics_16f", "r2plus1d_18_paper", "15"),
        ("ig65m_kinetics_32f", "r2plus1d_34", "30"),
    ):
        code = _ENTRY.format(name=name, model=model, wanted="e.plan and e.plan.fps")
        yield Row(f"2 frames per second of {name}", rate, tool.python(code))
    for name in PAPER:
        midplanes = "conv" if "r3d" not in name else "default"
        found = tool.python(_RECIPE.format(name=name, wanted=_FORM))
        yield Row(f"3, 7 recipe {name}", f"bn_eps 0.001 midplanes {midplanes} nesterov True", found)
    layerwise = tool.python(_RECIPE.format(name="ucf101_layerwise", wanted=_LAYERWISE))
    yield Row("8 recipe ucf101_layerwise", "45 [20, 30, 40] 10.0 24 15 [128, 174]", layerwise)
    sports = tool.folder / "sports1m"
    (sports / "original").mkdir(parents=True)
    (sports / "labels.txt").write_text("boomerang\nboxing\n")
    for part in ("train", "test"):
        url = f"https://www.youtube.com/watch?v={part[0] * 11} 1\n"
        (sports / "original" / f"{part}_partition.txt").write_text(url)
        (sports / f"{part[0] * 11}.mp4").touch()
    found = tool.python(_DATASET.format(name="sports1m", root=str(sports)))
    right = "sports1m: 2 classes, 2 videos (test 1, train 1)"
    yield Row("4 Sports-1M as published", right, found[: len(right)])
    kinetics = tool.folder / "kinetics600"
    kinetics.mkdir()
    for part, file in (("train", "train.txt"), ("val", "val.txt"), ("test", "test.csv")):
        header = "label,youtube_id,time_start,time_end,split\n" * (part == "test")
        row = f"zumba,{part[0] * 11},0,10,{part}\n"
        (kinetics / file).write_text(header + row)
        (kinetics / f"{part[0] * 11}_000000_000010.mp4").touch()
    found = tool.python(_DATASET.format(name="kinetics600", root=str(kinetics)))
    right = "kinetics600: 1 class, 3 videos (test 1, train 1, val 1)"
    yield Row("5 Kinetics-600 as its downloader leaves it", right, found[: len(right)])
    tool.python(_NAMESPACE)
    answer = tool("weights", "convert", "run.pth", "-o", "run.safetensors", "--model", "mc3_18")
    written = "written" if (tool.folder / "run.safetensors").exists() else "not written"
    yield Row("6 a checkpoint with a Namespace", "exit 0, written", answer.then(written))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the rows and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", type=Path, help="an older checkout, with its .venv")
    parser.add_argument("--checkout", type=Path, default=HERE)
    given = parser.parse_args(arguments)
    found: list[dict[str, list[Row]]] = []
    for checkout in (given.before, given.checkout):
        with tempfile.TemporaryDirectory() as folder:
            tool = Tool(checkout or given.checkout, Path(folder))
            found.append({"": list(rows(tool)) if checkout else []})
    lines, wrong = table(*found)
    print("\n".join(lines))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
