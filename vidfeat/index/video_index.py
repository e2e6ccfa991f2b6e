"""``VideoIndex``: an index opened for searching, and the ways to make and change one."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vidfeat.errors import DataError, UsageError
from vidfeat.index.examples import NEGATIVE_WEIGHT, combine
from vidfeat.index.match import Match, Query, SearchOptions
from vidfeat.index.opened import OpenIndex
from vidfeat.index.query_clips import as_query, clips_in_segment
from vidfeat.store.reader import Embeddings
from vidfeat.system.urls import local_place, place_of, root_of

if TYPE_CHECKING:
    from vidfeat.encoders.text import TextEncoder

OneQuery: TypeAlias = str | Embeddings | Query | NDArray[Any]
"""A path of the index, clips, or a result of `VideoIndex.query` or `VideoIndex.text_query`."""


class VideoIndex(OpenIndex):
    """An index, open for searching.

    ::

        index = VideoIndex.build("features.h5", "INDEX")
        for match in index.search("class/video.mp4", k=5):
            print(match.video, match.start_seconds, match.score)

    It keeps the state that was opened, whatever a writer does to the folder in the meantime.

    Args:
        path: the folder.

    Raises:
        StoreError: no index, a newer version, damaged, or incomplete.
    """

    labels: Mapping[str, str] = MappingProxyType({})
    """Path to label, if labels are stored with the index."""
    _texts: TextEncoder | None = None

    @classmethod
    def build(
        cls,
        features: str | os.PathLike[str],
        path: str | os.PathLike[str] | None = None,
        *,
        kind: str = "auto",
        max_memory: int | str | None = None,
        center: bool = False,
        whiten: bool = False,
        skip_bad_rows: bool = False,
        overwrite: bool = False,
        report: Callable[[str], None] | None = None,
    ) -> VideoIndex:
        """Build the index of a feature file, completely or not at all, and open it.

        Args:
            features: the feature file.
            path: the folder to write; None for the name of the feature file with ``.index``.
            kind: ``auto`` by size and memory, or flat, hnsw, ivfsq, ivfpq, opq.
            max_memory: bytes, or text such as ``4GB``; None for half of what is free.
            center: subtract the mean of the features from every vector and query.
            whiten: even out their spread too; see `vidfeat.index.vectors`.
            skip_bad_rows: leave out vectors that cannot be compared; otherwise they are an error.
            overwrite: replace an existing index.
            report: called with a line on each step.

        Raises:
            UsageError: an invalid kind, or ``path`` exists.
            DataError: vectors that cannot be compared, or none at all.
            StoreError: the feature file cannot be read.
        """
        from vidfeat.index.build import BuildOptions, build_index
        from vidfeat.index.choose import parse_size

        target = Path(path) if path is not None else Path(features).with_suffix(".index")
        memory = parse_size(max_memory) if isinstance(max_memory, str) else max_memory
        options = BuildOptions(kind, memory, center, whiten, skip_bad_rows)
        build_index(Path(features), target, options, overwrite=overwrite, report=report)
        return cls(target)

    # ------------------------------------------------------------------ contents

    @property
    def paths(self) -> list[str]:
        """Paths of the videos in the index."""
        return list(self.videos.row_of)

    def __len__(self) -> int:
        """Number of clips."""
        return self.head.num_clips

    def __contains__(self, path: object) -> bool:
        return path in self.videos.row_of

    def __repr__(self) -> str:
        return (
            f"VideoIndex({str(self.path)!r}: {self.head.num_videos} videos, "
            f"{self.head.num_clips} clips of {self.head.dimension} dimensions, {self.head.kind})"
        )

    @property
    def name(self) -> str:
        """Name of the index, the title of the page."""
        return self.path.resolve().name

    @property
    def state_key(self) -> str:
        """A key that changes with the state of the index."""
        hashes = [self.head.files[role].sha256 for role in ("vectors", "videos")]
        return "\0".join([str(self.head.generation), *hashes])

    @property
    def space_fingerprint(self) -> str:
        """The space fingerprint that a query must have."""
        return self.head.space_fingerprint

    @property
    def source_root(self) -> Path:
        """Where the videos were when they were read; a hint."""
        return Path(root_of(self.head.source_root))

    def local_path(self, path: str, root: str | os.PathLike[str] | None = None) -> Path:
        """Where the file of a video should be: :meth:`place` for local files."""
        return local_place(self.place(path, root))

    def place(self, path: str, root: str | os.PathLike[str] | None = None) -> str:
        """Where a video should be, below ``root`` (a folder or URL) or below the recorded folder.

        Raises:
            StoreError: the path leads out of the root, or the root is a URL that was not given.
        """
        return place_of(path, self.head.source_root, root, str(self.path))

    def times(self, path: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Start and end seconds of a video's clips."""
        clips = self.searcher.clips[self.videos.rows(self._row(path))]
        return clips["start_seconds"].copy(), clips["end_seconds"].copy()

    def allowed(
        self,
        only: Sequence[str] = (),
        only_labels: Sequence[str] = (),
        labels: Mapping[str, str] | None = None,
    ) -> NDArray[np.bool_] | None:
        """Which videos pass a filter, for `search`; None for all.

        Args:
            only: paths, folders (a slash at the end) or patterns (``*``); any of them.
            only_labels: any of these labels.
            labels: path to label; None for those that are stored with the index.

        Raises:
            StoreError: a path or pattern that no video fits.
            UsageError: no video has one of the labels.
        """
        if not only and not only_labels:
            return None
        from vidfeat.index.patterns import videos_that_pass

        known = self.labels if labels is None else labels
        return videos_that_pass(self.videos, only, only_labels, known, self.where)

    # ------------------------------------------------------------------ queries

    def query(
        self,
        video: str,
        start_seconds: float | None = None,
        end_seconds: float | None = None,
    ) -> Query:
        """The stored clips of a video, or of a segment of it, as a query.

        A segment selects the clips that lie in it, with half a hop of tolerance; if it is shorter
        than a clip, it selects the clip whose middle is nearest to its own.

        Raises:
            StoreError: no such video.
            DataError: a video without a clip that can be compared.
            UsageError: an empty segment, or one outside of the video.
        """
        row = self._row(video)
        if not self.videos["count"][row]:
            raise DataError(
                f"{video} has no clip that can be compared: none was extracted, or all were left "
                "out as bad rows; search with another video"
            )
        span = self.videos.rows(row)
        clips = self.searcher.clips[span]
        start, end = clips["start_seconds"], clips["end_seconds"]
        chosen = clips_in_segment(start, end, start_seconds, end_seconds, video)
        return Query(
            vectors=self.searcher.engine.take_slice(span)[chosen],
            start_seconds=start[chosen].copy(),
            end_seconds=end[chosen].copy(),
            name=video,
            normalised=True,
            video_id=row,
        )

    def text_query(self, phrase: str, texts: TextEncoder | None = None) -> Query:
        """Embed a phrase as a query, with the text tower of the network that made the index.

        ::

            index.search(index.text_query("a man jumps over a fence"), k=5)

        Args:
            phrase: what to look for, in words.
            texts: the text tower; None loads it if the phrase is new, once for this index.

        Raises:
            UsageError: the network has no text tower, the index is centred, or the phrase is empty.
            WeightsError: the network's weights have moved.
            FingerprintError: the weights are not those of the index.
        """
        from vidfeat.index.text_query import phrase_query, text_encoder

        if texts is None:
            if self._texts is None:
                self._texts = text_encoder(self)
            texts = self._texts
        return phrase_query(self, phrase, texts)

    def search(
        self,
        query: OneQuery | Sequence[OneQuery],
        k: int = 10,
        *,
        negative: OneQuery | Sequence[OneQuery] = (),
        together: bool = False,
        negative_weight: float = NEGATIVE_WEIGHT,
        start_seconds: float | None = None,
        end_seconds: float | None = None,
        clips: bool = False,
        per_video: int = 1,
        exact: bool = False,
        normalize_scores: bool = False,
        rank_by: str = "mean",
        exclude_self: bool = False,
        allowed: NDArray[np.bool_] | None = None,
        between_seconds: tuple[float, float] | None = None,
        space_fingerprint: str | None = None,
        **former: bool,
    ) -> list[Match]:
        """Segments of videos that are similar to the query, best first.

        Args:
            query: the path of a video in the index; embeddings of the same encoder; an array
                (D,) or (Q, D) of them; a result of `query` or `text_query`; or several of these.
                Several are searched one after the other, ``k`` results each, and
                ``Match.query`` is the number of the query that a result belongs to.
            k: number of results for each query, k different videos.
            negative: examples, of the same kinds, of what the results should not resemble.
            together: take several queries as examples of one thing: a single query, whose score
                is the mean over the examples; see `vidfeat.index.examples`.
            negative_weight: weight of the negative examples, relative to the positive ones.
            start_seconds: with a path, where the segment to search with starts.
            end_seconds: with a path, where it ends.
            clips: return every near clip, not videos.
            per_video: maximum number of segments of one video, which do not overlap.
            exact: compare with every vector, whatever the kind of index.
            normalize_scores: subtract the mean cosine with a background sample.
            rank_by: ``mean`` over the query's clips, or ``best`` pair of clips.
            exclude_self: leave out the videos that a query, or an example of it, was taken from.
            allowed: (videos,) rows of the table that may be found; see `allowed`.
            between_seconds: find only clips between these seconds of their videos.
            space_fingerprint: of the query; refused if it is another encoder's.
            former: ``normalise_scores``, the former name of ``normalize_scores``.

        Raises:
            FingerprintError: the query is of another encoder.
            StoreError: no such video.
            DataError: vectors that cannot be compared with these, or none.
            UsageError: invalid options.
        """
        normalize_scores = former.pop("normalise_scores", normalize_scores)
        if former:
            raise TypeError(f"search() got an unexpected keyword argument {next(iter(former))!r}")
        options = SearchOptions(
            k=k,
            clips=clips,
            per_video=per_video,
            exact=exact,
            normalize_scores=normalize_scores,
            rank_by=rank_by,  # type: ignore[arg-type]
            between_seconds=between_seconds,
        )
        if space_fingerprint is not None:
            self.require_space(space_fingerprint, "the query")
        if start_seconds is not None or end_seconds is not None:
            if not isinstance(query, str):
                raise UsageError(
                    "start_seconds and end_seconds need a query that is the path of a video"
                )
            query = self.query(query, start_seconds, end_seconds)
        queries = self.combined(query, negative, together=together, weight=negative_weight)
        found: list[Match] = []
        for number, one in enumerate(queries):
            may_be = allowed
            if exclude_self and one.video_ids:
                may_be = (
                    np.ones(len(self.videos), dtype=bool) if allowed is None else allowed.copy()
                )
                may_be[one.video_ids] = False
            matches = self.searcher.search(one, options, may_be)
            found += matches if number == 0 else [replace(match, query=number) for match in matches]
        return found

    def combined(
        self,
        query: OneQuery | Sequence[OneQuery],
        negative: OneQuery | Sequence[OneQuery] = (),
        *,
        together: bool = False,
        weight: float = NEGATIVE_WEIGHT,
    ) -> list[Query]:
        """The queries of a search: one for each example, or one for all ``together``.

        Raises:
            UsageError: no query, or a weight below 0.
            DataError: positive and negative examples cancel each other.
        """
        queries, against = self._queries(query), self._queries(negative)
        if not queries:
            raise UsageError("there is nothing to search with: give at least one query")
        if not against and (not together or len(queries) == 1):
            return queries
        background = self.searcher.background
        groups = [queries] if together else [[one] for one in queries]
        return [combine(group, against, background, weight) for group in groups]

    def _queries(self, given: OneQuery | Sequence[OneQuery]) -> list[Query]:
        if isinstance(given, (str, Embeddings, Query, np.ndarray)):
            given = [given]
        return [
            self.query(one) if isinstance(one, str) else self._prepared(as_query(one))
            for one in given
        ]

    def _prepared(self, query: Query) -> Query:
        if query.normalised:
            return query
        if query.vectors.ndim != 2 or query.vectors.shape[1] != self.head.dimension:
            raise DataError(
                f"{query.name} has vectors of shape {query.vectors.shape}, this index needs "
                f"(clips, {self.head.dimension}): extract it with the encoder of the index"
            )
        if not len(query.vectors):
            raise DataError(f"{query.name} has no clips to search with")
        times = query.start_seconds
        vectors = self.normalisation.apply(
            query.vectors,
            lambda row: f"{query.name}, clip at {times[row]:.2f} s",
            "extract it again, or search with another segment or video",
        )
        order = np.argsort(times, kind="stable")
        return replace(
            query,
            vectors=vectors[order],
            start_seconds=times[order],
            end_seconds=query.end_seconds[order],
            normalised=True,
        )

    # ------------------------------------------------------------------ changes

    def add(self, features: str | os.PathLike[str], *, skip_bad_rows: bool = False) -> Any:
        """Add the videos of a feature file, replacing those with the same path; see `update`."""
        from vidfeat.index.update import change_index

        change = change_index(self.path, add=[Path(features)], skip_bad_rows=skip_bad_rows)
        self.__init__(self.path)  # type: ignore[misc]
        return change

    def remove(self, paths: Sequence[str]) -> Any:
        """Remove videos by path, folder (with a slash at its end) or pattern; see `update`."""
        from vidfeat.index.update import change_index

        change = change_index(self.path, remove=list(paths))
        self.__init__(self.path)  # type: ignore[misc]
        return change
