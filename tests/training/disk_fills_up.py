"""Run on a disk of a chosen size: training meets a full disk at every page, and resumes."""

from __future__ import annotations

import errno
import json
import shutil

from tests.support.small_disk import Disk
from tests.support.train_fixtures import micro, render_motion, same_weights
from vidfeat.training.run import train

_MOST_TRIES = 2000


def main(disk: Disk, step: int) -> None:
    """Print how many times it met a full disk, and in which files."""
    data = render_motion(disk.folder.parent / "data", train=1, val=1)
    recipe = micro("train.epochs=2", "run.checkpoint_every=1", "run.keep=1", "evaluate.clips=1")
    whole = disk.folder.parent / "whole"
    train(recipe, data, whole)
    run = disk.folder / "run"
    pages, files = disk.used
    met = []
    for limit in ("pages", "files"):
        for tried in range(_MOST_TRIES):
            more = tried * (step if limit == "pages" else 1)
            if limit == "pages":
                disk.limit(pages=pages + more)
            else:
                disk.limit(files=files + more)
            try:
                train(recipe, data, run)
            except OSError as error:
                assert error.errno == errno.ENOSPC, f"{more} {limit}: {error!r}"
                assert str(disk.folder) in str(error.filename), f"{more} {limit}: {error!r}"
                met.append(str(error.filename).removeprefix(str(disk.folder)))
            else:
                disk.limit()
                assert same_weights(run, whole)
                break
            disk.limit()
            left = [path.name for path in run.rglob("*") if ".writing-" in path.name]
            assert not left, f"{more} {limit}: {left}"
            if run.exists() and tried % 3 == 0:  # it goes on as soon as there is room
                train(recipe, data, run, resume=True)
                assert same_weights(run, whole)
            shutil.rmtree(run, ignore_errors=True)
        else:
            raise AssertionError("never enough")
        shutil.rmtree(run)
    print(json.dumps(met))
