"""Classification by class names, for ``vidfeat classify --prompts``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vidfeat.cli.options import make_encoder, plan_choice

if TYPE_CHECKING:
    from vidfeat.heads.classify import HeadJudge

# Used if neither a network nor weights are given.
DEFAULT_MODEL = "pe_core_s"


def prompt_judge(
    values: dict[str, Any],
    prompts: Path,
    templates: tuple[str, ...],
    *,
    every_seconds: float | None,
    features: str | None,
) -> HeadJudge:
    """Make a judge from class names.

    Args:
        values: the options of network and plan, which are taken out.
        prompts: a file with one name per line.
        templates: phrases with a place for the name; empty for the default ones.
        every_seconds: the segments of a timeline; None for no timeline.
        features: a feature file whose encoder names the text tower, if no video is read.

    Raises:
        UsageError: the network has no text tower.
    """
    from vidfeat.encoders.text import TextEncoder
    from vidfeat.heads.classify import HeadJudge, time_line_plan
    from vidfeat.heads.zero_shot import check_templates, prompt_head, read_prompts

    labels, chosen = read_prompts(prompts), check_templates(templates)
    if features is not None:
        from vidfeat.store.reader import FeatureStore

        with FeatureStore(features) as store:
            texts = TextEncoder(
                store.encoder, store.space_fingerprint, weights=values["weights"], what=features
            )
            run_fingerprint = store.run_fingerprint
        head = prompt_head(labels, texts, run_fingerprint=run_fingerprint, templates=chosen)
        return HeadJudge(head)
    if values["model"] is None and values["weights"] is None:
        values["model"] = DEFAULT_MODEL
    choice = time_line_plan(plan_choice(dict(values)), every_seconds)
    values |= {"hop_seconds": choice.hop_seconds, "tail": choice.tail}
    weights = values["weights"]
    encoder = make_encoder(values)
    for note in encoder.spec.notes:
        click.echo(f"note: {note}", err=True)
    texts = TextEncoder(
        encoder.describe(),
        encoder.space_fingerprint,
        weights=weights,
        tower=encoder.text,
        what=encoder.spec.model,
    )
    head = prompt_head(labels, texts, run_fingerprint=encoder.run_fingerprint, templates=chosen)
    return HeadJudge(head, encoder)
