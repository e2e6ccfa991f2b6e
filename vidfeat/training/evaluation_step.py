"""Evaluations of a network during training, and advice when its weights diverge."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from vidfeat.errors import TrainingError, WeightsError
from vidfeat.training.config import Recipe
from vidfeat.training.evaluation import NetworkEvaluation
from vidfeat.training.half_precision import HALF
from vidfeat.training.log import RunLog


def evaluate_step(
    evaluate: Callable[[Recipe], NetworkEvaluation],
    recipe: Recipe,
    log: RunLog,
    *,
    step: int,
    final: bool,
) -> NetworkEvaluation:
    """Evaluate a network after a step, and log the result; all processes call this.

    Args:
        evaluate: evaluates the network with a recipe.
        recipe: of the run; before the end, only one crop is used.
        log: of the run.
        step: how many steps are done.
        final: whether this is the last evaluation.

    Raises:
        TrainingError: an output of the network is NaN or infinite.
    """
    began = time.perf_counter()
    if not final and recipe.evaluate.crops > 1:
        recipe = replace(recipe, evaluate=replace(recipe.evaluate, crops=1))
    try:
        result = evaluate(recipe)
    except WeightsError as error:
        # The loss is computed before each update, so only an evaluation checks the last one.
        raise TrainingError(f"after step {step:,}: {error}; {advice(recipe)}") from None
    log.write(
        "evaluation",
        step=step,
        **{
            "clip@1": result.clip_accuracy,
            "video@1": result.video_accuracy,
            **({"video@5": result.video_top5} if result.video_top5 is not None else {}),
        },
        **{f"{name}@1": value for name, value in result.group_accuracy().items()},
        videos=len(result.scores),
        failed=len(result.failures),
        seconds=time.perf_counter() - began,
    )
    return result


def advice(recipe: Recipe) -> str:
    """Advice for weights that have diverged."""
    half = recipe.train.precision in HALF
    return (
        "resuming from the last checkpoint cannot repair it; start again with a lower train.lr, a "
        "longer train.warmup_epochs or train.clip_gradient=5"
        + (f", or with train.precision=fp32 in place of {recipe.train.precision}" if half else "")
    )
