"""The extraction engine against the usual script, against its own network, and against itself.

    python tests/bench/bench_extract.py [--only NAME] [--rounds N] [--folder DIR]

"The usual script" reads a whole video with PyAV, puts every frame through torchvision's preset and
runs torchvision's ``r2plus1d_18`` one clip at a time. All figures are ratios within one run; the
candidates alternate, and medians are compared. Videos come from ../shared/data; long ones are
rendered.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from vidfeat.encoders.encoder import Encoder

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
ROUNDS = 2


class Row(NamedTuple):
    """One line of the table."""

    name: str
    figure: float
    target: str


def videos() -> list[Path]:
    """The real videos."""
    return sorted(p for p in (DATA / "videos").iterdir() if p.suffix in {".mp4", ".avi"})


def kinetics() -> list[Path]:
    """The real videos from Kinetics."""
    return [path for path in videos() if path.suffix == ".mp4"]


def cpu_seconds() -> float:
    """CPU time of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def take_turns(works: dict[str, Callable[[], float]], rounds: int = ROUNDS) -> dict[str, float]:
    """Run the works in turn for some rounds; the median of what each returns."""
    found: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            found[name].append(work())
    return {name: statistics.median(values) for name, values in found.items()}


# -- decoding and preprocessing --------------------------------------------------------------------


def per_frame(read: Callable[[Path], int]) -> Callable[[], float]:
    """A function that measures CPU seconds per frame over the Kinetics files."""

    def work() -> float:
        began = cpu_seconds()
        frames = sum(read(path) for path in kinetics())
        return (cpu_seconds() - began) / frames

    return work


def ours(path: Path) -> int:
    """Decode and preprocess every frame exactly, with vidfeat."""
    from vidfeat.video.frame_preprocessor import FramePreprocessor
    from vidfeat.video.preprocess import Preprocess
    from vidfeat.video.reader import open_video

    preprocessor = FramePreprocessor(Preprocess())
    count = 0
    with open_video(path) as video:
        for _, frame in video.frames(range(video.info.num_frames)):
            preprocessor.frame(frame)
            count += 1
    return count


def script(path: Path) -> int:
    """Decode every frame with PyAV and apply torchvision's preset, as scripts do."""
    import av
    import torch
    from torchvision.models.video import R2Plus1D_18_Weights

    preset = R2Plus1D_18_Weights.KINETICS400_V1.transforms()
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    preset(torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2))
    return len(frames)


def alone(path: Path) -> int:
    """Only decode every frame."""
    import av

    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "NONE"
        return sum(1 for _ in container.decode(video=0))


def with_decord(path: Path) -> int:
    """decord with its own resize, which is not the preset's."""
    import decord

    reader = decord.VideoReader(str(path), width=171, height=128, num_threads=1)
    return len(reader.get_batch(range(len(reader))).asnumpy())


def with_torchcodec(path: Path) -> int:
    """torchcodec with its own resize, which is not the preset's."""
    from torchcodec.decoders import VideoDecoder
    from torchcodec.transforms import Resize

    decoder = VideoDecoder(str(path), transforms=[Resize((128, 171))], num_ffmpeg_threads=1)
    return len(decoder[:])


READERS = {
    "ours": ours,
    "script": script,
    "decode": alone,
    "decord": with_decord,
    "torchcodec": with_torchcodec,
}


def by_itself(name: str) -> Callable[[], float]:
    """A function that measures CPU seconds per frame of a reader in a fresh process.

    In one process they disturb each other: threads that torch and torchcodec leave behind keep
    spinning for a while, and their time is counted for the next reader.
    """

    def work() -> float:
        command = [sys.executable, __file__, "--reader", name]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return float(done.stdout)

    return work


