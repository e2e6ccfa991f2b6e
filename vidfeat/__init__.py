"""Video features and transfer learning.

The names below are loaded at first use, so that ``import vidfeat`` costs nothing and a command
that needs no network never imports torch.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

try:
    __version__ = version("vidfeat")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"

if TYPE_CHECKING:
    from vidfeat.encoder import Encoder as Encoder
    from vidfeat.errors import VidfeatError as VidfeatError
    from vidfeat.extract import extract as extract
    from vidfeat.index import VideoIndex as VideoIndex
    from vidfeat.load import load_encoder as load_encoder
    from vidfeat.sampling import ClipPlan as ClipPlan
    from vidfeat.store import Embeddings as Embeddings
    from vidfeat.store import FeatureStore as FeatureStore
    from vidfeat.video import probe as probe

_HOME = {
    "ClipPlan": "sampling",
    "Embeddings": "store",
    "Encoder": "encoder",
    "FeatureStore": "store",
    "VidfeatError": "errors",
    "VideoIndex": "index",
    "extract": "extract",
    "load_encoder": "load",
    "probe": "video",
}

__all__ = [  # noqa: RUF022 (the order is that of a first program)
    "load_encoder",
    "Encoder",
    "extract",
    "FeatureStore",
    "Embeddings",
    "VideoIndex",
    "ClipPlan",
    "probe",
    "VidfeatError",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'vidfeat' has no attribute {name!r}")
    value = getattr(import_module(f"vidfeat.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
