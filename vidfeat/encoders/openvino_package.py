"""OpenVINO and NNCF, imported where they are used, with their telemetry disabled."""

from __future__ import annotations

import logging
import sys
from types import ModuleType
from typing import cast

from vidfeat.errors import MissingExtraError


def import_openvino(purpose: str, *packages: str) -> ModuleType:
    """OpenVINO, or an error that says how to install it.

    It and NNCF report their use over the network as soon as they are imported, unless a package for
    that is missing: for this process it is made to be.

    Args:
        purpose: for the message.
        packages: others of the extra that are needed as well.

    Raises:
        MissingExtraError: a package is not installed.
    """
    sys.modules.setdefault("openvino_telemetry", cast(ModuleType, None))
    # NNCF loads what builds CUDA kernels, which nothing here uses, and that complains without GPUs.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    for package in ("openvino", *packages):
        try:
            __import__(package)
        except ImportError:
            raise MissingExtraError("openvino", package, purpose) from None
    return sys.modules["openvino"]
