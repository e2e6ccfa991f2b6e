import copy
import json
import re

import pytest
import torch
import torchvision
from click.testing import CliRunner

from tests.support.models_fixtures import clips, randomise
from vidfeat.errors import UsageError
from vidfeat.models import MODEL_NAMES, VideoResNet, build_model, model_info, pool_features
from vidfeat.models.resnet3d import midplanes

PAPER_MILLIONS = {
    "fr2d_18": 11.4,
    "r3d_18": 33.4,
    "mc2_18": 11.4,
    "mc3_18": 11.7,
    "mc4_18": 12.7,
    "mc5_18": 16.9,
    "rmc2_18": 33.3,
    "rmc3_18": 33.0,
    "rmc4_18": 32.0,
    "rmc5_18": 27.9,
    "r2plus1d_18_paper": 33.3,
}
SMALL = [name for name in MODEL_NAMES if re.fullmatch(r"\w+_(10|18|18_paper)", name)]


@pytest.mark.parametrize("name", ["r2plus1d_18", "r3d_18", "mc3_18"])
@pytest.mark.parametrize("shape", [(2, 3, 5, 38, 45), (1, 3, 16, 48, 32)])
def test_bit_equal_to_torchvision(name, shape):
    theirs = randomise(torchvision.models.get_model(name, num_classes=7), seed=3)
    ours = build_model(name, 7).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    x = clips(*shape)
    with torch.no_grad():
        assert torch.equal(ours(x), theirs(x))
        body = torch.nn.Sequential(*list(theirs.children())[:-1])
        assert torch.equal(pool_features(ours.features(x)), body(x).flatten(1))


def test_randomised_statistics_matter():
    """The comparison above would see a batch-norm tensor that was left out."""
    network = randomise(build_model("r3d_10", 5))
    x = clips(1, 3, 4, 32, 32)
    for suffix in ("weight", "bias", "running_mean", "running_var"):
        other = copy.deepcopy(network)
        state = other.state_dict()
        state[f"layer2.0.conv1.1.{suffix}"].add_(0.1)
        with torch.no_grad():
            assert not torch.equal(other(x), network(x)), suffix


def test_counts_of_the_paper():
    for name, millions in PAPER_MILLIONS.items():
        assert abs(model_info(name).parameters / 1e6 - millions) <= 0.1, name
    assert abs(model_info("r2d_18", 8).parameters / 1e6 - 11.4) <= 0.1


@pytest.mark.parametrize(
    ("name", "classes", "count"),
    [
        ("r2plus1d_18", 400, 31_505_325),
        ("r2plus1d_18_paper", 400, 33_370_839),
        ("r2plus1d_34", 400, 63_697_175),
        ("r2plus1d_34", 359, 63_676_142),
        ("r2plus1d_34", 487, 63_741_806),
        ("r3d_18", 400, 33_371_472),
        ("mc3_18", 400, 11_695_440),
    ],
)
def test_exact_counts(name, classes, count):
    with torch.device("meta"):
        network = build_model(name, classes)
    assert sum(p.numel() for p in network.parameters()) == count


def test_midplane_table():
    table = {
        (64, 64): 144,
        (64, 128): 230,
        (128, 128): 288,
        (128, 256): 460,
        (256, 256): 576,
        (256, 512): 921,
        (512, 512): 1152,
    }
    assert {pair: midplanes(*pair) for pair in table} == table


@pytest.mark.parametrize(
    ("name", "rule", "second"),
    [
        ("r2plus1d_18", None, [144, 230, 460, 921]),
        ("r2plus1d_18_paper", None, [144, 288, 576, 1152]),
        ("r2plus1d_34", None, [144, 288, 576, 1152]),
        ("r2plus1d_34", "block", [144, 230, 460, 921]),
        ("r2plus1d_18", "conv", [144, 288, 576, 1152]),
    ],
)
def test_both_midplane_rules(name, rule, second):
    with torch.device("meta"):
        state = build_model(name, midplanes=rule).state_dict()
    keys = [f"layer{group}.0.conv2.0.0.weight" for group in range(1, 5)]
    assert [state[key].shape[0] for key in keys] == second


