"""``vidfeat evaluate-retrieval``: recall of retrieval by the literature's protocol."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(
    "evaluate-retrieval",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: vidfeat evaluate-retrieval ucf101.h5 --dataset ucf101 --lists "
    "ucfTrainTestlist --split 1",
)
@click.argument("features", type=click.Path(path_type=Path))
@click.option(
    "--labels",
    type=click.Path(path_type=Path),
    metavar="CSV",
    help="Columns path, label and split (train, test).",
)
@click.option("--dataset", type=click.Choice(["ucf101", "hmdb51"]), help="Official splits.")
@click.option(
    "--lists", type=click.Path(path_type=Path), metavar="DIR", help="The official split files."
)
@click.option("--split", default=1, show_default=True, help="Which official split: 1, 2 or 3.")
@click.option("--center", is_flag=True, help="Subtract the mean of the gallery from all vectors.")
@click.option("--skip-bad-rows", is_flag=True, help="Leave out vectors that cannot be compared.")
@click.option("--json", "as_json", is_flag=True, help="One object, for programs.")
def command(
    features: Path,
    labels: Path | None,
    dataset: str | None,
    lists: Path | None,
    split: int,
    center: bool,
    skip_bad_rows: bool,
    as_json: bool,
) -> None:
    """Measure how well test videos find training videos of their class.

    FEATURES holds both parts, ten clips a video: vidfeat extract --clips 10.
    """
    from vidfeat.labels import labels_from_split, read_labels
    from vidfeat.retrieval_protocol import evaluate_retrieval
    from vidfeat.store import FeatureStore

    if (labels is None) == (dataset is None):
        raise click.UsageError("give either --labels CSV or --dataset with --lists DIR")
    with FeatureStore(features) as store:
        if dataset is not None:
            if lists is None:
                raise click.UsageError("--dataset needs --lists DIR, the folder of its split files")
            found = labels_from_split(dataset, lists, split, store.paths)
        else:
            assert labels is not None
            found = read_labels(labels)
        scores = evaluate_retrieval(store, found, center=center, skip_bad_rows=skip_bad_rows)
    if as_json:
        import json

        click.echo(json.dumps(scores.to_dict(), indent=2))
        return
    for note in scores.notes:
        click.echo(f"note: {note}", err=True)
    click.echo(scores.variant)
    click.echo("".join(f"{f'R@{k}':>8}" for k in scores.recall) + f"{'mAP':>8}")
    click.echo(
        "".join(f"{100 * value:>8.1f}" for value in scores.recall.values())
        + f"{100 * scores.mean_average_precision:>8.1f}"
    )
