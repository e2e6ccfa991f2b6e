"""Options that several commands share, and their conversion to values."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from vidfeat.encoders.choice import EncoderChoice
    from vidfeat.encoders.encoder import Encoder
    from vidfeat.video.plan_choice import PlanChoice
    from vidfeat.video.reader import Limits

F = TypeVar("F", bound=Callable[..., Any])

HELP_NAMES = {"help_option_names": ["-h", "--help"]}


class RenamedOption(click.Option):
    """An option that also answers to its former names, which the help does not show."""

    def __init__(self, names: Sequence[str], former: Sequence[str] = (), **settings: Any) -> None:
        super().__init__([*names, *former], **settings)
        self.former = frozenset(former)

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """The option's line of the help, without the former names."""
        known = self.opts
        self.opts = [name for name in known if name not in self.former]
        try:
            return super().get_help_record(ctx)
        finally:
            self.opts = known


def _together(*options: Callable[[F], F]) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def settings_option() -> Callable[[F], F]:
    """Changes to a training recipe's settings, as ``settings``."""
    return click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="SECTION.KEY=VALUE",
        help="Change a setting of the recipe; may be repeated.",
    )


def network_options() -> Callable[[F], F]:
    """Which network, with which weights, on which device."""
    return _together(
        click.option(
            "--model",
            metavar="NAME|SOURCE:NAME|FILE.py:FUNCTION",
            help="A network listed by vidfeat models, or your own; bundled is a small one "
            "that needs no download.  [default: r2plus1d_18]",
        ),
        click.option(
            "--weights",
            metavar="NAME|FILE|random",
            help="Weights: a published name, a file or run, a quantised network, or random. "
            "[default: the network's published ones]",
        ),
        click.option("--seed", default=0, show_default=True, help="Seed for random weights."),
        click.option(
            "--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1."
        ),
        click.option(
            "--batch-size",
            type=int,
            help="Clips per batch; frames, for frame networks.  [default: by device]",
        ),
        click.option(
            "--precision",
            type=click.Choice(["fp32", "tf32", "fp16", "bf16", "int8"]),
            help="Precision of the computation.  [default: fp16 on a GPU, else fp32]",
        ),
        click.option(
            "--engine",
            metavar="torch|openvino",
            help="Engine that runs the network.  "
            "[default: torch; openvino for int8, and for extract if it is installed and faster]",
        ),
        click.option(
            "--compile", "compiled", is_flag=True, help="Compile the network with torch.compile."
        ),
    )


def feature_options() -> Callable[[F], F]:
    """Which layers, and how they are pooled."""
    return _together(
        click.option(
            "--layer",
            metavar="NAME,...",
            help="Layers of the embedding, concatenated.  [default: the last]",
        ),
        click.option(
            "--pool",
            metavar="mean,max,...",
            help="How to pool a layer's map; several are concatenated. time gives one row per time "
            "step of a clip. Some networks have their own (cls, projection, head).  "
            "[default: their projection, or mean]",
        ),
        click.option(
            "--aggregate",
            type=click.Choice(["mean", "mean_std", "max", "none"]),
            help="How the frames of a clip become its vector, for frame networks; none gives one "
            "row per frame.  [default: mean]",
        ),
        click.option(
            "--crops",
            type=click.Choice(["1", "3", "5", "10"]),
            help="Crops of each frame, one row per crop: 3 along the long side; 5, the corners and "
            "the centre; 10, these and those of the mirrored frame.  [default: 1, the centre]",
        ),
        click.option(
            "--average-crops", is_flag=True, help="One row for all crops of a clip: their mean."
        ),
    )


def plan_options() -> Callable[[F], F]:
    """How clips are laid over a video."""
    return _together(
        click.option("--clip-frames", type=int, help="Frames per clip.  [default: the weights']"),
        click.option("--frame-stride", type=int, help="Step from one frame of a clip to the next."),
        click.option(
            "--fps", metavar="RATE|native", help="Frame rate to sample at.  [default: the weights']"
        ),
        click.option(
            "--hop-frames", type=int, help="Frames from the start of one clip to the next."
        ),
        click.option(
            "--hop-seconds", type=float, help="Seconds from the start of one clip to the next."
        ),
        click.option("--clips", type=int, help="Number of clips per video, evenly spread."),
        click.option(
            "--short",
            type=click.Choice(["repeat_last", "loop", "error"]),
            help="How to fill a clip from a video that is too short.  [default: repeat_last]",
        ),
        click.option(
            "--tail",
            type=click.Choice(["flush", "drop"]),
            help="For a remainder shorter than a hop: add a clip that ends with the video, or drop "
            "it.  "
            "[default: flush; drop with a hop]",
        ),
        click.option(
            "--stream",
            type=int,
            metavar="N",
            help="Which video stream of a file with several, from 0.  [default: as FFmpeg chooses]",
        ),
        click.option(
            "--frames-fps",
            metavar="RATE",
            help="Also read folders of frames (img_00001.jpg, ...) as videos of this rate.",
        ),
    )


def decode_options() -> Callable[[F], F]:
    """Options of the decode processes."""
    return _together(
        click.option("--workers", type=int, help="Decode processes.  [default: one per processor]"),
        click.option(
            "--video-timeout",
            type=float,
            default=120.0,
            show_default=True,
            help="Seconds without progress after which a video is given up.",
        ),
    )


