"""The feature file: embeddings with their times, in HDF5, written in parts and merged."""

from vidfeat.store.embeddings import Embeddings
from vidfeat.store.reader import FeatureStore

__all__ = ["Embeddings", "FeatureStore"]
