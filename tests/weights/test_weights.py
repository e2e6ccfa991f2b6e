import os
import random

import pytest
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.models_fixtures import clips, make_network
from vidfeat.errors import DownloadError, StateDictError, UsageError, WeightsError
from vidfeat.models import MODEL_NAMES, build_model, model_info
from vidfeat.models.catalog import DESIGNS
from vidfeat.pretrained import ENTRIES, default_entry, entries_of, find_entry
from vidfeat.video.clip_plan import ClipPlan
from vidfeat.video.preprocess import Preprocess
from vidfeat.weights import load as weights
from vidfeat.weights.files import WeightsFacts, save_weights
from vidfeat.weights.load import load_weights, tensor_hash
from vidfeat.weights.statedict import CLASSIFIERS, recognise


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    """Empty caches, and no network."""
    monkeypatch.setenv("VIDFEAT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")


# -- the registry -----------------------------------------------------------------------------


def test_registry_is_sound():
    assert len({entry.full_name for entry in ENTRIES}) == len(ENTRIES)
    assert len({entry.filename for entry in ENTRIES}) == len(ENTRIES)
    for entry in ENTRIES:
        assert entry.model in MODEL_NAMES
        assert entry.licence
        assert entry.source.startswith("https://")
        assert " " not in entry.url
        assert entry.accuracy is None or entry.class_list == "kinetics400"
        assert entry.class_list != "kinetics400" or entry.num_classes == 400
        assert len(entry.preprocess.mean) == entry.in_channels
        paper = entry.model in DESIGNS
        assert (entry.bn_eps is not None) == paper
        own = "download.pytorch.org" not in entry.url
        if own and entry.num_classes == 400 and entry.in_channels == 3:
            size = 4 * model_info(entry.model, entry.plan.frames).parameters / 1e6
            assert abs(entry.megabytes - size) < 2, entry.full_name


def test_registry_agrees_with_torchvision():
    from torchvision.models import get_model_weights

    for entry in ENTRIES:
        if not entry.url.startswith("https://download.pytorch.org"):
            continue
        published = {w.url: w for w in get_model_weights(entry.model)}[entry.url]
        metrics = published.meta["_metrics"]["Kinetics-400"]
        assert (metrics["acc@1"], metrics["acc@5"]) == (entry.accuracy.top1, entry.accuracy.top5)
        assert entry.num_classes == len(published.meta["categories"])
        assert abs(published.meta["_file_size"] * 1.048576 - entry.megabytes) < 1
        preset, ours = published.transforms(), entry.preprocess
        resize = ours.resize if isinstance(ours.resize, tuple) else (ours.resize,)
        assert tuple(preset.resize_size) == resize
        assert tuple(preset.crop_size) == ours.crop
        assert (tuple(preset.mean), tuple(preset.std)) == (ours.mean, ours.std)
        words = published.meta["_docs"]
        assert f"`clip_len={entry.plan.frames}`" in words
        assert f"`frame_rate={float(entry.plan.fps):g}`" in words
        with torch.device("meta"):
            count = sum(p.numel() for p in build_model(entry.model).parameters())
        assert count == published.meta["num_params"]


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("r2plus1d_18", "kinetics400"),
        ("r3d_18", "kinetics400"),
        ("mc3_18", "kinetics400"),
        ("r2plus1d_34", "ig65m_kinetics_32f"),
        ("r2plus1d_152", "ig65m_kinetics_32f"),
        ("r2plus1d_152_pool", "ig65m_kinetics_32f"),
        ("rmc4_18", "caffe2_kinetics_16f"),
        ("swin3d_b", "kinetics400"),
    ],
)
def test_defaults(model, name):
    assert default_entry(model).name == name


def test_names_are_found():
    assert find_entry("ig65m_8f", "r2plus1d_34").num_classes == 487
    assert find_entry("ig65m_32f", "r2plus1d_34").num_classes == 359
    assert find_entry("r2plus1d_18/kinetics400").sha256 == "91a641e6"
    assert find_entry("imagenet22k_kinetics400").model == "swin3d_b"
    assert default_entry("r2plus1d_10") is None
    assert entries_of("r2plus1d_18_paper") != entries_of("r2plus1d_18")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: find_entry("kinetics400"), "several networks have weights 'kinetics400'"),
        (lambda: find_entry("kinetics", "r3d_18"), "published for it: kinetics400, caffe2"),
        (lambda: find_entry("ig65m_8f", "r3d_18"), "of r2plus1d_34: give model=r2plus1d_34"),
        (lambda: find_entry("r3d_18/kinetic400"), "near it are r3d_18/kinetics400"),
        (lambda: find_entry("zzz"), "there are r2plus1d_18/kinetics400"),
    ],
)
def test_unknown_names_list_the_known(call, message):
    with pytest.raises(UsageError, match=message):
        call()


