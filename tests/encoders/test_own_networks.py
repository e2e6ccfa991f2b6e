"""Networks of one's own: given in Python, or in a file that is named on the command line."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import vidfeat
from tests.support.cli_session import Session
from tests.support.short_videos import write_short_videos
from vidfeat.encoders.load import encoder_from_description
from vidfeat.encoders.sources import code_trust, stored_name
from vidfeat.errors import UsageError, WeightsError
from vidfeat.index.query import QuerySource
from vidfeat.video.preprocess import Preprocess

SMALL = Preprocess((32, 32), (32, 32), antialias=True, resampler="pillow")
DOCS = Path(__file__).parents[2] / "docs" / "encoders.md"


def network(width: int = 5, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv3d(3, width, (1, 8, 8), (1, 8, 8)), nn.ReLU())


@pytest.fixture(scope="module")
def videos(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("videos")
    write_short_videos(shared_data / "videos", folder)
    return folder


@pytest.fixture(autouse=True)
def own_record(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    record = tmp_path / "cache" / "own_networks.json"
    monkeypatch.setattr(code_trust, "record_file", lambda: record)
    return record


# --- in Python -----------------------------------------------------------------------------------


def test_a_map_is_pooled_and_a_vector_stays(videos: Path) -> None:
    plan = vidfeat.ClipPlan(4, hop_frames=8)
    mapped = vidfeat.Encoder.from_module(network(), input=SMALL, plan=plan, device="cpu")
    pooled = nn.Sequential(network(), nn.AdaptiveAvgPool3d(1), nn.Flatten())
    vector = vidfeat.Encoder.from_module(pooled, input=SMALL, plan=plan, device="cpu")
    path = sorted(videos.iterdir())[0]
    assert mapped.dimension == vector.dimension == 5
    assert np.allclose(mapped.encode(path).vectors, vector.encode(path).vectors, atol=1e-6)
    both = vidfeat.Encoder.from_module(network(), input=SMALL, pool=["mean", "max"], device="cpu")
    assert both.dimension == 10
    with pytest.raises(UsageError, match="cannot pool by max"):
        vidfeat.Encoder.from_module(pooled, input=SMALL, pool=["max"], device="cpu")


def test_a_module_of_frames_is_given_frames(videos: Path) -> None:
    seen = []

    class Frames(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(tuple(x.shape[1:]))
            return x.mean(dim=(2, 3))

    encoder = vidfeat.Encoder.from_module(
        Frames(), input=SMALL, plan=vidfeat.ClipPlan(4), modality="frame", device="cpu"
    )
    found = encoder.encode(sorted(videos.iterdir())[0])
    assert found.vectors.shape[1] == 3
    assert set(seen) == {(3, 32, 32)}


def test_frames_are_joined_as_asked(videos: Path) -> None:
    class Levels(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean(dim=(2, 3))

    def found(plan: vidfeat.ClipPlan, **options: str) -> np.ndarray:
        encoder = vidfeat.Encoder.from_module(
            Levels(), input=SMALL, plan=plan, modality="frame", device="cpu", **options
        )
        vectors = encoder.encode(sorted(videos.iterdir())[0]).vectors
        assert vectors.shape[1] == encoder.dimension
        return vectors

    frames = found(vidfeat.ClipPlan(1, hop_frames=1)).reshape(-1, 4, 3)
    clips = vidfeat.ClipPlan(4, hop_frames=4)
    mean, std = frames.mean(axis=1), frames.std(axis=1)
    assert np.allclose(found(clips), mean, atol=1e-6)
    assert np.allclose(found(clips, aggregate="max"), frames.max(axis=1), atol=1e-6)
    joined = found(clips, aggregate="mean_std")
    assert np.allclose(joined, np.concatenate([mean, std], axis=1), atol=1e-6)
    with pytest.raises(UsageError, match="leave clip_frames"):
        found(clips, aggregate="none")
    with pytest.raises(UsageError, match="this one takes clips"):
        vidfeat.Encoder.from_module(network(), input=SMALL, aggregate="max", device="cpu")


def test_the_fingerprint_covers_the_tensors_and_the_module_stays_as_it_was() -> None:
    module = network().train().requires_grad_(requires_grad=True)
    make = vidfeat.Encoder.from_module
    first = make(module, input=SMALL, name="mine", device="cpu")
    assert module.training
    assert all(parameter.requires_grad for parameter in module.parameters())
    assert make(network(), input=SMALL, name="mine").space_fingerprint == first.space_fingerprint
    for other in (
        make(network(seed=1), input=SMALL, name="mine"),
        make(network(), name="mine"),
        make(network(), input=SMALL, name="mine", plan=vidfeat.ClipPlan(8)),
    ):
        assert other.space_fingerprint != first.space_fingerprint


def test_what_is_not_given_is_said() -> None:
    encoder = vidfeat.Encoder.from_module(network(), device="cpu")
    (note,) = encoder.spec.notes
    assert "16 frames" in note
    assert "112 x 112" in note
    assert (encoder.plan, encoder.preprocess) == (vidfeat.ClipPlan(), Preprocess())
    assert not vidfeat.Encoder.from_module(
        network(), input=SMALL, plan=vidfeat.ClipPlan(), device="cpu"
    ).spec.notes


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Flatten(0), "expected a tensor"),
        (nn.Identity(), None),
        ("resnet", "expected a torch module"),
    ],
)
def test_modules_that_give_something_else(module: nn.Module, message: str | None) -> None:
    if message is None:  # a map with three channels
        assert vidfeat.Encoder.from_module(module, input=SMALL, device="cpu").dimension == 3
        return
    with pytest.raises(UsageError, match=message):
        vidfeat.Encoder.from_module(module, input=SMALL, device="cpu")


def test_a_module_in_python_has_to_be_given_again() -> None:
    encoder = vidfeat.Encoder.from_module(network(), input=SMALL, name="mine", device="cpu")
    with pytest.raises(WeightsError, match=r"mine was given as a module .* encoder="):
        encoder_from_description(encoder.describe(), device="cpu")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("net.py", "is a file: say which of its functions builds the network, such as .*net.py:b"),
        ("net.py:number", "net.py:number returned int, expected a torch module or an Encoder"),
        ("net.py:absent", "has no function absent"),
        ("none.py:build", "cannot read .*none.py"),
    ],
)
def test_files_that_build_no_network(tmp_path: Path, model: str, message: str) -> None:
    (tmp_path / "net.py").write_text("def number():\n    return 5\n")
    with pytest.raises(UsageError, match=message):
        vidfeat.load_encoder(str(tmp_path / model), device="cpu")


def test_names_as_feature_files_have_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net").mkdir()
    assert stored_name("hf:net") == f"hf:{tmp_path}/net"
    assert stored_name("hf:other/net") == "hf:other/net"
    assert stored_name("net.py:build") == f"{tmp_path}/net.py:build"
    assert stored_name("pe_core_s") == "open_clip:PE-Core-S-16-384/meta"
    assert (stored_name("r3d_18"), stored_name(None)) == ("r3d_18", None)


# --- in a file -----------------------------------------------------------------------------------

SOURCE = """
import torch
from torch import nn

