"""``vidfeat --version --verbose``: what is installed, and whether it computes correctly."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

import click

PACKAGES = ("torch", "torchvision", "numpy", "h5py", "scikit-learn", "faiss-cpu")
ENGINES = (
    *("openvino", "nncf", "ray", "onnxruntime", "transformers", "open_clip_torch", "timm"),
    *("opencv-python-headless", "pyarrow", "pandas", "starlette"),
)


def installed(name: str) -> str:
    """The version of a package, or that it is not installed. Nothing is imported."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def lines() -> Iterator[tuple[str, str]]:
    """Packages and their versions."""
    yield "Python", f"{platform.python_version()} on {platform.platform()}"
    for name in PACKAGES:
        yield name, installed(name)
    import av

    libraries = av.library_versions
    ffmpeg = ", ".join(
        f"{name} {'.'.join(map(str, libraries[name]))}"
        for name in ("libavcodec", "libavformat", "libswscale")
        if name in libraries
    )
    yield "PyAV", f"{av.__version__} with FFmpeg's {ffmpeg}"
    yield "CUDA", _cuda()
    for name in ENGINES:
        yield name, installed(name)


def _cuda() -> str:
    import torch

    built = torch.version.cuda
    if not torch.cuda.is_available():
        return f"torch is built for {built}, but sees no GPU" if built else "torch without CUDA"
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return f"{built}, {', '.join(names)}"


def show_versions() -> int:
    """Print versions, and check the bundled network's vector; 1 if it is not the stored one."""
    from vidfeat.encoders.self_check import LARGEST_DIFFERENCE, difference

    for name, text in lines():
        click.echo(f"  {name:<24}{text}")
    found = difference()
    right = found <= LARGEST_DIFFERENCE
    verdict = "as stored" if right else "DIFFERS from the stored one: features made here are wrong"
    click.echo(f"  {'bundled network':<24}vector {verdict} (largest difference {found:.1e})")
    return 0 if right else 1
