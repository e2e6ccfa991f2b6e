"""Files of a model repository: from a folder, from the hub's cache, or from the hub.

The hub's own client does the work, so that its cache, its tokens and HF_HUB_OFFLINE apply. Only
configurations and safetensors are fetched; nothing that would have to be executed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidfeat.errors import MissingExtraError, UsageError, WeightsError

SMALL_FILES = ("config.json", "*processor*.json", "README.md")
TEXT_FILES = ("tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json", "*.model")
_LICENCE = re.compile(r"^(license|license_name):[ \t]*['\"]?([^'\"\n]+)", re.MULTILINE)


@dataclass(frozen=True)
class Repository:
    """A repository's files on this machine."""

    name: str
    """Name on the hub, or the absolute path of a folder."""
    folder: Path
    revision: str
    """The commit; empty for a folder."""
    licence: str
    """From its README; empty if not given there."""

    @property
    def is_folder(self) -> bool:
        """Whether it was given as a folder."""
        return not self.revision

    def json(self, file: str) -> dict[str, Any]:
        """The content of one of its JSON files.

        Raises:
            WeightsError: it is missing, or not a JSON object.
        """
        path = self.folder / file
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise WeightsError(
                f"{self.name} holds no {file}: expected a repository or folder as its library "
                f"saves it ({self.folder})"
            ) from None
        except (OSError, ValueError) as error:
            raise WeightsError(f"{path} cannot be read: {error}") from None
        if not isinstance(values, dict):
            raise WeightsError(f"{path} is not a JSON object")
        return values

    def check_safetensors(self, pattern: str = "*.safetensors") -> None:
        """Refuse a repository without safetensors files.

        Raises:
            WeightsError: there are none; the message names what exists instead.
        """
        if any(self.folder.glob(pattern)):
            return
        others = sorted(
            p.name for p in self.folder.glob("*") if p.suffix in (".bin", ".pt", ".pth")
        )
        found = f", only {', '.join(others)}" if others else ""
        raise WeightsError(
            f"{self.name} holds no {pattern}{found} ({self.folder}): weights are read from "
            "safetensors only, since other files could run code; save them with "
            "model.save_pretrained(FOLDER) and give that folder"
        )


def repository(name: str, revision: str | None, files: Sequence[str], *, source: str) -> Repository:
    """A repository by name, or a folder, with all the files that match.

    Args:
        name: a name on the hub, or a folder.
        revision: a branch, tag or commit; None takes the newest.
        files: patterns of the names to fetch, at the top of the repository.
        source: prefix of the model name, for messages.

    Raises:
        WeightsError: it does not exist or cannot be fetched; the message names files and folder.
        MissingExtraError: the hub's client is not installed.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        if revision is not None:
            raise UsageError(
                f"{name} is a folder, which has no revision {revision!r}: leave weights out",
                field="weights",
            )
        folder = path.resolve()
        return Repository(str(folder), folder, "", licence_of(folder))
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) or name.startswith((".", "~")):
        raise WeightsError(f"there is no folder {name}: give {source}:NAME or {source}:FOLDER")
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise MissingExtraError("transformers", "huggingface-hub", f"{source}:{name}") from None
    try:
        folder = Path(
            snapshot_download(
                name, revision=revision, allow_patterns=list(files), ignore_patterns=["*/*"]
            )
        )
    except (OSError, ValueError) as error:
        raise WeightsError(_why(name, revision, files, source, error)) from None
    return Repository(name, folder, folder.name, licence_of(folder))


def _why(
    name: str, revision: str | None, files: Sequence[str], source: str, error: Exception
) -> str:
    """The message for a repository that is not available."""
    from huggingface_hub import errors

    page = f"https://huggingface.co/{name}"
    at = f" at revision {revision}" if revision else ""
    if isinstance(error, errors.GatedRepoError):
        return (
            f"the repository {name} requires accepting its licence first: do so on {page}, then "
            "run "
            "'hf auth login'"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return f"the repository {name} has no revision {revision}: see {page}/commits/main"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"there is no repository {name} that this user may read: see {page}"
    if offline():
        reason = "HF_HUB_OFFLINE is set"
    elif isinstance(error, errors.LocalEntryNotFoundError):
        reason = "no connection to the hub"
    else:
        reason = type(error).__name__
    return (
        f"the repository {name}{at} is not in the hub's cache ({cache_folder()}) and cannot be "
        f"fetched ({reason}): put {', '.join(files)} from {page} into a folder, and give "
        f"{source}:FOLDER"
    )


def offline() -> bool:
    """Whether the hub's client is set to offline mode."""
    from huggingface_hub import is_offline_mode

    return bool(is_offline_mode())


def cache_folder() -> str:
    """Where the hub's client keeps files."""
    from huggingface_hub import constants

    return str(constants.HF_HUB_CACHE)


def licence_of(folder: Path) -> str:
    """The licence in the header of a README; empty if there is none."""
    try:
        text = (folder / "README.md").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    _, dashes, rest = text.partition("---")
    if not dashes:
        return ""
    found: dict[str, str] = dict(_LICENCE.findall(rest.partition("\n---")[0]))
    licence, name = found.get("license", "").strip(), found.get("license_name", "").strip()
    return name if name and licence in ("", "other") else licence
