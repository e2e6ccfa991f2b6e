import json
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from tests.support.models_fixtures import clips, make_network
from vidfeat.encoders import onnx_export as export
from vidfeat.errors import ExportError, MissingExtraError, UsageError
from vidfeat.video.clip_plan import ClipPlan
from vidfeat.video.preprocess import Preprocess
from vidfeat.weights.files import WeightsFacts, save_weights
from vidfeat.weights.load import load_weights


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "net.safetensors"
    network = make_network("mc3_10", num_classes=5)
    plan, preprocess = ClipPlan(frames=4), Preprocess(resize=(24, 24), crop=(16, 16))
    save_weights(
        path,
        network.state_dict(),
        WeightsFacts(model="mc3_10", plan=plan, preprocess=preprocess, bn_eps=1e-3),
    )
    return load_weights(path, "mc3_10")


def test_onnx(tmp_path, loaded):
    """One file; any number of clips; what it needs to be used stands in it."""
    onnx = pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    target = tmp_path / "net.onnx"
    report = export.export_network(loaded, target, layers=("layer3", "layer4"), pool=("max",))
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]
    assert report.input_shape == (2, 3, 4, 16, 16)
    assert report.dimension == 256 + 512
    assert report.error < 1e-5
    session = runtime.InferenceSession(str(target), providers=["CPUExecutionProvider"])
    network = loaded.build()
    for count in (1, 3):
        x = clips(count, 3, 4, 16, 16, seed=count)
        embedding, scores = session.run(["embedding", "scores"], {"clips": x.numpy()})
        with torch.no_grad():
            maps = network.features(x, ("layer3", "layer4"))
            expected = torch.cat([value.amax((2, 3, 4)) for value in maps.values()], 1)
            np.testing.assert_allclose(embedding, expected, rtol=1e-3, atol=1e-4)
            np.testing.assert_allclose(scores, network(x), rtol=1e-3, atol=1e-4)
    facts = {entry.key: entry.value for entry in onnx.load(target).metadata_props}
    assert facts["vidfeat.model"] == "mc3_10"
    assert json.loads(facts["vidfeat.preprocess"])["crop"] == [16, 16]
    assert json.loads(facts["vidfeat.plan"])["frames"] == 4
    with pytest.raises(UsageError, match="exists: give overwrite=True"):
        export.export_network(loaded, target)


def test_openvino(tmp_path, loaded):
    if find_spec("openvino") is None:
        pytest.skip("OpenVINO is not installed")
    report = export.export_network(loaded, tmp_path / "net.xml")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.bin", "net.xml"]
    assert report.error < 1e-5
    import openvino

    model = openvino.Core().compile_model(
        tmp_path / "net.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    x = clips(3, 3, 4, 16, 16)
    with torch.no_grad():
        np.testing.assert_allclose(
            model({"clips": x.numpy()})["scores"], loaded.build()(x), rtol=1e-3, atol=1e-4
        )


@pytest.mark.parametrize(("suffix", "extra"), [(".onnx", "onnx"), (".xml", "openvino")])
def test_what_is_not_installed_is_named(tmp_path, loaded, monkeypatch, suffix, extra):
    monkeypatch.setattr(export, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=rf"pip install 'vidfeat\[{extra}\]'"):
        export.export_network(loaded, tmp_path / f"net{suffix}")


def test_other_formats_are_refused(tmp_path, loaded):
    with pytest.raises(UsageError, match=r"it must end in \.onnx, or in \.xml"):
        export.export_network(loaded, tmp_path / "net.pb")


def test_a_file_that_computes_something_else_is_not_kept(tmp_path, loaded, monkeypatch):
    def broken(module, x, path, facts):
        path.write_text("written")
        embedding, scores = module(x)
        return [embedding.detach().numpy(), scores.detach().numpy() * 1.01]

    monkeypatch.setattr(export, "find_spec", lambda name: name)
    monkeypatch.setattr(export, "_write_onnx", broken)
    with pytest.raises(ExportError, match=r"differ from torch's by 0\.01"):
        export.export_network(loaded, tmp_path / "net.onnx")
    assert list(tmp_path.iterdir()) == []


def test_the_command(tmp_path, monkeypatch):
    from vidfeat.cli.export import command

    def faithful(module, x, path, facts):
        path.write_text("written")
        return [output.detach().numpy() for output in module(x)]

    monkeypatch.setattr(export, "find_spec", lambda name: name)
    monkeypatch.setattr(export, "_write_onnx", faithful)
    arguments = ["r2d_10", "--weights", "random", "--clip-frames", "2", "--pool", "mean,max"]
    result = CliRunner().invoke(
        command, [*arguments, "-o", str(tmp_path / "net.onnx")], catch_exceptions=False
    )
    assert "clips of 3 x 2 x 112 x 112, embedding of 1024" in result.output
