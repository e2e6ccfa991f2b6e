"""The encoder of a quantised network: the network and all settings come from its folder."""

from __future__ import annotations

import os
from collections.abc import Sequence

from vidfeat.encoders.choice import EncoderChoice
from vidfeat.encoders.encoder import Encoder
from vidfeat.encoders.engines import check_openvino
from vidfeat.encoders.int8.folder import QuantisedNet, read_net
from vidfeat.encoders.sources import stored_name
from vidfeat.encoders.spec import EncoderSpec
from vidfeat.errors import UsageError
from vidfeat.pretrained import bundled
from vidfeat.video.clip_plan import ClipPlan


def encoder_of_net(choice: EncoderChoice) -> Encoder:
    """The encoder of a quantised network. Its fixed settings may be given again, but not changed.

    Args:
        choice: its ``weights`` name the folder of the network.

    Raises:
        UsageError: a setting that the network was not made with.
        MissingExtraError: OpenVINO is not installed.
        WeightsError: the folder is damaged.
    """
    from vidfeat.encoders.engines.openvino_engine import read_network
    from vidfeat.encoders.engines.torch_engine import choose_device

    assert choice.weights is not None
    net = read_net(choice.weights)
    facts = net.facts
    model = stored_name(choice.model)
    if model == bundled.NAME and facts["weights"] == bundled.NAME:
        model = facts["model"]
    for option, asked, fixed in (
        ("model", model, facts["model"]),
        ("layers", _joined(choice.layers), ",".join(facts["layers"])),
        ("pool", _joined(choice.pool), ",".join(facts["pool"])),
        ("precision", choice.precision, facts["precision"]),
        ("engine", choice.engine, "openvino"),
        ("aggregate", choice.aggregate, facts.get("aggregate")),
    ):
        if asked is not None and asked != fixed:
            raise UsageError(
                f"{net.folder} is quantised for {option}={fixed}, not {asked}: leave {option} out, "
                "or quantise again with vidfeat export --precision int8",
                field=option,
            )
    device = "cpu" if choice.device == "auto" else choose_device(choice.device).type
    check_openvino(device, compiled=choice.compiled)
    published = ClipPlan.from_dict(dict(facts["plan"]))
    plan = choice.plan_over(published)
    if plan.frames != published.frames:
        raise UsageError(
            f"{net.folder} takes clips of {published.frames} frames, not {plan.frames}: leave "
            "frames out, or quantise again with vidfeat export --precision int8"
        )
    runner = read_network(net.model_file, "int8")
    spec = EncoderSpec.from_description(
        {
            **facts,
            "preprocess": {**facts["preprocess"], "crops": choice.crops or 1},
            "average_crops": choice.average_crops,
            "weights_file": facts.get("weights_file") or "",
            "plan": plan.to_dict(),
            "precision": "int8",
            "engine": runner.name,
            "network_sha256": net.sha256,
        },
        class_names=None if not facts.get("class_names") else tuple(facts["class_names"]),
        notes=_notes(net),
        flops_per_input=facts.get("flops_per_input") or facts.get("flops_per_clip") or 0.0,
    )
    batch = choice.batch_size or runner.preferred_batch
    recipe = EncoderChoice(
        weights=os.fspath(net.folder.resolve()),
        plan=plan,
        batch_size=batch,
        crops=choice.crops,
        average_crops=choice.average_crops,
    )
    return Encoder(runner, spec, batch_size=batch, recipe=recipe)


def _joined(names: Sequence[str] | None) -> str | None:
    return None if names is None else ",".join(names)


def _notes(net: QuantisedNet) -> tuple[str, ...]:
    """Notes for the user before a long run."""
    agreement = f"{net.folder} is quantised to int8: {net.agreement_in_words()}"
    if str(net.facts["weights"]).startswith("random"):
        return "the network is UNTRAINED: its vectors separate videos poorly", agreement
    return (agreement,)
