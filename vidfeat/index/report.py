"""Answers as one HTML page with pictures, which needs nothing beside itself."""

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

_STYLE = """
:root{color-scheme:light dark;--back:#f6f6f4;--card:#fff;--text:#1c1c1a;--dim:#6d6d68;
--line:#e2e2dd;--blue:#2f6fde}
@media(prefers-color-scheme:dark){:root{--back:#161617;--card:#212123;--text:#ececea;
--dim:#9c9c98;--line:#333336;--blue:#7aa7f7}}
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
"""


def write_search_report(
    path: Path,
    index: VideoIndex,
    queries: Sequence[Query],
    matches: Sequence[Match],
    root: str | os.PathLike[str] | None = None,
) -> int:
    """Write the page; a video that is not where it was gets a grey tile.

    Returns:
        How many pictures could not be made.
    """
    cards, missing = [], 0
    for rank, match in enumerate(matches, start=1):
        picture, link = _picture(index, match, root)
        missing += not picture
        shown = (
            f'<img alt="" src="data:image/jpeg;base64,{picture}">'
            if picture
            else '<div class="none"></div>'
        )
        name = html.escape(match.video)
        target = f"{html.escape(link)}#t={match.start_seconds:.2f}" if link else ""
        title = f'<a href="{target}">{name}</a>' if target else f"<em>{name}</em>"
        cards.append(
            f'<li>{shown}<div class="text"><b>{rank}</b> <span>{match.score:.3f}</span>{title}'
            f"{clock(match.start_seconds)} to {clock(match.end_seconds)}</div></li>"
        )
    asked = ", ".join(html.escape(query.name) for query in queries[:5])
    more = f" and {len(queries) - 5} more" if len(queries) > 5 else ""
    page = (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width,initial-scale=1">'
        f"<title>Videos like {asked}</title><style>{_STYLE}</style>"
        f"<h1>Videos like {asked}{more}</h1><p>{len(matches)} answers of {index.head.num_videos} "
        f"videos, {index.head.num_clips} clips</p><ol>{''.join(cards)}</ol></html>\n"
    )
    with atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="replace")
    return missing


def _picture(
    index: VideoIndex, match: Match, root: str | os.PathLike[str] | None
) -> tuple[str, str]:
    from vidfeat.video.thumbnails import clip_frames, jpeg

    try:
        file = index.local_path(match.video, root)
        frame = clip_frames(file, match.start_seconds, match.end_seconds, 1)[0]
        return base64.b64encode(jpeg(frame, 320)).decode(), file.resolve().as_uri()
    except (VideoError, StoreError, OSError):
        return "", ""


def clock(seconds: float) -> str:
    """``1:05.3`` of 65.3 seconds, with hours where there are some."""
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    head = f"{hours}:{minutes:02d}" if hours else f"{minutes}"
    return f"{head}:{rest / 10:04.1f}"
