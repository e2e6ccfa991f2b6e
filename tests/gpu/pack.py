"""Collect what the GPU checks need on a machine without internet access into one .tar.xz.

It holds ``product/`` (vidfeat of this tree, as installed), ``baseline/`` (the same for the commit
that was measured before), ``site/`` (packages that the machine lacks), ``clips/`` (64 real clips),
``videos/`` and ``made/`` (files for the comparison of pixels), and ``gpu/`` (this folder).
"""

from __future__ import annotations

import argparse
import json
import math
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
DATA = ROOT.parent / "shared" / "data"
BASELINE = "5a3c667"
LIMIT_BYTES = 55 << 20
CLIPS = 64

# The dependencies of vidfeat that the machine already has.
ON_THE_MACHINE = {
    "click",
    "h5py",
    "matplotlib",
    "numpy",
    "rich",
    "safetensors",
    "scikit-learn",
    "scipy",
    "threadpoolctl",
    "torch",
    "torchvision",
    "transformers",
}
# No step needs search.
NOT_NEEDED = {"faiss-cpu"}
# Extras that a step uses.
EXTRAS: tuple[str, ...] = ()
_PLATFORMS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014", "manylinux1")
# In wheels, but not needed at run time.
_USELESS = re.compile(
    r"(\.(pyi|pxd|pyx|c|h|a)$|(^|/)(samples|benchmarks|sboms?)/|\.data/|_121\.cpython|\.ipynb$)"
)


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    return subprocess.run(
        [str(part) for part in command], cwd=cwd, check=True, capture_output=True, text=True
    ).stdout


def in_git() -> bool:
    return (ROOT / ".git").exists() and shutil.which("git") is not None


def install(tree: Path, target: Path, scratch: Path) -> None:
    """Install a source tree with the layout that pip gives it."""
    wheels = scratch / "wheels"
    run(
        *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"),
        *("--wheel-dir", wheels, tree),
        cwd=scratch,
    )
    for wheel in wheels.glob("vidfeat-*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(target)
    shutil.rmtree(wheels)


def product(target: Path, scratch: Path) -> None:
    """Install vidfeat of this tree, uncommitted changes included."""
    tree = scratch / "tree"
    names = run("git", "ls-files", "-co", "--exclude-standard", "-z").split("\0")
    for name in filter(None, names):
        source = ROOT / name
        if source.is_file() and not source.is_symlink():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, tree / name)
    install(tree, target, scratch)


def baseline(target: Path, scratch: Path) -> bool:
    """Install vidfeat of the commit measured before; returns False if the history lacks it."""
    archive = scratch / "baseline.tar"
    try:
        run("git", "archive", "--output", archive, BASELINE)
    except subprocess.CalledProcessError:
        return False
    tree = scratch / "baseline"
    tree.mkdir()
    shutil.unpack_archive(archive, tree, filter="data")
    install(tree, target, scratch)
    return True


