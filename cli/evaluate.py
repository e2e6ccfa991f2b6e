"""``vidfeat evaluate``: a network's accuracy by the paper's protocol, and the fusion of two."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vidfeat.cli.options import HELP_NAMES, OutputPath, settings_option
from vidfeat.system.wording import counted

if TYPE_CHECKING:
    from vidfeat.evaluation.scores import Scores


@click.command(
    "evaluate",
    context_settings=HELP_NAMES,
    epilog="Examples: vidfeat evaluate run/ --data videos/ -o report/; "
    "vidfeat evaluate --fuse rgb.h5 flow.h5 --weight 0.6",
)
@click.argument("source", required=False, metavar="RUN_OR_WEIGHTS")
@click.option("--data", type=click.Path(path_type=Path), help="The dataset's folder, or a CSV.")
@click.option("--model", help="The network, if weights are given instead of a run.")
@click.option("--dataset", help="Name of the dataset.  [default: the run's, or auto]")
@click.option(
    "--splits", type=click.Path(path_type=Path), help="Folder of the dataset's split files."
)
@click.option("--split", type=int, help="Official split: 1, 2 or 3.")
@click.option(
    "--part", type=click.Choice(["val", "test", "train", "all"]), help="[default: val or test]"
)
@click.option("--clips", type=int, help="Uniform clips per video.  [default: the run's, or 10]")
@click.option("--crops", type=click.Choice(["1", "3"]), help="Crops per clip.  [default: 1]")
@settings_option()
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option("--workers", type=int, help="Decode processes.")
@click.option("--scores", type=OutputPath(), help="Write the scores of all videos (HDF5).")
@click.option(
    "-o",
    "--output",
    type=OutputPath(),
    help="Folder for summary, per-class accuracy, confusion matrix (picture, CSV) and scores.",
)
@click.option(
    "--fuse", nargs=2, type=click.Path(path_type=Path), help="Average two score files instead."
)
@click.option("--weight", default=0.5, show_default=True, help="Weight of the first file.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@click.pass_context
def command(ctx: click.Context, /, **values: Any) -> int:
    """Measure a network on videos: clip@1, video@1, and video@5 with more than five classes.

    RUN_OR_WEIGHTS is the folder of a training run, a weights file, or the name of published
    weights (the latter two with --model).
    """
    if values["fuse"] is not None:
        if values["source"] is not None or values["data"] is not None:
            raise click.UsageError(
                "--fuse takes two score files: leave RUN_OR_WEIGHTS and --data out", ctx
            )
        return _fuse(values)
    if values["source"] is None or values["data"] is None:
        raise click.UsageError("give a run or weights, and --data DIR", ctx)
    return _evaluate(values)


def _evaluate(values: dict[str, Any]) -> int:
    from vidfeat.training.evaluation_report import evaluate_subject, open_subject

    settings = list(values["settings"])
    for key, option in (
        ("evaluate.clips", "clips"),
        ("evaluate.crops", "crops"),
        ("data.split", "split"),
        ("run.workers", "workers"),
        ("data.dataset", "dataset"),
    ):
        if values[option] is not None:
            settings.append(f"{key}={values[option]}")
    subject = open_subject(values["source"], values["model"], settings)
    result, world = evaluate_subject(
        subject,
        values["data"],
        lists=values["splits"],
        part=values["part"],
        device=values["device"],
        progress=_progress,
        before=lambda dataset: click.echo(dataset.summary(), err=True),
    )
    if not world.is_main:
        return 0
    for failure in result.failures:
        click.echo(f"vidfeat: {failure}", err=True)
    _write(values, result.scores, result.to_dict())
    return 1 if result.failures else 0


def _progress(done: int, total: int | None) -> None:
    step = max(1, (total or 0) // 20)
    if done % step == 0 or done == total:
        click.echo(f"evaluate: {done}/{total} videos", err=True)


def _fuse(values: dict[str, Any]) -> int:
    from vidfeat.evaluation.scores import fuse_scores, read_scores
    from vidfeat.training.evaluation_report import summary_of

    first, second = (read_scores(path) for path in values["fuse"])
    fused = fuse_scores(first, second, values["weight"])
    if not values["as_json"]:
        for path, scores in zip(values["fuse"], (first, second), strict=True):
            click.echo(f"{path}: {_line(summary_of(scores))}")
    _write(values, fused, {**summary_of(fused), **fused.source})
    return 0


def _write(values: dict[str, Any], scores: Scores, summary: dict[str, Any]) -> None:
    from vidfeat.evaluation.scores import write_scores
    from vidfeat.training.evaluation_report import write_evaluation_report

    click.echo(json.dumps(summary) if values["as_json"] else _line(summary))
    if values["scores"] is not None:
        write_scores(values["scores"], scores)
        click.echo(f"scores in {values['scores']}", err=True)
    if values["output"] is not None:
        for path in write_evaluation_report(values["output"], scores, summary):
            click.echo(f"wrote {path}", err=True)


def _line(summary: dict[str, Any]) -> str:
    names = [name for name in ("clip@1", "video@1", "video@5") if name in summary]
    parts = ", ".join(f"{name} {summary[name]:.1%}" for name in names)
    failed = f", {summary['failed']} could not be read" if summary.get("failed") else ""
    return f"{parts} of {counted(summary['videos'], 'video')}{failed}"
