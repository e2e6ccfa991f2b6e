"""NVDEC by itself: frames per second, where the time of a file goes, equal planes.

``card`` is vidfeat's reader on the driver's interface, ``own`` and ``reused`` are PyAV's access to
the same decoders (a decoder for each file, or one for all), ``cpu`` is the reader on the CPU.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from checks import Context, Result, skipped

if TYPE_CHECKING:
    import av

ANNEX_B = {"h264": "h264_mp4toannexb", "hevc": "hevc_mp4toannexb"}


def accelerator() -> Any:
    from av.codec.hwaccel import HWAccel

    return HWAccel("cuda", "0", allow_software_fallback=False, options={"primary_ctx": "1"})


def open_on_card(path: Path) -> tuple[Any, Any]:
    """Open a file with a new decoder."""
    import av

    container = av.open(str(path), hwaccel=accelerator())
    return container, container.streams.video[0]


class Reused:
    """One decoder for all files of a codec: packets go in as an elementary stream."""

    def __init__(self) -> None:
        self.decoders: dict[str, Any] = {}

    def frames(self, path: Path) -> Any:
        import av
        from av.bitstream import BitStreamFilterContext

        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            codec = stream.codec_context.name
            codec = {"libdav1d": "av1"}.get(codec, codec)
            decoder = self.decoders.get(codec)
            if decoder is None:
                decoder = av.CodecContext.create(codec, "r", hwaccel=accelerator())
                decoder.thread_count = 1
                self.decoders[codec] = decoder
            filters = ANNEX_B.get(codec)
            change = BitStreamFilterContext(filters, stream) if filters else None
            for packet in container.demux(stream):
                if packet.size == 0:
                    continue
                for changed in change.filter(packet) if change else [packet]:
                    yield from decoder.decode(changed)
            yield from decoder.decode(None)
            decoder.flush_buffers()


class Ways:
    """The ways to decode a file, each as an iterator over its frames."""

    def __init__(self, mode: str) -> None:
        self.mode = mode
        self.reused = Reused()
        self.held: Any = None
        if mode == "card":
            from vidfeat.video.nvcuvid import Card

            self.held = Card(0)
        elif mode != "cpu":
            import av

            # keeps the CUDA context alive between files
            self.held = av.CodecContext.create("h264", "r", hwaccel=accelerator())

    def frames(self, path: Path) -> Any:
        if self.mode == "reused":
            yield from self.reused.frames(path)
        elif self.mode == "own":
            container, stream = open_on_card(path)
            with container:
                yield from container.decode(stream)
        else:
            from vidfeat.video import open_video
            from vidfeat.video.nvdec import open_video_on_card

            opened = open_video_on_card(path, self.held) if self.held else open_video(path)
            with opened as video:
                for _, frame in video.frames(range(video.info.num_frames)):
                    yield frame


def child(mode: str, files: list[Path]) -> dict[str, Any]:
    """Decode files one after another; returns figures of this process."""
    began = time.monotonic()
    ways = Ways(mode)
    ready = time.monotonic()
    frames = refused = 0
    first = rest = 0.0
    used = time.process_time()
    for path in files:
        at = time.monotonic()
        source = ways.frames(path)
        try:
            frames += next(source, None) is not None
            first += time.monotonic() - at
            at = time.monotonic()
            frames += sum(1 for _ in source)
        except Exception as error:
            refused += 1
            print(path.name, repr(error), file=sys.stderr)
        rest += time.monotonic() - at
    over = time.monotonic()
    count = max(1, len(files))
    return {
        "files": len(files),
        "frames": frames,
        "refused": refused,
        "context_seconds": ready - began,
        "seconds": over - ready,
        "first_frame_ms_per_file": 1e3 * first / count,
        "us_per_later_frame": 1e6 * rest / max(1, frames - len(files)),
        "processor_us_per_frame": 1e6 * (time.process_time() - used) / max(1, frames),
        "ready": ready,
        "over": over,
    }


def side_by_side(
    context: Context, mode: str, processes: int, threads: int, files: list[Path]
) -> dict[str, Any]:
    """Decode the files in several processes, each with some threads."""
    command = [sys.executable, __file__, mode, str(threads)]
    running = []
    for number in range(processes):
        share = [str(path) for path in files[number::processes]]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=context.scratch
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps(share))
        process.stdin.close()
        running.append(process)
    parts: list[dict[str, Any]] = []
    for process in running:
        assert process.stdout is not None
        parts += json.loads(process.stdout.read() or "[]")
        process.wait()
    if len(parts) < processes * threads:
        return {"failed": f"{len(parts)} of {processes * threads} came back"}
    seconds = max(part["over"] for part in parts) - min(part["ready"] for part in parts)
    found = {
        name: sum(part[name] for part in parts) / len(parts)
        for name in (
            "context_seconds",
            "refused",
            "first_frame_ms_per_file",
            "us_per_later_frame",
            "processor_us_per_frame",
        )
    }
    frames = sum(part["frames"] for part in parts)
    return {"frames_per_second": frames / seconds, "seconds": seconds, "frames": frames, **found}


def read_by_card(path: Path, card: Any) -> str:
    """Whether vidfeat's reader on the card gives FFmpeg's frames; otherwise its error."""
    from vidfeat.errors import VideoError
    from vidfeat.video import open_video
    from vidfeat.video.nvdec import Refused, open_video_on_card, same_samples

    try:
        with open_video(path) as plain:
            positions = range(plain.info.num_frames)
            expected = [frame for _, frame in plain.frames(positions)]
        with open_video_on_card(path, card) as video:
            for position, frame in video.frames(positions):
                if not same_samples(frame, expected[position]):
                    return f"OTHER SAMPLES in frame {position}"
    except Refused as why:
        return f"refused: {why}"
    except VideoError as error:
        return f"no video: {error}"
    return f"equal, {len(positions)} frames"


def planes_equal(path: Path) -> str:
    """Whether NVDEC's planes of a file are FFmpeg's, sample by sample; otherwise what differs."""
    import av
    import av.error
    import numpy as np

    try:
        with av.open(str(path)) as plain:
            expected = list(plain.decode(video=0))
        container, stream = open_on_card(path)
        if not stream.codec_context.is_hwaccel:
            return "not taken"
        with container:
            frames = list(container.decode(stream))
    except (av.error.FFmpegError, NotImplementedError) as error:
        return f"refused: {error}"[:100]
    if [frame.pts for frame in frames] != [frame.pts for frame in expected]:
        return f"{len(frames)} frames for {len(expected)}, or other times"
    for number, (frame, other) in enumerate(zip(frames, expected, strict=True)):
        why = frame_differs(frame, other)
        if why:
            return f"frame {number}: {why}"
    about = (frame.colorspace, frame.color_range, frame.rotation, frame.interlaced_frame)
    other_about = (other.colorspace, other.color_range, other.rotation, other.interlaced_frame)
    np.seterr(all="raise")
    note = "" if about == other_about else f" (but {about} for {other_about})"
    return f"equal, {frame.format.name}{note}"


def frame_differs(frame: av.VideoFrame, other: av.VideoFrame) -> str:
    """Compare NV12 or P010 with planar 4:2:0 of the same depth."""
    import numpy as np

    if (frame.width, frame.height) != (other.width, other.height):
        return f"{frame.width} x {frame.height} for {other.width} x {other.height}"
    if frame.format.name == other.format.name:
        return "" if np.array_equal(frame.to_ndarray(), other.to_ndarray()) else "other samples"
    pair = (frame.format.name, other.format.name)
    if pair not in {("nv12", "yuv420p"), ("nv12", "yuvj420p"), ("p010le", "yuv420p10le")}:
        return f"{pair[0]} for {pair[1]}"
    wide = pair[0] == "p010le"
    kind, shift = (np.dtype("<u2"), 6) if wide else (np.dtype("u1"), 0)

    def plane(source: av.VideoFrame, number: int, width: int) -> Any:
        held = source.planes[number]
        rows = np.frombuffer(held, kind).reshape(held.height, -1)
        return rows[:, :width]

    half = (other.width + 1) // 2
    chroma = plane(frame, 1, 2 * half) >> shift
    same = (
        np.array_equal(plane(frame, 0, frame.width) >> shift, plane(other, 0, other.width))
        and np.array_equal(chroma[:, 0::2], plane(other, 1, half))
        and np.array_equal(chroma[:, 1::2], plane(other, 2, half))
    )
    return "" if same else "other samples"


def measure(context: Context) -> Result:
    if not context.gpu:
        return skipped("no NVDEC without a GPU")
    from vidfeat.video.nvcuvid import Card

    files = sorted(context.files.iterdir())
    result: Result = {"by_card": {}, "by_pyav": {}}
    card = Card(0)
    folders = [context.pack / "made", context.pack / "videos", context.pack / "clips"]
    paths = [p for folder in folders for p in sorted(folder.glob("*.*"))]
    for path in paths:
        result["by_card"][path.name] = read_by_card(path, card)
        print(path.name, result["by_card"][path.name], flush=True)
    for path in paths[:-50]:
        result["by_pyav"][path.name] = planes_equal(path)
        print(path.name, "through PyAV:", result["by_pyav"][path.name], flush=True)
    for mode, processes, threads, count in (
        ("cpu", 1, 1, 32),
        ("card", 1, 1, 64),
        ("own", 1, 1, 64),
        ("reused", 1, 1, 64),
        ("cpu", 16, 1, 1280),
        ("card", 4, 1, 512),
        ("card", 6, 1, 768),
        ("reused", 6, 1, 768),
        ("card", 12, 1, 1280),
    ):
        name = f"{mode}-{processes}x{threads}"
        result[name] = side_by_side(context, mode, processes, threads, files[:count])
        print(name, json.dumps(result[name]), flush=True)
    busy = subprocess.Popen(
        [sys.executable, __file__, "busy", "0"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    try:
        assert busy.stdout is not None
        busy.stdout.readline()  # wait until it works
        for mode, processes, threads in (("card", 6, 1), ("card", 2, 4), ("reused", 6, 1)):
            name = f"{mode}-{processes}x{threads}-busy-card"
            result[name] = side_by_side(context, mode, processes, threads, files[:512])
            print(name, json.dumps(result[name]), flush=True)
    finally:
        busy.kill()
        busy.wait()
        busy.stdout.close()
    wrong = [name for name, what in result["by_card"].items() if what.startswith("OTHER")]
    rates = {
        name: values["frames_per_second"]
        for name, values in result.items()
        if name.startswith("card") and "frames_per_second" in values
    }
    best = max(rates, key=lambda name: rates[name], default="")
    figure = f"{rates[best]:.0f} frames/s ({best})" if best else "nothing was decoded"
    equal = sum(what.startswith("equal") for what in result["by_card"].values())
    figure += f"; {equal} of {len(paths)} files taken"
    if wrong:
        figure += f"; {len(wrong)} files differ: {wrong[:3]}"
    return result | {"figure": figure, "ok": bool(best) and not wrong}


def keep_busy() -> None:
    """Run a network forever, to see what capacity is left for others."""
    import torch

    clips = torch.randn(64, 64, 112, 112, device="cuda", dtype=torch.float16)
    layer = torch.nn.Conv2d(64, 64, 3, padding=1).cuda().half()
    with torch.inference_mode():
        layer(clips)
        torch.cuda.synchronize()
        print("at work", flush=True)
        while True:
            for _ in range(50):
                layer(clips)
            torch.cuda.synchronize()


def main() -> None:
    mode, threads = sys.argv[1], int(sys.argv[2])
    if mode == "busy":
        keep_busy()
        return
    files = [Path(path) for path in json.load(sys.stdin)]
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(threads) as threads_pool:
        shares = [files[k::threads] for k in range(threads)]
        found = list(threads_pool.map(lambda share: child(mode, share), shares))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
