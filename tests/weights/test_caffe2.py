import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from tests.support.caffe2_fixtures import blobs_of, write_caffe2
from tests.support.models_fixtures import clips, make_network
from vidfeat.errors import StateDictError, UsageError, WeightsError
from vidfeat.models import build_model
from vidfeat.models.catalog import FAMILIES
from vidfeat.pretrained import entries_of
from vidfeat.weights import caffe2
from vidfeat.weights.convert import convert_file
from vidfeat.weights.load import load_weights

# Every network of which the authors published a Caffe2 file; 34 and 152 layers below.
EIGHTEEN = [f"{family}_18" for family in FAMILIES if family != "r2plus1d"] + ["r2plus1d_18_paper"]


def make(name, **options):
    return make_network(name, **{"num_classes": 9, "bn_eps": 1e-3, **options})


def by_blobs(network, shape):
    """Network to blobs, and back, without files in between."""
    state, facts = caffe2.convert(blobs_of(network))
    with torch.device("meta"):
        again = build_model(
            facts.model,
            facts.num_classes,
            clip_frames=facts.clip_frames or 16,
            in_channels=facts.in_channels,
            midplanes=facts.midplanes,
            bn_eps=facts.bn_eps,
        )
    again.load_state_dict(state, strict=True, assign=True)
    x = clips(*shape)
    with torch.no_grad():
        assert torch.equal(again.eval()(x), network(x))
    return facts


def round_trip(tmp_path, network, shape, form="python2"):
    """Network to a pickle, converted to a file, loaded: the same outputs."""
    source = write_caffe2(tmp_path / "weights.pkl", network, form=form)
    target = tmp_path / "weights.safetensors"
    made = convert_file(source, target)
    loaded = load_weights(target, made.loaded.model)
    x = clips(*shape)
    with torch.no_grad():
        assert torch.equal(loaded.build()(x), network(x))
    return loaded


@pytest.mark.parametrize("name", EIGHTEEN)
def test_18_layers(name):
    facts = by_blobs(make(name, clip_frames=8), (1, 3, 8, 16, 16))
    assert facts.model == name
    assert (facts.num_classes, facts.in_channels, facts.bn_eps) == (9, 3, 1e-3)
    assert facts.clip_frames == (8 if name == "r2d_18" else None)


@pytest.mark.parametrize(("channels", "classes"), [(3, 487), (2, 400)])
def test_34_layers(channels, classes):
    network = make("r2plus1d_34", num_classes=classes, in_channels=channels)
    facts = by_blobs(network, (1, channels, 4, 16, 16))
    assert (facts.model, facts.midplanes) == ("r2plus1d_34", "conv")
    assert (facts.num_classes, facts.in_channels) == (classes, channels)


def test_152_layers():
    network = make("r2plus1d_152", num_classes=487)
    facts = by_blobs(network, (1, 3, 2, 16, 16))
    assert (facts.model, facts.num_classes) == ("r2plus1d_152", 487)
    # The form with a max-pool has the same tensors: who has such a file must say so.
    assert entries_of("r2plus1d_152_pool") == entries_of("r2plus1d_152") != ()
    _, facts = caffe2.convert(blobs_of(network), "r2plus1d_152_pool")
    assert facts.model == "r2plus1d_152_pool"


@pytest.mark.slow
@pytest.mark.parametrize("name", [*EIGHTEEN, "r2plus1d_34", "r2plus1d_152"])
def test_files_of_the_published_sizes(tmp_path, name):
    loaded = round_trip(tmp_path, make(name, num_classes=400), (1, 3, 16, 24, 24))
    assert (loaded.model, loaded.bn_eps) == (name, 1e-3)


@pytest.mark.parametrize("name", ["r2d_10", "fr2d_10", "mc4_10", "rmc5_10", "r2plus1d_10"])
def test_files(tmp_path, name):
    loaded = round_trip(tmp_path, make(name, clip_frames=8), (1, 3, 8, 16, 16))
    assert (loaded.model, loaded.num_classes, loaded.bn_eps) == (name, 9, 1e-3)
    assert (loaded.plan is not None) == (name == "r2d_10")


def test_r3d_of_152_layers_is_recognised():
    with torch.device("meta"):
        state = build_model("r3d_152").state_dict()
    shapes = {}
    for key, value in state.items():
        if not key.endswith("num_batches_tracked"):
            name = caffe2.blob_name(key, [0, 3, 11, 47], 400, separable=False)
            shapes[name] = np.broadcast_to(np.float32(0), value.shape)
    assert caffe2.describe(shapes).model == "r3d_152"


@pytest.mark.parametrize("form", ["0", "1", "2", "3", "4", "5"])
def test_every_pickle_protocol_is_read(tmp_path, form):
    round_trip(tmp_path, make("mc2_10"), (1, 3, 2, 16, 16), form=form)


def test_midplanes_of_torchvision_are_told_from_the_papers():
    assert by_blobs(make("r2plus1d_18"), (1, 3, 2, 16, 16)).midplanes == "block"


def test_training_state_beside_the_weights_is_left_out(tmp_path):
    network = build_model("mc2_10", 4)
    extra = {
        "gpu_0/conv1_w_momentum": np.ones((2, 2), np.float32),
        "lr": np.ones(1, np.float32),
        "optimizer_iteration": np.ones(1, np.int64),
    }
    path = write_caffe2(tmp_path / "a.pkl", network, form="2", extra=extra)
    assert set(caffe2.read_blobs(path)) == set(blobs_of(network))