# -- loading ----------------------------------------------------------------------------------


@pytest.fixture
def network():
    return make_network("r2plus1d_10", num_classes=5, in_channels=2, bn_eps=0.01)


def facts_of(loaded):
    return (loaded.num_classes, loaded.in_channels, loaded.midplanes, loaded.bn_eps)


def test_one_fingerprint_for_one_set_of_tensors(tmp_path, network):
    """safetensors, torch's format of today and of 2019, with and without batch norm's counters."""
    state = network.state_dict()
    save_weights(tmp_path / "a.safetensors", state, WeightsFacts(model="r2plus1d_10", bn_eps=0.01))
    torch.save(state, tmp_path / "b.pt")
    shuffled = list(state.items())
    random.Random(0).shuffle(shuffled)
    torch.save(dict(shuffled), tmp_path / "c.pth", _use_new_zipfile_serialization=False)
    torch.save({k: v for k, v in state.items() if "num_batches" not in k}, tmp_path / "d.pt")
    (tmp_path / "b.pt").rename(tmp_path / "b.bin")
    loaded = [load_weights(path, "r2plus1d_10") for path in tmp_path.iterdir()]
    assert len(loaded) == 4
    assert {one.backbone_sha256 for one in loaded} == {tensor_hash(state, CLASSIFIERS)}
    x = clips(1, 2, 4, 16, 16)
    for one in loaded:
        assert one.num_classes == 5
        with torch.no_grad():
            same = torch.equal(one.build()(x), network(x))
        assert same == (one.bn_eps == 0.01)
    assert [one.bn_eps for one in loaded].count(0.01) == 1


def test_metadata_travels_with_the_tensors(tmp_path, network):
    path = tmp_path / "net.safetensors"
    save_weights(
        path,
        network.state_dict(),
        WeightsFacts(
            model="r2plus1d_10",
            class_names=["a", "b", "c", "d", "é"],
            bn_eps=0.01,
            preprocess=Preprocess(resize=64, crop=(56, 56)),
            plan=ClipPlan(frames=9, fps=7.5),
        ),
    )
    loaded = load_weights(path, "r2plus1d_10")
    assert facts_of(loaded) == (5, 2, "conv", 0.01)
    assert loaded.class_names == ("a", "b", "c", "d", "é")
    assert loaded.preprocess.crop == (56, 56)
    assert (loaded.plan.frames, loaded.plan.fps) == (9, 7.5)
    x = clips(1, 2, 4, 16, 16)
    with torch.no_grad():
        assert torch.equal(loaded.build()(x), network(x))


def test_a_training_runs_folder(tmp_path, network):
    with pytest.raises(UsageError, match=r"without model\.safetensors"):
        load_weights(tmp_path, "r2plus1d_10")
    save_weights(
        tmp_path / "model.safetensors", network.state_dict(), WeightsFacts(model="r2plus1d_10")
    )
    assert load_weights(tmp_path, "r2plus1d_10").num_classes == 5
    assert load_weights(str(tmp_path), "r2plus1d_10").name == "model.safetensors"


@pytest.mark.parametrize("name", ["r2plus1d_10", "r2d_10", "mc3_10", "swin3d_t"])
def test_random_weights_are_seeded(name):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = load_weights("random", name, seed=1)
    assert torch.equal(torch.rand(1), expected)  # the caller's own draws are not disturbed
    again = load_weights("random", name, seed=1)
    other = load_weights("random", name, seed=2)
    assert first.backbone_sha256 == again.backbone_sha256 != other.backbone_sha256
    assert first.name == "random (seed 1)"
    assert first.clip_frames == (16 if name == "r2d_10" else None)


def test_random_weights_for_flow_and_short_clips():
    loaded = load_weights("random", "r2d_10", num_classes=3, in_channels=2, clip_frames=4)
    assert (loaded.num_classes, loaded.in_channels, loaded.clip_frames) == (3, 2, 4)
    assert loaded.build()(clips(2, 2, 4, 16, 16)).shape == (2, 3)
    assert loaded.plan.frames == 4
    with pytest.raises(UsageError, match="takes clips of 4 frames, not 8"):
        loaded.build(clip_frames=8)


