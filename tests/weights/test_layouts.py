"""Files of other publishers: names, shapes, conversion, and vectors equal to those by hand."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch import nn
from torch.nn import functional as F
from torchvision import transforms

from tests.support.caffe2_fixtures import blobs_of, c3d_blobs
from tests.support.models_fixtures import clips, make_network
from tests.support.published_layouts import LAYOUTS, published_shapes, published_state
from tests.support.video_assets import render, x264
from vidfeat.cli.weights import command as weights_command
from vidfeat.encoders.load import load_encoder
from vidfeat.errors import DownloadError, StateDictError, UsageError, WeightsError
from vidfeat.extraction.run import extract
from vidfeat.models import build_model
from vidfeat.pretrained import ENTRIES, entries_of, find_entry, read_class_list
from vidfeat.store.reader import FeatureStore
from vidfeat.video.frame_preprocessor import FramePreprocessor
from vidfeat.video.plan_choice import PlanChoice
from vidfeat.video.reader import read_frames
from vidfeat.weights import caffe2, layouts
from vidfeat.weights.convert import convert_file
from vidfeat.weights.load import class_names, fit_tensors, load_weights, source_of
from vidfeat.weights.statedict import fitting_networks

X3D_ALIKE = ("x3d_m", "x3d_s", "x3d_xs")


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("wrapped", [False, True])
def test_published_names_and_shapes_are_understood(name: str, wrapped: bool) -> None:
    """As plain tensors, and in a checkpoint of several processes."""
    content: dict[str, Any] = published_shapes(name)
    if wrapped:
        inside = {f"module.{key}": value for key, value in content.items()}
        content = {"epoch": 3, "model_state" if "blocks" in next(iter(content)) else "state_dict":
                   inside}  # fmt: skip
    understood = layouts.understand(content)
    assert understood is not None
    expected = X3D_ALIKE if name == "x3d_m" else (name,)
    assert fitting_networks(understood.tensors, understood.layout.networks) == expected
    loaded = fit_tensors(understood.tensors, name, "a file")
    assert loaded.num_classes == (700 if name.startswith("resnet") else 400)
    assert loaded.in_channels == 3


def test_a_resnet_for_pictures_is_not_taken_for_haras() -> None:
    from torchvision.models import resnet18

    with torch.device("meta"):
        assert layouts.understand(resnet18().state_dict()) is None


def csn_names(network: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


def test_csn_has_the_names_of_bjunceks_conversions() -> None:
    """torchvision's bottleneck; the middle convolution itself, or behind 1x1x1 and batch norm."""
    with torch.device("meta"):
        ir, ip = (csn_names(build_model(f"{kind}_csn_152")) for kind in ("ir", "ip"))
    both = {
        "stem.0.weight": (64, 3, 3, 7, 7),
        "stem.1.running_var": (64,),
        "layer1.0.conv1.0.weight": (64, 64, 1, 1, 1),
        "layer1.0.downsample.0.weight": (256, 64, 1, 1, 1),
        "layer3.35.conv3.0.weight": (1024, 256, 1, 1, 1),
        "layer4.2.conv3.1.bias": (2048,),
        "fc.weight": (400, 2048),
    }
    for name, shape in both.items():
        assert ir[name] == ip[name] == shape
    assert ir["layer2.0.conv2.0.weight"] == (128, 1, 3, 3, 3)
    assert ip["layer2.0.conv2.0.0.weight"] == (128, 128, 1, 1, 1)
    assert ip["layer2.0.conv2.0.1.weight"] == (128,)
    assert ip["layer2.0.conv2.0.2.weight"] == (128, 1, 3, 3, 3)
    assert ir["layer2.0.conv2.1.weight"] == ip["layer2.0.conv2.1.weight"] == (128,)


@pytest.mark.parametrize("model", ["ir_csn_50", "ip_csn_50", "ir_csn_152", "ip_csn_152"])
def test_csn_of_caffe2_is_recognised_and_fits(model: str) -> None:
    with torch.device("meta"):
        network = build_model(model, 7)
    shapes = {name: np.broadcast_to(np.float32(0), a.shape) for name, a in _shapes(network).items()}
    facts = caffe2.describe(shapes)
    assert (facts.model, facts.num_classes, facts.midplanes) == (model, 7, None)
    if model.endswith("50"):
        state, _ = caffe2.convert(shapes)
        assert csn_names(network) == {name: tuple(value.shape) for name, value in state.items()}


