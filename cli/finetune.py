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
@click.option("--overwrite", is_flag=True, help="Replace a head that is in the output folder.")
@click.option(
    "--labels",
    metavar="FILE|folders",
    help="CSV (path,label[,start_seconds,end_seconds][,split][,group]), or folder names.",
)
@click.option("--dataset", type=click.Choice(["ucf101", "hmdb51"]), help="Use its official splits.")
@click.option("--splits", "lists", metavar="DIR", help="Folder of the official split files.")
@click.option("--split", type=click.Choice(["1", "2", "3", "all"]), default="1", show_default=True)
@click.option(
    "--head",
    metavar="linear|svm|knn|mlp|attentive[,...]",
    default="linear",
    show_default=True,
    help="Logistic regression, linear SVM, nearest neighbours, small network, attention over a "
    "video's rows in order; several are compared on the same folds, and the best is trained.",
)
@click.option(
    "--train-on",
    "unit",
    type=click.Choice(["videos", "clips"]),
    default="videos",
    show_default=True,
    help="Train on each video's mean vector, or on clips and average their scores.",
)
@click.option(
    "--standardize/--no-standardize",
    default=None,
    help="Standardize the vectors.  [default: yes]",
)
@click.option(
    "--l2/--no-l2",
    "normalize",
    default=None,
    help="Scale vectors to unit length.  [default: knn only]",
)
@click.option(
    "--param",
    "params",
    multiple=True,
    metavar="NAME=VALUE[,...]",
    help="Fix a hyper-parameter, or try several values: C=0.1 or C=0.01,0.1,1.",
)
@click.option("--folds", default=5, show_default=True, help="Folds for choosing hyper-parameters.")
@click.option("--seed", default=0, show_default=True, help="Seed for folds, draws and solvers.")
@click.option(
    "--test-share",
    default=0.2,
    show_default=True,
    help="Share held out if the labels have no split column; 0 for none.",
)
@click.option("--shots", metavar="1,2,5,10", help="Also train on this many videos per class.")
@click.option("--draws", default=10, show_default=True, help="Random draws for each of --shots.")
@click.option(
    "--cross-validate",
    "cross_validation",
    default=0,
    metavar="K",
    help="Also cross-validate with K folds.",
)
@click.option(
    "--repeats",
    default=1,
    show_default=True,
    help="Repetitions of --cross-validate, with new folds.",
)
@click.option("--min-per-class", default=1, show_default=True, help="Leave out smaller classes.")
@click.option("--ignore-case", is_flag=True, help="Ignore case in paths and classes.")
@click.option("--skip-bad-rows", is_flag=True, help="Leave out vectors with NaN or infinity.")
@click.option("--root", type=click.Path(), help="Folder or URL of the videos, for thumbnails.")
@click.option(
    "--map",
    "map_method",
    type=click.Choice(["tsne", "pca", "none"]),
    default="tsne",
    show_default=True,
    help="Method for the report's map of the embeddings.",
)
@click.option("--no-report", is_flag=True, help="Write no report.html.")
@click.option("--json", "as_json", is_flag=True, help="Print all numbers as JSON.")
def command(**values: Any) -> int:
    """Train a classifier on the vectors of a feature file, and measure it.

    Hyper-parameters are chosen by cross-validation inside the training part, by group where the
    labels have groups. The output folder holds the head for vidfeat classify --head, report.html,
    results.json and predictions.csv.
    """
    from vidfeat.heads.cross_validation import options_by_kind
    from vidfeat.heads.finetuning import finetune
    from vidfeat.heads.results import FinetuneOptions
    from vidfeat.heads.selection import HeadOptions

    features, as_json = values.pop("features"), values.pop("as_json")
    output, labels = values.pop("output"), values.pop("labels")
    kinds, params = comma_list(values.pop("head")) or [], parse_params(values.pop("params"))
    overwrite = values.pop("overwrite")
    head = HeadOptions(
        unit=values.pop("unit"),
        standardize=values.pop("standardize"),
        normalize=values.pop("normalize"),
        folds=values.pop("folds"),
        seed=values.pop("seed"),
    )
    made = options_by_kind(kinds, head, params)
    options = FinetuneOptions(
        head=made[0],
        compare=tuple(made) if len(made) > 1 else (),
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
        overwrite=overwrite,
        report=lambda line: click.echo(line, err=True),
    )
    for part in result.parts:
        for note in part.notes:
            click.echo(f"{part.name}: {note}" if part.name else note, err=True)
    for note in result.multi_label.notes if result.multi_label is not None else ():
        click.echo(note, err=True)
    if as_json:
        import json

        click.echo(json.dumps(result.to_dict(), indent=2, ensure_ascii=False))
    else:
        _show(result)
    if output is not None:
        click.echo(f"written to {output}", err=True)
    return 0


def parse_params(texts: tuple[str, ...]) -> dict[str, Any]:
    """``C=0.01,0.1`` as a name and its values, converted to numbers where possible.

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
    from vidfeat.cli.tables import show_table
    from vidfeat.heads.report import percent
    from vidfeat.heads.results_tables import (
        MOST_CLASSES,
        classes_table,
        comparison_table,
        splits_table,
    )

    if result.multi_label is not None:
        from vidfeat.heads.multi_label_folder import multi_label_table, summary_line

        click.echo(summary_line(result.multi_label))
        made = multi_label_table(result.multi_label, MOST_CLASSES)
        show_table(made.columns, made.rows)
        if made.note:
            click.echo(made.note)
        return
    for part in result.parts:
        if part.comparison is not None:
            made = comparison_table(part, MOST_CLASSES // 2)
            click.echo(f"{part.name}: {made.title}" if part.name else made.title)
            show_table(made.columns, made.rows)
            click.echo(made.note)
    show_table(*splits_table(result))
    for part in result.parts:
        evaluation, majority = part.outcome.evaluation, part.outcome.majority
        if evaluation is None or majority is None:
            continue
        name = f"{part.name}: " if part.name else ""
        area = evaluation.roc_auc
        line = f"{name}always predicting {majority.label!r} would get {percent(majority.accuracy)}"
        if area is not None:
            line += (
                f"; ROC AUC {area.value:.3f}, 95 % interval {area.low:.3f} to {area.high:.3f} "
                f"({area.method})"
            )
        click.echo(line)
        if len(result.parts) == 1:
            made = classes_table(evaluation, MOST_CLASSES)
            show_table(made.columns, made.rows)
            if made.note:
                click.echo(made.note)
    for part in result.parts:
        for shot in part.few_shots:
            name = f"{part.name}, " if part.name else ""
            click.echo(f"{name}{shot.shots} per class: {shot.interval}")
    found = result.cross_validation
    if found is not None:
        repeats, folds = found.accuracies.shape
        click.echo(
            f"cross-validation, {folds} folds x {repeats}: {found.interval} "
            f"({found.interval.method}), deviation of folds {100 * found.spread:.1f}"
        )
