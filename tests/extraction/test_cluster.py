"""The main job on many machines: leases, lost machines, and the same file in the end."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

from tests.support.store_fixtures import arrays_of
from tests.support.video_assets import render, x264
from vidfeat.cli import cli
from vidfeat.encoders.choice import EncoderChoice
from vidfeat.encoders.encoder import Encoder
from vidfeat.encoders.load import load_encoder
from vidfeat.errors import ClusterError, MissingExtraError, StoppedError, UsageError
from vidfeat.extraction.cluster.actor import (
    Done,
    Errand,
    LeaseWorker,
    Problem,
    Update,
    encoder_of,
    stop_file,
)
from vidfeat.extraction.cluster.lease import Lease, after_loss, cut_leases
from vidfeat.extraction.options import ExtractOptions
from vidfeat.extraction.report import ExtractProgress
from vidfeat.extraction.resume import Todo
from vidfeat.extraction.run import extract
from vidfeat.extraction.steps import Run
from vidfeat.extraction.stopping import Stop
from vidfeat.store.reader import FeatureStore
from vidfeat.video.decode.decoder import InlineDecoder
from vidfeat.video.decode.pool import PoolStats
from vidfeat.video.decode.tasks import VideoTask
from vidfeat.video.listing import ListedVideo, list_videos
from vidfeat.video.plan_choice import PlanChoice
from vidfeat.weights.files import WeightsFacts, save_weights
from vidfeat.weights.load import load_weights, weights_path

MODEL = "r2plus1d_10_w16"
INLINE = ExtractOptions(workers=0)  # decoding in processes is tested elsewhere; here it costs time


# --- leases -------------------------------------------------------------------------------------


def todo(*sizes: int) -> list[Todo]:
    videos = [ListedVideo(f"v{i:03d}.mp4", f"/v/{i}", size, 7) for i, size in enumerate(sizes)]
    return [Todo(video, VideoTask(video.path), 0) for video in videos]


def names(lease: Lease) -> list[str]:
    return [item.video.identity for item in lease.todo]


def test_leases_are_runs_of_consecutive_videos() -> None:
    items = todo(*[1 << 20] * 40, 3 << 30, *[1 << 20] * 40)
    leases = cut_leases(items, actors=2)
    assert names(leases[0]) == ["v040.mp4"]  # the film, alone and first
    taken = sorted(name for lease in leases for name in names(lease))
    assert taken == [item.video.identity for item in items]
    for lease in leases:
        numbers = [int(name[1:4]) for name in names(lease)]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert max(lease.weight for lease in leases[1:]) <= 256 << 20


def test_small_jobs_reach_every_actor() -> None:
    assert len(cut_leases(todo(*[1000] * 64), actors=8)) >= 8
    assert len(cut_leases(todo(-1), actors=8)) == 1
    assert cut_leases([], actors=8) == []


def test_a_lease_is_named_by_what_is_in_it() -> None:
    first, second = todo(10, 20)
    name = Lease((first, second)).name
    assert Lease((first, second), deaths=1, round=3).name == name
    assert Lease((first,)).name != name
    later = Todo(second.video, VideoTask(second.video.path, first_clip=8), 0)
    assert Lease((first, later)).name != name


def test_a_lease_that_loses_its_actors_is_taken_apart() -> None:
    again = after_loss(Lease(tuple(todo(1, 2))), node_is_gone=False)
    assert [names(lease) for lease in again] == [["v000.mp4", "v001.mp4"]]
    singly = after_loss(again[0], node_is_gone=False)
    assert [names(lease) for lease in singly] == [["v000.mp4"], ["v001.mp4"]]
    assert after_loss(singly[0], node_is_gone=False) == []
    lease, rounds = singly[1], 0
    while left := after_loss(lease, node_is_gone=True):
        lease, rounds = left[0], rounds + 1
    assert 10 < rounds < 50  # machines that vanish are not its doing, within reason


def test_later_rounds_stand_above_earlier_ones() -> None:
    lease = Lease(tuple(todo(1)))
    (again,) = after_loss(lease, node_is_gone=True)
    assert again.first_number(5) > lease.first_number(5) + 100_000


# --- places -------------------------------------------------------------------------------------


def test_an_actor_takes_a_gpu_or_some_processors() -> None:
    from vidfeat.extraction.cluster.options import ActorSize, ClusterOptions, actor_size

    racks = [{"CPU": 64.0, "GPU": 8.0}, {"CPU": 32.0, "GPU": 2.0}, {"CPU": 96.0}]
    size = actor_size(racks, ClusterOptions())
    assert (size, size.places(racks)) == (ActorSize(8, 1), 10)
    assert actor_size(racks, ClusterOptions(device="cpu")).places(racks) == 8 + 4 + 12
    assert actor_size(racks, ClusterOptions(actor_cpus=16)).places(racks) == 4 + 2
    laptop = [{"CPU": 4.0}]
    assert actor_size(laptop, ClusterOptions()) == ActorSize(4, 0)
    with pytest.raises(ClusterError, match="device=cpu"):
        actor_size(laptop, ClusterOptions(device="cuda"))
    with pytest.raises(ClusterError, match="actor_cpus"):
        actor_size(laptop, ClusterOptions(actor_cpus=5))


def test_options_that_cannot_be_meant() -> None:
    from vidfeat.extraction.cluster.run import ClusterOptions

    for wrong in ({"actor_cpus": 0}, {"device": "cuda:1"}, {"address": "ray://head:10001"}):
        with pytest.raises(UsageError, match=next(iter(wrong))):
            ClusterOptions(**wrong)  # type: ignore[arg-type]


def test_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    from vidfeat.extraction.cluster.run import import_ray

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"vidfeat\[ray\]"):
        import_ray()


def test_parts_that_do_not_show_up(tmp_path: Path) -> None:
    from vidfeat.extraction.cluster.run import await_parts

    here, late = tmp_path / "part-a.part", tmp_path / "part-b.part"
    here.touch()
    with pytest.raises(ClusterError, match=r"1 part written by .*part-b\.part"):
        await_parts(tmp_path, [here, late], seconds=0)
    threading.Timer(0.2, late.touch).start()
    await_parts(tmp_path, [here, late], seconds=20)


# --- what an actor looks for on its machine ------------------------------------------------------


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_encoder(MODEL, "random", plan=PlanChoice(frames=4), batch_size=4)


def errand(folder: Path, **changes: Any) -> Errand:
    (folder / "run.token").touch()
    given = Errand(
        recipe=EncoderChoice(MODEL, "random"),
        weights_name=None,
        run_fingerprint="other",
        options=INLINE,
        device="cpu",
        threads=None,
        folder=str(folder),
        token="run.token",
        first_number=0,
        sample=None,
    )
    return replace(given, **changes)


def test_a_machine_that_lacks_something_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vidfeat.extraction.cluster.actor._VISIBLE_SECONDS", 0.0)
    video = ListedVideo("a.mp4", str(tmp_path / "a.mp4"), 5, 7)
    for changes, words in (
        ({"token": "absent"}, "does not see files written to .*share"),
        ({"sample": video}, "does not see the video a.mp4.*share"),
        ({}, "same versions"),
    ):
        answer = LeaseWorker().prepare(errand(tmp_path, **changes), None)
        assert isinstance(answer, Problem)
        assert answer.message.startswith(f"node {socket.gethostname()}")
        assert re.search(words, answer.message)


def test_weights_travel_as_the_bytes_of_their_file(encoder: Encoder, tmp_path: Path) -> None:
    loaded = load_weights("random", MODEL, seed=3)
    file = tmp_path / "mine.safetensors"
    save_weights(file, loaded.state_dict, WeightsFacts(model=MODEL, more={"num_classes": 400}))
    assert weights_path(str(file), MODEL) == file
    assert weights_path("random", MODEL) is None
    here = load_encoder(MODEL, file, plan=PlanChoice(frames=4))
    sent = errand(tmp_path, recipe=here.recipe, weights_name=file.name)
    data = np.fromfile(file, np.uint8)
    file.unlink()
    there = encoder_of(sent, data)
    assert there.run_fingerprint == here.run_fingerprint != encoder.run_fingerprint


def test_an_actor_says_what_its_decode_processes_did_since_the_last_lease(
    encoder: Encoder,
) -> None:
    """They outlive a lease, and not all that they report is a number."""
    worker = LeaseWorker()
    worker._pool = InlineDecoder(encoder.spec.clip_source())
    stats = worker._pool.stats
    stats.processes_lost, stats.bytes_fetched = 1, 100
    assert worker._newly_decoded(stats) == PoolStats(processes_lost=1, bytes_fetched=100)
    stats.bytes_fetched, stats.card_trouble = 150, "gone"
    assert worker._newly_decoded(stats) == PoolStats(bytes_fetched=50, card_trouble="gone")


def test_an_actor_that_is_told_to_end_writes_what_is_finished(
    encoder: Encoder,
    rendered: Path,
    calm: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # looked for at every batch: a quick machine would be done before the next look
    monkeypatch.setattr("vidfeat.extraction.stopping._LOOK_SECONDS", 0.0)
    listing = list_videos([rendered])
    output = tmp_path / "f.h5"
    stop = Stop()
    lost = 0

    def work(run: Run, folder: Path, first_number: int) -> None:
        """One lease of all videos, told to end as its first clips come."""
        worker = LeaseWorker()
        worker._encoder, worker._errand = encoder, errand(folder, token="run.token")
        answers = worker.work(Lease(tuple(run.todo)))
        assert isinstance(next(answers), Update)
        stop_file(folder, "run.token").touch()
        *_, done = answers
        assert isinstance(done, Done)
        assert done.stopped
        assert 0 < done.stats.clips_encoded < 50
        assert not done.stats.clips_padded
        run.stopped = True

    with pytest.raises(StoppedError, match=r"parts? with \d+ clips"):
        extract(listing, output, encoder, options=INLINE, work=work, stop=stop)
    report = extract(listing, output, encoder, options=INLINE)
    assert report.clips_lost == lost
    assert report.clips_encoded < report.clips
    assert_same(output, calm)


# --- a cluster of three machines on this one ----------------------------------------------------


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head without processors, and two machines with one each."""
    from vidfeat.extraction.cluster.run import import_ray

    if importlib.util.find_spec("ray") is None:
        pytest.skip("ray is not installed")
    before = dict(os.environ)
    os.environ["OMP_NUM_THREADS"] = "1"
    ray = import_ray("local")  # all of it on 127.0.0.1
    from ray.cluster_utils import Cluster

    # actors know this file only by what is sent to them
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])

    head = {"num_cpus": 0, "node_ip_address": "127.0.0.1", "include_dashboard": False}
    nodes = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(2):
        nodes.add_node(num_cpus=1, node_ip_address="127.0.0.1")
    ray.init(address=nodes.address, log_to_driver=False, logging_level="ERROR")
    yield nodes
    ray.shutdown()
    nodes.shutdown()
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for i, count in enumerate([40, 9, 23, 3, 70, 12, 30, 16]):
        render(folder / "ab"[i % 2] / f"v{i}.mp4", range(count), gop=12, options=x264())
    (folder / "b" / "bad.mp4").write_text("no video")
    return folder


