"""``vidfeat classify``: what is in videos."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vidfeat.cli.options import (
    HELP_NAMES,
    OutputPath,
    decode_options,
    make_encoder,
    network_options,
    plan_choice,
    plan_options,
)
from vidfeat.system.wording import one_line

if TYPE_CHECKING:
    from vidfeat.encoders.reading import VideoRead
    from vidfeat.extraction.options import ExtractOptions
    from vidfeat.heads.classify import HeadJudge, Judge, NetworkJudge, VideoPrediction

MOST_PICTURES = 12
# Options that a head defines, so that giving them can only be a mistake.
OF_THE_HEAD = ("model", "seed", "engine", "compiled")


@click.command(
    "classify",
    context_settings=HELP_NAMES,
    epilog="Example: vidfeat classify match.mp4 --head head/ --every-seconds 5",
)
@click.argument("videos", nargs=-1, required=True, metavar="VIDEO...")
@click.option("--head", "head_folder", metavar="DIR", help="Use a head from vidfeat finetune.")
@click.option(
    "--prompts",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Classify by class names only, one name per line; needs a network with a text tower.",
)
@click.option(
    "--template",
    "templates",
    multiple=True,
    metavar="TEXT",
    help="Phrase for each name, which replaces {}; may be repeated.  [default: six phrases]",
)
@click.option("-k", "--top", default=5, show_default=True, help="Classes to list.")
@click.option(
    "--every-seconds", type=float, help="Also list classes for each segment of this many seconds."
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list of objects.")
@click.option(
    "--plot", type=OutputPath(), metavar="FILE", help="Plot the result: .png, .svg or .pdf."
)
@click.option(
    "--csv",
    "table",
    type=OutputPath(),
    metavar="FILE",
    help="Write the scores of all classes as CSV, one line per segment.",
)
@click.option("--scores", type=OutputPath(), metavar="FILE", help="Write all scores as HDF5.")
@network_options()
@plan_options()
@decode_options()
@click.pass_context
def command(ctx: click.Context, /, **values: Any) -> int:
    """Classify videos: with the network's own classes, a head, or class names.

    VIDEO is a file, a folder that is searched, or (with --head or --prompts) a feature file. With
    --prompts the network is pe_core_s unless --model says otherwise.
    """
    from vidfeat.errors import VideoError
    from vidfeat.extraction.options import ExtractOptions
    from vidfeat.heads.classify import classify_clips

    videos: tuple[str, ...] = values.pop("videos")
    plot, scores_file, table = values.pop("plot"), values.pop("scores"), values.pop("table")
    as_json, top, every = values.pop("as_json"), values.pop("top"), values.pop("every_seconds")
    if plot is not None and plot.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise click.UsageError(f"--plot writes .png, .svg or .pdf, not {plot.name!r}")
    if top < 1:
        raise click.UsageError(f"--top must be 1 or more, not {top}")
    stored = [_is_features(video) for video in videos]
    prompts, templates = values.pop("prompts"), values.pop("templates")
    if prompts is not None and values["head_folder"] is not None:
        raise click.UsageError("--head and --prompts exclude each other: both define the classes")
    if templates and prompts is None:
        raise click.UsageError("--template goes with --prompts")
    if prompts is None and values["head_folder"] is None and any(stored):
        given = videos[stored.index(True)]
        raise click.UsageError(f"{given} is a feature file: give a --head or --prompts for it")
    decoding = ExtractOptions(
        workers=values.pop("workers"), video_timeout=values.pop("video_timeout")
    )
    judge: HeadJudge | NetworkJudge
    if prompts is not None:
        from vidfeat.cli.prompts import prompt_judge

        values.pop("head_folder")
        features = videos[0] if all(stored) else None
        judge = prompt_judge(values, prompts, templates, every_seconds=every, features=features)
    else:
        judge = _judge(ctx, values, every, needs_encoder=not all(stored))
    found: list[VideoPrediction] = []
    failures = 0
    for read in _read(judge, videos, decoding):
        if read.error is not None:
            click.echo(f"{one_line(read.path)}: {read.error}", err=True)
            failures += 1
        if read.clips is None:
            continue
        try:
            video = classify_clips(judge, read.path, read.clips, top=top, every_seconds=every)
        except VideoError as error:
            click.echo(f"{read.path}: {error}", err=True)
            failures += read.error is None
            continue
        found.append(video)
        if not as_json:
            _show(found[-1])
    if as_json:
        import json

        click.echo(json.dumps([video.to_dict() for video in found], indent=2, ensure_ascii=False))
    if found and scores_file is not None:
        _write_scores(scores_file, judge, found)
    if found and table is not None:
        from vidfeat.heads.prediction_plot import write_csv

        write_csv(table, found)
    if found and plot is not None:
        _draw(plot, found)
    if not found:
        click.echo("no video could be classified", err=True)
        return 2
    return 1 if failures else 0


def _judge(
    ctx: click.Context, values: dict[str, Any], every: float | None, *, needs_encoder: bool
) -> HeadJudge | NetworkJudge:
    from vidfeat.heads.classify import HeadJudge, NetworkJudge, time_line_plan

    folder = values.pop("head_folder")
    if folder is None:
        choice = time_line_plan(plan_choice(dict(values)), every)
        values |= {"hop_seconds": choice.hop_seconds, "tail": choice.tail}
        encoder = make_encoder(values)
        for note in encoder.spec.notes:
            click.echo(f"note: {note}", err=True)
        return NetworkJudge(encoder)
    from vidfeat.encoders.load import encoder_from_description
    from vidfeat.encoders.sources import is_file
    from vidfeat.heads.head import Head

    for name in OF_THE_HEAD:
        source = ctx.get_parameter_source(name)
        if name == "model" and is_file(str(values["model"])):
            continue
        if source is not None and source.name == "COMMANDLINE":
            option = "compile" if name == "compiled" else name
            raise click.UsageError(f"--{option} and --head exclude each other: the head defines it")
    head = Head.load(folder)
    if not needs_encoder:
        return HeadJudge(head)
    precision = ctx.get_parameter_source("precision")
    given = precision is not None and precision.name == "COMMANDLINE"
    asked = plan_choice(values)
    plan = time_line_plan(asked, every)
    try:
        encoder = encoder_from_description(
            head.encoder,
            values["weights"],
            device=values["device"],
            plan=plan,
            precision=values["precision"] if given else None,
            batch_size=values["batch_size"],
            model=values["model"],
        )
    except KeyError as error:
        raise click.UsageError(
            f"{folder} does not record its encoder's {error}: give a feature file in place of "
            "videos, or train the head on features that vidfeat extract wrote"
        ) from None
    judge = HeadJudge(head, encoder, time_line=plan != asked)
    if judge.warning:
        click.echo(f"warning: {judge.warning}", err=True)
    return judge


def _is_features(path: str) -> bool:
    with open(path, "rb") if Path(path).is_file() else open(os.devnull, "rb") as file:
        return file.read(8) == b"\x89HDF\r\n\x1a\n"


def _read(
    judge: HeadJudge | NetworkJudge, given: tuple[str, ...], decoding: ExtractOptions
) -> Iterator[VideoRead]:
    """The clips to classify, in the order given, from files, folders and feature files."""
    from vidfeat.heads.classify import HeadJudge

    for stored, names in groupby(given, _is_features):
        if stored:
            assert isinstance(judge, HeadJudge)
            for name in names:
                yield from _read_stored(judge, name)
        else:
            encoder = judge.encoder
            frames = encoder is not None and encoder.plan.frames_fps is not None
            yield from _read_videos(judge, _listed(names, frames=frames), decoding)


def _read_stored(judge: HeadJudge, name: str) -> Iterator[VideoRead]:
    from vidfeat.encoders.reading import VideoRead
    from vidfeat.heads.classify import finite_clips
    from vidfeat.store.reader import FeatureStore

    with FeatureStore(name) as store:
        warning = judge.check_store(store)
        if warning:
            click.echo(f"warning: {warning}", err=True)
        for path, clips in store:
            yield finite_clips(VideoRead(path, clips))


def _listed(names: Iterator[str], *, frames: bool = False) -> list[str]:
    """Files as given; for folders, all videos in them (``frames``: and frame folders)."""
    from vidfeat.system.identities import identity_to_path
    from vidfeat.system.urls import is_url
    from vidfeat.video.listing import list_videos

    files: list[str] = []
    for name in names:
        if is_url(name):
            files += [video.path for video in list_videos([name]).videos]
        elif Path(name).is_dir():
            listing = list_videos([name], frames=frames)
            above = Path(name) if listing.root == str(Path(name).absolute()) else Path(name).parent
            files += [str(above / identity_to_path(video.identity)) for video in listing.videos]
        else:
            files.append(name)
    return files


def _read_videos(
    judge: Judge, files: Sequence[str], decoding: ExtractOptions
) -> Iterator[VideoRead]:
    from vidfeat.heads.classify import read_videos

    # A long video is decoded by two processes; for a few short ones, more are not worth starting.
    workers = min(decoding.num_workers, max(2, len(files)))
    for read in read_videos(judge, files, workers=workers, timeout_seconds=decoding.video_timeout):
        yield replace(read, path=_name(read.path))


def _name(path: str) -> str:
    """The name of a video in the output."""
    from vidfeat.system.identities import path_to_identity
    from vidfeat.system.urls import is_url, shown_path

    return shown_path(path) if is_url(path) else path_to_identity(path)


def _show(video: VideoPrediction) -> None:
    click.echo(click.style(one_line(video.path), bold=True))
    for prediction in video.predictions:
        click.echo(f"  {prediction.score:7.1%}  {one_line(prediction.label)}")
    shortest = min((s.end_seconds - s.start_seconds for s in video.segments), default=1.0)
    places = 1 if shortest > 0.35 else 2 if shortest > 0.035 else 3  # so that all times differ
    for segment in video.segments:
        best = segment.predictions[0]
        when = f"{segment.start_seconds:8.{places}f} to {segment.end_seconds:.{places}f} s"
        click.echo(f"  {when:<22}  {best.score:6.1%}  {one_line(best.label)}")


def _write_scores(path: Path, judge: Judge, found: list[VideoPrediction]) -> None:
    import numpy as np

    from vidfeat.evaluation.scores import Scores, write_scores

    write_scores(
        path,
        Scores(
            paths=tuple(video.path for video in found),
            scores=np.stack([video.scores for video in found]).astype(np.float32),
            classes=tuple(judge.classes),
            labels=np.full(len(found), -1, dtype=np.int64),
            source={"command": "classify"},
        ),
    )


def _draw(path: Path, found: list[VideoPrediction]) -> None:
    from vidfeat.heads.prediction_plot import classified
    from vidfeat.system.files import atomic_write

    if len(found) > MOST_PICTURES:
        click.echo(f"--plot draws the first {MOST_PICTURES} of {len(found)} videos", err=True)
    with classified(found[:MOST_PICTURES]) as made, atomic_write(path) as temporary:
        made.savefig(temporary, format=path.suffix[1:].lower())
