"""The report of a trained head: one HTML file that shows how good it is and where it fails.

The page needs no network: pictures, style and thumbnails are embedded. It has no scripts. All text
that comes from labels or paths is escaped.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from vidfeat.errors import StoreError, VideoError
from vidfeat.evaluation.metrics import Evaluation
from vidfeat.heads.report_style import CSS
from vidfeat.heads.settings_text import describe_params, describe_plan
from vidfeat.system.files import atomic_write
from vidfeat.system.urls import is_url
from vidfeat.version import __version__

if TYPE_CHECKING:
    from vidfeat.datasets.samples import Samples
    from vidfeat.heads.protocols import FewShot, Outcome

MapMethod = Literal["tsne", "pca", "none"]
FRAMES_OF_A_CLIP = 3
MOST_BESIDE = 20  # classes of a confusion matrix placed next to another card


@dataclass(frozen=True)
class Table:
    """A table of the report: a heading, columns, and rows of text."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class ReportOptions:
    """What a report shows.

    Attributes:
        title: of the page.
        mistakes: number of the most confident mistakes to show.
        map: how the vectors are laid on a plane, or ``none``.
        locate: a video's path in the feature file to its file or URL; None for no thumbnails.
        tables: further tables (official splits, cross-validation).
        few_shots: accuracies by number of shots.
        notes: sentences for the user.
    """

    title: str
    mistakes: int = 12
    map: MapMethod = "tsne"
    locate: Callable[[str], str] | None = None
    tables: Sequence[Table] = ()
    few_shots: Sequence[FewShot] = ()
    notes: Sequence[str] = field(default_factory=tuple)


def write_head_report(
    path: str | Path, samples: Samples, outcome: Outcome, options: ReportOptions
) -> None:
    """Write the report, completely or not at all.

    Args:
        path: the HTML file.
        samples: all labelled samples.
        outcome: the head and how it did on its test part; it must have one.
        options: what to show.

    Raises:
        ValueError: the outcome has no test part.
    """
    page = render_report(samples, outcome, options)
    with atomic_write(Path(path)) as temporary:
        temporary.write_text(page, encoding="utf-8")


def render_report(samples: Samples, outcome: Outcome, options: ReportOptions) -> str:
    """The report as HTML text; see `write_head_report`."""
    if outcome.evaluation is None:
        raise ValueError("a report needs a test part: nothing was tested")
    result = outcome.evaluation
    mistakes, plane = _mistakes(samples, outcome, options), _map(samples, outcome, options)
    sections = [
        _confusion(result),
        _class_bars(result),
        _reliability(result),
        # The wide card splits the columns; with many classes, the bars are as tall as two pictures.
        *((plane, mistakes) if len(result.classes) > MOST_BESIDE else (mistakes, plane)),
        _few_shots(options.few_shots),
        *[table_section(table) for table in options.tables],
        _choice(outcome),
        _facts(samples, outcome),
    ]
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in options.notes)
    kind = outcome.head.scorer.kind
    model = outcome.head.encoder.get("model", "unknown network")
    weights = outcome.head.encoder.get("weights", "")
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(options.title)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{escape(options.title)}</h1>\n"
        f'<p class="sub">A {kind} head on {escape(str(model))} ({escape(str(weights))}): '
        f"{len(outcome.head.classes)} classes, trained on {len(outcome.train)} videos, "
        f"tested on {len(outcome.test)}</p>\n{notes}\n{_tiles(outcome)}\n"
        f'<div class="cards">\n{"".join(sections)}\n</div>\n'
        f"<footer>vidfeat {escape(__version__)}, {made}. Features: space "
        f"{escape(outcome.head.space_fingerprint[:16])}, run "
        f"{escape(outcome.head.run_fingerprint[:16])}.</footer>\n</main>\n</body>\n</html>\n"
    )


def percent(value: float) -> str:
    """A share as text; a dash for NaN."""
    return "–" if math.isnan(value) else f"{value:.1%}".replace("%", " %")


def _tiles(outcome: Outcome) -> str:
    result = outcome.evaluation
    assert result is not None
    accuracy = result.accuracy
    how = f", {len(np.unique(result.groups))} of them" if result.groups is not None else ""
    tiles = [
        '<div class="tile main"><span>accuracy on the test part</span>'
        f"<b>{percent(accuracy.value)}</b><span>95 % interval {percent(accuracy.low)} to "
        f"{percent(accuracy.high)} ({escape(accuracy.method)}{how})</span></div>"
    ]
    small = [("mean over classes", result.mean_class_accuracy)]
    if len(result.classes) > 5:
        small.append(("among the best five", result.topk(5)))
    small += [
        ("single clips", outcome.clip_accuracy),
        ("calibration error", result.calibration.error),
    ]
    tiles += [
        f'<div class="tile"><span>{name}</span><b>{percent(value)}</b></div>'
        for name, value in small
    ]
    return f'<div class="tiles">{"".join(tiles)}</div>'