def decoding() -> list[Row]:
    """Measure frames per CPU second."""
    works = {name: by_itself(name) for name in ("ours", "script", "decode")}
    rows: list[Row] = []
    for name in ("decord", "torchcodec"):
        try:
            READERS[name](kinetics()[0])
        except Exception as error:  # not installed, or no FFmpeg library that it supports
            rows.append(Row(f"{name}: not measured ({type(error).__name__})", float("nan"), ""))
        else:
            works[name] = by_itself(name)
    took = take_turns(works, 5)
    rows = [
        Row("decode + exact preprocess, frames/CPU s: vidfeat", 1 / took["ours"], ""),
        Row("the same: decoding alone", 1 / took["decode"], ""),
        Row("against to_ndarray + preset, x", took["script"] / took["ours"], ">= 2.5"),
        *rows,
    ]
    for name in ("decord", "torchcodec"):
        if name in took:
            target = ">= 1.0"
            rows.append(Row(f"against {name}, x", took[name] / took["ours"], target))
    return rows


# -- folder to features ----------------------------------------------------------------------------


def reference_network() -> object:
    """torchvision's r2plus1d_18 with seeded weights, without its classifier."""
    import torch
    from torchvision.models.video import r2plus1d_18

    torch.manual_seed(0)
    network = r2plus1d_18().eval()
    network.fc = torch.nn.Identity()
    return network


def by_script(paths: list[Path], plan: Callable[[int], list[int]], network: object) -> int:
    """Run the usual script over a list of videos; returns the number of clips."""
    import av
    import torch
    from torchvision.models.video import R2Plus1D_18_Weights

    preset = R2Plus1D_18_Weights.KINETICS400_V1.transforms()
    clips = 0
    with torch.inference_mode():
        for path in paths:
            with av.open(str(path), metadata_errors="replace") as container:
                frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
            video = preset(torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2))
            for start in plan(len(frames)):
                index = [min(start + i, len(frames) - 1) for i in range(16)]
                network(video[:, index].unsqueeze(0))  # type: ignore[operator]
                clips += 1
    return clips


def dense(frames: int) -> list[int]:
    """Starts of adjacent windows, and of one that ends with the video."""
    starts = list(range(0, max(1, frames - 15), 16))
    return starts if frames <= 16 or starts[-1] == frames - 16 else [*starts, frames - 16]