def _shapes(network: nn.Module) -> dict[str, Any]:
    """What `blobs_of` writes, of a network without memory."""
    for module in network.modules():
        for name, tensor in (*module._parameters.items(), *module._buffers.items()):
            if tensor is None:
                continue
            thin = torch.zeros(()).expand(tensor.shape)
            if name in module._parameters:
                module._parameters[name] = nn.Parameter(thin, requires_grad=False)
            else:
                module._buffers[name] = thin
    return blobs_of(network)


@pytest.mark.parametrize("model", ["ir_csn_50", pytest.param("ip_csn_50", marks=pytest.mark.slow)])
def test_csn_by_blobs_gives_the_same_scores(tmp_path: Path, model: str) -> None:
    network = make_network(model, num_classes=5)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"blobs": blobs_of(network)}, 5))
    made = convert_file(tmp_path / "a.pkl", tmp_path / f"{model}.safetensors")
    assert (made.loaded.model, made.loaded.bn_eps) == (model, 1e-3)
    x = clips(1, 3, 4, 32, 32)
    with torch.no_grad():
        assert torch.equal(load_weights(made.path, model).build()(x), network(x))


def test_c3d_of_caffe2_fits_and_reads_fc6() -> None:
    """Every blob reaches its place: the small ones by value, the large ones by shape."""
    network = make_network("c3d", num_classes=3)
    state, facts = caffe2.convert(c3d_blobs(network))
    assert (facts.model, facts.num_classes, facts.in_channels) == ("c3d", 3, 3)
    for name, value in network.state_dict().items():
        assert torch.equal(state[name], value), name


@pytest.mark.slow
def test_c3d_is_what_the_authors_built() -> None:
    """Their network step by step: convolutions with biases, batch norm, pools, linear layers."""
    network = make_network("c3d", num_classes=3)
    blobs = {name: torch.from_numpy(value) for name, value in c3d_blobs(network).items()}
    x = clips(1, 3, 16, 112, 112)
    y = x
    for group in (("1a",), ("2a",), ("3a", "3b"), ("4a", "4b"), ("5a", "5b")):
        for name in group:
            y = F.conv3d(y, blobs[f"conv{name}_w"], blobs[f"conv{name}_b"], padding=1)
            s, b, rm, riv = (blobs[f"conv{name}_bn_{end}"] for end in ("s", "b", "rm", "riv"))
            y = F.relu(F.batch_norm(y, rm, riv, s, b, eps=1e-3))
        y = F.max_pool3d(y, (1, 2, 2) if group == ("1a",) else 2)
    y = F.relu(F.linear(y.flatten(1), blobs["fc6_w"], blobs["fc6_b"]))
    with torch.no_grad():
        torch.testing.assert_close(network.features(x)["fc6"], y, rtol=1e-5, atol=1e-4)
        y = F.relu(F.linear(y, blobs["fc7_w"], blobs["fc7_b"]))
        y = F.linear(y, blobs["last_out_L3_w"], blobs["last_out_L3_b"])
        torch.testing.assert_close(network(x), y, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize(
    ("blobs", "message"),
    [
        ({"audio_conv1_w": 4, "audio_comp_0_conv_1_w": 4}, "but one with audio"),
        ({"fc_w": 2}, "no blob conv1_w or conv1a_w"),
        (
            {"conv1_w": (64, 3, 1, 7, 7), "comp_0_conv_1_w": (64, 64, 1, 1, 1),
             "comp_0_conv_2_w": (64, 64, 1, 3, 3), "comp_0_conv_3_w": (64, 64, 1, 1, 1)},
            "a network of 26 layers of VMZ's code .R2D-26",
        ),
    ],
)  # fmt: skip
def test_other_files_of_vmz_are_named(tmp_path: Path, blobs: dict, message: str) -> None:
    arrays = {
        name: np.zeros(shape if isinstance(shape, tuple) else (2,) * shape, np.float32)
        for name, shape in blobs.items()
    }
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"blobs": arrays}, 2))
    with pytest.raises(WeightsError, match=message):
        convert_file(tmp_path / "a.pkl", tmp_path / "a.safetensors")


# -- from a published file to vectors -----------------------------------------------------------


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render(tmp_path_factory.mktemp("video") / "a.mp4", range(20), gop=12, options=x264())


