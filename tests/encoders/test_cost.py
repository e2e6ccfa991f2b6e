"""What a clip costs: by arithmetic and by torch's counter."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from vidfeat.encoders.engines.cost import flops_per_clip
from vidfeat.models import build_model
from vidfeat.models.catalog import DESIGNS


@pytest.mark.parametrize("name", sorted(DESIGNS))
@pytest.mark.parametrize("layer", ["stem", "layer2", "layer4"])
def test_arithmetic_is_what_is_counted(name: str, layer: str) -> None:
    with torch.device("meta"):
        network = build_model(name, 7).eval()
        clips = torch.empty((1, 3, network.clip_frames, 51, 60))
    with FlopCounterMode(display=False) as counter:
        network.features(clips, [layer])
    shape = (network.clip_frames, 51, 60, 3)
    assert flops_per_clip(network, [layer], shape) == counter.get_total_flops()


def test_loading_a_network_imports_no_compiler() -> None:
    code = (
        "import sys; from vidfeat.encoders.load import load_encoder;"
        "load_encoder('r2plus1d_10_w16', 'random', device='cpu');"
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
