"""``vidfeat finetune``: a classifier on a feature file."""

from __future__ import annotations

from typing import Any

import click

from vidfeat.cli.options import HELP_NAMES, OutputPath, comma_list


@click.command(
    "finetune",
    context_settings=HELP_NAMES,
    epilog="Example: vidfeat finetune features.h5 --labels labels.csv --head linear -o head/",
)
@click.argument("features", type=click.Path(dir_okay=False))
@click.option("-o", "--output", type=OutputPath(), help="Folder for the head and its report.")
@click.option(
    "--labels",
    metavar="FILE|folders",
    help="CSV (path,label[,start_seconds,end_seconds][,split][,group]), or folder names.",
)
@click.option("--dataset", type=click.Choice(["ucf101", "hmdb51"]), help="By its official splits.")
@click.option("--splits", "lists", metavar="DIR", help="Folder of the official split files.")
@click.option("--split", type=click.Choice(["1", "2", "3", "all"]), default="1", show_default=True)
@click.option(
    "--head",
    "kind",
    type=click.Choice(["linear", "svm", "knn", "mlp", "attentive"]),
    default="linear",
    show_default=True,
    help="Logistic regression, linear SVM, nearest neighbours, small network; attentive looks at "
    "the clips of a video in their order, and is compared with linear.",
)
@click.option(
    "--train-on",
    "unit",
    type=click.Choice(["videos", "clips"]),
    default="videos",
    show_default=True,
    help="The mean vector of each video, or every clip with scores averaged.",
)
@click.option(
    "--standardize/--no-standardize",
    default=None,
    help="Subtract the mean, divide by the deviation.  [default: yes]",
)
@click.option(
    "--l2/--no-l2", "normalize", default=None, help="Divide by the norm.  [default: knn only]"
)
@click.option(
    "--param",
    "params",
    multiple=True,
    metavar="NAME=VALUE[,...]",
    help="Fix a hyper-parameter, or try several values: C=0.1 or C=0.01,0.1,1.",
)
@click.option("--folds", default=5, show_default=True, help="To choose hyper-parameters with.")
@click.option("--seed", default=0, show_default=True, help="Of folds, draws and solvers.")
@click.option(
    "--test-share",
    default=0.2,
    show_default=True,
    help="Held out where the labels have no split column; 0 for no test.",
)
@click.option("--shots", metavar="1,2,5,10", help="Also train on so few videos a class.")
@click.option("--draws", default=10, show_default=True, help="How often to draw them.")
@click.option(
    "--cross-validate", "cross_validation", default=0, metavar="K", help="Also judge in K folds."
)
@click.option("--repeats", default=1, show_default=True, help="How often, with other folds.")
@click.option("--min-per-class", default=1, show_default=True, help="Leave smaller classes out.")
@click.option("--ignore-case", is_flag=True, help="Paths and classes in any case.")
@click.option("--skip-bad-rows", is_flag=True, help="Leave out vectors with NaN or infinity.")
@click.option("--root", type=click.Path(), help="Folder of the videos, for thumbnails.")
@click.option(
    "--map",
    "map_method",
    type=click.Choice(["tsne", "pca", "none"]),
    default="tsne",
    show_default=True,
    help="The report's map of the embeddings.",
)
@click.option("--no-report", is_flag=True, help="Write no report.html.")
@click.option("--json", "as_json", is_flag=True, help="Print all numbers as JSON.")
def command(**values: Any) -> int:
    """Train a classifier on the vectors of a feature file, and say how good it is.

    Hyper-parameters are chosen by cross-validation inside the training part, by group where the
    labels have groups. The output folder holds the head for vidfeat classify --head, report.html,
    results.json and predictions.csv.
    """
    from vidfeat.heads.finetuning import finetune
    from vidfeat.heads.results import FinetuneOptions
    from vidfeat.heads.selection import HeadOptions

    features, as_json = values.pop("features"), values.pop("as_json")
    output, labels = values.pop("output"), values.pop("labels")
    head = HeadOptions(
        kind=values.pop("kind"),
        unit=values.pop("unit"),
        standardize=values.pop("standardize"),
        normalize=values.pop("normalize"),
        params=parse_params(values.pop("params")),
        folds=values.pop("folds"),
        seed=values.pop("seed"),
    )
    options = FinetuneOptions(
        head=head,
        shots=parse_shots(values.pop("shots")),
        map=values.pop("map_method"),
        report=not values.pop("no_report"),
        **values,
    )
    result = finetune(
        features,
        labels,
        options,
        out=output,
        progress=lambda line: click.echo(line, err=True),
    )
    for part in result.parts:
        for note in part.notes:
            click.echo(f"{part.name}: {note}" if part.name else note, err=True)
    if as_json:
        import json

        click.echo(json.dumps(result.to_dict(), indent=2, ensure_ascii=False))
    else:
        _show(result)
    if output is not None:
        click.echo(f"written to {output}", err=True)
    return 0


def parse_params(texts: tuple[str, ...]) -> dict[str, Any]:
    """``C=0.01,0.1`` as a name and its values; a number where it is one.

    Raises:
        click.UsageError: no ``=``, or nothing on one of its sides.
    """
    params: dict[str, Any] = {}
    for text in texts:
        name, _, given = text.partition("=")
        parts = comma_list(given) or []
        if not name or not parts:
            raise click.UsageError(f"--param takes NAME=VALUE, such as C=0.1, not {text!r}")
        found = tuple(_value(part) for part in parts)
        if name == "hidden":  # layer widths belong together: 256,128 is one network
            params[name] = (found,)
        else:
            params[name] = found if len(found) > 1 else found[0]
    return params


def _value(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"none": None, "None": None, "true": True, "false": False}.get(text, text)


def parse_shots(text: str | None) -> tuple[int, ...]:
    """``1,2,5`` as numbers.

    Raises:
        click.UsageError: something else.
    """
    try:
        return tuple(int(part) for part in comma_list(text) or [])
    except ValueError:
        raise click.UsageError(f"--shots takes numbers such as 1,2,5,10, not {text!r}") from None


def _show(result: Any) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from vidfeat.heads.results_folder import splits_table

    columns, rows = splits_table(result)
    table = Table(box=SIMPLE_HEAD)
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*row)
    # Wide enough for whole numbers also where the output goes to a file.
    console = Console(width=None if Console().is_terminal else 120)
    console.print(table)
    for part in result.parts:
        for shot in part.few_shots:
            name = f"{part.name}, " if part.name else ""
            console.print(f"{name}{shot.shots} a class: {shot.interval}", highlight=False)
        linear = part.linear
        if linear is not None and linear.evaluation is not None:
            where = f"{part.name}, " if part.name else ""
            console.print(
                f"{where}a linear head on the same samples: {linear.evaluation.accuracy}",
                highlight=False,
            )
    both = ("", result.cross_validation), ("linear, ", result.linear_cross_validation)
    for name, found in both:
        if found is None:
            continue
        repeats, folds = found.accuracies.shape
        console.print(
            f"{name}cross-validation, {folds} folds x {repeats}: {found.interval} "
            f"({found.interval.method}), deviation of folds {100 * found.spread:.1f}",
            highlight=False,
        )
