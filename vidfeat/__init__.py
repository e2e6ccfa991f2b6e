"""Video features and transfer learning.

The names below are loaded when they are first used, so that ``import vidfeat`` costs nothing and a
command that needs no network never imports torch. No module here has the name of one of them, so
importing a module never replaces a public name.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vidfeat.encoders.encoder import Encoder as Encoder
    from vidfeat.encoders.load import load_encoder as load_encoder
    from vidfeat.errors import ClusterError as ClusterError
    from vidfeat.errors import DataError as DataError
    from vidfeat.errors import DownloadError as DownloadError
    from vidfeat.errors import ExportError as ExportError
    from vidfeat.errors import FingerprintError as FingerprintError
    from vidfeat.errors import LockedError as LockedError
    from vidfeat.errors import MissingExtraError as MissingExtraError
    from vidfeat.errors import NothingDoneError as NothingDoneError
    from vidfeat.errors import PrecisionError as PrecisionError
    from vidfeat.errors import ReplicaError as ReplicaError
    from vidfeat.errors import StateDictError as StateDictError
    from vidfeat.errors import StoppedError as StoppedError
    from vidfeat.errors import StoreError as StoreError
    from vidfeat.errors import TrainingError as TrainingError
    from vidfeat.errors import UsageError as UsageError
    from vidfeat.errors import VideoError as VideoError
    from vidfeat.errors import VidfeatError as VidfeatError
    from vidfeat.errors import WeightsError as WeightsError
    from vidfeat.extraction.options import ExtractOptions as ExtractOptions
    from vidfeat.extraction.run import extract as extract
    from vidfeat.heads.finetuning import finetune as finetune
    from vidfeat.heads.head import Head as Head
    from vidfeat.index.match import Match as Match
    from vidfeat.index.match import SearchOptions as SearchOptions
    from vidfeat.index.video_index import VideoIndex as VideoIndex
    from vidfeat.store.embeddings import Embeddings as Embeddings
    from vidfeat.store.reader import FeatureStore as FeatureStore
    from vidfeat.training.run import train as train
    from vidfeat.version import __version__ as __version__
    from vidfeat.video.clip_plan import ClipPlan as ClipPlan
    from vidfeat.video.preprocess import Preprocess as Preprocess
    from vidfeat.video.reader import Limits as Limits
    from vidfeat.video.reader import probe as probe

# name -> the module that defines it
_HOME = {
    "load_encoder": "encoders.load",
    "Encoder": "encoders.encoder",
    "extract": "extraction.run",
    "ExtractOptions": "extraction.options",
    "FeatureStore": "store.reader",
    "Embeddings": "store.embeddings",
    "ClipPlan": "video.clip_plan",
    "Preprocess": "video.preprocess",
    "Limits": "video.reader",
    "probe": "video.reader",
    "finetune": "heads.finetuning",
    "Head": "heads.head",
    "VideoIndex": "index.video_index",
    "Match": "index.match",
    "SearchOptions": "index.match",
    "train": "training.run",
    "__version__": "version",
    **dict.fromkeys(
        (
            "VidfeatError",
            "UsageError",
            "MissingExtraError",
            "VideoError",
            "WeightsError",
            "StateDictError",
            "DownloadError",
            "StoreError",
            "FingerprintError",
            "LockedError",
            "DataError",
            "TrainingError",
            "ClusterError",
            "ExportError",
            "PrecisionError",
            "ReplicaError",
            "StoppedError",
            "NothingDoneError",
        ),
        "errors",
    ),
}

__all__ = [  # noqa: RUF022 (in the order that a first program uses them)
    "load_encoder",
    "Encoder",
    "extract",
    "ExtractOptions",
    "FeatureStore",
    "Embeddings",
    "ClipPlan",
    "Preprocess",
    "Limits",
    "probe",
    "finetune",
    "Head",
    "VideoIndex",
    "Match",
    "SearchOptions",
    "train",
    "VidfeatError",
    "UsageError",
    "MissingExtraError",
    "VideoError",
    "WeightsError",
    "StateDictError",
    "DownloadError",
    "StoreError",
    "FingerprintError",
    "LockedError",
    "DataError",
    "TrainingError",
    "ClusterError",
    "ExportError",
    "PrecisionError",
    "ReplicaError",
    "StoppedError",
    "NothingDoneError",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'vidfeat' has no attribute {name!r}")
    value = getattr(import_module(f"vidfeat.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