import vidfeat
from vidfeat.video.preprocess import Preprocess


def build():
    torch.manual_seed(0)
    net = nn.Conv3d(3, 6, (1, 8, 8), (1, 8, 8))
    small = Preprocess((32, 32), (32, 32), antialias=True, resampler="pillow")
    return vidfeat.Encoder.from_module(net, input=small, plan=vidfeat.ClipPlan(4, hop_frames=4))


def plain():
    return nn.Conv3d(3, 6, (1, 16, 16), (1, 16, 16))


def broken():
    raise KeyError("no file")
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(SOURCE)
    return path


def test_a_file_is_run_and_remembered(file: Path, own_record: Path) -> None:
    encoder = vidfeat.load_encoder(f"{file}:build", device="cpu")
    assert encoder.dimension == 6
    assert encoder.plan.frames == 4
    assert f"runs the code of {file}" in encoder.spec.notes
    assert hashlib.sha256(file.read_bytes()).hexdigest() in own_record.read_text()
    again = encoder_from_description(encoder.describe(), device="cpu")
    assert again.space_fingerprint == encoder.space_fingerprint


def test_an_unknown_or_changed_file_is_not_run(file: Path, own_record: Path) -> None:
    description = vidfeat.load_encoder(f"{file}:build", device="cpu").describe()
    ran = file.parent / "ran"
    file.write_text(SOURCE + f"\nopen({str(ran)!r}, 'w').close()\n")
    with pytest.raises(WeightsError, match=re.escape(f"give model={file}:build")):
        encoder_from_description(description, device="cpu")
    assert not ran.exists()
    vidfeat.load_encoder(f"{file}:build", device="cpu")
    assert ran.exists()
    assert encoder_from_description(description, device="cpu").dimension == 6
    own_record.unlink()
    with pytest.raises(WeightsError, match="has not run"):
        encoder_from_description(description, device="cpu")


