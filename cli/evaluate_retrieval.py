"""``vidfeat evaluate-retrieval``: recall of retrieval by the literature's protocol."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from vidfeat.cli.options import RenamedOption


@click.command(
    "evaluate-retrieval",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: vidfeat evaluate-retrieval ucf101.h5 --dataset ucf101 --splits "
    "ucfTrainTestlist --split 1",
)
@click.argument("features", type=click.Path(path_type=Path))
@click.option(
    "--labels",
    type=click.Path(path_type=Path),
    metavar="CSV",
    help="CSV with the columns path, label and split (train, test).",
)
@click.option("--dataset", type=click.Choice(["ucf101", "hmdb51"]), help="Use the official splits.")
@click.option(
    "--splits",
    cls=RenamedOption,
    former=["--lists"],
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder of the official split files.",
)
@click.option(
    "--split",
    type=click.Choice(["1", "2", "3", "all"]),
    default="1",
    show_default=True,
    help="Official split; papers report the first.",
)
@click.option(
    "--captions",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Text-video retrieval as on MSR-VTT: CSV with path,caption, or MSR-VTT's own files.",
)
@click.option(
    "--weights", metavar="NAME|FILE", help="Where the text tower's weights are, if they have moved."
)
@click.option("--center", is_flag=True, help="Subtract the mean of the gallery from all vectors.")
@click.option("--skip-bad-rows", is_flag=True, help="Leave out vectors that cannot be compared.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    features: Path,
    labels: Path | None,
    dataset: str | None,
    splits: Path | None,
    split: str,
    captions: Path | None,
    weights: str | None,
    center: bool,
    skip_bad_rows: bool,
    as_json: bool,
) -> None:
    """Measure how well test videos retrieve their class, or captions their video.

    FEATURES holds both parts, ten clips per video: vidfeat extract --clips 10. With --captions it
    holds the captioned videos, from a network with a text tower.
    """
    if captions is not None:
        if labels is not None or dataset is not None or splits is not None or center:
            raise click.UsageError(
                "--captions is a separate protocol: leave out labels, splits and --center"
            )
        _by_captions(features, captions, weights, skip_bad_rows=skip_bad_rows, as_json=as_json)
        return
    if weights is not None:
        raise click.UsageError("--weights goes with --captions")
    from vidfeat.datasets.labels import labels_from_split, read_labels
    from vidfeat.index.retrieval_protocol import evaluate_retrieval, mean_scores
    from vidfeat.store.reader import FeatureStore

    if (labels is None) == (dataset is None):
        raise click.UsageError("give --labels CSV, --dataset with --splits DIR, or --captions FILE")
    with FeatureStore(features) as store:
        if dataset is not None:
            if splits is None:
                raise click.UsageError("--dataset needs --splits DIR, its split files")
            numbers = (1, 2, 3) if split == "all" else (int(split),)
            found = [labels_from_split(dataset, splits, n, store.paths) for n in numbers]
        else:
            assert labels is not None
            found = [read_labels(labels)]
        scores = [
            evaluate_retrieval(store, one, center=center, skip_bad_rows=skip_bad_rows)
            for one in found
        ]
    if as_json:
        import json

        value = scores[0].to_dict()
        if len(scores) > 1:
            value = mean_scores(scores) | {"splits": [one.to_dict() for one in scores]}
        click.echo(json.dumps(value, indent=2))
        return
    for note in dict.fromkeys(note for one in scores for note in one.notes):
        click.echo(f"note: {note}", err=True)
    for one in scores:
        click.echo(one.variant)
    click.echo("".join(f"{f'R@{k}':>8}" for k in scores[0].recall) + f"{'mAP':>8}")
    for one in scores:
        _print_line(list(one.recall.values()), one.mean_average_precision)
    if len(scores) > 1:
        mean = mean_scores(scores)
        _print_line(list(mean["recall"].values()), mean["mean_average_precision"], "  mean")


def _print_line(recall: list[float], precision: float, name: str = "") -> None:
    click.echo("".join(f"{100 * value:>8.1f}" for value in [*recall, precision]) + name)


def _by_captions(
    features: Path, file: Path, weights: str | None, *, skip_bad_rows: bool, as_json: bool
) -> None:
    from vidfeat.datasets.captions import read_captions
    from vidfeat.encoders.text import TextEncoder
    from vidfeat.index.caption_retrieval import evaluate_captions
    from vidfeat.store.reader import FeatureStore

    captions = read_captions(file)
    with FeatureStore(features) as store:
        texts = TextEncoder(
            store.encoder, store.space_fingerprint, weights=weights, what=str(features)
        )
        with click.progressbar(
            length=len(captions.texts), label="captions", file=sys.stderr
        ) as bar:
            found = evaluate_captions(
                store,
                captions,
                texts,
                skip_bad_rows=skip_bad_rows,
                progress=lambda done, _total: bar.update(done - bar.pos),
            )
    if as_json:
        import json

        click.echo(json.dumps(found.to_dict(), indent=2))
        return
    for note in found.notes:
        click.echo(f"note: {note}", err=True)
    click.echo(found.variant)
    recalls = found.text_to_video.recall
    click.echo(f"{'':<16}" + "".join(f"{f'R@{k}':>8}" for k in recalls) + "  median    mean rank")
    for name, one in (
        ("text to video", found.text_to_video),
        ("video to text", found.video_to_text),
    ):
        shares = "".join(f"{100 * value:>8.1f}" for value in one.recall.values())
        click.echo(f"{name:<16}{shares}{one.median_rank:>8.1f}{one.mean_rank:>8.1f}")
