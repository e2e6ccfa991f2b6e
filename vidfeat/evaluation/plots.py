"""Pictures: arrays in, matplotlib axes out. One style for all of them.

Every function draws into axes that it is given. Colours are Okabe and Ito's, which the colour-blind
can distinguish, and classes also differ in marker. ``to_svg`` turns a figure into SVG for a page,
in which text and lines follow the page's own colours, so that one picture serves light and dark.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vidfeat.errors import UsageError
from vidfeat.evaluation.metrics import Calibration, ClassResult
from vidfeat.system.cache import keep_matplotlib_quiet
from vidfeat.system.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


INK = "#1d2126"
MUTED = "#69717a"
LINES = "#d5d9de"
ACCENT = "#0b72b5"
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#7f6db3", "#9a6a3a")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
# Colours that a page replaces, so that its own scheme applies inside its pictures.
PAGE_COLOURS = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    LINES: "var(--lines)",
    ACCENT: "var(--accent)",
}

MOST_CELLS_WITH_NUMBERS = 15
MOST_NAMES_ON_AN_AXIS = 60
MOST_BARS = 40
MOST_LANES = 8

_STYLE: Any = {
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": LINES,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": LINES,
    "grid.linewidth": 0.6,
    "xtick.color": LINES,
    "ytick.color": LINES,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "figure.dpi": 110,
    "savefig.dpi": 160,
    "svg.fonttype": "none",
}


@contextmanager
def figure(width: float, height: float, rows: int = 1) -> Iterator[tuple[Figure, list[Axes]]]:
    """A figure in vidfeat's style, sized in inches, with its axes in rows; it needs no display.

    Letters that the font lacks become boxes in a PNG, and use the reader's own fonts in an SVG:
    neither is worth a warning.
    """
    keep_matplotlib_quiet()
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from")
        warnings.filterwarnings("ignore", message=r"Matplotlib currently does not support")
        made = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(made)
        yield made, [made.add_subplot(rows, 1, row + 1) for row in range(rows)]


def save_picture(made: Figure, target: Path, dpi: float = _STYLE["savefig.dpi"]) -> None:
    """Write a figure, completely or not at all; the suffix decides the format, PNG without one.

    Args:
        made: the figure; call this inside its ``with`` block.
        target: the file.
        dpi: dots per inch of a PNG.

    Raises:
        UsageError: a format that cannot be drawn.
    """
    kind = target.suffix[1:].lower() or "png"
    known = made.canvas.get_supported_filetypes()
    if kind not in known:
        raise UsageError(f"no picture can be written as {target.name}: take .png, .svg or .pdf")
    with atomic_write(target) as temporary:
        made.savefig(temporary, format=kind, dpi=dpi)


def to_svg(made: Figure, *, name: str, description: str) -> str:
    """A figure as SVG to embed in a page, in the page's colours.

    Args:
        made: the figure; call this inside its ``with`` block.
        name: unique in the page: ids inside the picture are made from it.
        description: text for those who cannot see the picture.
    """
    from html import escape

    from matplotlib import rc_context

    buffer = io.StringIO()
    with rc_context({"svg.hashsalt": name}):
        made.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    for colour, variable in PAGE_COLOURS.items():
        svg = svg.replace(colour, variable)
    svg = re.sub(r'width="([\d.]+)pt" height="([\d.]+)pt"', "", svg, count=1)
    # Ids are unique in a picture, but must be unique in a page with several pictures.
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", svg)
    label = f'role="img" aria-label="{escape(description, quote=True)}"'
    return svg.replace("<svg", f"<svg {label}", 1)


def shorten(name: str, length: int = 24) -> str:
    """Shorten a class name to fit next to an axis: its middle is cut."""
    if len(name) <= length:
        return name
    keep = length - 1
    return f"{name[: keep - keep // 3]}…{name[-(keep // 3) :]}"


def _plain(name: str, length: int = 24) -> str:
    """A shortened name, escaped so that matplotlib does not read it as a formula."""
    return shorten(name, length).replace("$", r"\$")


def confusion(axes: Axes, matrix: NDArray[np.int64], classes: Sequence[str]) -> None:
    """A confusion matrix (C, C): rows are true classes, shaded by the share of their samples."""
    from matplotlib.colors import LinearSegmentedColormap, to_rgb

    count = len(classes)
    totals = matrix.sum(axis=1, keepdims=True)
    share = matrix / np.maximum(totals, 1)
    # From transparent to the accent: the page's background shows through, light or dark.
    shades = LinearSegmentedColormap.from_list(
        "accent", [(*to_rgb(ACCENT), 0.0), (*to_rgb(ACCENT), 1.0)]
    )
    axes.imshow(share, cmap=shades, vmin=0, vmax=1, interpolation="none")
    if count <= MOST_CELLS_WITH_NUMBERS:
        for i in range(count):
            for j in range(count):
                if matrix[i, j]:
                    colour = "white" if share[i, j] > 0.55 else INK
                    axes.text(j, i, str(matrix[i, j]), ha="center", va="center", color=colour)
    if count <= MOST_NAMES_ON_AN_AXIS:
        names = [_plain(name) for name in classes]
        below = [_plain(name, 16) for name in classes]
        axes.set_xticks(range(count), below, rotation=90 if count > 4 else 0)
        axes.set_yticks(range(count), names)
        axes.tick_params(length=0, labelsize=9 if count <= 20 else 7)
    else:
        axes.set_xticks([])
        axes.set_yticks([])
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    for spine in axes.spines.values():
        spine.set_visible(True)


def class_bars(axes: Axes, results: Sequence[ClassResult]) -> None:
    """Recall of each class with its interval, the best on top.

    With more than 40 classes, only the ten best and the thirty worst are drawn.
    """
    known = sorted(
        (row for row in results if row.count), key=lambda row: (row.recall, row.name), reverse=True
    )
    shown = known
    if len(known) > MOST_BARS:
        shown = [*known[:10], *known[-30:]]
        axes.axhline(9.5, color=MUTED, linewidth=0.8, linestyle=(0, (2, 3)))
    place = np.arange(len(shown))
    recall = np.array([row.recall for row in shown])
    low = np.array([row.interval.low if row.interval else row.recall for row in shown])
    high = np.array([row.interval.high if row.interval else row.recall for row in shown])
    axes.barh(place, recall, color=ACCENT, alpha=0.45, height=0.62, linewidth=0)
    axes.errorbar(
        recall,
        place,
        xerr=np.maximum([recall - low, high - recall], 0),
        fmt="o",
        color=ACCENT,
        markersize=4,
        ecolor=INK,
        elinewidth=1,
        capsize=2,
    )
    axes.set_yticks(place, [f"{_plain(row.name)} ({row.count})" for row in shown])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_xlim(0, 1.01)
    _percent(axes, "x")
    axes.set_xlabel("recall (number of videos of the class in brackets)")
    axes.grid(visible=True, axis="x")
    axes.spines["left"].set_visible(False)


def reliability(axes: Axes, found: Calibration) -> None:
    """Accuracy against score in ten bins; the area of a point shows the number of samples."""
    full = found.count > 0
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
    area = 24 + 360 * found.count[full] / found.count.sum()
    axes.plot(found.confidence[full], found.accuracy[full], color=ACCENT, linewidth=1.2, alpha=0.6)
    axes.scatter(
        found.confidence[full],
        found.accuracy[full],
        s=area,
        color=ACCENT,
        alpha=0.85,
        linewidth=0,
        clip_on=False,  # so that points at 100 % are not cut off
    )
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.02)
    axes.set_aspect("equal")
    _percent(axes, "x")
    _percent(axes, "y")
    axes.grid(visible=True)
    axes.set_xlabel("score of the predicted class")
    axes.set_ylabel("accuracy")


def embedding_map(
    axes: Axes,
    points: NDArray[np.floating[Any]],
    y: NDArray[np.int64],
    classes: Sequence[str],
    *,
    filled: NDArray[np.bool_] | None = None,
) -> None:
    """Points (S, 2), each class with its colour and marker; of more than 16, only the 8 largest.

    Args:
        axes: where to draw.
        points: (S, 2).
        y: class index of each point.
        classes: their names.
        filled: which points are drawn strongly; the others are faint. None for all.
    """
    strong = np.ones(len(y), dtype=bool) if filled is None else filled
    shown = np.arange(len(classes))
    if len(classes) > 16:
        shown = np.argsort(-np.bincount(y, minlength=len(classes)), kind="stable")[:8]
        rest = ~np.isin(y, shown)
        axes.scatter(points[rest, 0], points[rest, 1], s=6, color=MUTED, alpha=0.25, linewidth=0)
    many = len(y) > 2000
    for order, label in enumerate(shown):
        style: dict[str, Any] = {
            "color": PALETTE[order % len(PALETTE)],
            "marker": MARKERS[(order + order // len(PALETTE)) % len(MARKERS)],
            "linewidth": 0,
            "rasterized": many,
        }
        faint, full = (y == label) & ~strong, (y == label) & strong
        axes.scatter(points[faint, 0], points[faint, 1], s=15, alpha=0.35, **style)
        style["label"] = _plain(classes[int(label)])
        axes.scatter(points[full, 0], points[full, 1], s=30, alpha=0.9, **style)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=3, handletextpad=0.2)


def few_shots(
    axes: Axes,
    shots: Sequence[int],
    mean: Sequence[float],
    low: Sequence[float],
    high: Sequence[float],
) -> None:
    """Accuracy against the number of training videos per class, with intervals."""
    place = np.arange(len(shots))
    middle = np.asarray(mean)
    axes.errorbar(
        place,
        middle,
        yerr=np.maximum([middle - low, np.asarray(high) - middle], 0),
        color=ACCENT,
        ecolor=MUTED,
        marker="o",
        capsize=3,
        linewidth=1.4,
    )
    axes.set_xticks(place, [str(number) for number in shots])
    axes.set_ylim(0, 1)
    _percent(axes, "y")
    axes.grid(visible=True, axis="y")
    axes.set_xlabel("training videos per class")
    axes.set_ylabel("accuracy")


def label_bars(axes: Axes, names: Sequence[str], scores: Sequence[float]) -> None:
    """The best classes of one video as bars, the best on top."""
    place = np.arange(len(names))
    axes.barh(place, scores, color=[ACCENT] + [LINES] * (len(names) - 1), height=0.66)
    for row, score in enumerate(scores):
        axes.text(min(score + 0.01, 0.93), row, f"{score:.0%}", va="center", fontsize=8)
    axes.set_yticks(place, [_plain(name) for name in names])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(0, 1)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)


def class_colours(classes: Sequence[str]) -> dict[str, str]:
    """The colour of each class, as on the map of a feature file with these classes."""
    return {name: PALETTE[place % len(PALETTE)] for place, name in enumerate(classes)}


def time_line(
    axes: Axes,
    edges_seconds: Sequence[float],
    scores: NDArray[np.floating[Any]],
    classes: Sequence[str],
    colours: Mapping[str, str],
) -> None:
    """The scores of all classes along a video, one lane each; full colour where one is the best.

    With more than eight classes, the seven with the highest peaks have lanes, the others share one.

    Args:
        axes: where to draw.
        edges_seconds: (T + 1,), where the segments begin and the last one ends.
        scores: (T, C), 0 to 1.
        classes: C names.
        colours: of the classes, by name.
    """
    best = scores.argmax(axis=1)
    lanes = list(range(len(classes)))
    if len(lanes) > MOST_LANES:
        peaks = np.argsort(-scores.max(axis=0), kind="stable")[: MOST_LANES - 1]
        lanes = sorted(int(place) for place in peaks)
    rest = [place for place in range(len(classes)) if place not in lanes]
    rows = [
        (classes[place], scores[:, place], best == place, colours[classes[place]])
        for place in lanes
    ]
    if rest:
        name = f"{len(rest)} others"
        rows.append((name, scores[:, rest].sum(axis=1), np.isin(best, rest), MUTED))
    for lane, (_, values, wins, colour) in enumerate(rows):
        floor = lane + 0.42
        # upwards is towards smaller y; one outline per lane, so that no seams show between segments
        for height, alpha in ((values, 0.35), (np.where(wins, values, 0.0), 1.0)):
            tops = floor - 0.84 * np.clip(height, 0, 1)
            axes.stairs(
                tops, edges_seconds, baseline=floor, fill=True, color=colour, alpha=alpha, lw=0
            )
        axes.axhline(floor, color=LINES, linewidth=0.6)
    axes.set_yticks(range(len(rows)), [_plain(name) for name, *_ in rows])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(edges_seconds[0], edges_seconds[-1])
    axes.set_xlabel("seconds; the height of a lane is a score of 100 %, full colour the best class")
    axes.grid(visible=True, axis="x")
    axes.spines["left"].set_visible(False)


def _percent(axes: Axes, which: str) -> None:
    ticks = [0, 0.25, 0.5, 0.75, 1]
    names = ["0", "25 %", "50 %", "75 %", "100 %"]
    if which == "x":
        axes.set_xticks(ticks, names)
    else:
        axes.set_yticks(ticks, names)