def limit_options() -> Callable[[F], F]:
    """Limits beyond which a file is refused."""
    return _together(
        click.option("--max-pixels", type=int, help="Maximum width times height of a frame."),
        click.option("--max-frames", type=int, help="Maximum number of frames of a video."),
        click.option(
            "--max-seconds", type=float, help="Maximum duration of a video.  [default: a week]"
        ),
    )


def limits_of(values: dict[str, Any]) -> Limits:
    """Take the limits out of a command's values."""
    from vidfeat.video.reader import Limits

    given = {name: values.pop(name) for name in ("max_pixels", "max_frames", "max_seconds")}
    return Limits(**{name: value for name, value in given.items() if value is not None})


PLAN_NAMES = (
    "clip_frames",
    "frame_stride",
    "fps",
    "hop_frames",
    "hop_seconds",
    "clips",
    "short",
    "tail",
    "stream",
    "frames_fps",
)


def layout_names() -> list[str]:
    """Layouts of other tools, for `--layout` and `--layout-plan`, without importing numpy."""
    return [
        "actionformer",
        "actionformer-anet",
        "opentad",
        "tsp",
        "qvhighlights",
        "rtfm",
        "mstcn",
        "soccernet",
        "epic",
    ]


def apply_layout_plan(values: dict[str, Any], name: str | None) -> None:
    """Fill in a layout's plan where the command leaves it open.

    A given hop or number of clips replaces the layout's hop.
    """
    if name is None:
        return
    from vidfeat.store.layouts import LAYOUTS

    plan = dict(LAYOUTS[name].plan)
    hops = ("hop_frames", "hop_seconds", "clips")
    if any(values[hop] is not None for hop in hops):
        plan = {key: value for key, value in plan.items() if key not in hops}
    flags = {"frames": "clip_frames", "stride": "frame_stride"}
    for key, value in plan.items():
        flag = flags.get(key, key)
        if values[flag] is None:
            values[flag] = str(value) if key == "fps" else value
    if LAYOUTS[name].views > 1 and values["crops"] is None:
        values["crops"] = str(LAYOUTS[name].views)


def plan_choice(values: dict[str, Any]) -> PlanChoice:
    """Take the plan options out of a command's values."""
    from vidfeat.video.plan_choice import PlanChoice

    chosen = {name: values.pop(name) for name in PLAN_NAMES}
    chosen["frames"] = chosen.pop("clip_frames")
    chosen["stride"] = chosen.pop("frame_stride")
    return PlanChoice(**chosen)


def comma_list(text: str | None) -> list[str] | None:
    """``a,b`` as a list; None stays None."""
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]


def encoder_choice(values: dict[str, Any]) -> EncoderChoice:
    """Take the options of network, features and plan out of a command's values."""
    from vidfeat.encoders.choice import EncoderChoice

    crops = values.pop("crops", None)
    plain = ("model", "weights", "seed", "precision", "device", "engine", "batch_size", "compiled")
    return EncoderChoice(
        plan=plan_choice(values),
        layers=comma_list(values.pop("layer", None)),
        pool=comma_list(values.pop("pool", None)),
        aggregate=values.pop("aggregate", None),
        crops=None if crops is None else int(crops),
        average_crops=values.pop("average_crops", False),
        **{name: values.pop(name) for name in plain},
    )


def make_encoder(values: dict[str, Any]) -> Encoder:
    """Load an encoder by the options of network, features and plan, taken out of the values."""
    from vidfeat.encoders.load import load_choice

    return load_choice(encoder_choice(values))


_MAKE_PARENTS = "vidfeat.make_parents"


class OutputPath(click.Path):
    """A file or folder to be written, in an existing folder.

    A missing folder may be a typo: it is created only with ``--make-parents``, which every command
    with such an option has (see :func:`with_make_parents`).
    """

    def __init__(self, *, dir_okay: bool = True) -> None:
        super().__init__(path_type=Path, dir_okay=dir_okay)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """The path, after checking its folder.

        Raises:
            UsageError: the folder does not exist, or the path is a URL.
        """
        from vidfeat.system.urls import is_url, without_secrets

        if isinstance(value, str) and is_url(value):
            raise click.UsageError(
                f"{without_secrets(value)}: outputs are local files: give a path, and upload the "
                "file afterwards",
                ctx,
            )
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        folder = path.parent
        if ctx is None or ctx.resilient_parsing or folder.is_dir():
            return path
        if not ctx.meta.get(_MAKE_PARENTS):
            from vidfeat.errors import UsageError

            raise UsageError(
                f"{path}: there is no folder {folder}: check the path, or create the folder with "
                "--make-parents"
            )
        folder.mkdir(parents=True)
        return path


def with_make_parents(command: click.Command) -> click.Command:
    """Give a command that writes something the option ``--make-parents``."""

    def remember(ctx: click.Context, param: click.Parameter, value: bool) -> None:  # noqa: ARG001
        ctx.meta[_MAKE_PARENTS] = value

    if isinstance(command, click.Group):
        for inner in command.commands.values():
            with_make_parents(inner)
    writes = any(isinstance(param.type, OutputPath) for param in command.params)
    if writes and not any(param.name == "make_parents" for param in command.params):
        command.params.append(
            click.Option(
                ["--make-parents"],
                is_flag=True,
                is_eager=True,
                expose_value=False,
                callback=remember,
                help="Create missing parent folders of the output.",
            )
        )
    return command
