"""The engine for processors, and networks quantised to int8 on the user's own clips."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from tests.support.rendered_videos import render
from vidfeat.cli import cli
from vidfeat.encoders.encoder import Encoder
from vidfeat.encoders.int8 import quantize
from vidfeat.encoders.int8.folder import read_net
from vidfeat.encoders.int8.quantize import CalibrationOptions, agreement, sample_clips
from vidfeat.encoders.load import encoder_from_description, load_encoder
from vidfeat.encoders.openvino_package import import_openvino
from vidfeat.errors import (
    FingerprintError,
    MissingExtraError,
    NothingDoneError,
    UsageError,
    VidfeatError,
    WeightsError,
)
from vidfeat.store.reader import FeatureStore
from vidfeat.video.listing import list_videos
from vidfeat.video.plan_choice import PlanChoice

MODEL = "r2plus1d_10_w16"
NETWORK = [MODEL, "--weights", "random", "--clip-frames", "4"]
EXTRACT = ["--model", MODEL, "--weights", "random", "--clip-frames", "4", "--clips", "3"]


def need(*packages: str) -> None:
    """Skip without them; an import would report itself, which `import_openvino` prevents."""
    for package in packages:
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed")


def run(*arguments: object) -> Result:
    """A command line; what it raises on purpose comes out."""
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    if isinstance(result.exception, VidfeatError):
        raise result.exception
    return result


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for seed, kind in enumerate(("waves", "balls", "stars", "spiral")):
        render(folder / f"{kind}.mp4", kind, seed, 1.0, width=192, height=144)
    return folder


@pytest.fixture(scope="module")
def torch_encoder() -> Encoder:
    return load_encoder(MODEL, "random", plan=PlanChoice(frames=4))


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory, videos: Path) -> Path:
    """A quantised network, made by the command; copy it before changing it."""
    need("openvino", "nncf")
    folder = tmp_path_factory.mktemp("quantised") / "net"
    command = ["export", *NETWORK, "--precision", "int8", "--calibrate", videos, "-o", folder]
    result = run(*command, "--calibration-clips", 8)
    assert result.exit_code == 0, result.output
    assert "cosine to fp32" in result.output
    assert [path.name for path in folder.parent.iterdir()] == ["net"]
    return folder


@pytest.fixture(scope="module")
def clips(torch_encoder: Encoder, videos: Path) -> np.ndarray:
    wanted = CalibrationOptions(5, 0)
    listed = list_videos([videos]).videos
    return sample_clips(listed, torch_encoder.plan, torch_encoder.preprocess, wanted).calibration


# -- fp32 ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layers", "pool"), [(None, None), (["layer2", "layer4"], ["max", "mean"])]
)
def test_fp32_gives_the_vectors_of_torch(clips: np.ndarray, layers, pool) -> None:
    need("openvino")
    both = [
        load_encoder(
            MODEL, "random", plan=PlanChoice(frames=4), layers=layers, pool=pool, engine=engine
        )
        for engine in ("torch", "openvino")
    ]
    expected, found = (encoder.encode_clips(clips) for encoder in both)
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()
    expected, found = (encoder.predict_clips(clips) for encoder in both)
    assert found.shape == (5, 400)
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()
    assert both[0].space_fingerprint == both[1].space_fingerprint
    assert both[0].run_fingerprint != both[1].run_fingerprint
    assert both[1].engine.precision_error < 1e-4


def test_a_row_does_not_depend_on_its_batch(net: Path, clips: np.ndarray) -> None:
    encoder = load_encoder(weights=net, batch_size=4)
    encoder.engine.threads = 2
    four = encoder.engine.embed(clips[:4])
    alone = [encoder.engine.embed(clip[None])[0] for clip in clips[:4]]
    assert np.array_equal(four, alone)
    assert np.array_equal(encoder.encode_clips(clips)[:4], four)


def test_what_openvino_does_not_do_is_said() -> None:
    need("openvino")
    with pytest.raises(UsageError, match="openvino engine runs fp32 and int8, not fp16"):
        load_encoder(MODEL, "random", engine="openvino", precision="fp16")
    with pytest.raises(UsageError, match="compiled=True is for torch"):
        load_encoder(MODEL, "random", engine="openvino", compiled=True)
    with pytest.raises(UsageError, match=r"vidfeat export .* --calibrate VIDEOS -o net/"):
        load_encoder(MODEL, "random", precision="int8")
    with pytest.raises(UsageError, match="engine must be one of torch, openvino, not 'onnx'"):
        load_encoder(MODEL, "random", engine="onnx")


def test_nobody_is_told(monkeypatch) -> None:
    need("openvino")
    monkeypatch.delitem(sys.modules, "openvino_telemetry", raising=False)
    import_openvino("a test")
    with pytest.raises(ImportError):
        import openvino_telemetry  # noqa: F401


@pytest.mark.parametrize("package", ["openvino", "nncf"])
def test_a_package_that_is_absent_is_named(monkeypatch, tmp_path, videos, package) -> None:
    need("openvino")
    monkeypatch.setitem(sys.modules, package, None)
    message = rf"the package {package}: install it with pip install 'vidfeat\[openvino\]'"
    with pytest.raises(MissingExtraError, match=message):
        run("extract", videos, *EXTRACT, "--precision", "int8", "-o", tmp_path / "f.h5")
    if package == "openvino":
        with pytest.raises(MissingExtraError, match=message):
            run("extract", videos, *EXTRACT, "--engine", "openvino", "-o", tmp_path / "f.h5")
    assert list(tmp_path.iterdir()) == []


# -- a quantised network ---------------------------------------------------------------------------


def test_the_folder_says_what_it_is(net: Path, torch_encoder: Encoder) -> None:
    facts = json.loads((net / "net.json").read_text())
    described = torch_encoder.describe()
    same = ("model", "weights", "weights_sha256", "architecture", "layers", "pool", "preprocess")
    assert all(facts[name] == described[name] for name in (*same, "plan", "dimension"))
    assert facts["precision"] == "int8"
    assert (facts["calibration"]["clips"], facts["calibration"]["videos"]) == (8, 1)
    assert 2 < facts["error"]["clips"] <= 64
    assert facts["error"]["videos"] == 3
    assert -1 <= facts["error"]["cosine_min"] <= facts["error"]["cosine_mean"] <= 1.0000001
    assert "kind: quantised network" in run("info", net).output


def test_int8_vectors_are_comparable_and_not_mixed(
    net: Path, torch_encoder: Encoder, clips: np.ndarray
) -> None:
    encoder = load_encoder(weights=net)
    assert (encoder.spec.model, encoder.spec.precision, encoder.engine.name) == (
        MODEL,
        "int8",
        "openvino",
    )
    assert encoder.space_fingerprint == torch_encoder.space_fingerprint
    assert encoder.run_fingerprint != torch_encoder.run_fingerprint
    assert encoder.describe()["network_sha256"] == read_net(net).sha256
    exact, found = torch_encoder.encode_clips(clips), encoder.encode_clips(clips)
    assert 0 < np.linalg.norm(found - exact) / np.linalg.norm(exact) < 0.1
    assert any("cosine to fp32" in note for note in encoder.spec.notes)
    # What was extracted with it is asked in fp32, unless the folder is named.
    again = encoder_from_description(encoder.describe())
    assert (again.spec.precision, again.space_fingerprint) == ("fp32", encoder.space_fingerprint)
    assert encoder_from_description(encoder.describe(), net).run_fingerprint == (
        encoder.run_fingerprint
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": ["layer3"]}, "quantised for layers=layer4, not layer3"),
        ({"pool": ["max"]}, "quantised for pool=mean, not max"),
        ({"model": "r3d_18"}, f"quantised for model={MODEL}, not r3d_18"),
        ({"precision": "fp32"}, "quantised for precision=int8, not fp32"),
        ({"engine": "torch"}, "quantised for engine=openvino, not torch"),
        ({"plan": PlanChoice(frames=8)}, "clips of 4 frames, not 8: leave frames out"),
        ({"compiled": True}, "compiled=True is for torch"),
    ],
)
def test_what_is_fixed_in_the_folder_stays(net: Path, options, message) -> None:
    with pytest.raises(UsageError, match=message):
        load_encoder(weights=net, **options)
    assert load_encoder(MODEL, net, layers=["layer4"], plan=PlanChoice(stride=2)).plan.stride == 2


def test_the_bundled_network_is_known_by_its_name(
    net: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = read_net(net)
    bundled = replace(made, facts={**made.facts, "weights": "bundled"})
    monkeypatch.setattr("vidfeat.encoders.int8.load.read_net", lambda folder: bundled)
    assert load_encoder("bundled", net).spec.weights == "bundled"


def test_a_damaged_folder_is_refused(net: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(net, tmp_path / "net"))
    data = bytearray((copy / "net.bin").read_bytes())
    data[100] ^= 1
    (copy / "net.bin").write_bytes(data)
    with pytest.raises(WeightsError, match=r"net\.bin is damaged .* make it again"):
        load_encoder(weights=copy)
    (copy / "net.bin").unlink()
    with pytest.raises(WeightsError, match=r"lacks net\.bin"):
        load_encoder(weights=copy)
    facts = json.loads((copy / "net.json").read_text())
    (copy / "net.json").write_text(json.dumps(facts | {"format_version": 2}))
    with pytest.raises(WeightsError, match="format version 2, this vidfeat reads 1"):
        load_encoder(weights=copy)
    (copy / "net.json").write_text("{")
    with pytest.raises(WeightsError, match=r"net\.json cannot be read"):
        load_encoder(weights=copy)


# -- extract ---------------------------------------------------------------------------------------


def test_shards_take_one_network_and_another_one_is_refused(
    net: Path, videos: Path, tmp_path: Path
) -> None:
    for number in (1, 2):
        shard = ["--shard", f"{number}/2", "--workers", 0, "-o", tmp_path / f"{number}.h5"]
        result = run("extract", videos, "--weights", net, "--clips", 3, *shard)
        assert result.exit_code == 0, result.output
    parts = [tmp_path / "1.h5", tmp_path / "2.h5"]
    assert run("merge", *parts, "-o", tmp_path / "all.h5").exit_code == 0
    with FeatureStore(tmp_path / "all.h5") as store:
        assert store.num_clips == 12
        assert store.encoder["precision"] == "int8"
        assert store.encoder["network_sha256"] == read_net(net).sha256
    # Another quantisation: here the same network with a byte that says nothing.
    other = Path(shutil.copytree(net, tmp_path / "other"))
    text = (other / "net.xml").read_text() + "\n"
    (other / "net.xml").write_text(text)
    facts = json.loads((other / "net.json").read_text())
    from vidfeat.system.download import file_sha256

    facts["files"]["net.xml"] = file_sha256(other / "net.xml")
    (other / "net.json").write_text(json.dumps(facts))
    with pytest.raises(FingerprintError, match="network_sha256"):
        run("extract", videos, "--weights", other, "--clips", 3, "-o", parts[0])


def test_extract_quantises_once_and_goes_on_with_that(
    videos: Path, tmp_path: Path, monkeypatch
) -> None:
    need("openvino", "nncf")
    monkeypatch.setattr(quantize, "CalibrationOptions", partial(CalibrationOptions, 6, 6))
    mine = Path(shutil.copytree(videos, tmp_path / "videos"))
    moved = (mine / "waves.mp4").rename(tmp_path / "waves.mp4")
    output = tmp_path / "f.h5"
    command = ["extract", mine, *EXTRACT, "--precision", "int8", "--workers", 0, "-o", output]
    dry = run(*command, "--dry-run")
    assert "the estimate is for fp32" in dry.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["videos", "waves.mp4"]
    with pytest.raises(UsageError, match="needs one quantised network for all shards"):
        run(*command, "--shard", "1/2")
    first = run(*command)
    assert first.exit_code == 0, first.output
    assert "calibrating on 6 clips" in first.output
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "f.h5",
        "f.h5.int8",
        "videos",
        "waves.mp4",
    ]
    made = read_net(tmp_path / "f.h5.int8").sha256
    moved.rename(mine / "waves.mp4")
    second = run(*command)
    assert second.exit_code == 0, second.output
    assert "calibrating" not in second.output
    assert "3 videos were already there" in second.output
    with FeatureStore(output) as store:
        assert store.encoder["network_sha256"] == made
        assert store.num_clips == 12
    # What was not made so is not taken, and nothing is destroyed.
    message = r"was quantised with other settings \(layers was .*overwrite=True"
    with pytest.raises(UsageError, match=message):
        run(*command, "--layer", "layer3")
    with pytest.raises(UsageError, match="--precision int8 runs on --engine openvino, not torch"):
        run(*command, "--engine", "torch")
    assert read_net(tmp_path / "f.h5.int8").sha256 == made
    with pytest.raises(UsageError, match=r"f\.h5\.int8 exists: give overwrite=True"):
        again = ["--precision", "int8", "--calibrate", mine, "-o", tmp_path / "f.h5.int8"]
        run("export", *NETWORK, *again)


def test_export_says_what_it_lacks(videos: Path, tmp_path: Path) -> None:
    result = run("export", *NETWORK, "--precision", "int8", "-o", tmp_path / "net")
    assert result.exit_code == 2
    assert "needs --calibrate VIDEOS" in result.output
    result = run("export", *NETWORK, "--calibrate", videos, "-o", tmp_path / "net.onnx")
    assert result.exit_code == 2
    assert "are for --precision int8" in result.output
    need("openvino", "nncf")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(UsageError, match="is not a quantised network, and is not replaced"):
        int8 = ["--precision", "int8", "--calibrate", videos, "--overwrite"]
        run("export", *NETWORK, *int8, "-o", tmp_path / "mine")


# -- the sample, and the measure -------------------------------------------------------------------


def test_calibration_and_measurement_share_no_video(
    torch_encoder: Encoder, videos: Path, tmp_path: Path
) -> None:
    plan, preprocess = torch_encoder.plan, torch_encoder.preprocess
    mine = Path(shutil.copytree(videos, tmp_path / "videos"))
    (mine / "broken.mp4").write_bytes(b"no video")
    listed = list_videos([mine]).videos
    sample = sample_clips(listed, plan, preprocess, CalibrationOptions(4, 6))
    assert (len(sample.calibration), len(sample.held_out)) == (4, 4)
    assert (sample.calibration_videos, sample.held_out_videos, sample.unreadable) == (2, 2, 1)
    again = sample_clips(listed, plan, preprocess, CalibrationOptions(4, 6))
    assert np.array_equal(sample.calibration, again.calibration)
    one = sample_clips(
        list_videos([mine / "waves.mp4"]).videos, plan, preprocess, CalibrationOptions(3, 3)
    )
    assert (len(one.calibration), len(one.held_out), one.held_out_videos) == (3, 3, 0)
    with pytest.raises(NothingDoneError, match=r"none of the 1 videos .* broken\.mp4"):
        sample_clips(
            list_videos([mine / "broken.mp4"]).videos, plan, preprocess, CalibrationOptions()
        )
    with pytest.raises(UsageError, match="calibration_clips must be at least 1"):
        CalibrationOptions(0)


def test_agreement_by_hand() -> None:
    exact = np.array([[1, 0], [0.9, 0.5], [-1, 0], [-0.9, -0.5]], np.float32)
    found = agreement(exact, exact)
    assert (found.clips, found.same_nearest) == (4, 1.0)
    assert found.cosine_min == pytest.approx(1)
    turned = exact.copy()
    turned[0] = [0, 1]  # at a right angle; nearer to the third than before, still nearest to row 1
    found = agreement(exact, turned)
    assert found.cosine_min == pytest.approx(0, abs=1e-7)
    assert found.cosine_mean == pytest.approx(0.75)