@pytest.mark.parametrize(
    ("name", "frames"),
    [  # T after stem, layer1 .. layer4 of 16 frames: halved where layer2, 3, 4 are not 2D
        ("r3d_18", [16, 16, 8, 4, 2]),
        ("r2plus1d_18", [16, 16, 8, 4, 2]),
        ("mc2_18", [16, 16, 16, 16, 16]),
        ("mc3_18", [16, 16, 16, 16, 16]),
        ("mc4_18", [16, 16, 8, 8, 8]),
        ("mc5_18", [16, 16, 8, 4, 4]),
        ("rmc2_18", [16, 16, 8, 4, 2]),
        ("rmc3_18", [16, 16, 8, 4, 2]),
        ("rmc4_18", [16, 16, 16, 8, 4]),
        ("rmc5_18", [16, 16, 16, 16, 8]),
        ("fr2d_18", [16, 16, 16, 16, 16]),
        ("r2d_18", [1, 1, 1, 1, 1]),
    ],
)
def test_time_and_space_are_halved_by_design(name, frames):
    with torch.device("meta"):
        network = build_model(name)
        maps = network.features(torch.empty(1, 3, 16, 112, 112), network.layer_names)
    assert [m.shape[2] for m in maps.values()] == frames
    assert [m.shape[3] for m in maps.values()] == [56, 56, 28, 14, 7]
    assert [m.shape[1] for m in maps.values()] == [64, 64, 128, 256, 512]


@pytest.mark.parametrize(
    ("name", "kernels"),
    [  # temporal kernel of the stem and of the first block of layer1 .. layer4
        ("mc2_18", [3, 1, 1, 1, 1]),
        ("mc3_18", [3, 3, 1, 1, 1]),
        ("mc5_18", [3, 3, 3, 3, 1]),
        ("rmc2_18", [1, 3, 3, 3, 3]),
        ("rmc5_18", [1, 1, 1, 1, 3]),
        ("r2d_18", [16, 1, 1, 1, 1]),
        ("fr2d_18", [1, 1, 1, 1, 1]),
    ],
)
def test_where_time_is_seen(name, kernels):
    with torch.device("meta"):
        state = build_model(name).state_dict()
    keys = ["stem.0.weight", *(f"layer{group}.0.conv1.0.weight" for group in range(1, 5))]
    assert [state[key].shape[2] for key in keys] == kernels


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_every_name_builds(name):
    info = model_info(name)
    assert info.name == name
    assert info.parameters > (300_000 if "_w" in name else 1_000_000)
    assert info.embedding_size == info.layer_widths[-1]
    side = info.input_size
    with torch.device("meta"):
        network = build_model(name, 11).eval()
        maps = network.features(torch.empty(2, 3, 16, side, side), network.layer_names)
        last = {"last": maps[network.layer_names[-1]]}
        assert network.classify(pool_features(last)).shape == (2, 11)
    assert tuple(value.shape[1] for value in maps.values()) == info.layer_widths


@pytest.mark.parametrize("name", SMALL)
def test_small_ones_run_on_flow(name):
    network = build_model(name, 4, in_channels=2, clip_frames=3).eval()
    with torch.no_grad():
        scores = network(clips(2, 2, 3, 18, 21))
    assert scores.shape == (2, 4)
    assert torch.isfinite(scores).all()


@pytest.mark.parametrize("shape", [(1, 3, 1, 112, 112), (1, 3, 7, 33, 50), (1, 3, 32, 17, 16)])
def test_any_clip_length_and_size(shape):
    network = build_model("r2plus1d_10").eval()
    with torch.no_grad():
        assert network(clips(*shape)).shape == (1, 400)


def test_r2d_refuses_another_clip_length():
    network = build_model("r2d_10", clip_frames=8)
    with pytest.raises(UsageError, match="clips of 8 frames, got 16"):
        network.features(clips(1, 3, 16, 16, 16))


@pytest.mark.parametrize("name", ["r2plus1d_152", "r3d_152"])
def test_bottlenecks(name):
    with torch.device("meta"):
        network, pooled = build_model(name), build_model(f"{name}_pool")
        x = torch.empty(1, 3, 32, 112, 112)
        plain_maps = network.features(x, ("stem", "layer4"))
        pooled_maps = pooled.features(x, ("stem", "layer4"))
    assert network.embedding_size() == 2048
    assert network.state_dict().keys() == pooled.state_dict().keys()
    assert plain_maps["stem"].shape[-1] == 56
    assert plain_maps["layer4"].shape == (1, 2048, 4, 7, 7)
    assert pooled_maps["stem"].shape[-1] == 28
    assert 118.0e6 < model_info(name).parameters < 118.4e6


def test_batch_norm_eps():
    def eps(network):
        return {m.eps for m in network.modules() if isinstance(m, torch.nn.BatchNorm3d)}

    assert eps(build_model("r2plus1d_10", bn_eps=0.5)) == {0.5}
    with torch.device("meta"):
        assert eps(build_model("r2plus1d_18")) == {1e-5}
        assert eps(build_model("r2plus1d_34")) == {1e-3}


