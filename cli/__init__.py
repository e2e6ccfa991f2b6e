"""The command line: a thin layer over the library, loaded one command at a time.

``vidfeat --help`` reads the table below and nothing else: a command's module is imported when the
command is called, and the library when its work begins.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys
from importlib import import_module

import click

# name -> (module, the line that `vidfeat --help` shows), in the order of a first visit
COMMANDS: dict[str, tuple[str, str]] = {
    "extract": ("extract", "Write the clip embeddings of videos to an HDF5 file."),
    "info": ("info", "Show what is in a file: a video, features, weights, an index."),
    "index": ("index", "Build a search index of features, add to it, remove from it."),
    "search": ("search", "Find videos like a query, and the matching segments."),
    "push": ("push", "Write features to LanceDB or Milvus, for search beyond one machine."),
    "duplicates": ("duplicates", "List near copies among the videos of an index."),
    "evaluate-retrieval": ("evaluate_retrieval", "Measure retrieval by the literature's protocol."),
    "serve": ("serve", "Open an index in the browser: search, play, teach."),
    "demo": ("demo", "Render a few videos and run the whole tour on them."),
    "models": ("models", "List the networks, their sizes and their embeddings."),
    "weights": ("weights", "List, download and convert trained weights."),
    "export": ("export", "Write a network as ONNX or OpenVINO, checked against torch."),
    "finetune": ("finetune", "Train a classifier on a feature file and report on it."),
    "classify": ("classify", "Classify videos: with the network's classes, or with a head."),
    "train": ("train", "Train a network by a recipe, or fine-tune one."),
    "evaluate": ("evaluate", "Measure a network by the paper's protocol; fuse two streams."),
    "prepare": ("prepare", "Re-encode a dataset's videos once for training."),
    "plot": ("plot", "Draw the curves of a training run."),
    "merge": ("merge", "Merge the feature files of shards into one."),
    "join": ("join", "Join the features of several networks side by side."),
    "export-features": (
        "export_features",
        "Write features as npy files, as parquet, or in another tool's layout.",
    ),
}


class LazyGroup(click.Group):
    """A group that knows its commands by name and imports each on first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import the command's module and return its command."""
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"vidfeat.cli.{COMMANDS[cmd_name][0]}")
        from vidfeat.cli.options import with_make_parents

        command = module.command
        assert isinstance(command, click.Command)
        return with_make_parents(command)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Resolve a command; for an unknown name, suggest the nearest or list all."""
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            import difflib

            close = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(COMMANDS)}"
            raise click.UsageError(f"no command {args[0]!r}: {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Show the table without importing a single command."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(
    cls=LazyGroup,
    invoke_without_command=True,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: vidfeat extract videos/ -o features.h5",
)
@click.option("--version", "show_version", is_flag=True, help="Show the version and exit.")
@click.option(
    "--verbose",
    is_flag=True,
    help="With --version: also the versions of torch, FFmpeg, CUDA and the engines, and a check of "
    "the bundled network's output on this machine.",
)
@click.pass_context
def cli(ctx: click.Context, *, show_version: bool, verbose: bool) -> None:
    """Video features and transfer learning: extract, fine-tune, search."""
    if verbose and not show_version:
        raise click.UsageError("--verbose goes with --version", ctx)
    if show_version:
        from vidfeat.version import __version__

        click.echo(f"vidfeat {__version__}")
        status = 0
        if verbose:
            from vidfeat.cli.versions import show_versions

            status = show_versions()
        ctx.exit(status)


def main() -> None:
    """Run the command line; errors that a user can fix become one line and exit status 2."""
    from vidfeat.errors import StoppedError, VidfeatError

    _escape_what_cannot_be_shown()
    try:
        status = cli.main(standalone_mode=False)
    except click.exceptions.Abort:
        _fail("stopped", 130)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except StoppedError as error:
        _fail(str(error), 128 + error.signal_number)
    except VidfeatError as error:
        from vidfeat.cli.flags import with_flags

        message = with_flags(str(error), error.fields, _running())
        path = getattr(error, "path", "")
        _fail(f"{path}: {message}" if path and path not in message else message, 2)
    except KeyboardInterrupt:
        _fail("stopped", 130)
    except BrokenPipeError:
        # The reader of our output (head, less) is gone: not an error, and the interpreter must not
        # fail again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        _fail(f"{where}{error.strerror or error}{': make room and try again' if full else ''}", 2)
    sys.exit(status if isinstance(status, int) else 0)


def _escape_what_cannot_be_shown() -> None:
    r"""Write letters that the terminal's encoding lacks as ``\uXXXX`` instead of failing.

    Letters beyond the first 65,536 become two such escapes, as in JSON.
    """

    def escape(error: UnicodeError) -> tuple[str, int]:
        if not isinstance(error, UnicodeEncodeError):
            raise error
        text = error.object[error.start : error.end]
        units = text.encode("utf-16-be", "surrogatepass")
        pairs = zip(units[::2], units[1::2], strict=True)
        return "".join(f"\\u{high:02x}{low:02x}" for high, low in pairs), error.end

    codecs.register_error("vidfeat-escape", escape)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="vidfeat-escape")


def _running() -> click.Command | None:
    """The command that was called."""
    name = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    return cli.get_command(click.Context(cli), name)


def _fail(message: str, status: int) -> None:
    click.echo(f"vidfeat: {' '.join(message.splitlines())}", err=True)
    sys.exit(status)