def missing_packages() -> list[str]:
    """Requirements of vidfeat, and of the extras in use, that the machine does not have."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = list(project["dependencies"])
    for extra in EXTRAS:
        wanted += project["optional-dependencies"].get(extra, [])
    found = []
    for requirement in wanted:
        name = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0].lower()
        if name in ON_THE_MACHINE | NOT_NEEDED:
            continue
        try:  # the version that the tests run with here
            found.append(f"{name}=={version(name)}")
        except PackageNotFoundError:
            found.append(requirement)
    return found


def packages(target: Path, cache: Path) -> list[str]:
    """Unpack the wheels that the machine lacks, stripped and without unneeded files."""
    wanted = missing_packages()
    for requirement in wanted:
        marker = cache / (re.sub(r"[^A-Za-z0-9._-]", "_", requirement) + ".json")
        if not marker.exists():
            before = set(cache.glob("*.whl"))
            run(
                *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"),
                *("--only-binary=:all:", "--python-version", "3.12", "--implementation", "cp"),
                *(part for name in _PLATFORMS for part in ("--platform", f"{name}_x86_64")),
                *("--dest", cache, requirement),
            )
            marker.write_text(json.dumps([p.name for p in set(cache.glob("*.whl")) - before]))
        for name in json.loads(marker.read_text()):
            with zipfile.ZipFile(cache / name) as archive:
                kept = [n for n in archive.namelist() if not _USELESS.search(n)]
                archive.extractall(target, kept)
    for library in [*target.rglob("*.so"), *target.rglob("*.so.*")]:
        subprocess.run(["strip", "--strip-unneeded", library], check=False, capture_output=True)
    link_equal_files(target)
    return wanted


def link_equal_files(folder: Path) -> None:
    """Replace files that a wheel contains under several names with links."""
    seen: dict[tuple[int, bytes], Path] = {}
    for path in sorted(folder.rglob("*.so*"), key=lambda p: -len(p.name)):
        content = path.read_bytes()
        first = seen.setdefault((len(content), content[: 1 << 16]), path)
        if first is not path and first.parent == path.parent and first.read_bytes() == content:
            path.unlink()
            path.symlink_to(first.name)


def clips(target: Path) -> list[str]:
    """Copy the 64 clips of ``fights`` nearest to 640 x 360 by pixel count and aspect ratio."""
    import av

    found: list[tuple[float, str, Path]] = []
    for path in sorted((DATA / "fights").rglob("*.mp4")):
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            width, height = stream.width, stream.height
        distance = abs(math.log(width * height / (640 * 360)))
        distance += abs(math.log(width / height / (640 / 360)))
        found.append((round(distance, 6), str(path), path))
    chosen = [path for _, _, path in sorted(found)[:CLIPS]]
    target.mkdir(parents=True)
    names = [f"{path.parent.name}-{path.stem}.mp4" for path in chosen]
    for name, path in zip(names, chosen, strict=True):
        shutil.copyfile(path, target / name)
    return names


def collect(folder: Path, scratch: Path, *, with_packages: bool) -> dict[str, object]:
    from made import make_files

    about: dict[str, object] = {"baseline": None, "packages": []}
    if in_git():
        about["commit"] = run("git", "rev-parse", "HEAD").strip()
        about["uncommitted"] = run("git", "status", "--porcelain").splitlines()
    product(folder / "product", scratch)
    if baseline(folder / "baseline", scratch):
        about["baseline"] = BASELINE
    if with_packages:
        cache = ROOT / ".gpu" / "wheels"
        cache.mkdir(parents=True, exist_ok=True)
        about["packages"] = packages(folder / "site", cache)
    if DATA.is_dir():
        about["clips"] = clips(folder / "clips")
        (folder / "videos").mkdir()
        for path in sorted((DATA / "videos").iterdir()):
            shutil.copyfile(path, folder / "videos" / path.name)
    about["made"] = make_files(folder / "made")
    shutil.copytree(HERE, folder / "gpu", ignore=shutil.ignore_patterns("__pycache__", "test_*"))
    (folder / "pack.json").write_text(json.dumps(about, indent=1))
    return about


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / ".gpu" / "pack.tar.xz")
    parser.add_argument("--quick", action="store_true", help="compress little: to try things out")
    parser.add_argument(
        "--without-packages", action="store_true", help="for a machine that has them all"
    )
    arguments = parser.parse_args()
    output: Path = arguments.output.resolve()
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="vidfeat-pack-") as name:
        folder, scratch = Path(name) / "pack", Path(name) / "scratch"
        folder.mkdir()
        scratch.mkdir()
        about = collect(folder, scratch, with_packages=not arguments.without_packages)
        # One block with the filter for x86 code: libraries are most of it.
        level = ["-1"] if arguments.quick else ["--x86", "--lzma2=preset=9e,dict=128MiB"]
        partial = output.with_name(output.name + ".partial")
        with partial.open("wb") as file:
            tar = subprocess.Popen(
                ["tar", "-C", folder, "--sort=name", "-cf", "-", "."], stdout=subprocess.PIPE
            )
            packed = subprocess.run(
                ["xz", "-T2", "-c", *level], stdin=tar.stdout, stdout=file, check=False
            )
            if tar.wait() or packed.returncode:
                raise SystemExit("tar or xz failed")
        partial.replace(output)
        for part in sorted(folder.iterdir()):
            size = sum(p.lstat().st_size for p in [part, *part.rglob("*")] if p.is_file())
            print(f"{size / 1e6:8.1f} MB  {part.name}")
    size = output.stat().st_size
    print(f"{size / (1 << 20):8.1f} MiB {output}  (packages: {', '.join(about['packages'])})")
    if size > LIMIT_BYTES:
        print(f"more than {LIMIT_BYTES >> 20} MiB: it cannot travel", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
