"""``vidfeat extract``: a folder of videos to a feature file."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vidfeat.cli.options import (
    HELP_NAMES,
    OutputPath,
    apply_layout_plan,
    decode_options,
    encoder_choice,
    feature_options,
    layout_names,
    limit_options,
    limits_of,
    make_encoder,
    network_options,
    plan_options,
)

if TYPE_CHECKING:
    from vidfeat.extraction.cluster.options import ClusterOptions
    from vidfeat.extraction.options import ExtractOptions
    from vidfeat.system.callbacks import Progress, Report
    from vidfeat.video.listing import Listing


# Ratio of the most clips to the fewest that a file size suggests: security footage compresses well.
_MOST_TO_LEAST = 200


@click.command(
    "extract",
    context_settings=HELP_NAMES,
    epilog="Example: vidfeat extract videos/ -o features.h5 --clips 10",
)
@click.argument("paths", nargs=-1, type=click.Path(path_type=str), metavar="PATH...")
@click.option("-o", "--output", type=OutputPath(), required=True, help="The feature file (HDF5).")
@click.option(
    "--list",
    "list_file",
    metavar="FILE",
    help="File of paths or URLs, one per line; - is standard input.",
)
@click.option("--list0", "list0_file", metavar="FILE", help="The same, separated by NUL.")
@click.option(
    "--root", type=click.Path(), help="Folder or URL that the stored paths are relative to."
)
@click.option(
    "--segments",
    type=click.Path(),
    help="CSV (path,start_seconds,end_seconds): embed only these segments.",
)
@click.option(
    "--clips-by",
    type=click.Choice(["shots"]),
    help="Lay clips over each shot, so that none crosses a cut; the shots are kept next to the "
    "output, in OUTPUT.shots.csv.",
)
@network_options()
@feature_options()
@plan_options()
@click.option(
    "--layout-plan",
    type=click.Choice(layout_names()),
    help="Lay clips out as export-features --layout NAME needs them; other options override it.",
)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "float16"]),
    default="float32",
    show_default=True,
    help="Type of the stored vectors.",
)
@click.option(
    "--devices", metavar="0,1", help="Use several GPUs: one process with the network on each."
)
@click.option(
    "--address",
    metavar="auto|local|HOST:PORT",
    help="With --engine ray: address of the Ray cluster.  [default: auto, this machine's]",
)
@click.option("--actor-cpus", type=int, help="With --engine ray: processors per actor.")
@decode_options()
@limit_options()
@click.option(
    "--decoder",
    type=click.Choice(["cpu", "nvdec"]),
    default="cpu",
    show_default=True,
    help="Decode on the CPU, or on the CPU and the NVIDIA GPU's video decoders.",
)
@click.option(
    "--nvdec-processes",
    type=int,
    default=6,
    show_default=True,
    help="With --decoder nvdec: processes that feed each GPU's decoders.",
)
@click.option(
    "--buffer-mb", type=float, help="Memory for clips decoded ahead.  [default: 32 per process]"
)
@click.option("--shard", metavar="K/N", help="Extract only shard K of N.")
@click.option("--retry-errors", is_flag=True, help="Retry unchanged files that failed before.")
@click.option("--overwrite", is_flag=True, help="Start again, even if the output exists.")
@click.option("--dry-run", is_flag=True, help="Show what there is to do and how long it may take.")
@click.option("--quiet", is_flag=True, help="Print only failures.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per event.")
@click.option(
    "--stats", "stats_file", type=OutputPath(), help="Write statistics of the run as JSON."
)
@click.pass_context
def command(ctx: click.Context, /, **values: Any) -> int:
    """Write the embeddings of all clips of the videos to an HDF5 file.

    PATH is a file or URL, or a folder or prefix (s3://bucket/prefix) that is searched recursively.
    The same command resumes an interrupted run: finished videos are not read again.
    """
    from vidfeat.cli.extract_output import Events, say_summary, shown
    from vidfeat.encoders.encoder import Encoder
    from vidfeat.extraction.engine_choice import (
        clips_at_least,
        precision_begun,
        resume_execution,
        with_quickest_engine,
    )
    from vidfeat.extraction.options import ExtractOptions
    from vidfeat.extraction.run import check_output, extract, lacking_bytes
    from vidfeat.extraction.stopping import stop_on_signals
    from vidfeat.store.parts import parts_folder
    from vidfeat.video.listing import list_videos, parse_shard, read_list

    apply_layout_plan(values, values.pop("layout_plan"))
    paths = list(values.pop("paths"))
    listed: list[str] = []
    for name, separator in (("list_file", b"\n"), ("list0_file", b"\0")):
        source = values.pop(name)
        if source is not None:
            listed += read_list(source, separator)
    if not paths and not listed and (values["segments"] is None or values["root"] is None):
        raise click.UsageError("no videos were given: name folders or files, or --list FILE", ctx)
    shard, buffer_mb = values.pop("shard"), values.pop("buffer_mb")
    options = ExtractOptions(
        workers=values.pop("workers"),
        buffer_bytes=None if buffer_mb is None else int(buffer_mb * (1 << 20)),
        video_timeout=values.pop("video_timeout"),
        limits=limits_of(values),
        dtype=values.pop("dtype"),
        shard=None if shard is None else parse_shard(shard),
        cards=_cards(values),
        processes_per_card=values.pop("nvdec_processes"),
        retry_errors=values.pop("retry_errors"),
        overwrite=values.pop("overwrite"),
    )
    output: Path = values.pop("output")
    root, segments = values.pop("root"), values.pop("segments")
    clips_by = values.pop("clips_by")
    if clips_by is not None and (segments is not None or values["frames_fps"] is not None):
        other = "--segments" if segments is not None else "--frames-fps"
        raise click.UsageError(f"--clips-by and {other} exclude each other", ctx)
    dry_run, stats_file = values.pop("dry_run"), values.pop("stats_file")
    quiet, events = values.pop("quiet"), Events() if values.pop("as_json") else None

    def note(text: str) -> None:
        if events is not None:
            events.line(text)
        elif not quiet:
            click.echo(f"note: {text}", err=True)

    # Whatever is wrong with the command is reported before the network is loaded.
    listing = list_videos(
        paths, root, segments, listed=listed, frames=values["frames_fps"] is not None
    )
    check_output(output)
    if not dry_run and values["engine"] != "ray":
        _start_ahead(options, len(listing.videos), None if values["devices"] else values["device"])
    devices = values.pop("devices")
    if devices is not None:
        from vidfeat.encoders.engines.replicas import parse_devices

        devices = parse_devices(devices, values["device"])
        # This process decodes and writes, the replicas compute; the file describes the network as
        # a run on one of the devices would.
        values["device"] = "cpu" if "cpu" in devices else devices[0]
        values["batch_size"] = values["batch_size"] or (4 if "cpu" in devices else None)
    cluster = _cluster(values, devices)
    if values["precision"] == "int8":
        _quantise_first(values, output, listing, options, dry_run=dry_run)
    open_engine = values["engine"] is None
    recorded = None
    if not options.overwrite and (output.exists() or parts_folder(output).is_dir()):
        from vidfeat.encoders.engines.torch_engine import choose_device

        on_gpu = choose_device(values["device"]).type == "cuda"
        values["precision"], recorded = precision_begun(output, values["precision"], on_gpu=on_gpu)
    encoder: Encoder = make_encoder(values)
    if recorded is not None:
        encoder.spec = replace(encoder.spec, precision=recorded)
    if not options.overwrite:
        resume_execution(encoder, output)
    if clips_by is not None:
        from vidfeat.extraction.shots import by_shots

        listing = by_shots(
            listing, output, encoder.plan.fps, options=options, progress=_shots_progress(note)
        )
    if open_engine:
        # All shards must choose the same engine: each counts its share of the whole list.
        clips = clips_at_least(listing, encoder) // (options.shard or (1, 1))[1]
        begun = None if options.overwrite else output
        if devices is None:
            encoder = with_quickest_engine(encoder, clips, begun)
    for text in encoder.spec.notes:
        note(text)
    own = listing if options.shard is None else listing.shard(*options.shard)
    if dry_run:
        from vidfeat.cli.extract_output import say_dry_run
        from vidfeat.extraction.dry_run import dry_run as estimate

        found = estimate(listing, encoder, options=options)
        if events is not None:
            events.write("dry_run", **asdict(found))
        else:
            say_dry_run(found)
        lacking = lacking_bytes(output, own, found.clips, encoder.dimension, options.dtype)
        _warn_of_disk(lacking, note)
        return 0
    # Most disks have room for far more than the minimum: then no video is probed beforehand.
    clips = _MOST_TO_LEAST * clips_at_least(own, encoder)
    if lacking_bytes(output, own, clips, encoder.dimension, options.dtype) > 0:
        from vidfeat.extraction.dry_run import clips_estimated

        clips = clips_estimated(own, encoder, options)
        lacking = lacking_bytes(output, own, clips, encoder.dimension, options.dtype)
        _warn_of_disk(lacking, note)
    work = None
    if cluster is not None:
        from vidfeat.extraction.cluster.run import work_on_cluster

        work = work_on_cluster(encoder, cluster)
    with ExitStack() as stack:
        if devices is not None:
            encoder.spread(devices)
            stack.callback(encoder.close)
        show = stack.enter_context(shown(quiet=quiet, events=events))
        report = extract(
            listing,
            output,
            encoder,
            segments=segments,
            options=options,
            progress=show,
            on_failure=show.failure,
            work=work,
            stop=stack.enter_context(stop_on_signals(show.line)),
        )
    if stats_file is not None:
        from vidfeat.system.files import write_json

        write_json(stats_file, report.to_dict())
    if events is not None:
        events.write("done", output=str(output), dimension=encoder.dimension, **report.to_dict())
    elif not quiet:
        say_summary(output, report, encoder)
    return 1 if report.failures else 0


def _shots_progress(note: Report) -> Progress:
    """A callback that reports the progress of the search for shots, every ten seconds."""
    said = time.monotonic()

    def progress(done: int, total: int | None) -> None:
        nonlocal said
        if done == total or time.monotonic() - said > 10:
            said = time.monotonic()
            note(f"searched {done:,} of {total:,} videos for shots")

    return progress


def _warn_of_disk(lacking: int, note: Report) -> None:
    """Warn before a run if its disk is too small."""
    if lacking > 0:
        from vidfeat.system.wording import size_text

        note(
            f"the disk of the output lacks {size_text(lacking)} that this run needs: make room, or "
            "the run will stop early"
        )


def _cards(values: dict[str, Any]) -> tuple[int, ...]:
    """Take the decoder out of the values; returns the numbers of the GPUs that decode.

    Raises:
        UsageError: there is none, or it is unclear which.
    """
    if values.pop("decoder") == "cpu":
        return ()
    from vidfeat.encoders.engines.replicas import parse_devices
    from vidfeat.errors import UsageError
    from vidfeat.video.nvcuvid import decoders_there

    if values["engine"] == "ray":
        raise UsageError("--decoder nvdec and --engine ray exclude each other")
    device, several = values["device"], values["devices"]
    devices = [device] if several is None else parse_devices(several, device)
    names = ["cuda" if name == "auto" else name for name in devices]
    if not all(name.split(":")[0] == "cuda" for name in names):
        raise UsageError(f"--decoder nvdec is for NVIDIA GPUs, not --device {device}")
    missing = decoders_there()
    if missing is not None:
        raise UsageError(
            f"--decoder nvdec: this machine has no video decoder of an NVIDIA GPU ({missing}); in "
            "a container, NVIDIA_DRIVER_CAPABILITIES must include video"
        )
    return tuple(sorted({int(name.partition(":")[2] or 0) for name in names}))


def _start_ahead(options: ExtractOptions, videos: int, device: str | None) -> None:
    """Start the decode processes and the CUDA context while torch is imported."""
    from vidfeat.system.cuda_context import begin_context
    from vidfeat.video.decode.processes import start_ahead

    start_ahead(min(options.num_workers, max(2, videos)))
    kind, _, index = (device or "cpu").partition(":")
    if kind in ("auto", "cuda") and (not index or index.isdigit()):
        begin_context(int(index or 0))


def _cluster(values: dict[str, Any], devices: Sequence[str] | None) -> ClusterOptions | None:
    """Take the options of ``--engine ray`` out of the values; None for another engine."""
    address, actor_cpus = values.pop("address"), values.pop("actor_cpus")
    if values["engine"] != "ray":
        if address is not None or actor_cpus is not None:
            raise click.UsageError("--address and --actor-cpus go with --engine ray")
        return None
    from vidfeat.extraction.cluster.run import ClusterOptions, import_ray

    if devices is not None:
        raise click.UsageError("--engine ray takes all GPUs of the cluster: leave --devices out")
    if values["precision"] == "int8":
        raise click.UsageError(
            "--engine ray runs torch, in fp32, fp16 or bf16: for int8 run --shard K/N on each "
            "machine and merge the files"
        )
    cluster = ClusterOptions(address or "auto", actor_cpus, values["device"])
    import_ray(cluster.address)
    # The description names what computes, which is not this process.
    values["engine"], values["device"] = "torch", "cpu"
    return cluster


def _quantise_first(
    values: dict[str, Any],
    output: Path,
    listing: Listing,
    options: ExtractOptions,
    *,
    dry_run: bool,
) -> None:
    """Unless --weights names a quantised network, use the one next to the output, or make it."""
    from vidfeat.encoders.engines import check_openvino
    from vidfeat.encoders.int8.folder import is_net
    from vidfeat.encoders.int8.quantize import beside, quantised_beside
    from vidfeat.errors import UsageError

    if is_net(values["weights"]):
        return
    if values["engine"] not in (None, "openvino"):
        raise UsageError(
            f"--precision int8 runs on --engine openvino, not {values['engine']}: leave --engine "
            "out"
        )
    device = values["device"]
    check_openvino("cpu" if device == "auto" else device, compiled=values["compiled"])
    if dry_run and not is_net(beside(output)):
        values |= {"precision": "fp32", "engine": "openvino"}
        click.echo("note: the run itself will quantise to int8; the estimate is for fp32", err=True)
        return
    values["weights"] = quantised_beside(
        output,
        encoder_choice(dict(values)),
        listing.videos,
        sharded=options.shard is not None,
        overwrite=options.overwrite,
        report=lambda line: click.echo(line, err=True),
    )
    values["model"] = None  # recorded in the quantised network