def test_features_of_several_layers_and_pools():
    network = randomise(build_model("mc4_10"))
    x = clips(2, 3, 8, 24, 24)
    with torch.no_grad():
        maps = network.features(x, ("layer4", "layer2"))
        pooled = pool_features(maps, ("mean", "max"))
    assert list(maps) == ["layer4", "layer2"]
    assert pooled.shape == (2, network.embedding_size(("layer4", "layer2"), ("mean", "max")))
    by_hand = [
        maps["layer4"].mean((2, 3, 4)),
        maps["layer4"].flatten(2).max(2).values,
        maps["layer2"].mean((2, 3, 4)),
        maps["layer2"].flatten(2).max(2).values,
    ]
    torch.testing.assert_close(pooled, torch.cat(by_hand, 1))


def test_features_stop_at_the_highest_layer_asked_for():
    network = build_model("r3d_10")
    assert isinstance(network, VideoResNet)
    network.layer3 = None  # would fail if it were called
    assert list(network.features(clips(1, 3, 4, 16, 16), ("layer2",))) == ["layer2"]


def test_later_maps_do_not_overwrite_earlier_ones():
    """ReLU works in place: a map that was kept must not be what the next block changed."""
    network = randomise(build_model("r3d_10"))
    x = clips(1, 3, 4, 24, 24)
    with torch.no_grad():
        together = network.features(x, network.layer_names)
        for name in network.layer_names:
            assert torch.equal(together[name], network.features(x, (name,))[name])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: build_model("r2plus1_18"), "did you mean r2plus1d_18"),
        (lambda: build_model("resnet"), "'vidfeat models' lists all"),
        (lambda: build_model("r3d_18", midplanes="conv"), "only R.2.1.D"),
        (lambda: build_model("r2plus1d_18", midplanes="paper"), "no midplane rule 'paper'"),
        (lambda: build_model("r3d_18", 0), "num_classes is 0"),
        (lambda: build_model("s3d", in_channels=2), "takes 3 channels"),
        (lambda: build_model("s3d", bn_eps=1.0), "s3d has none"),
        (lambda: build_model("mvit_v1_b", clip_frames=8), "clips of 16 frames"),
        (lambda: build_model("r3d_10").features(torch.empty(0), ("fc",)), "no layer 'fc'"),
        (lambda: pool_features({}, ("median",)), "cannot pool by median"),
        (lambda: pool_features({}, ()), "cannot pool by nothing"),
        (lambda: pool_features({"token": torch.ones(1, 2)}, ("max",)), "one vector per clip"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(UsageError, match=message):
        call()


CASES = [("s3d", (1, 3, 14, 224, 224)), ("swin3d_t", (1, 3, 4, 64, 64))]


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_torchvision_encoders(name, shape):
    check_against_torchvision(name, shape)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mvit_v1_b", "mvit_v2_s", "swin3d_s", "swin3d_b"])
def test_large_torchvision_encoders(name):
    check_against_torchvision(name, (1, 3, 16, 224, 224))


def check_against_torchvision(name, shape):
    torch.manual_seed(0)
    theirs = torchvision.models.get_model(name, num_classes=6).eval()
    ours = build_model(name, 6).eval()
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    caught = []
    classifier = theirs.classifier if name == "s3d" else theirs.head
    classifier.register_forward_pre_hook(lambda module, inputs: caught.append(inputs[0]))
    x = clips(*shape)
    with torch.no_grad():
        expected = theirs(x)
        before = caught[0] if caught[0].dim() == 2 else caught[0].mean((2, 3, 4))
        torch.testing.assert_close(pool_features(ours.features(x)), before, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(ours(x), expected, rtol=1e-5, atol=1e-5)
        stage = ours.features(x, ("stage2",))["stage2"]
    assert stage.dim() == 5
    assert copy.deepcopy(ours).state_dict().keys() == theirs.state_dict().keys()


def test_command():
    from vidfeat.cli.models import command
    from vidfeat.encoders.sources.recommended import RECOMMENDED

    listed = json.loads(CliRunner().invoke(command, ["--json"]).output)
    recommended = [entry.name for entry in RECOMMENDED]
    assert [entry["name"] for entry in listed] == [*MODEL_NAMES, "bundled", *recommended]
    first = next(entry for entry in listed if entry["name"] == "r2plus1d_18")
    assert first["parameters"] == 31_505_325
    assert first["embedding_size"] == 512
    assert first["layers"] == ["stem", "layer1", "layer2", "layer3", "layer4"]
    table = CliRunner().invoke(command, []).output
    assert "r2plus1d_18_paper" in table
    assert "31.5 M" in table
