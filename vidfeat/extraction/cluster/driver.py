"""The driver of a run on many machines: starts actors, leases videos to them, collects results."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from vidfeat.errors import ClusterError
from vidfeat.extraction.assembly import AssemblyStats
from vidfeat.extraction.cluster.actor import (
    Done,
    Errand,
    LeaseWorker,
    Problem,
    Ready,
    Update,
    stop_file,
)
from vidfeat.extraction.cluster.lease import Lease, after_loss, cut_leases
from vidfeat.extraction.cluster.options import ClusterOptions, actor_size
from vidfeat.extraction.part_writing import place_name
from vidfeat.extraction.steps import Run
from vidfeat.store.embeddings import Embeddings
from vidfeat.store.parts import Part, part_file, write_part
from vidfeat.store.records import VideoFailure
from vidfeat.system.wording import counted
from vidfeat.weights.load import weights_path

_POLL_SECONDS = 1.0
_NODE_SECONDS = 3.0  # for the cluster to notice that the machine of a lost actor is gone
_FAILED_STARTS = 5  # of actors, after which no more are tried


@dataclass(eq=False)
class _Hand:
    """An actor and its current work."""

    actor: Any
    answer: Any
    """Awaited result: the answer of ``prepare``, or the stream of a lease; None when idle."""
    node: str = ""
    lease: Lease | None = None
    live: Update | None = None


class Driver:
    """Leases the videos of a run to actors until all are done."""

    def __init__(
        self,
        ray: Any,
        options: ClusterOptions,
        run: Run,
        folder: Path,
        first_number: int,
        token: str,
    ) -> None:
        self.parts: list[Path] = []
        self._ray = ray
        self._options = options
        self._run = run
        self._folder = folder.resolve()
        self._first_number = first_number
        nodes = self._nodes()
        self._size = actor_size(list(nodes.values()), options)
        self._leases = deque(cut_leases(run.todo, self._size.places(list(nodes.values()))))
        self._token = token
        self._errand = self._make_errand(token)
        self._weights = self._put_weights()
        self._hands: list[_Hand] = []
        self._most_hands = 1
        self._done = AssemblyStats()
        self._frames = 0
        self._counts = {"leases": len(self._leases), "leased_again": 0, "actors_lost": 0}
        self._hired = 0.0
        self._failed_starts = 0
        self._able = time.monotonic()

    def work(self) -> None:
        """Lease until nothing is left, or the run is asked to stop."""
        began = time.monotonic()
        while self._leases or any(hand.lease for hand in self._hands):
            if self._run.stop.asked:
                if not any(hand.lease for hand in self._hands):
                    self._run.stopped = True
                    break
                stop_file(self._folder, self._token).touch()
            else:
                self._hire()
                self._hand_out()
            self._listen()
            self._tick()
        self._tick(now=True)
        report = self._run.report
        report.seconds = time.monotonic() - began
        report.assembly = asdict(self._stats())
        report.engine |= {"actors": self._most_hands, **self._counts}
        if self._counts["actors_lost"]:
            report.notes.append(
                f"{counted(self._counts['actors_lost'], 'process', 'processes')} of the cluster "
                "died; their videos went to others"
            )

    def dismiss(self) -> None:
        """End all actors."""
        for hand in self._hands:
            with suppress(Exception):
                self._ray.kill(hand.actor)
        self._hands.clear()

    # -- actors --------------------------------------------------------------------------------

    def _nodes(self) -> dict[str, dict[str, float]]:
        """The resources of the machines that are alive, by their ids."""
        return {node["NodeID"]: node["Resources"] for node in self._ray.nodes() if node["Alive"]}

    def _make_errand(self, token: str) -> Errand:
        run = self._run
        options = run.options
        if options.workers is None:
            options = replace(options, workers=self._size.cpus)
        recipe = run.encoder.recipe
        if recipe is None or recipe.model is None:
            raise ClusterError(
                f"{run.encoder.spec.model} was given as a module, which other machines cannot load"
            )
        # A source with a prefix is used on each node: its files are in the hub's cache there.
        own = ":" not in recipe.model
        self._weights_file = weights_path(recipe.weights, recipe.model) if own else None
        there = (item.video for item in run.todo if item.video.size_bytes >= 0)
        return Errand(
            recipe=recipe,
            weights_name=None if self._weights_file is None else self._weights_file.name,
            run_fingerprint=run.encoder.run_fingerprint,
            options=replace(options, shard=None),
            device="cuda" if self._size.gpus else "cpu",
            threads=None if self._size.gpus else self._size.cpus,
            folder=str(self._folder),
            token=token,
            first_number=self._first_number,
            sample=next(there, None),
        )

    def _put_weights(self) -> Any:
        """The weights file in the object store: nodes need neither it nor internet access."""
        if self._weights_file is None:
            return None
        return self._ray.put(np.fromfile(self._weights_file, np.uint8))

    def _hire(self) -> None:
        """Start as many actors as there is room and work for, on new machines too."""
        now = time.monotonic()
        if any(hand.node for hand in self._hands):
            self._able = now
        elif now - self._able > self._options.start_seconds:
            raise ClusterError(
                f"no actor could start for {self._options.start_seconds:.0f} s: are the machines "
                "of the cluster busy or lost? See 'ray status'; the same command continues from "
                "what is finished"
            )
        if now - self._hired < _POLL_SECONDS or self._failed_starts >= _FAILED_STARTS:
            return
        self._hired = now
        working = sum(hand.lease is not None for hand in self._hands)
        wanted = min(self._size.places(list(self._nodes().values())), working + len(self._leases))
        while len(self._hands) < wanted:
            actor = (
                self._ray.remote(LeaseWorker)
                .options(num_cpus=self._size.cpus, num_gpus=self._size.gpus, max_restarts=0)
                .remote()
            )
            self._hands.append(_Hand(actor, actor.prepare.remote(self._errand, self._weights)))

    def _hand_out(self) -> None:
        for hand in self._hands:
            if hand.answer is None and self._leases:
                hand.lease = self._leases.popleft()
                hand.live = None
                hand.answer = hand.actor.work.options(num_returns="streaming").remote(hand.lease)

    # -- answers -------------------------------------------------------------------------------

    def _listen(self) -> None:
        waiting = [hand for hand in self._hands if hand.answer is not None]
        if not waiting:
            time.sleep(_POLL_SECONDS / 5)
            return
        answers = [hand.answer for hand in waiting]
        ready, _ = self._ray.wait(answers, num_returns=len(answers), timeout=0)
        if not ready:
            ready, _ = self._ray.wait(answers, timeout=_POLL_SECONDS)
        for hand in waiting:
            if any(hand.answer is one for one in ready):
                self._hear(hand)

    def _hear(self, hand: _Hand) -> None:
        """Process an actor's answer, or find that it has died."""
        try:
            answer = self._ray.get(hand.answer if hand.lease is None else next(hand.answer))
        except (self._ray.exceptions.RayError, OSError, RuntimeError, StopIteration) as error:
            self._lost(hand, error)
            return
        if isinstance(answer, Problem):
            if answer.errno is not None:
                raise OSError(answer.errno, answer.message)
            raise ClusterError(
                f"{answer.message} (finished parts stay: the same command continues)"
            )
        if isinstance(answer, Ready):
            hand.answer, hand.node = None, answer.node
            self._most_hands = max(self._most_hands, sum(bool(h.node) for h in self._hands))
        elif isinstance(answer, Update):
            hand.live = answer
        else:
            self._finish(hand, answer)

    def _finish(self, hand: _Hand, done: Done) -> None:
        lease = hand.lease
        assert lease is not None
        hand.lease = hand.answer = hand.live = None
        self.parts += [
            part_file(self._folder, 0, place_name(lease.name, place))
            for place in range(done.stats.parts)
        ]
        self._done = _sum([self._done, done.stats])
        self._frames += done.frames
        run = self._run
        if done.stopped:
            run.stopped = True
        for item in () if done.stopped else lease.todo:
            run.meter.finish(max(0, item.video.size_bytes))
        for failure in done.failures:
            run.note_failure(failure)
        run.report.decoding.processes_lost += done.decoding.processes_lost
        run.report.decoding.waited_seconds += done.decoding.waited_seconds
        run.report.decoding.bytes_fetched += done.decoding.bytes_fetched
        run.report.engine |= done.engine

    def _lost(self, hand: _Hand, error: Exception) -> None:
        """Lease a lost actor's work again; give up on a video that is to blame."""
        self._hands.remove(hand)
        with suppress(Exception):
            self._ray.kill(hand.actor)
        self._counts["actors_lost"] += 1
        if hand.lease is None:
            if not hand.node:
                self._not_started(error)
            return
        again = after_loss(hand.lease, node_is_gone=self._is_gone(hand.node))
        self._counts["leased_again"] += len(again)
        self._leases.extendleft(again)
        if not again:
            self._give_up(hand.lease, error)

    def _not_started(self, error: Exception) -> None:
        """An actor was lost before it could work: try a few more times, then continue without."""
        self._failed_starts += 1
        if self._failed_starts < _FAILED_STARTS:
            return
        if not self._hands:
            raise ClusterError(
                f"no actor starts on the cluster's machines, the last: {_reason(error)} "
                "(is vidfeat installed on all of them?)"
            )
        self._run.report.notes.append(f"some actors could not start: {_reason(error)}")

    def _is_gone(self, node: str) -> bool:
        deadline = time.monotonic() + _NODE_SECONDS
        while node in self._nodes():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.2)
        return True

    def _give_up(self, lease: Lease, error: Exception) -> None:
        """Give a video that has ended one actor after the other a row in ``/errors``."""
        (item,) = lease.todo
        failure = VideoFailure(
            path=item.video.identity,
            message=f"{lease.deaths + 1} processes were lost over it, the last: {_reason(error)}",
            kind="crashed",
            size_bytes=item.video.size_bytes,
            mtime_ns=item.video.mtime_ns,
            tries=item.tries + 1,
        )
        nothing = Embeddings(
            np.empty((0, self._run.encoder.dimension), self._run.options.dtype),
            np.empty(0),
            np.empty(0),
        )
        number = replace(lease, round=lease.round + 1).first_number(self._first_number)
        write_part(self._folder, Part(nothing, (), [failure]), number, f"{lease.name}-lost")
        self._run.meter.finish(max(0, item.video.size_bytes))
        self._run.note_failure(failure)

    # -- figures -------------------------------------------------------------------------------

    def _stats(self) -> AssemblyStats:
        """Statistics of all leases so far; seconds, and hence shares, are means over the actors."""
        live = [hand.live.stats for hand in self._hands if hand.live is not None]
        total = _sum([self._done, *live])
        return replace(
            total,
            network_seconds=total.network_seconds / self._most_hands,
            network_waited_seconds=total.network_waited_seconds / self._most_hands,
            blocked_seconds=total.blocked_seconds / self._most_hands,
        )

    def _tick(self, *, now: bool = False) -> None:
        live = sum(hand.live.frames for hand in self._hands if hand.live is not None)
        self._run.meter.frames = self._frames + live
        self._run.meter.tick(self._stats(), now=now)


def _sum(several: Sequence[AssemblyStats]) -> AssemblyStats:
    names = [field.name for field in fields(AssemblyStats)]
    return AssemblyStats(**{n: sum(getattr(stats, n) for stats in several) for n in names})


def _reason(error: Exception) -> str:
    """The line of a long message that says what happened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:300]
