"""The identity of a video: its path relative to the root, as text for every file format.

File names are bytes; a feature file, a CSV and JSON hold Unicode text. The rule that maps one to
the other is reversible, and no two paths share an identity:

* the separator is ``/``;
* bytes that are not UTF-8 (and the zero byte) become ``%XX``, in capital hex digits;
* a ``%`` before two hex digits becomes ``%25``; every other ``%`` stays as it is, so
  that ``100% wool.mp4`` is its own identity.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Mapping, Set

from vidfeat.errors import UsageError

_LITERAL_PERCENT = re.compile(r"%(?=[0-9A-Fa-f]{2})")
_NOT_TEXT = re.compile("[\udc80-\udcff\x00]")
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")


def path_to_identity(relative: str) -> str:
    """Text that names ``relative`` (a path as the os module gives it) in every file of vidfeat.

    Raises:
        UsageError: the text holds what no file name of this system can hold (lone surrogates that
            stand for no byte).
    """
    try:
        name = os.fsencode(relative)
    except UnicodeEncodeError as error:
        raise UsageError(
            f"{relative!a} cannot be the path of a file here: give paths as os.listdir or "
            "os.fsdecode return them"
        ) from error
    text = name.decode("utf-8", "surrogateescape")
    if os.sep != "/":
        text = text.replace(os.sep, "/")
    text = _LITERAL_PERCENT.sub("%25", text)
    return _NOT_TEXT.sub(_escape_byte, text)


def _escape_byte(found: re.Match[str]) -> str:
    return f"%{ord(found.group()) & 0xFF:02X}"  # U+DC80..U+DCFF stand for the bytes 80..FF


def identity_to_path(identity: str) -> str:
    """The path that ``path_to_identity`` was given, for the os module (bytes as surrogates)."""
    name = _ESCAPE.sub(lambda found: bytes.fromhex(found[1].decode()), identity.encode("utf-8"))
    path = os.fsdecode(name)
    return path if os.sep == "/" else path.replace("/", os.sep)


def text_to_path(text: str) -> str:
    """A path for the os module whose bytes are this text in UTF-8, whatever the locale."""
    return os.fsdecode(text.encode("utf-8", "surrogateescape"))


class Names:
    """Looks up stored names by what a person writes.

    A letter with an accent is one code point or two (Unicode's NFC and NFD): macOS, archives and
    keyboards differ in this, and the difference is invisible. A name is first looked up as written,
    so that two names that differ only in this are still distinguished.
    """

    def __init__(self, names: Iterable[str]) -> None:
        # a mapping is not copied: an index may hold a million names
        self._exact = names if isinstance(names, (Mapping, Set)) else set(names)
        self._normal: dict[str, str] | None = None

    def find(self, name: str) -> str | None:
        """The stored name, or None."""
        if name in self._exact:
            return name
        if name.isascii():
            return None  # no other text has the same form
        if self._normal is None:
            self._normal = {normal_form(stored): stored for stored in sorted(self._exact)}
        return self._normal.get(normal_form(name))

    def __contains__(self, name: str) -> bool:
        return self.find(name) is not None


def normal_form(text: str) -> str:
    """A form that is equal for texts that look the same (Unicode's NFC)."""
    return unicodedata.normalize("NFC", text)


def looks_like(text: str, other: str) -> bool:
    """Whether two texts are equal, whatever the form of their accents."""
    return text == other or normal_form(text) == normal_form(other)


def one_spelling(names: Iterable[str]) -> dict[str, str]:
    """For each name, the spelling to use: its own, or NFC if the names have it in several forms."""
    forms: dict[str, set[str]] = {}
    for name in names:
        forms.setdefault(normal_form(name), set()).add(name)
    return {
        name: normal if len(several) > 1 else name
        for normal, several in forms.items()
        for name in several
    }


def existing_spelling(path: str) -> str:
    """A path as the file system spells it: as written, or with its accents in another form.

    Each component is looked up by itself: a folder from a Mac may hold a file that is not.
    """
    if path.isascii() or os.path.lexists(path):
        return path
    folder, name = os.path.split(path)
    there = existing_spelling(folder) if name and folder and folder != path else folder
    for form in ("NFC", "NFD"):
        spelling = os.path.join(there, unicodedata.normalize(form, name))  # noqa: PTH118
        if os.path.lexists(spelling):
            return spelling
    return path