def tsp_state(network: nn.Module) -> dict[str, Any]:
    """A checkpoint of TSP: the backbone, a layer for actions, one for action or background."""
    state = {f"features.{k}": v for k, v in network.state_dict().items() if k[:3] != "fc."}
    state |= {f"fc1.{end}": getattr(network.fc, end).detach() for end in ("weight", "bias")}
    state |= {"fc2.weight": torch.zeros(2, 1024), "fc2.bias": torch.zeros(2)}
    return {"model": state, "epoch": 5}


CASES: dict[str, tuple[str, dict[str, Any], int]] = {
    # a network, options for it, frames of the clips
    "x3d_xs": ("X3D_XS.pyth", {"num_classes": 400}, 4),
    "resnet3d_18": ("r3d18_K_200ep.pth", {"num_classes": 700}, 4),
    "r3d_18": (
        "r3d_18-tsp_on_activitynet-max_gvf-backbone_lr_0.0001-fc_lr_0.002-epoch_6-85584422.pth",
        {"num_classes": 200, "bn_eps": 1e-5},
        2,
    ),
    "c2d_r50": ("C2D_8x8_R50.pyth", {"num_classes": 400}, 2),
    "i3d": ("rgb_imagenet.pt", {"num_classes": 400}, 4),
    "slowfast_r50": ("SLOWFAST_8x8_R50.pyth", {"num_classes": 400}, 4),
    "r2plus1d_r50": ("R2PLUS1D_16x4_R50.pyth", {"num_classes": 400}, 2),
    "resnet3d_50": ("r3d50_K_200ep.pth", {"num_classes": 700}, 4),
}
QUICK = ("x3d_xs", "resnet3d_18", "r3d_18")


