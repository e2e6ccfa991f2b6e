"""A quantised network on disk: the folder ``net/``.

``net.json`` describes it: the network and the weights that it was made from, the settings that are
fixed in it, its deviation from fp32, and the sha256 of the two files next to it (``net.xml`` and
``net.bin``, OpenVINO's format).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidfeat.errors import WeightsError
from vidfeat.system.download import file_sha256
from vidfeat.system.files import canonical_json

FORMAT = "vidfeat-net"
FORMAT_VERSION = 1
FACTS_FILE = "net.json"
MODEL_FILE = "net.xml"
FILES = (MODEL_FILE, "net.bin")
# What a reader relies on; `weights_file` and what was measured may be absent or null.
_NEEDED = (
    "model",
    "weights",
    "weights_sha256",
    "architecture",
    "layers",
    "pool",
    "dimension",
    "preprocess",
    "plan",
    "precision",
    "files",
)
_AGAIN = "make it again with vidfeat export --precision int8"


@dataclass(frozen=True)
class QuantisedNet:
    """The folder of a quantised network, read and checked."""

    folder: Path
    facts: Mapping[str, Any]
    """The content of ``net.json``."""

    @property
    def model_file(self) -> Path:
        """OpenVINO's description of the network."""
        return self.folder / MODEL_FILE

    @property
    def sha256(self) -> str:
        """Hash of both files: another quantisation gives slightly different vectors."""
        return hashlib.sha256(canonical_json(self.facts["files"]).encode()).hexdigest()

    @property
    def space_fingerprint(self) -> str:
        """Space fingerprint of the encoder that it was made from."""
        return str(self.facts.get("space_fingerprint", ""))

    def agreement_in_words(self) -> str:
        """Its deviation from fp32, for a line of text."""
        error = self.facts.get("error")
        if not error:
            return "its deviation from fp32 was not measured, because there were too few clips"
        return (
            f"on {error['clips']} clips that were not used for quantising, cosine to fp32 (mean "
            f"subtracted) {error['cosine_mean']:.3f} on average and {error['cosine_min']:.3f} at "
            f"least, the same nearest neighbour for {error['same_nearest']:.0%}"
        )


def is_net(weights: str | os.PathLike[str] | None) -> bool:
    """Whether ``--weights`` names the folder of a quantised network."""
    return weights is not None and (Path(weights).expanduser() / FACTS_FILE).is_file()


def read_net(folder: str | os.PathLike[str]) -> QuantisedNet:
    """Read and check a folder.

    Raises:
        WeightsError: the folder is damaged, of a newer version, or missing.
    """
    folder = Path(folder).expanduser()
    facts_file = folder / FACTS_FILE
    try:
        facts = json.loads(facts_file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{facts_file} cannot be read: {error}: {_AGAIN}") from None
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise WeightsError(f"{facts_file} does not describe a quantised network: {_AGAIN}")
    if facts.get("format_version") != FORMAT_VERSION:
        raise WeightsError(
            f"{facts_file} has format version {facts.get('format_version')}, this vidfeat reads "
            f"{FORMAT_VERSION}: update vidfeat"
        )
    missing = [name for name in _NEEDED if name not in facts]
    if missing:
        raise WeightsError(f"{facts_file} lacks {', '.join(missing)}: {_AGAIN}")
    for name in FILES:
        if not (folder / name).is_file():
            raise WeightsError(f"{folder} lacks {name}: {_AGAIN}")
        if file_sha256(folder / name) != facts["files"].get(name):
            raise WeightsError(f"{folder / name} is damaged (its sha256 is another): {_AGAIN}")
    return QuantisedNet(folder, facts)
