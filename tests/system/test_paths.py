from __future__ import annotations

import os

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vidfeat.errors import UsageError
from vidfeat.system.identities import identity_to_path, path_to_identity

NAMES = st.binary(max_size=40) | st.lists(
    st.sampled_from([b"%", b"2", b"5", b"F", b"f", b"\xff", b"\xc3", b"\xa9", b"/", b"g", b"\xed"]),
    max_size=12,
).map(b"".join)


@given(NAMES)
@example(b"%\xff41")
@example(b"%%41")
@example(b"%2\xff")
@example(b"\xed\xa0\x80")  # an encoded surrogate
@example(b"caf\xe9/caf\xc3\xa9.mp4")
def test_every_name_comes_back_and_is_clean_text(name: bytes) -> None:
    identity = path_to_identity(os.fsdecode(name))
    identity.encode("utf-8")
    assert "\x00" not in identity
    assert os.fsencode(identity_to_path(identity)) == name


@given(NAMES, NAMES)
def test_no_two_names_share_an_identity(one: bytes, two: bytes) -> None:
    if one != two:
        assert path_to_identity(os.fsdecode(one)) != path_to_identity(os.fsdecode(two))


@pytest.mark.parametrize(
    ("name", "identity"),
    [
        (b"class/video.mp4", "class/video.mp4"),
        ("straße/видео 1.mp4".encode(), "straße/видео 1.mp4"),
        (b"caf\xe9.mp4", "caf%E9.mp4"),
        (b"100% wool.mp4", "100% wool.mp4"),
        (b"50%25.mp4", "50%2525.mp4"),
        (b"50%ab.mp4", "50%25ab.mp4"),
        (b"new\nline.mp4", "new\nline.mp4"),
    ],
)
def test_examples(name: bytes, identity: str) -> None:
    assert path_to_identity(os.fsdecode(name)) == identity


def test_a_path_that_no_file_can_have_is_refused() -> None:
    with pytest.raises(UsageError, match=r"os\.fsdecode"):
        path_to_identity("a\ud800.mp4")
