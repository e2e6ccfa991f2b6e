"""Search results as one self-contained HTML page with pictures."""

from __future__ import annotations

import base64
import html
import os
from collections.abc import Sequence
from pathlib import Path

from vidfeat.errors import StoreError, VideoError
from vidfeat.index.match import Match, Query
from vidfeat.index.video_index import VideoIndex
from vidfeat.system.files import atomic_write
from vidfeat.system.urls import is_url, without_secrets

_STYLE = """
:root{color-scheme:light dark;--back:#f6f6f4;--card:#fff;--text:#1c1c1a;--dim:#6d6d68;
--line:#e2e2dd;--blue:#2f6fde;--red:#c43c3c}
@media(prefers-color-scheme:dark){:root{--back:#161617;--card:#212123;--text:#ececea;
--dim:#9c9c98;--line:#333336;--blue:#7aa7f7;--red:#e5736f}}
body{margin:0 auto;max-width:1200px;padding:24px;background:var(--back);color:var(--text);
font:15px/1.45 system-ui,sans-serif}
h1{font-size:20px;margin:0 0 4px}p{margin:0 0 20px;color:var(--dim)}
ol{list-style:none;padding:0;display:grid;gap:14px;
grid-template-columns:repeat(auto-fill,minmax(210px,1fr))}
li{background:var(--card);border:1px solid var(--line);border-radius:10px;overflow:hidden}
img,.none{display:block;width:100%;aspect-ratio:16/9;object-fit:cover;background:var(--line)}
div.text{padding:8px 11px 10px}b{color:var(--blue);font-variant-numeric:tabular-nums}
span{color:var(--dim);font-variant-numeric:tabular-nums;float:right}
a,em{display:block;color:inherit;text-decoration:none;font-style:normal;overflow-wrap:anywhere}
a:hover{text-decoration:underline}
section{margin:0 0 34px}
div.asked{display:flex;flex-wrap:wrap;gap:12px;align-items:center;margin:0 0 14px}
figure{margin:0;width:190px;border:2px solid var(--blue);border-radius:10px;overflow:hidden;
background:var(--card)}figure.not{border-color:var(--red)}
figcaption{padding:6px 9px;overflow-wrap:anywhere}figure.not figcaption::before{content:"not "}
figure q{display:block;padding:12px 11px;font-size:17px}h2{font-size:16px;margin:0;flex-basis:100%}
"""


def write_search_report(
    path: Path,
    index: VideoIndex,
    queries: Sequence[Query],
    matches: Sequence[Match],
    root: str | os.PathLike[str] | None = None,
) -> int:
    """Write the page: each query's pictures above its own results.

    A missing video gets a grey tile.

    Returns:
        The number of results without a picture.
    """
    sections, missing = [], 0
    for number, query in enumerate(queries):
        own = [match for match in matches if match.query == number]
        cards, grey = _cards(index, own, root)
        missing += grey
        counted = "1 result" if len(own) == 1 else f"{len(own)} results"
        sections.append(
            f"<section>{_asked(index, query, root)}<p>{counted} of {index.head.num_videos} videos, "
            f"{index.head.num_clips} clips</p><ol>{''.join(cards)}</ol></section>"
        )
    asked = "; ".join(html.escape(query.name) for query in queries[:5])
    more = f" and {len(queries) - 5} more" if len(queries) > 5 else ""
    page = (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width,initial-scale=1">'
        f"<title>Videos like {asked}</title><style>{_STYLE}</style>"
        f"<h1>Videos like {asked}{more}</h1>{''.join(sections)}</html>\n"
    )
    with atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="replace")
    return missing


def _cards(
    index: VideoIndex, matches: Sequence[Match], root: str | os.PathLike[str] | None
) -> tuple[list[str], int]:
    """A tile for each result, and the number of grey ones."""
    cards, missing = [], 0
    for rank, match in enumerate(matches, start=1):
        picture, link = _picture(index, match.video, match.start_seconds, match.end_seconds, root)
        missing += not picture
        name = html.escape(match.video)
        target = f"{html.escape(link)}#t={match.start_seconds:.2f}" if link else ""
        title = f'<a href="{target}">{name}</a>' if target else f"<em>{name}</em>"
        cards.append(
            f'<li>{_shown(picture)}<div class="text"><b>{rank}</b> <span>{match.score:.3f}</span>'
            f"{title}{clock(match.start_seconds)} to {clock(match.end_seconds)}</div></li>"
        )
    return cards, missing


def _asked(index: VideoIndex, query: Query, root: str | os.PathLike[str] | None) -> str:
    """The pictures or phrases of a query or of its examples."""
    wanted = "".join(
        f"<figure>{_example(index, one, root)}</figure>" for one in query.positive or (query,)
    )
    against = "".join(
        f'<figure class="not">{_example(index, one, root)}</figure>' for one in query.negative
    )
    return f'<div class="asked">{wanted}{against}</div>'


def _example(index: VideoIndex, query: Query, root: str | os.PathLike[str] | None) -> str:
    if query.text:
        return f"<figcaption><q>{html.escape(query.text)}</q></figcaption>"
    start, end = float(query.start_seconds.min()), float(query.end_seconds.max())
    picture = ""
    if query.file:
        picture = _jpeg(query.file, start, end)
    elif query.video_id >= 0:
        picture = _picture(index, index.videos.paths[query.video_id], start, end, root)[0]
    return (
        f"{_shown(picture)}<figcaption>{html.escape(query.name)}, {clock(start)} to "
        f"{clock(end)}</figcaption>"
    )


def _shown(picture: str) -> str:
    if picture:
        return f'<img alt="" src="data:image/jpeg;base64,{picture}">'
    return '<div class="none"></div>'


def _picture(
    index: VideoIndex, video: str, start: float, end: float, root: str | os.PathLike[str] | None
) -> tuple[str, str]:
    """A picture from the middle of a segment of a stored video, and the address of its file."""
    try:
        place = index.place(video, root)
        picture = _jpeg(place, start, end)
        if not picture:
            return "", ""
        return picture, without_secrets(place) if is_url(place) else Path(place).resolve().as_uri()
    except (StoreError, OSError):
        return "", ""


def _jpeg(file: str, start: float, end: float) -> str:
    from vidfeat.video.thumbnails import clip_frames, jpeg

    try:
        frame = clip_frames(file, start, end, 1)[0]
        return base64.b64encode(jpeg(frame, 320)).decode()
    except (VideoError, OSError):
        return ""


def clock(seconds: float) -> str:
    """``1:05.3`` for 65.3 seconds, with hours if there are any."""
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    head = f"{hours}:{minutes:02d}" if hours else f"{minutes}"
    return f"{head}:{rest / 10:04.1f}"