def _section(title: str, body: str, *, wide: bool = False) -> str:
    return f"<section{' class=wide' if wide else ''}><h2>{escape(title)}</h2>{body}</section>\n"


def _figure(svg: str, caption: str, *, least_rem: float = 0) -> str:
    # A picture with very many cells is scrolled on a phone, not shrunk beyond legibility.
    style = f' style="min-width:{least_rem:g}rem"' if least_rem else ""
    inside = svg.replace("<svg", f"<svg{style}", 1)
    return (
        f'<figure><div class="picture">{inside}</div><figcaption>{escape(caption)}</figcaption>'
        "</figure>"
    )


def _confusion(result: Evaluation) -> str:
    from vidfeat.evaluation import plots

    count = len(result.classes)
    side = 3.4 + 0.13 * min(max(count - 4, 0), 60)
    with plots.figure(side + 0.6, side) as (made, (axes,)):
        plots.confusion(axes, result.confusion, result.classes)
        worst = _most_confused(result)
        svg = plots.to_svg(made, name="confusion", description=f"Confusion matrix. {worst}")
    caption = f"Rows: the true class; shaded by the share of its videos. {worst}"
    return _section(
        "Confusion matrix",
        _figure(svg, caption, least_rem=0 if count <= MOST_BESIDE else 40),
        wide=count > MOST_BESIDE,
    )


def _most_confused(result: Evaluation) -> str:
    matrix = result.confusion.copy()
    np.fill_diagonal(matrix, 0)
    if not matrix.any():
        return "No class is confused with another."
    pairs = np.argsort(-matrix, axis=None, kind="stable")[:3]
    told = [
        f"{result.classes[i]} predicted as {result.classes[j]} ({matrix[i, j]})"
        for i, j in zip(*np.unravel_index(pairs, matrix.shape), strict=True)
        if matrix[i, j]
    ]
    return f"Most often: {', '.join(told)}."


def _class_bars(result: Evaluation) -> str:
    from vidfeat.evaluation import plots

    shown = min(sum(row.count > 0 for row in result.per_class), plots.MOST_BARS)
    with plots.figure(5.2, 1.0 + 0.26 * max(shown, 3)) as (made, (axes,)):
        plots.class_bars(axes, result.per_class)
        told = ", ".join(f"{row.name} {percent(row.recall)}" for row in result.per_class[:40])
        svg = plots.to_svg(made, name="classes", description=f"Recall of each class: {told}")
    caption = "Whiskers: 95 % intervals, each video counted separately."
    if sum(row.count > 0 for row in result.per_class) > shown:
        caption += f" The ten best and the thirty worst of {len(result.classes)} classes."
    return _section("Class by class", _figure(svg, caption))


def _reliability(result: Evaluation) -> str:
    from vidfeat.evaluation import plots

    with plots.figure(4.4, 4.2) as (made, (axes,)):
        plots.reliability(axes, result.calibration)
        svg = plots.to_svg(
            made,
            name="reliability",
            description=f"Reliability curve, calibration error {result.calibration.error:.3f}",
        )
    caption = (
        "On the dashed line, a score of 80 % is right in 80 of 100 cases; below it, the head is "
        "overconfident. Larger points: more videos."
    )
    return _section("Calibration", _figure(svg, caption))


def _map(samples: Samples, outcome: Outcome, options: ReportOptions) -> str:
    if options.map == "none" or len(samples) < 3:
        return ""
    from vidfeat.evaluation import plots
    from vidfeat.evaluation.projection import MOST_POINTS, project

    chosen = np.sort(np.concatenate([outcome.train, outcome.test]))
    if len(chosen) > MOST_POINTS:
        random = np.random.default_rng(0)
        chosen = np.sort(random.choice(chosen, MOST_POINTS, replace=False))
    points = project(samples.pooled()[chosen], method=options.map)
    tested = np.isin(chosen, outcome.test)
    with plots.figure(5.2, 5.0) as (made, (axes,)):
        plots.embedding_map(axes, points, samples.y[chosen], samples.classes, filled=tested)
        svg = plots.to_svg(
            made, name="map", description="A map of the embeddings, coloured by class"
        )
    how = "t-SNE: neighbours stay close" if options.map == "tsne" else "PCA: first two components"
    caption = f"{len(chosen)} videos ({how}). Strong: test part; faint: training part."
    return _section("A map of the embeddings", _figure(svg, caption))


def _few_shots(rows: Sequence[FewShot]) -> str:
    if not rows:
        return ""
    from vidfeat.evaluation import plots

    with plots.figure(4.8, 3.2) as (made, (axes,)):
        plots.few_shots(
            axes,
            [row.shots for row in rows],
            [row.interval.value for row in rows],
            [row.interval.low for row in rows],
            [row.interval.high for row in rows],
        )
        told = ", ".join(f"{row.shots}: {percent(row.interval.value)}" for row in rows)
        svg = plots.to_svg(made, name="shots", description=f"Accuracy by shots: {told}")
    caption = f"Mean of {len(rows[0].accuracies)} draws with its 95 % interval."
    return _section("With few training videos", _figure(svg, caption))