def test_names_below_a_gpu_are_understood(tmp_path):
    import pickle

    scoped = {f"gpu_0/{name}": blob for name, blob in blobs_of(build_model("mc2_10", 4)).items()}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(scoped, 2))
    assert caffe2.describe(caffe2.read_blobs(tmp_path / "a.pkl")).model == "mc2_10"


def test_what_the_blobs_cannot_tell(tmp_path):
    """R2D on three frames has MC2's shapes, and a max-pool none: an option says it."""
    network = make("r2d_10", num_classes=4, clip_frames=3)
    source = write_caffe2(tmp_path / "a.pkl", network)
    assert caffe2.describe(caffe2.read_blobs(source)).model == "mc2_10"
    made = convert_file(source, tmp_path / "a.safetensors", "r2d_10")
    assert (made.loaded.model, made.loaded.clip_frames) == ("r2d_10", 3)
    x = clips(1, 3, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(load_weights(made.path, "r2d_10").build()(x), network(x))


def test_loaded_without_conversion(tmp_path):
    network = make("rmc5_10", num_classes=6)
    source = write_caffe2(tmp_path / "a.pkl", network)
    x = clips(1, 3, 4, 16, 16)
    with torch.no_grad():
        assert torch.equal(load_weights(source, "rmc5_10").build()(x), network(x))
    with pytest.raises(StateDictError, match="weights of rmc5_10: give model=rmc5_10"):
        load_weights(source, "r3d_10")


def test_a_published_name_brings_its_plan_and_classes(tmp_path):
    source = write_caffe2(tmp_path / "mc3_d18_l8.pkl", build_model("mc3_18"))
    target = tmp_path / "mc3.safetensors"
    assert convert_file(source, target).entry.full_name == "mc3_18/caffe2_kinetics_8f"
    loaded = load_weights(target, "mc3_18")
    assert loaded.plan.frames == 8
    assert loaded.class_names[0] == "abseiling"
    assert loaded.bn_eps == 1e-3
    assert loaded.preprocess.crop == (112, 112)


def broken(change):
    blobs = blobs_of(build_model("r3d_10", 4))
    change(blobs)
    return blobs


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: b.pop("comp_2_spatbn_1_riv"), "comp_2_spatbn_1_riv is missing"),
        (lambda b: b.pop("comp_2_conv_2_w"), "block comp_2 is 0 wide"),
        (lambda b: b.pop("last_out_L4_w"), "one last layer"),
        (lambda b: b.update(last_out_L5_w=b["last_out_L4_w"]), "found last_out_L4_w, last_out_L5"),
        (lambda b: b.update(other_w=b["conv1_w"]), "1 are left over, such as other_w"),
        (lambda b: b.update(conv1_spatbn_relu_b=np.zeros(5, np.float32)), r"is \(5,\), expected"),
        (lambda b: b.update(conv1_w=b["conv1_w"][:, :, 0]), "5 axes"),
        (lambda b: b.update(conv1_w=np.zeros((64, 3, 5, 7, 7))), "kernels 5 frames long"),
        (lambda b: b.update(comp_1_conv_1_w=b["comp_1_conv_1_w"][:, :, :1]), "kernels 3 frames"),
        (lambda b: b.update(comp_0_conv_1_w=b["comp_0_conv_1_w"][:, :1]), "CSN"),
        (lambda b: b.update(comp_9_conv_1_w=b["comp_0_conv_1_w"]), "no residual blocks"),
        (lambda b: b.update(comp_4_conv_1_w=b["comp_3_conv_1_w"]), "block comp_4 is 0 wide"),
    ],
)
def test_blobs_of_no_network_are_refused(change, message):
    with pytest.raises(WeightsError, match=message):
        caffe2.convert(broken(change))


def test_a_network_of_other_depth_is_refused():
    blobs = blobs_of(build_model("r3d_10", 4))
    blobs.update({k.replace("comp_3", "comp_4"): v for k, v in blobs.items() if "comp_3" in k})
    with pytest.raises(WeightsError, match=r"per group \[1, 1, 1, 2\]: no network of 10, 18"):
        caffe2.convert(blobs)


def test_convert_unwraps_checkpoints(tmp_path):
    state = make("mc2_10", num_classes=4).state_dict()
    wrapped = {"model": {f"module.{k}": v for k, v in state.items()}, "epoch": 3}
    torch.save(wrapped, tmp_path / "a.pt")
    torch.save(state, tmp_path / "b.pt")
    made = convert_file(tmp_path / "a.pt", tmp_path / "a.safetensors")
    assert made.loaded.model == "mc2_10"
    plain = load_weights(tmp_path / "b.pt", "mc2_10")
    assert load_weights(made.path, "mc2_10").backbone_sha256 == plain.backbone_sha256


def test_the_command(tmp_path):
    from vidfeat.cli.weights import command

    source = write_caffe2(tmp_path / "a.pkl", build_model("mc2_10", 4))
    target = tmp_path / "a.safetensors"
    arguments = ["convert", str(source), "-o", str(target)]
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert "mc2_10, 4 classes, 3 channels" in result.output
    assert "do not show the length" in result.output
    with pytest.raises(UsageError, match="exists: give overwrite=True"):
        CliRunner().invoke(command, arguments, catch_exceptions=False)
    CliRunner().invoke(command, [*arguments, "--overwrite"], catch_exceptions=False)
    with pytest.raises(UsageError, match="safetensors file"):
        convert_file(source, tmp_path / "a.pt")
    header = target.read_bytes()
    length = int.from_bytes(header[:8], "little")
    metadata = json.loads(header[8 : 8 + length])["__metadata__"]
    assert json.loads(metadata["vidfeat"]) == {
        "bn_eps": 0.001,
        "model": "mc2_10",
        "source": "a.pkl",
    }