@pytest.mark.parametrize(
    ("saved", "asked", "rule", "eps"),
    [
        ("r2plus1d_18", "r2plus1d_18", "block", 1e-5),
        ("r2plus1d_18_paper", "r2plus1d_18", "conv", 1e-3),
        ("r2plus1d_18", "r2plus1d_18_paper", "block", 1e-5),
    ],
)
def test_the_midplane_rule_is_read_off_the_tensors(tmp_path, saved, asked, rule, eps):
    network = make_network(saved, num_classes=3)
    torch.save(network.state_dict(), tmp_path / "a.pt")
    loaded = load_weights(tmp_path / "a.pt", asked)
    assert (loaded.midplanes, loaded.bn_eps) == (rule, eps)
    x = clips(1, 3, 2, 16, 16)
    with torch.no_grad():
        assert torch.equal(loaded.build()(x), network(x))


def test_a_network_of_torchvision(tmp_path):
    import torchvision

    theirs = torchvision.models.get_model("swin3d_t", num_classes=3)
    torch.save(theirs.state_dict(), tmp_path / "a.pt")
    loaded = load_weights(tmp_path / "a.pt", "swin3d_t")
    assert facts_of(loaded) == (3, 3, None, None)
    x = clips(1, 3, 2, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(loaded.build()(x), theirs.eval()(x), rtol=1e-5, atol=1e-5)


def test_half_precision_files_are_computed_in_float32(tmp_path, network):
    half = {k: v.half() if v.is_floating_point() else v for k, v in network.state_dict().items()}
    torch.save(half, tmp_path / "a.pt")
    built = load_weights(tmp_path / "a.pt", "r2plus1d_10").build()
    assert {p.dtype for p in built.parameters()} == {torch.float32}


# -- what does not fit ------------------------------------------------------------------------


def without(state, *names):
    return {k: v for k, v in state.items() if k not in names}


CHANGES = {
    "a missing tensor": (
        lambda s: without(s, "layer1.0.conv2.1.bias"),
        ["1 missing (layer1.0.conv2.1.bias)", "no layout that vidfeat knows"],
    ),
    "an unexpected tensor": (lambda s: {**s, "x.y": torch.ones(1)}, ["1 unexpected (x.y)"]),
    "another shape": (
        lambda s: {**s, "layer4.0.conv1.1.weight": torch.ones(3)},
        ["1 of another shape (layer4.0.conv1.1.weight is (3,), expected (512,))"],
    ),
    "no tensor": (lambda s: {**s, "stem.1.bias": "text"}, ["stem.1.bias is a str"]),
    "nothing": (lambda s: {}, ["107 missing"]),
    "DDP": (
        lambda s: {f"module.{k}": v for k, v in s.items()},
        ["a DDP checkpoint", "vidfeat weights convert"],
    ),
    "a checkpoint": (
        lambda s: {"state_dict": s, "epoch": 3},
        ["a training checkpoint with the weights under 'state_dict'", "vidfeat weights convert"],
    ),
    "mmaction2": (
        lambda s: {f"backbone.{k}": v for k, v in s.items()},
        ["a checkpoint of mmaction2"],
    ),
    "Caffe2 blobs": (lambda s: {"conv1_w": torch.ones(1)}, ["the blobs of a Caffe2 file"]),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_does_not_fit_is_described(tmp_path, network, name):
    change, parts = CHANGES[name]
    torch.save(change(network.state_dict()), tmp_path / "a.pt")
    with pytest.raises(StateDictError) as caught:
        load_weights(tmp_path / "a.pt", "r2plus1d_10")
    for part in (*parts, "a.pt does not fit r2plus1d_10"):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("saved", "options", "words"),
    [
        ("r2plus1d_18", {}, "r2plus1d_18 with torchvision's midplanes: give model=r2plus1d_18"),
        ("r2plus1d_34", {}, "r2plus1d_34 with the paper's midplanes"),
        ("r2plus1d_34", {"midplanes": "block"}, "r2plus1d_34 with torchvision's midplanes"),
        ("rmc3_18", {"in_channels": 2}, "it looks like rmc3_18: give model=rmc3_18"),
        ("r2d_34", {"clip_frames": 8}, "it looks like r2d_34"),
        ("r3d_152", {}, "it looks like r3d_152"),
        ("swin3d_s", {}, "it looks like swin3d_s"),
        ("mvit_v2_s", {}, "it looks like mvit_v2_s"),
    ],
)
def test_other_networks_are_recognised(saved, options, words):
    with torch.device("meta"):
        state = build_model(saved, 7, **options).state_dict()
    layout = recognise(state)
    assert layout is not None
    with pytest.raises(StateDictError) as caught:
        weights.fit_tensors(state, "r3d_10", "a.pt")
    assert words in str(caught.value)


def test_a_file_of_another_network_says_so(tmp_path, network):
    save_weights(
        tmp_path / "a.safetensors", network.state_dict(), WeightsFacts(model="r2plus1d_10")
    )
    with pytest.raises(StateDictError, match="weights of r2plus1d_10: give model=r2plus1d_10"):
        load_weights(tmp_path / "a.safetensors", "r3d_10")


class Evil:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_torch_file_that_wants_to_run_code(tmp_path, zipped):
    evil = {"fc.bias": Evil(tmp_path / "mark")}
    torch.save(evil, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError, match=r"refused: it asks for posix\.system"):
        load_weights(tmp_path / "a.pt", "r3d_10")
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("kind", ["safetensors", "pt", "legacy"])
def test_damaged_files(tmp_path, network, kind):
    path = tmp_path / f"a.{kind}"
    if kind == "safetensors":
        save_weights(path, network.state_dict(), WeightsFacts(model="r2plus1d_10"))
    else:
        torch.save(network.state_dict(), path, _use_new_zipfile_serialization=kind == "pt")
    content = path.read_bytes()
    for length in (20, 5_000, len(content) // 2, len(content) - 50):
        path.write_bytes(content[:length])
        with pytest.raises(WeightsError) as caught:
            load_weights(path, "r2plus1d_10")
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"no weights", b"\x00" * 100, b"PK\x03\x04rubbish"])
def test_no_weights_at_all(tmp_path, content):
    (tmp_path / "a.bin").write_bytes(content)
    with pytest.raises(WeightsError, match=r"a\.bin"):
        load_weights(tmp_path / "a.bin", "r3d_10")