def test_a_module_out_of_a_file_takes_the_defaults(file: Path) -> None:
    encoder = vidfeat.load_encoder(f"{file}:plain", device="cpu")
    assert encoder.preprocess == Preprocess()
    assert any("does not specify its input" in note for note in encoder.spec.notes)


@pytest.mark.parametrize(
    ("function", "message"),
    [("broken", "failed: KeyError"), ("absent", "no function absent")],
)
def test_files_that_fail(function: str, message: str, file: Path) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        vidfeat.load_encoder(f"{file}:{function}", device="cpu")
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="cannot read"):
        vidfeat.load_encoder(f"{file.parent}/absent.py:build", device="cpu")


# --- the page, and new files ---------------------------------------------------------------------


def example() -> str:
    """The first Python example of docs/encoders.md."""
    found = re.search(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert found is not None
    return found[1]


def test_the_example_of_the_page_has_ten_lines_and_runs(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len([line for line in example().splitlines() if line.strip()]) <= 10
    (tmp_path / "videos").symlink_to(videos)
    monkeypatch.chdir(tmp_path)
    exec(compile(example(), str(DOCS), "exec"), {})
    with vidfeat.FeatureStore("mine.h5") as store:
        assert store.encoder["model"] == "module:mine"
        assert len(store.paths) == 2


def test_new_files_are_searched(file: Path, videos: Path, tmp_path: Path) -> None:
    encoder = vidfeat.load_encoder(f"{file}:build", device="cpu")
    options = vidfeat.ExtractOptions(workers=0)
    vidfeat.extract(videos, tmp_path / "f.h5", encoder, options=options)
    index = vidfeat.VideoIndex.build(tmp_path / "f.h5", tmp_path / "index")
    second = sorted(videos.iterdir())[1]
    copy = tmp_path / "new.mp4"
    copy.write_bytes(second.read_bytes())
    for source in (
        QuerySource(index, device="cpu"),
        QuerySource(index, device="cpu", encoder=encoder),
        QuerySource(index, device="cpu", model=f"{file}:build"),
    ):
        assert index.search(source.make(str(copy)))[0].video == second.name


def test_the_command_line_from_extract_to_classify(
    file: Path, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    session = Session()
    try:
        _work_through(session, file, videos, tmp_path)
    finally:
        session.close()


def _work_through(vidfeat: Session, file: Path, videos: Path, folder: Path) -> None:
    first, second = sorted(videos.iterdir())
    rows = ["path,label,group"]
    for number in range(6):
        source = (first, second)[number % 2]
        (folder / "clips").mkdir(exist_ok=True)
        (folder / "clips" / f"{number}.mp4").write_bytes(source.read_bytes())
        rows.append(f"{number}.mp4,{('one', 'two')[number % 2]},{number // 2}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    run = ["extract", "clips", "-o", "f.h5", "--model", "mine.py:build", "--workers", "0"]
    made = vidfeat(*run, "--device", "cpu", cwd=folder)
    assert made.status == 0, made.errors
    assert f"runs the code of {file}" in made.errors
    head = ["finetune", "f.h5", "--labels", "labels.csv", "-o", "head", "--no-report"]
    assert vidfeat(*head, "--folds", "2", cwd=folder).status == 0
    (folder / "new.mp4").write_bytes(second.read_bytes())
    judge = ["classify", "new.mp4", "--head", "head", "--json", "--device", "cpu"]
    done = vidfeat(*judge, cwd=folder)
    assert done.status == 0, done.errors
    assert json.loads(done.out)[0]["predictions"][0]["label"] == "two"
    # changed: the head's own file is run again only when it is named
    file.write_text(SOURCE + "# changed\n")
    refused = vidfeat(*judge, cwd=folder)
    assert refused.status == 2
    assert f"give --model {file}:build" in refused.errors
    assert vidfeat(*judge, "--model", "mine.py:build", cwd=folder).status == 0
    assert vidfeat(*judge, cwd=folder).status == 0