def table_section(table: Table, chosen: int | None = None) -> str:
    """A table as a card of the page, with one row highlighted."""
    head = "".join(f"<th>{escape(name)}</th>" for name in table.columns)
    body = "".join(
        f"<tr{' class=chosen' if i == chosen else ''}>"
        + "".join(f"<td>{escape(cell)}</td>" for cell in row)
        + "</tr>"
        for i, row in enumerate(table.rows)
    )
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    return _section(
        table.title,
        f'<div class="table"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
        f"</div>{note}",
    )


def _choice(outcome: Outcome) -> str:
    choice = outcome.choice
    if not choice.trials:
        return ""
    rows = tuple(
        (describe_params(trial.params), percent(trial.accuracy), f"{trial.log_loss:.3f}")
        for trial in choice.trials
    )
    chosen = next(i for i, trial in enumerate(choice.trials) if trial.params == choice.params)
    note = (
        f"{choice.folds} folds inside the training part; the test part was not used. "
        f"Temperature {choice.temperature:.3g}."
    )
    table = Table("How it was chosen", ("tried", "accuracy", "log loss"), rows, note)
    return table_section(table, chosen)


def _facts(samples: Samples, outcome: Outcome) -> str:
    encoder = outcome.head.encoder
    facts = {
        "network": f"{encoder.get('model', '?')}, weights {encoder.get('weights', '?')}",
        "clips": describe_plan(encoder.get("plan", {})),
        "precision": str(encoder.get("precision", "?")),
        "trained on": _trained_on(outcome),
        "vectors": f"{len(samples.vectors)} clips of {samples.dimension} numbers",
        "groups": str(samples.num_groups) if samples.has_groups else "none given",
        "solver": "converged" if outcome.converged else "did not converge",
    }
    told = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in facts.items())
    return _section("How it was made", f"<dl>{told}</dl>")


def _trained_on(outcome: Outcome) -> str:
    if outcome.head.scorer.of_sequences:
        return "the clips of videos, in their order"
    return "mean vectors of videos" if outcome.head.unit == "videos" else "single clips"


def _mistakes(samples: Samples, outcome: Outcome, options: ReportOptions) -> str:
    result = outcome.evaluation
    assert result is not None
    wrong = result.mistakes(options.mistakes)
    if not len(wrong):
        return _section("The most confident mistakes", "<p>There are none.</p>", wide=True)
    items = [_mistake(samples, outcome, int(i), options) for i in wrong]
    count = int((~result.correct).sum())
    intro = f"{len(wrong)} of {count} mistakes, the most confident first; three frames of the clip."
    body = f'<p class="note">{intro}</p><ul class="mistakes">{"".join(items)}</ul>'
    return _section("The most confident mistakes", body, wide=True)


def _mistake(samples: Samples, outcome: Outcome, i: int, options: ReportOptions) -> str:
    result = outcome.evaluation
    assert result is not None
    sample = int(outcome.test[i])
    row = samples.rows[sample]
    said = int(result.predicted[i])
    clip = _guilty_clip(samples, outcome, sample, samples.classes[said])
    start, end = float(samples.start_seconds[clip]), float(samples.end_seconds[clip])
    return (
        f"<li>{_strip(row.path, start, end, options)}"
        f'<p><span class="said">{escape(samples.classes[said])}</span> '
        f"{percent(float(result.scores[i, said]))}, actually <b>{escape(row.label)}</b> "
        f"{percent(float(result.scores[i, result.y[i]]))}</p>"
        f'<p class="path">{escape(row.path)}, {start:.1f} to {end:.1f} s</p></li>'
    )


def _guilty_clip(samples: Samples, outcome: Outcome, sample: int, said: str) -> int:
    """The clip of a sample with the highest score for the predicted class."""
    rows: NDArray[np.int64] = samples.clips_of(np.array([sample]))
    scores = outcome.head.clip_scores(samples.vectors[rows])
    return int(rows[scores[:, outcome.head.classes.index(said)].argmax()])


def _strip(path: str, start: float, end: float, options: ReportOptions) -> str:
    from vidfeat.video.thumbnails import clip_frames, jpeg

    if options.locate is None:
        return '<div class="strip"><div class="gone">no pictures requested</div></div>'
    try:
        file = options.locate(path)
        if not is_url(file) and not Path(file).is_file():
            return '<div class="strip"><div class="gone">video not found</div></div>'
        frames = clip_frames(file, start, end, FRAMES_OF_A_CLIP)
    except (VideoError, StoreError, OSError):
        return '<div class="strip"><div class="gone">video cannot be read</div></div>'
    pictures = "".join(
        f'<img alt="frame {i + 1} of {escape(path, quote=True)}" loading="lazy" '
        f'src="data:image/jpeg;base64,{base64.b64encode(jpeg(frame)).decode()}">'
        for i, frame in enumerate(frames)
    )
    return f'<div class="strip">{pictures}</div>'
