"""``vidfeat prepare``: a dataset's videos re-encoded once for training."""

from __future__ import annotations

from pathlib import Path

import click

from vidfeat.cli.options import HELP_NAMES, OutputPath


@click.command(
    "prepare",
    context_settings=HELP_NAMES,
    epilog="Example: vidfeat prepare videos/ -o prepared/ --short-side 128",
)
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=OutputPath(), required=True, help="Output folder.")
@click.option(
    "--size", metavar="HxW", default="128x171", show_default=True, help="Height and width."
)
@click.option("--short-side", type=int, help="Keep the aspect ratio, with this short side.")
@click.option(
    "--key-every", default=12, show_default=True, help="Frames from one key frame to the next."
)
@click.option("--quality", default=18, show_default=True, help="x264's crf: lower is better.")
@click.option("--workers", type=int, help="Processes.  [default: one per processor]")
def command(
    dataset: Path,
    output: Path,
    size: str,
    short_side: int | None,
    key_every: int,
    quality: int,
    workers: int | None,
) -> int:
    """Re-encode all videos of a folder for training: small, silent, fast to seek.

    Names and lists are kept, so that the result has the layout of the dataset. The same command
    resumes an interrupted run.
    """
    from vidfeat.datasets.prepare import prepare
    from vidfeat.datasets.reencode import Encoding
    from vidfeat.errors import UsageError
    from vidfeat.system.wording import counted, size_text
    from vidfeat.training.distributed import cores_per_process

    if short_side is not None:
        numbers: tuple[int, ...] = (short_side,)
    else:
        texts = size.lower().split("x")
        if len(texts) != 2 or not all(text.isdigit() for text in texts):
            raise UsageError(f"--size is a height and a width, such as 128x171, not {size!r}")
        numbers = (int(texts[0]), int(texts[1]))

    def progress(done: int, total: int | None) -> None:
        if total and (done == total or done % max(1, total // 20) == 0):
            click.echo(f"prepare: {done}/{total} videos", err=True)

    report = prepare(
        dataset,
        output,
        Encoding(numbers, key_every, quality),
        workers=workers or cores_per_process(1),
        progress=progress,
        report=lambda line: click.echo(f"vidfeat: {line}", err=True),
    )
    click.echo(
        f"{counted(report.written, 'video')} written, {report.already_there:,} already there, "
        f"{len(report.failures):,} could not be read; {size_text(report.bytes_before)} became "
        f"{size_text(report.bytes_after)}; {counted(len(report.lists), 'list')} copied"
    )
    return 1 if report.failures else 0