@settings(max_examples=100, deadline=None)
@given(header=st.binary(max_size=60), length=st.integers(0, 2**64 - 1))
def test_hostile_safetensors_headers(tmp_path_factory, header, length):
    path = tmp_path_factory.getbasetemp() / "h.safetensors"
    path.write_bytes(length.to_bytes(8, "little") + b"{" + header)
    with pytest.raises(WeightsError):
        load_weights(path, "r3d_10")


@pytest.mark.filterwarnings("ignore:Validating sparse")
def test_odd_tensors_are_refused(tmp_path, network):
    state = dict(network.state_dict())
    state["fc.weight"] = state["fc.weight"].to_sparse()
    torch.save(state, tmp_path / "a.pt")
    with pytest.raises(WeightsError):
        load_weights(tmp_path / "a.pt", "r2plus1d_10")


@pytest.mark.parametrize(
    ("spec", "model", "message"),
    [
        (
            None,
            "r2plus1d_10",
            "no weights were ever published for r2plus1d_10: give weights=FILE",
        ),
        ("nowhere.pt", "r3d_18", r"no weights file nowhere\.pt"),
        ("a/b", "r3d_18", "no weights file a/b"),
        ("typo", "r3d_18", "no weights 'typo' for r3d_18"),
        ("random", "r3d_81", "did you mean r3d_18"),
        ("r2plus1d_34/ig65m_8f", "r3d_18", "they are of r2plus1d_34"),
    ],
)
def test_what_cannot_be_meant(spec, model, message):
    with pytest.raises(UsageError, match=message):
        load_weights(spec, model)


# -- entries ----------------------------------------------------------------------------------


def test_no_network_names_the_url_and_the_folder(tmp_path):
    with pytest.raises(DownloadError) as caught:
        load_weights(None, "r2plus1d_18")
    message = str(caught.value)
    assert "https://download.pytorch.org/models/r2plus1d_18-91a641e6.pth" in message
    assert f"put r2plus1d_18-91a641e6.pth into {tmp_path / 'cache' / 'weights'}" in message
    assert "model=bundled" in message


