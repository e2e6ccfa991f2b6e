"""Write pretrained/networks.json: size, layers and GFLOPs of every network.

python tests/bench/network_table.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from vidfeat.encoders.engines.cost import flops_per_clip
from vidfeat.models import MODEL_NAMES, build_model
from vidfeat.models.catalog import input_size
from vidfeat.pretrained import default_entry

FILE = Path(__file__).parents[2] / "pretrained/networks.json"


def frames_of(name: str) -> int:
    """Frames per clip in the table: those of the published weights, else 16."""
    if name.startswith(("ir_csn", "ip_csn")):
        return 32
    entry = default_entry(name)
    other = not name.startswith(("r2", "r3d", "fr2d", "mc", "rmc")) or name == "r2plus1d_r50"
    return entry.plan.frames if entry is not None and other else 16


def row_of(name: str) -> dict[str, Any]:
    """The row of one network, built without allocating memory."""
    frames, size = frames_of(name), input_size(name)
    with torch.device("meta"):
        network = build_model(name, clip_frames=frames)
    flops = flops_per_clip(network, network.layer_names[-1:], (frames, size, size, 3))
    return {
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "embedding_size": network.embedding_size(),
        "layers": dict(network.layer_widths),
        "frames": frames,
        "input_size": size,
        "gflops": round(flops / 2e9, 3),
    }


def main() -> None:
    """Write the table."""
    rows = {name: row_of(name) for name in MODEL_NAMES}
    lines = [f"  {json.dumps(name)}: {json.dumps(row)}" for name, row in rows.items()]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
