"""The encoder of a quantised network: the network, and all settings, as its folder has them."""

from __future__ import annotations

import os
from collections.abc import Sequence

from vidfeat.encoders.encoder import Encoder
from vidfeat.encoders.engines import check_openvino
from vidfeat.encoders.engines.base import Precision
from vidfeat.encoders.int8.folder import QuantisedNet, read_net
from vidfeat.errors import UsageError
from vidfeat.video.clip_plan import ClipPlan
from vidfeat.video.plan_choice import PlanChoice
from vidfeat.video.preprocess import Preprocess


def encoder_of_net(
    folder: str | os.PathLike[str],
    *,
    model: str | None = None,
    plan: ClipPlan | PlanChoice | None = None,
    layers: Sequence[str] | None = None,
    pool: Sequence[str] | None = None,
    precision: Precision | None = None,
    device: str = "auto",
    engine: str | None = None,
    batch_size: int | None = None,
    compiled: bool = False,
) -> Encoder:
    """The encoder of a quantised network. What is fixed in it may be said again, and only that.

    Args:
        folder: of the network.
        model: the name of the network.
        plan: how clips are laid; their number of frames is fixed.
        layers: of the embedding.
        pool: of the embedding.
        precision: int8.
        device: auto or cpu.
        engine: openvino.
        batch_size: clips at a time; None chooses by the number of threads.
        compiled: False.

    Raises:
        UsageError: a setting that the network was not made with.
        MissingExtraError: OpenVINO is not installed.
        WeightsError: the folder is damaged.
    """
    from vidfeat.encoders.engines.cost import flops_per_second
    from vidfeat.encoders.engines.openvino_engine import read_network
    from vidfeat.encoders.engines.torch_engine import choose_device

    net = read_net(folder)
    facts = net.facts
    for option, asked, fixed in (
        ("--model", model, facts["model"]),
        ("--layer", None if layers is None else ",".join(layers), ",".join(facts["layers"])),
        ("--pool", None if pool is None else ",".join(pool), ",".join(facts["pool"])),
        ("--precision", precision, facts["precision"]),
        ("--engine", engine, "openvino"),
    ):
        if asked is not None and asked != fixed:
            raise UsageError(
                f"{net.folder} is quantised for {option} {fixed}, not {asked}: leave {option} out, "
                "or quantise again with vidfeat export --precision int8"
            )
    check_openvino("cpu" if device == "auto" else choose_device(device).type, compiled=compiled)
    published = ClipPlan.from_dict(dict(facts["plan"]))
    final = plan.apply(published) if isinstance(plan, PlanChoice) else plan or published
    if final.frames != published.frames:
        raise UsageError(
            f"{net.folder} takes clips of {published.frames} frames, not {final.frames}: leave "
            "--clip-frames out, or quantise again with vidfeat export --precision int8"
        )
    runner = read_network(net.model_file, "int8")
    batch = batch_size or runner.preferred_batch
    return Encoder(
        runner,
        model_name=facts["model"],
        weights_name=facts["weights"],
        weights_file=facts.get("weights_file") or "",
        weights_sha256=facts["weights_sha256"],
        architecture=facts["architecture"],
        plan=final,
        preprocess=Preprocess.from_dict(facts["preprocess"]),
        layers=facts["layers"],
        pool=facts["pool"],
        dimension=facts["dimension"],
        precision="int8",
        batch_size=batch,
        class_names=facts.get("class_names"),
        notes=_notes(net),
        flops_per_clip=facts.get("flops_per_clip") or 0.0,
        flops_per_second=flops_per_second(choose_device("cpu")),
        network_sha256=net.sha256,
        recipe={"weights": os.fspath(net.folder.resolve()), "plan": final, "batch_size": batch},
    )


def _notes(net: QuantisedNet) -> list[str]:
    """What a user should be told before hours of work."""
    notes = []
    if str(net.facts["weights"]).startswith("random"):
        notes.append("the network is UNTRAINED: its vectors tell videos apart poorly")
    notes.append(f"{net.folder} is quantised to int8: {net.agreement_in_words()}")
    return notes