@pytest.fixture(scope="module")
def calm(rendered: Path, encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one machine makes of the videos."""
    output = tmp_path_factory.mktemp("calm") / "f.h5"
    report = extract(rendered, output, encoder, options=INLINE)
    assert [failure.path for failure in report.failures] == ["b/bad.mp4"]
    return output


def assert_same(path: Path, other: Path) -> None:
    """Equal but for rounding: other batches give other last digits."""
    mine, theirs = arrays_of(path), arrays_of(other)
    assert mine.keys() == theirs.keys()
    assert np.allclose(mine.pop("vectors"), theirs.pop("vectors"), rtol=1e-5, atol=1e-6)
    for name, values in mine.items():
        assert np.array_equal(values, theirs[name]), name
    with h5py.File(path) as one, h5py.File(other) as two:
        for name in ("encoder", "run_fingerprint", "source_root"):
            assert one.attrs[name] == two.attrs[name]


def test_a_machine_is_lost_and_the_file_is_the_same(
    cluster: Any,
    encoder: Encoder,
    rendered: Path,
    calm: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One machine takes a lease, writes its parts, and vanishes before it can say so."""
    from vidfeat.extraction.cluster.run import work_on_cluster

    doomed = cluster.add_node(num_cpus=1, node_ip_address="127.0.0.1")
    node, written = doomed.node_id, tmp_path / "written"

    class Doomed(LeaseWorker):
        def work(self, lease: Lease) -> Iterator[Update | Done | Problem]:
            import ray

            if ray.get_runtime_context().get_node_id() != node:
                while not written.exists():
                    time.sleep(0.05)
                yield from super().work(lease)
                return
            for answer in super().work(lease):
                if isinstance(answer, Done):
                    written.touch()
                    time.sleep(600)
                yield answer

    monkeypatch.setattr("vidfeat.extraction.cluster.driver.LeaseWorker", Doomed)
    said: list[ExtractProgress] = []
    killed = threading.Event()

    def progress(state: ExtractProgress) -> None:
        said.append(state)
        if written.exists() and not killed.is_set():
            killed.set()
            cluster.remove_node(doomed, allow_graceful=False)

    output = tmp_path / "out" / "f.h5"
    report = extract(
        rendered, output, encoder, options=INLINE, progress=progress, work=work_on_cluster(encoder)
    )
    assert killed.is_set()
    assert_same(output, calm)
    assert report.engine["actors_lost"] == report.engine["leased_again"] == 1
    assert any("1 process of the cluster died" in note for note in report.notes)
    assert [failure.path for failure in report.failures] == ["b/bad.mp4"]
    assert (said[-1].videos_done, said[-1].failures) == (9, 1)
    assert report.clips_encoded == report.clips == said[-1].clips_done
    assert report.to_dict()["engine"]["leases"] > 3
    assert [path.name for path in output.parent.iterdir()] == ["f.h5"]
    _wait_until_dead(node)  # until then, actors of the next test might be sent there


def _wait_until_dead(node: str, limit_seconds: float = 120.0) -> None:
    """Until Ray has noticed that a machine is gone, which its lost actors say sooner."""
    import ray

    deadline = time.monotonic() + limit_seconds
    while any(known["NodeID"] == node and known["Alive"] for known in ray.nodes()):
        assert time.monotonic() < deadline, "Ray still takes a killed node for alive"
        time.sleep(0.1)


def test_stopped_and_gone_on_with_by_the_command_line(
    cluster: Any, encoder: Encoder, rendered: Path, calm: Path, tmp_path: Path
) -> None:
    from vidfeat.extraction.cluster.run import work_on_cluster

    def stop(state: ExtractProgress) -> None:
        if state.videos_done > 2:
            raise KeyboardInterrupt

    output = tmp_path / "f.h5"
    with pytest.raises(KeyboardInterrupt):
        extract(
            rendered, output, encoder, options=INLINE, progress=stop, work=work_on_cluster(encoder)
        )
    assert list((tmp_path / "f.h5.parts").glob("*.part"))
    assert not list((tmp_path / "f.h5.parts").glob("*.token"))
    words = f"extract {rendered} -o {output} --engine ray --address {cluster.address} --workers 0"
    network = f"--model {MODEL} --weights random --clip-frames 4 --batch-size 4"
    stats = tmp_path / "stats.json"
    told = CliRunner().invoke(
        cli, [*words.split(), *network.split(), "--stats", str(stats)], standalone_mode=False
    )
    assert told.return_value == 1, told.output  # the bad file
    assert_same(output, calm)
    figures = json.loads(stats.read_bytes())
    assert figures["videos_reused"] > 0
    assert figures["clips_reused"] + figures["clips_encoded"] == figures["clips_in_file"]


def test_a_run_that_is_told_to_end_keeps_what_is_finished(
    cluster: Any,
    encoder: Encoder,
    rendered: Path,
    calm: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from vidfeat.extraction.cluster.run import work_on_cluster

    class Patient(LeaseWorker):
        """Begins the longest video when the run is told to end: none is too quick for that."""

        def work(self, lease: Lease) -> Iterator[Update | Done | Problem]:
            told = stop_file(Path(self._errand.folder), self._errand.token)
            while "a/v4.mp4" in names(lease) and not told.exists():
                time.sleep(0.05)
            yield from super().work(lease)

    monkeypatch.setattr("vidfeat.extraction.cluster.driver.LeaseWorker", Patient)
    stop = Stop()

    def progress(state: ExtractProgress) -> None:
        if state.videos_done > 2:
            stop.ask(signal.SIGTERM)

    output = tmp_path / "f.h5"
    with pytest.raises(StoppedError, match=r"[1-9] whole videos?") as told:
        extract(
            rendered,
            output,
            encoder,
            options=INLINE,
            progress=progress,
            stop=stop,
            work=work_on_cluster(encoder),
        )
    assert told.value.signal_number == signal.SIGTERM
    assert not [path for path in (tmp_path / "f.h5.parts").iterdir() if "token" in path.name]
    report = extract(rendered, output, encoder, options=INLINE)
    assert 0 < report.clips_encoded < report.clips
    assert_same(output, calm)


def test_a_video_that_ends_its_actors_is_left_out(
    cluster: Any,
    encoder: Encoder,
    rendered: Path,
    calm: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from vidfeat.extraction.cluster.run import work_on_cluster

    class Deadly(LeaseWorker):
        def work(self, lease: Lease) -> Iterator[Update | Done | Problem]:
            if "a/v2.mp4" in names(lease):
                os._exit(1)
            yield from super().work(lease)

    monkeypatch.setattr("vidfeat.extraction.cluster.driver.LeaseWorker", Deadly)
    monkeypatch.setattr("vidfeat.extraction.cluster.driver._NODE_SECONDS", 0.3)
    output = tmp_path / "f.h5"
    report = extract(rendered, output, encoder, options=INLINE, work=work_on_cluster(encoder))
    kinds = {failure.path: failure.kind for failure in report.failures}
    assert kinds == {"a/v2.mp4": "crashed", "b/bad.mp4": "not_video"}
    assert report.engine["actors_lost"] == 3
    with FeatureStore(output) as store, FeatureStore(calm) as whole:
        assert store.paths == [path for path in whole.paths if path != "a/v2.mp4"]
        for path in store.paths:
            mine, theirs = store.read(path).vectors, whole.read(path).vectors
            assert np.allclose(mine, theirs, rtol=1e-5, atol=1e-6)
    # tried once more, as it may have been the machine's fault: not on this one
    again = extract(rendered, output, encoder, options=INLINE)
    assert [failure.path for failure in again.failures] == ["b/bad.mp4"]
    assert_same(output, calm)
