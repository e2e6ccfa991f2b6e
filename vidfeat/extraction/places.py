"""Whether the videos of a feature file still exist, on a disk or behind URLs."""

from __future__ import annotations

import os
from collections.abc import Iterable

from vidfeat.system.identities import identity_to_path
from vidfeat.system.urls import is_url, root_of, url_below
from vidfeat.video.listing import Listing
from vidfeat.video.remote_listing import states_of

UNKNOWN = (-1, -1)


class Places:
    """What exists below the root of a run.

    Args:
        listing: the listing of the run; URLs in it are not looked up again.
    """

    def __init__(self, listing: Listing) -> None:
        self.root = listing.root
        self._remote = is_url(listing.root)
        self._states: dict[str, tuple[int, int] | None] = {}
        if self._remote:
            self._states = {
                video.identity: (video.size_bytes, video.mtime_ns) for video in listing.videos
            }

    def look(self, identities: Iterable[str]) -> None:
        """Look up several remote videos in parallel."""
        if self._remote:
            names = sorted(set(identities) - self._states.keys())
            urls = [url_below(self.root, name) for name in names]
            self._states |= dict(zip(names, states_of(urls), strict=True))

    def has(self, identity: str) -> bool:
        """Whether a video exists; if its server leaves that open, it counts as existing."""
        if self._remote:
            self.look([identity])
            return self._states[identity] is not None
        return os.path.lexists(os.path.join(self.root, identity_to_path(identity)))  # noqa: PTH118

    def state(self, identity: str) -> tuple[int, int]:
        """Size and modification time (or stamp) of a video; -1 if unknown."""
        if self._remote:
            self.look([identity])
            return self._states[identity] or UNKNOWN
        try:
            status = os.stat(os.path.join(self.root, identity_to_path(identity)))  # noqa: PTH116, PTH118
        except OSError:
            return UNKNOWN
        return status.st_size, status.st_mtime_ns

    def is_other(self, identity: str, state: tuple[int, int], made_from: str) -> bool:
        """Whether this identity now belongs to a video other than the one that was read.

        Args:
            identity: the video's identity.
            state: size and modification time that it had.
            made_from: its root then, as stored. While that root exists, a copy with another
                modification time counts as another video; if it is gone, or if one root is a URL
                and the other a folder, only the size is compared.
        """
        if not self.has(identity):
            return False
        now = self.state(identity)
        if self._remote and now == UNKNOWN:
            return False
        if is_url(made_from):
            compared = 2 if self._remote else 1
        else:
            compared = 2 if os.path.isdir(root_of(made_from)) else 1  # noqa: PTH112
        return now[:compared] != state[:compared]
