"""Reading lists and tables that people write.

Editors and spreadsheets leave their marks: a byte order mark at the start, CRLF line ends, ``;``
or a tab between columns, a comma in decimals, spaces around everything. None of them may change
what a list says. Text that is not UTF-8 is refused in one line that names the file.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vidfeat.errors import DataError, VidfeatError

_UTF8_MARK = b"\xef\xbb\xbf"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_SEPARATORS = (",", ";", "\t")
_EXCEL_LINE = re.compile(r"sep=([,;\t])", re.IGNORECASE)


@dataclass(frozen=True)
class Row:
    """A row of a table: its line in the file, and its values by column."""

    line: int
    values: dict[str, str]
    """Without surrounding spaces; a column that the row does not reach is empty."""

    def __getitem__(self, column: str) -> str:
        return self.values.get(column, "")

    def seconds(self, column: str) -> float | None:
        """A number of seconds, written with a point or a comma; None if the value is empty.

        Raises:
            ValueError: not a finite number.
        """
        text = self[column]
        if not text:
            return None
        try:
            value = float(text.replace(",", "."))
        except ValueError:
            value = float("nan")
        if not abs(value) < float("inf"):
            raise ValueError(f"{column} is {text!r}, expected seconds like 12.5")
        return value


@dataclass(frozen=True)
class TextTable:
    """A table with a header line."""

    columns: tuple[str, ...]
    """In lower case, without surrounding spaces."""
    rows: tuple[Row, ...]


def read_bytes(
    path: str | os.PathLike[str], error: type[VidfeatError] = DataError, purpose: str = ""
) -> bytes:
    """A file's bytes, without a byte order mark.

    Args:
        path: the file.
        error: the class of error to raise.
        purpose: end of the message if the file cannot be read.

    Raises:
        VidfeatError: it cannot be read, or is UTF-16.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as reason:
        remedy = f": {purpose}" if purpose else ""
        raise error(f"{os.fspath(path)}: {reason.strerror}{remedy}") from None
    return without_mark(data, os.fspath(path), error)


def without_mark(
    data: bytes, name: str, error: type[VidfeatError] = DataError, *, zeros: bool = False
) -> bytes:
    """Bytes that were read already, without a byte order mark; ``zeros`` allows zero bytes."""
    # without a mark, every other byte of UTF-16 is zero: no list holds that many
    head = b"" if zeros else data[:4096]
    if data.startswith(_UTF16_MARKS) or 0 < len(head) <= 4 * head.count(0):
        raise error(f"{name} is UTF-16 text: save it as UTF-8")
    return data.removeprefix(_UTF8_MARK)


def read_text(
    path: str | os.PathLike[str], error: type[VidfeatError] = DataError, purpose: str = ""
) -> str:
    """A file's text, with line ends as they are.

    Raises:
        VidfeatError: it cannot be read, or is not UTF-8; names the file and the line.
    """
    data = read_bytes(path, error, purpose)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as reason:
        line = data.count(b"\n", 0, reason.start) + 1
        raise error(
            f"{os.fspath(path)}, line {line}: not UTF-8 text: save it as UTF-8; write other "
            "bytes of file names as in a feature file, such as %E9"
        ) from None


def read_lines(
    path: str | os.PathLike[str], error: type[VidfeatError] = DataError
) -> Iterator[tuple[int, str]]:
    """The lines of a list that are not empty, with their numbers, stripped."""
    for number, line in enumerate(read_text(path, error).splitlines(), 1):
        line = line.strip().rstrip(";").rstrip()
        if line:
            yield number, line


def read_table(
    path: str | os.PathLike[str], error: type[VidfeatError] = DataError, purpose: str = ""
) -> TextTable:
    """A table with a header line, its columns separated by ``,``, ``;`` or a tab.

    Raises:
        VidfeatError: it cannot be read, is not UTF-8, or is not a table.
    """
    text = read_text(path, error, purpose)
    # the separator is the most frequent one in the header, unless Excel's own line names it
    header = next((line for line in text.splitlines() if line.strip()), "")
    named = _EXCEL_LINE.fullmatch(header.strip(" \r"))
    separator = named[1] if named else max(_SEPARATORS, key=header.count)
    written = list(io.StringIO(text, newline=""))
    lines = csv.reader(written, delimiter=separator, skipinitialspace=True)
    columns: tuple[str, ...] = ()
    rows: list[Row] = []
    before, began = 0, 0  # lines read up to the current row, and up to the one before
    try:
        for fields in lines:
            began, before = before, lines.line_num
            values = [field.strip() for field in fields]
            if not any(values) or (named and lines.line_num == 1):
                continue
            if not columns:
                columns = tuple(value.lower() for value in values)
                continue
            found = dict(zip(columns, values, strict=False))
            rows.append(Row(lines.line_num, dict.fromkeys(columns, "") | found))
    except csv.Error as reason:
        raise error(f"{os.fspath(path)}, line {lines.line_num}: {reason}") from None
    if _is_open(written[began:], separator):
        raise error(
            f"{os.fspath(path)}, line {began + 1}: a quotation mark is never closed: all that "
            "follows would be one value"
        )
    return TextTable(columns, tuple(rows))


def _is_open(last_row: list[str], separator: str) -> bool:
    """Whether the last row of a table ends within quotation marks."""
    try:
        list(csv.reader(last_row, delimiter=separator, skipinitialspace=True, strict=True))
    except csv.Error as reason:
        return "end of data" in str(reason)
    return False
