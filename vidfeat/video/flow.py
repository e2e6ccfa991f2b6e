"""Optical flow through OpenCV: Farneback's, R(2+1)D's second stream (extra ``vidfeat[flow]``).

I3D's second stream is TV-L1, which is in OpenCV's contributed modules (extra ``vidfeat[tvl1]``).

T + 1 frames give T fields of two channels (to the right, downwards; in pixels), computed on grey
frames after the crop, with the parameters and normalisation that R(2+1)D's authors published.
"""

from __future__ import annotations

import math
from functools import cache
from itertools import pairwise
from types import ModuleType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vidfeat.errors import MissingExtraError, UsageError

FLOW_MEAN = (0.0046635, 0.0046261)
FLOW_STD = (0.972347, 0.755146)

TVL1_LIMIT = 20.0  # pixels

FlowMethod = Literal["farneback", "tvl1"]

PYRAMID_SCALE = math.sqrt(2) / 2
PYRAMID_LEVELS = 5
WINDOW = 10
ITERATIONS = 2
POLYNOMIAL = 7
POLYNOMIAL_SIGMA = 1.5


@cache
def _opencv() -> ModuleType:
    try:
        import cv2
    except ImportError:
        raise MissingExtraError("flow", "opencv-python-headless", "optical flow") from None
    cv2.setNumThreads(1)  # parallelism is over processes
    module: ModuleType = cv2
    return module


def require_opencv(method: FlowMethod = "farneback") -> None:
    """Fail early if OpenCV lacks what a flow method needs.

    Raises:
        MissingExtraError: OpenCV is not installed, or for TV-L1 its contributed modules are not.
    """
    if method == "tvl1":
        _tvl1()
    else:
        _opencv()


def _tvl1() -> Any:
    """A new TV-L1 algorithm with OpenCV's default parameters."""
    try:
        return _opencv().optflow.createOptFlow_DualTVL1()
    except (AttributeError, MissingExtraError):
        raise MissingExtraError(
            "tvl1", "opencv-contrib-python-headless", "TV-L1 optical flow"
        ) from None


def clip_to_tvl1(frames_THWC: NDArray[np.uint8]) -> NDArray[np.float32]:
    """TV-L1 flow between neighbouring frames, cut off at 20 pixels as I3D's authors do.

    They compute it on whole frames and crop the fields; here it is computed on the crop, so the
    fields differ at the edges.

    Args:
        frames_THWC: uint8 (T + 1, H, W, 3) RGB, as cropped for the network.

    Returns:
        float32 (T, H, W, 2): pixels to the right and downwards, -20 to 20.

    Raises:
        MissingExtraError: OpenCV's contributed modules are not installed.
        UsageError: fewer than two frames.
    """
    if len(frames_THWC) < 2:
        raise UsageError(f"optical flow needs two frames or more, not {len(frames_THWC)}")
    cv2, computer = _opencv(), _tvl1()
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames_THWC]
    fields = [computer.calc(first, second, None) for first, second in pairwise(grey)]
    return np.stack(fields).astype(np.float32).clip(-TVL1_LIMIT, TVL1_LIMIT)


def clip_to_flow(frames_THWC: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Flow between neighbouring frames.

    Args:
        frames_THWC: uint8 (T + 1, H, W, 3) RGB, as cropped for the network.

    Returns:
        float32 (T, H, W, 2): pixels to the right and downwards from each frame to the next.

    Raises:
        MissingExtraError: OpenCV is not installed.
        UsageError: fewer than two frames.
    """
    if len(frames_THWC) < 2:
        raise UsageError(f"optical flow needs two frames or more, not {len(frames_THWC)}")
    cv2 = _opencv()
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames_THWC]
    fields = np.empty((len(grey) - 1, *grey[0].shape, 2), np.float32)
    for index in range(len(grey) - 1):
        fields[index] = cv2.calcOpticalFlowFarneback(
            grey[index],
            grey[index + 1],
            None,
            PYRAMID_SCALE,
            PYRAMID_LEVELS,
            WINDOW,
            ITERATIONS,
            POLYNOMIAL,
            POLYNOMIAL_SIGMA,
            cv2.OPTFLOW_FARNEBACK_GAUSSIAN,
        )
    return fields
