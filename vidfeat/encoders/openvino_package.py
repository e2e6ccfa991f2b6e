"""OpenVINO and NNCF, imported where they are used, and kept from telling anyone."""

from __future__ import annotations

import logging
import sys
from types import ModuleType
from typing import cast

from vidfeat.errors import MissingExtraError


def import_openvino(purpose: str, *packages: str) -> ModuleType:
    """OpenVINO, or else a line that says how to get it.

    It and NNCF report their use over the network as soon as they are imported, unless a package
    for that is absent: for this process it is. Nobody's videos are anybody's business.

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