def middle(frames: int) -> list[int]:
    """One clip from the middle."""
    return [max(0, frames - 16) // 2]


def by_vidfeat(
    paths: list[Path], whole: Path, folder: Path, weights: str, **plan: object
) -> dict[str, float]:
    """Run extract() over a list of videos with the engine that the command chooses."""
    from vidfeat.encoders.load import load_encoder
    from vidfeat.extraction.engine_choice import clips_at_least, with_quickest_engine
    from vidfeat.extraction.options import ExtractOptions
    from vidfeat.extraction.run import extract
    from vidfeat.video.listing import list_videos
    from vidfeat.video.plan_choice import PlanChoice

    began = time.monotonic()
    choice = PlanChoice(fps="native", **plan)  # type: ignore[arg-type]
    model = "r2plus1d_18" if weights == "random" else None
    encoder = load_encoder(model, weights, plan=choice, device="cpu")
    # The command's choice for the whole folder, of which the fights here are a sample.
    encoder = with_quickest_engine(encoder, clips_at_least(list_videos([whole]), encoder))
    start = time.monotonic() - began
    # The machine's speed drifts by more than the difference: measure before and after, average.
    before = batch_alone(encoder)
    began = time.monotonic()
    report = extract(paths, folder / "f.h5", encoder, options=ExtractOptions(overwrite=True))
    seconds = time.monotonic() - began
    batch = (before + batch_alone(encoder)) / 2
    return {
        "start": start,
        "seconds": seconds,
        "clips": report.clips,
        "network": batch * -(-report.clips // encoder.batch_size),
        "openvino": encoder.engine.name == "openvino",
    }


def batch_alone(encoder: Encoder, batches: int = 6) -> float:
    """Wall seconds of the network over one batch of the run's size."""
    batch = np.random.default_rng(0).integers(
        0, 256, (encoder.batch_size, 16, 112, 112, 3), np.uint8
    )
    encoder.engine.embed(batch)
    began = time.monotonic()
    for _ in range(batches):
        encoder.engine.embed(batch)
    return (time.monotonic() - began) / batches


FIGHTS = 30


def child(kind: str, material: str, weights: str, folder: Path) -> dict[str, float]:
    """Run one contender over one set of videos, in this process."""
    if material == "dense":
        paths, laid = videos(), dense
    else:
        paths, laid = sorted((DATA / "fights").glob("*/*.mp4")), middle
        paths = paths[:: max(1, len(paths) // FIGHTS)][:FIGHTS]
    if kind == "vidfeat":
        if material == "dense":
            return by_vidfeat(paths, DATA / "videos", folder, weights)
        return by_vidfeat(paths, DATA / "fights", folder, weights, clips=1)
    began = time.monotonic()
    network = reference_network()
    ready = time.monotonic()
    clips = by_script(paths, laid, network)
    return {"start": ready - began, "seconds": time.monotonic() - ready, "clips": clips}


def in_turn(
    ways: dict[str, tuple[str, str, str]], folder: Path, rounds: int
) -> dict[str, dict[str, float]]:
    """Run children in turn for some rounds; medians of what each reports.

    Each runs in a separate process, since a script does not have the allocator that vidfeat sets.
    Starting it and loading the network are not counted for any of them.
    """
    told: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            done = subprocess.run(
                [sys.executable, __file__, "--child", *way, "--folder", str(folder)],
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            told[name].append(json.loads(done.stdout.splitlines()[-1]))
            print(f"  ({name}: {told[name][-1]})", file=sys.stderr, flush=True)
    return {
        name: {key: statistics.median(one[key] for one in all_of) for key in all_of[0]}
        for name, all_of in told.items()
    }


def dense_features(folder: Path, rounds: int, net: Path | None) -> list[Row]:
    """Dense clips over the real files, in fp32 and, if there is a quantised network, in int8."""
    ways = {
        "script": ("script", "dense", "random"),
        "vidfeat": ("vidfeat", "dense", "random"),
    }
    if net is not None:
        ways["int8"] = ("vidfeat", "dense", str(net))
    told = in_turn(ways, folder, rounds)
    script, vidfeat = told["script"], told["vidfeat"]
    engine = "OpenVINO" if vidfeat["openvino"] else "torch"
    rows = [
        Row(f"clips/s, dense, fp32, {engine}", vidfeat["clips"] / vidfeat["seconds"], ""),
        Row("seconds to load the network; of the script", script["start"], ""),
        Row("  and of vidfeat, once a run", vidfeat["start"], ""),
        Row(
            "folder to features / network alone, wall",
            vidfeat["seconds"] / vidfeat["network"],
            "<= 1.10",
        ),
        Row("against the usual script, dense, x", script["seconds"] / vidfeat["seconds"], ">= 1.2"),
    ]
    if net is not None:
        figure = script["seconds"] / told["int8"]["seconds"]
        rows.append(Row("the same with int8, quantised beforehand, x", figure, ">= 2.5"))
    return rows


def one_clip(folder: Path, rounds: int) -> list[Row]:
    """One clip per video over the fights."""
    told = in_turn(
        {name: (name, "one", "random") for name in ("script", "vidfeat")}, folder, rounds
    )
    engine = "OpenVINO" if told["vidfeat"]["openvino"] else "torch"
    ratio = told["script"]["seconds"] / told["vidfeat"]["seconds"]
    return [
        Row(f"one clip a video ({FIGHTS} fights, {engine}) against the script, x", ratio, ">= 2"),
        Row("  once a run: seconds to load and make the network", told["vidfeat"]["start"], ""),
    ]


def quantised(folder: Path) -> Path | None:
    """A network quantised on clips of the fights; None without OpenVINO."""
    from vidfeat.encoders.choice import EncoderChoice
    from vidfeat.encoders.int8.quantize import CalibrationOptions, quantise
    from vidfeat.errors import MissingExtraError
    from vidfeat.video.listing import list_videos

    net = folder / "net"
    try:
        quantise(
            EncoderChoice("r2plus1d_18", "random"),
            list_videos([DATA / "fights"]).videos,
            net,
            calibration=CalibrationOptions(16, 0),
        )
    except MissingExtraError:
        return None
    return net


# -- long videos -----------------------------------------------------------------------------------


def render_minute(path: Path, rate: int = 30) -> Path:
    """A minute of a drifting texture, x264 with its default key frames, 320 x 240."""
    import av

    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    wall = np.kron(noise, np.ones((16, 16, 1), np.uint8))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for i in range(60 * rate):
            x, y = i * 3 % 320, i % 240
            frame = av.VideoFrame.from_ndarray(
                np.ascontiguousarray(wall[y : y + 240, x : x + 320]), format="rgb24"
            )
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def decode_seconds(path: Path, plan: object, workers: int) -> float:
    """Wall seconds of decoding and preprocessing all clips of a plan."""
    from vidfeat.video.clips import Clip
    from vidfeat.video.decode.pool import DecodePool
    from vidfeat.video.decode.tasks import ClipSource, VideoTask
    from vidfeat.video.preprocess import Preprocess

    with DecodePool(ClipSource(plan, Preprocess()), workers) as pool:  # type: ignore[arg-type]
        for _ in pool.run([VideoTask(str(path), probe_only=True)] * workers):
            pass  # until the processes are up
        began = time.monotonic()
        for _, event in pool.run([VideoTask(str(path))]):
            if isinstance(event, Clip):
                event.release()
        return time.monotonic() - began


MEMORY = """
import sys
from vidfeat.cli import main
sys.argv = ["vidfeat", "extract", sys.argv[1], "-o", sys.argv[2], "--model", "r2plus1d_10_w16",
            "--weights", "random", "--fps", "4", "--overwrite"]
try:
    main()
except SystemExit:
    pass
import resource
own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(own, children)
"""


def peak_memory(path: Path, output: Path) -> float:
    """Largest resident set of the main process plus that of the largest decode process, MB."""
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(path), str(output)],
        capture_output=True,
        text=True,
        check=True,
    )
    return sum(map(int, done.stdout.split()[-2:])) / 1024


def long_videos(folder: Path) -> list[Row]:
    """Seeking, several processes on one film, memory."""
    from tests.support.video_assets import repeat_video
    from vidfeat.video.clip_plan import ClipPlan

    minute = render_minute(folder / "1.mp4")
    short, twenty, film = (repeat_video(minute, folder / f"{n}.mp4", n) for n in (3, 20, 30))
    sparse = take_turns(
        {
            "all": lambda: decode_seconds(twenty, ClipPlan(), 1),
            "ten": lambda: decode_seconds(twenty, ClipPlan(clips=10), 1),
        },
        1,
    )
    shared = take_turns(
        {
            "one": lambda: decode_seconds(film, ClipPlan(), 1),
            "two": lambda: decode_seconds(film, ClipPlan(), 2),
        },
        2,
    )
    memory = [peak_memory(path, folder / "m.h5") for path in (short, film)]
    return [
        Row(
            "10 uniform clips of 20 minutes against all of it, x",
            sparse["all"] / sparse["ten"],
            ">= 5",
        ),
        Row("a 30-minute video on 2 workers against 1, x", shared["one"] / shared["two"], ">= 1.7"),
        Row("peak memory, 3-minute video, MB", memory[0], ""),
        Row("peak memory, 30 minutes / 3 minutes", memory[1] / memory[0], "<= 1.1"),
    ]


def main(arguments: list[str] | None = None) -> list[Row]:
    """Run all and return the rows of the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=["decoding", "dense", "one", "long"])
    parser.add_argument("--folder", type=Path, help="for rendered videos and outputs")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--net", type=Path, help="a quantised network; without, one is made")
    parser.add_argument("--reader", choices=list(READERS), help=argparse.SUPPRESS)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.reader:
        read = READERS[given.reader]
        read(kinetics()[0])  # libraries are loaded
        print(per_frame(read)())
        return []
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        if given.child:
            print(json.dumps(child(*given.child, folder)))
            return []
        if given.only in (None, "decoding"):
            rows += decoding()
        if given.only in (None, "dense"):
            rows += dense_features(folder, given.rounds, given.net or quantised(folder))
        if given.only in (None, "one"):
            rows += one_clip(folder, given.rounds)
        if given.only in (None, "long"):
            rows += long_videos(folder)
    return rows


if __name__ == "__main__":
    for row in main(sys.argv[1:]):
        print(f"{row.name:60} {row.figure:10.3f}   {row.target}")