@pytest.mark.parametrize(
    "model",
    [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in CASES],
)
def test_convert_then_extract_gives_what_the_network_gives_by_hand(
    tmp_path: Path, video: Path, model: str
) -> None:
    file, options, frames = CASES[model]
    network = make_network(model, **options)
    if model == "r3d_18":
        content = tsp_state(network)
    else:
        layout = "x3d_m" if model == "x3d_xs" else model
        key = "state_dict" if model.startswith("resnet") else "model_state"
        content = {key: published_state(layout, network), "epoch": 1}
    torch.save(content, tmp_path / file)
    target = tmp_path / "net.safetensors"
    arguments = ["convert", str(tmp_path / file), "-o", str(target), "--model", model]
    result = CliRunner().invoke(weights_command, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    encoder = load_encoder(
        model, target, plan=PlanChoice(frames=frames), device="cpu", precision="fp32", batch_size=1
    )
    entry = next(e for e in entries_of(model) if file in (e.filename, e.published_name))
    assert entry.full_name in result.output
    assert encoder.preprocess == entry.preprocess
    extract([video], tmp_path / "out.h5", encoder, root=video.parent)
    with FeatureStore(tmp_path / "out.h5") as store:
        vectors = store.read("a.mp4").vectors
    small = FramePreprocessor(encoder.preprocess).frames(
        read_frames(video, _first_clip(encoder, 20))
    )
    x = encoder.preprocess.normalize(torch.from_numpy(small[None]))
    with torch.no_grad():
        last = network.features(x)[network.layer_names[-1]]
        expected = last.mean(dim=(2, 3, 4)).numpy()[0]
    np.testing.assert_allclose(vectors[0], expected, rtol=1e-4, atol=1e-4 * abs(expected).max())


def _first_clip(encoder: Any, count: int) -> list[int]:
    from fractions import Fraction

    from vidfeat.video.clip_plan import plan_clips
    from vidfeat.video.timeline import Timeline

    return list(plan_clips(Timeline(count, Fraction(30)), encoder.plan, ())[0].positions)


def test_files_that_leave_the_network_open(tmp_path: Path) -> None:
    network = make_network("x3d_m")
    state = published_state("x3d_m", network)
    torch.save({"model_state": state}, tmp_path / "mine.pyth")
    with pytest.raises(UsageError, match="any of x3d_m, x3d_s, x3d_xs, whose tensors are alike"):
        convert_file(tmp_path / "mine.pyth", tmp_path / "a.safetensors")
    (tmp_path / "mine.pyth").rename(tmp_path / "X3D_S.pyth")
    made = convert_file(tmp_path / "X3D_S.pyth", tmp_path / "a.safetensors")
    assert made.loaded.model == "x3d_s"
    assert made.entry is find_entry("x3d_s/kinetics_13x6")
    assert load_weights(tmp_path / "X3D_S.pyth", "x3d_xs").num_classes == 400
    with pytest.raises(StateDictError, match=r"it looks like x3d_xs: give model=x3d_xs"):
        load_weights(tmp_path / "X3D_S.pyth", "r3d_18")


# -- the registry -------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(240, 320), (360, 202), (112, 150)])
def test_haras_frames_are_pictures_that_pillow_resizes(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    entry = find_entry("hara_k", "resnet3d_50")
    theirs = transforms.Compose([transforms.Resize(112), transforms.CenterCrop(112)])
    mine = FramePreprocessor(entry.preprocess).rgb(pixels)
    np.testing.assert_array_equal(mine, np.asarray(theirs(Image.fromarray(pixels))))


def test_counts_of_the_registry() -> None:
    def count(*words: str) -> int:
        return sum(all(word in f"{e.full_name} {e.url}" for word in words) for e in ENTRIES)

    assert count("csn_152/", "caffe2") == 10
    assert count("csn_152/", "bjuncek") == 8
    assert count("HumamAlwassel") == 13
    assert count("piergiaj") == 4
    assert count("resnet3d_", "drive.google") == 17
    assert count("c3d/") == 4
    assert count("pytorchvideo/model_zoo/kinetics") == 14


def test_classes_of_localisation_are_named() -> None:
    names = class_names(find_entry("r2plus1d_34/tsp_activitynet").class_list)
    assert names is not None
    assert (len(names), names[0], names[-1]) == (200, "Applying sunscreen", "Zumba")
    assert read_class_list("thumos14")[7] == "Diving"


def test_a_file_that_only_a_browser_fetches_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vidfeat.system.download import fetch

    monkeypatch.setenv("VIDFEAT_CACHE", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    told = r"r3d50_K_200ep\.pth can only be downloaded with a browser.*put it into"
    with pytest.raises(DownloadError, match=told):
        fetch(source_of(find_entry("resnet3d_50/hara_k")))


def test_i3ds_flow_says_how_it_is_made(tmp_path: Path) -> None:
    """Its weights want TV-L1 flow; Farneback's would give vectors without a warning."""
    from vidfeat.training.evaluation_report import open_subject

    network = make_network("i3d", in_channels=2)
    published = published_state("i3d", make_network("i3d"))
    published["Conv3d_1a_7x7.conv3d.weight"] = network.state_dict()["stem.0.weight"]
    torch.save(published, tmp_path / "flow_imagenet.pt")
    made = convert_file(tmp_path / "flow_imagenet.pt", tmp_path / "flow.safetensors")
    assert made.entry is find_entry("i3d/kinetics_flow")
    loaded = load_weights(made.path, "i3d")
    assert (loaded.flow, loaded.in_channels) == ("tvl1", 2)
    assert loaded.preprocess is not None
    assert (loaded.preprocess.mean, loaded.preprocess.std) == ((0.0, 0.0), (20.0, 20.0))
    with pytest.raises(WeightsError, match="needs TV-L1 flow"):
        open_subject(str(made.path), "i3d")
    cv2 = pytest.importorskip("cv2")
    if hasattr(cv2, "optflow"):
        encoder = load_encoder("i3d", made.path, device="cpu", precision="fp32")
        assert encoder.describe()["architecture"]["flow"] == "tvl1"
    else:
        with pytest.raises(UsageError, match="opencv-contrib-python-headless"):
            load_encoder("i3d", made.path, device="cpu", precision="fp32")


def test_tvl1_flow_follows_a_moving_square() -> None:
    cv2 = pytest.importorskip("cv2")
    if not hasattr(cv2, "optflow"):
        pytest.skip("OpenCV without its contributed modules")
    from vidfeat.video.flow import clip_to_tvl1

    frames = np.zeros((3, 48, 48, 3), np.uint8)
    texture = np.random.default_rng(0).integers(60, 255, (20, 20, 3), np.uint8)
    for index in range(3):
        frames[index, 14:34, 10 + 2 * index : 30 + 2 * index] = texture
    fields = clip_to_tvl1(frames)
    assert fields.shape == (2, 48, 48, 2)
    assert np.median(fields[0, 18:30, 16:26, 0]) == pytest.approx(2, abs=0.3)
    assert np.median(fields[0, 18:30, 16:26, 1]) == pytest.approx(0, abs=0.3)
