"""The networks: those of the R(2+1)D paper in one file of blocks, others in files of their own."""

from vidfeat.models.base import POOLS, VideoNetwork, check_pools, pool_features
from vidfeat.models.catalog import (
    MODEL_NAMES,
    ModelInfo,
    build_model,
    check_name,
    count_parameters,
    model_info,
)
from vidfeat.models.resnet3d import Design, VideoResNet

__all__ = [
    "MODEL_NAMES",
    "POOLS",
    "Design",
    "ModelInfo",
    "VideoNetwork",
    "VideoResNet",
    "build_model",
    "check_name",
    "check_pools",
    "count_parameters",
    "model_info",
    "pool_features",
]
