"""``vidfeat train``: a recipe and labelled videos to a trained network."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vidfeat.cli.options import HELP_NAMES, OutputPath, RenamedOption, settings_option
from vidfeat.system.wording import counted

if TYPE_CHECKING:
    from vidfeat.datasets import VideoDataset
    from vidfeat.training.config import Recipe

STOPPED = 143  # as after SIGTERM: a scheduler starts the run again with --resume


@click.command(
    "train",
    context_settings=HELP_NAMES,
    epilog="Examples: vidfeat train tiny --data videos/ -o run/; vidfeat train -o run/ --resume",
)
@click.argument("recipe", required=False)
@click.option("--data", type=click.Path(path_type=Path), help="The dataset's folder, or a CSV.")
@click.option(
    "-o",
    "--output",
    cls=RenamedOption,
    former=["--out"],
    type=OutputPath(),
    help="Folder of the run.",
)
@click.option(
    "--splits", type=click.Path(path_type=Path), help="Folder of the split files, if not in --data."
)
@settings_option()
@click.option(
    "--init",
    metavar="NAME|FILE|RUN|random",
    help="Weights to start from.  [default: the recipe's; bundled for the network of tiny]",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Resume from the newest checkpoint of --output; recipe, data and settings are the run's.",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option("--print", "show", is_flag=True, help="Print the recipe as TOML and stop.")
@click.option("--list", "list_all", is_flag=True, help="List the recipes and stop.")
@click.pass_context
def command(
    ctx: click.Context,
    recipe: str | None,
    data: Path | None,
    output: Path | None,
    splits: Path | None,
    settings: tuple[str, ...],
    init: str | None,
    resume: bool,
    device: str,
    show: bool,
    list_all: bool,
) -> int:
    """Train a network by a recipe: a name (--list shows them) or a TOML file.

    On several GPUs: torchrun --nproc-per-node 8 -m vidfeat.training RECIPE --data DIR -o RUN
    """
    if list_all:
        from vidfeat.training.recipes import RECIPES, get_recipe

        for name in RECIPES:
            click.echo(f"{name:<46} {get_recipe(name).about}")
        return 0
    if recipe is None and not (resume and output is not None):
        raise click.UsageError(
            "name a recipe (--list shows them), or resume a run with -o RUN --resume", ctx
        )
    chosen = _recipe(recipe, output, settings, init)
    if show:
        from vidfeat.training.toml import recipe_to_toml

        click.echo(recipe_to_toml(chosen), nl=False)
        return 0
    if output is None:
        raise click.UsageError("give --output, the folder of the run", ctx)
    from vidfeat.training.console import Console
    from vidfeat.training.run import train

    console = Console()

    def find_broken(dataset: VideoDataset) -> list[str]:
        from vidfeat.datasets.scan import find_broken
        from vidfeat.training.feed import workers_of

        def progress(done: int, total: int | None) -> None:
            if done == total or (done and done % 1000 == 0):
                console.say(f"checked {done:,} of {total:,} videos")

        return find_broken(dataset, workers=workers_of(chosen), progress=progress)

    result = train(
        chosen,
        data,
        output,
        lists=splits,
        resume=resume,
        device=device,
        report=console,
        find_broken=find_broken if chosen.run.scan else None,
    )
    if not result.complete:
        return STOPPED
    if result.is_main:
        best = f"; best video@1 {result.best['video@1']:.1%}" if result.best else ""
        click.echo(f"{result.folder}/model.safetensors after {counted(result.step, 'step')}{best}")
        if not _is_rendered(chosen):
            from vidfeat.training.setup import stored_places

            places = stored_places(result.folder)
            told = evaluate_command(result.folder, data or places[0], splits or places[1])
            click.echo(f"next: {told}", err=True)
    sys.stdout.flush()
    return 0


def evaluate_command(run: Path, data: Path | str | None, lists: Path | str | None) -> str:
    """The command that evaluates a run on its data."""
    parts = ["vidfeat", "evaluate", str(run), "--data", str(data)]
    return shlex.join(parts + ([] if lists is None else ["--splits", str(lists)]))


def _is_rendered(recipe: Recipe) -> bool:
    """Whether the recipe's clips are rendered, so that no data folder is needed."""
    from vidfeat.datasets import synthetic_motion

    return recipe.data.dataset == synthetic_motion.NAME


def _recipe(
    name: str | None, run: Path | None, settings: tuple[str, ...], init: str | None
) -> Recipe:
    """The recipe of a name, a file, or the run to resume, with the changes applied."""
    from dataclasses import replace

    from vidfeat.training.recipes import get_recipe
    from vidfeat.training.settings import change
    from vidfeat.training.toml import read_recipe

    if name is None:
        from vidfeat.training.run import stored_recipe

        assert run is not None
        base = stored_recipe(run)
    else:
        base = read_recipe(Path(name)) if name.endswith(".toml") else get_recipe(name)
    chosen = change(base, settings)
    if init is not None:
        chosen = replace(chosen, model=replace(chosen.model, init=init))
    return chosen
