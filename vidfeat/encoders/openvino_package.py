"""OpenVINO and NNCF, imported where they are used, with their telemetry disabled."""

from __future__ import annotations

import logging
import sys
from types import ModuleType
from typing import cast

from vidfeat.errors import MissingExtraError


def import_openvino(purpose: str, *packages: str) -> ModuleType:
    """OpenVINO, or an error that says how to install it.

    It and NNCF report their use over the network as soon as they are imported, unless the package
    for that is missing: this function makes it appear missing in this process.

    Args:
        purpose: what needs it, for the message.
        packages: other packages of the extra that are needed.

    Raises:
        MissingExtraError: a package is not installed.
    """
    sys.modules.setdefault("openvino_telemetry", cast(ModuleType, None))
    # NNCF loads torch's builder of CUDA kernels, which nothing here uses, and which warns without
    # GPUs.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    for package in ("openvino", *packages):
        try:
            __import__(package)
        except ImportError:
            raise MissingExtraError("openvino", package, purpose) from None
    return sys.modules["openvino"]