def place(folder, entry, monkeypatch):
    """A seeded network under an entry's file name, with the hash changed to fit."""
    from dataclasses import replace

    from vidfeat import pretrained
    from vidfeat.system.download import file_sha256

    network = make_network(entry.model, num_classes=400, bn_eps=entry.bn_eps)
    folder.mkdir(parents=True)
    torch.save(network.state_dict(), folder / entry.filename)
    known = replace(entry, sha256=file_sha256(folder / entry.filename)[:8])
    monkeypatch.setattr(pretrained, "ENTRIES", (known,))
    return network


@pytest.mark.parametrize("where", ["cache/weights", "torch/hub/checkpoints", "elsewhere"])
def test_an_entry_brings_all_that_was_published(tmp_path, monkeypatch, where):
    folder = tmp_path / where
    entry = find_entry("kinetics400", "mc3_18")
    network = place(folder, entry, monkeypatch)
    spec = folder / entry.filename if where == "elsewhere" else None
    loaded = load_weights(spec, "mc3_18")
    assert loaded.name == "kinetics400"
    assert loaded.entry.full_name == "mc3_18/kinetics400"
    assert loaded.class_names[:2] == ("abseiling", "air drumming")
    assert (loaded.plan.frames, loaded.plan.fps, loaded.bn_eps) == (16, 15, 1e-5)
    assert loaded.preprocess == Preprocess()
    x = clips(1, 3, 2, 16, 16)
    with torch.no_grad():
        assert torch.equal(loaded.build()(x), network(x))


def test_a_file_with_a_wrong_hash_is_never_loaded(tmp_path, monkeypatch):
    folder = tmp_path / "cache" / "weights"
    entry = find_entry("kinetics400", "mc3_18")
    place(folder, entry, monkeypatch)
    with (folder / entry.filename).open("ab") as file:
        file.write(b"\0")
    with pytest.raises(DownloadError):
        load_weights("kinetics400", "mc3_18")


# -- the hash ---------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_tensor_hash_sees_every_change(data):
    state = {f"t{i}": torch.arange(6, dtype=torch.float32).reshape(2, 3) + i for i in range(4)}
    known = tensor_hash(state)
    assert tensor_hash(dict(reversed(state.items()))) == known
    assert tensor_hash({**state, "a.num_batches_tracked": torch.tensor(3)}) == known
    assert tensor_hash({**state, "fc.weight": torch.ones(1)}, ("fc.",)) == known
    name = data.draw(st.sampled_from(sorted(state)))
    change = data.draw(st.sampled_from(["value", "shape", "type", "name", "gone", "strides"]))
    other = dict(state)
    if change == "value":
        other[name] = state[name].clone()
        other[name].view(-1)[data.draw(st.integers(0, 5))] += 1e-6 + 1
    elif change == "shape":
        other[name] = state[name].reshape(3, 2)
    elif change == "type":
        other[name] = state[name].to(torch.bfloat16)
    elif change == "name":
        other[f"{name}x"] = other.pop(name)
    elif change == "gone":
        del other[name]
    else:
        other[name] = state[name].t().contiguous().t()
    assert (tensor_hash(other) == known) == (change == "strides")


# -- the command ------------------------------------------------------------------------------


def test_list_command(tmp_path, monkeypatch):
    import json

    from vidfeat.cli.weights import command

    folder = tmp_path / "cache" / "weights"
    folder.mkdir(parents=True)
    (folder / "mc3_18-a90a0ba3.pth").touch()
    rows = json.loads(CliRunner().invoke(command, ["list", "--json"]).output)
    assert [(row["model"], row["name"]) for row in rows] == [(e.model, e.name) for e in ENTRIES]
    assert [row["model"] for row in rows if row["cached"]] == ["mc3_18"]
    table = CliRunner().invoke(command, ["list", "--model", "r2plus1d_34"]).output
    assert "ig65m_kinetics_32f" in table
    assert "MIT" in table
    assert str(folder) in table
    with pytest.raises(UsageError, match="did you mean"):
        CliRunner().invoke(command, ["list", "--model", "r3d18"], catch_exceptions=False)


def test_download_command(tmp_path, monkeypatch):
    from vidfeat.cli.weights import command

    entry = find_entry("kinetics400", "mc3_18")
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    place(folder, entry, monkeypatch)
    for names in (["mc3_18"], ["mc3_18/kinetics400"], ["kinetics400", "--model", "mc3_18"]):
        result = CliRunner().invoke(command, ["download", *names], catch_exceptions=False)
        assert result.output.strip() == str(folder / entry.filename)
