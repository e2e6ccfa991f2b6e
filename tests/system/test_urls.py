"""URLs: what of them is stored and shown, and the way back."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidfeat.errors import StoreError, UsageError
from vidfeat.system.identities import path_to_identity
from vidfeat.system.urls import (
    identity_below,
    is_url,
    local_file,
    parse_url,
    place_of,
    root_url,
    shown_path,
    url_below,
    without_secrets,
)
from vidfeat.system.written_names import written_identity


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://host/a.mp4", True),
        ("s3://bucket/prefix", True),
        ("zip://a.mp4::s3://bucket/x.zip", True),
        ("simplecache::https://host/a.mp4", True),
        ("file:///a.mp4", False),
        ("/videos/a.mp4", False),
        ("videos/https:/a.mp4", False),
        ("c:/a.mp4", False),
        ("a::b.mp4", False),
        ("http://[::1]:8000/a.mp4", True),
    ],
)
def test_what_is_a_url(text: str, expected: bool) -> None:
    assert is_url(text) is expected


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            "https://me:pass@Host.org/x/a%20b.mp4?X-Amz-Signature=abc#t=1",
            "https://host.org/x/a b.mp4",
        ),
        ("https://token@host/a.mp4", "https://host/a.mp4"),
        ("sftp://me:pass@host/x/a.mp4", "sftp://me@host/x/a.mp4"),
        ("sftp://me@host/x/a.mp4", "sftp://me@host/x/a.mp4"),
        ("s3://bucket/is it?.mp4", "s3://bucket/is it?.mp4"),
        ("abfs://container@account.net/a.mp4", "abfs://container@account.net/a.mp4"),
        ("/videos/a.mp4?b", "/videos/a.mp4?b"),
        ("http://[::1]:8000/a.mp4?b", "http://[::1]:8000/a.mp4"),
        ("https://host/a::b.mp4", "https://host/a::b.mp4"),
    ],
)
def test_what_is_shown_of_one(text: str, shown: str) -> None:
    assert shown_path(text) == shown


def test_secrets_are_cut_out_of_messages() -> None:
    text = "cannot connect to https://me:pass@host/a.mp4?sig=abc, url='http://h/b?k=1' (s3://b/c)"
    assert without_secrets(text) == (
        "cannot connect to https://host/a.mp4 url='http://h/b' (s3://b/c)"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("zip://a.mp4::s3://bucket/x.zip", "nested URLs"),
        ("simplecache::https://host/a.mp4", "nested URLs"),
        ("https:///a.mp4", "expected a URL"),
        ("https://host/a%2Fb.mp4", "slash"),
        ("https://host/a%00.mp4", "zero byte"),
    ],
)
def test_urls_that_are_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_url(text)


names = st.text(
    st.characters(blacklist_categories=["Cs"], blacklist_characters="/\0"), min_size=1, max_size=12
).filter(lambda name: name not in (".", "..") and "::" not in name)


@given(st.lists(names, min_size=1, max_size=3), st.sampled_from(["https://host/in a", "s3://b/c"]))
def test_a_stored_path_leads_back_to_its_video(parts: list[str], root: str) -> None:
    """The identity is that of a file of the same name, and its URL has the same identity."""
    url = parse_url(root)
    stored = root_url(url, len(url.parts))
    identity = path_to_identity("/".join(parts))
    there = url_below(stored, identity)
    assert parse_url(there).path == "/".join([*url.parts, *parts])
    assert identity_below(there, stored) == identity


def test_a_url_below_a_root_that_has_a_password() -> None:
    assert url_below("sftp://me:pass@host/x/", "a b.mp4") == "sftp://me:pass@host/x/a b.mp4"
    assert url_below("https://me:pass@host/x", "a b.mp4") == "https://me:pass@host/x/a%20b.mp4"


def test_urls_in_tables_mean_the_paths_below_the_root() -> None:
    root = "https://host/x"
    assert written_identity("https://host/x/a%20b.mp4?sig=abc", root) == "a b.mp4"
    assert written_identity(" ./a b.mp4 ", root) == "a b.mp4"
    assert written_identity("https://else/x/a.mp4", root) == "https://else/x/a.mp4"
    assert written_identity("s3://bucket/p/q/a.mp4", "s3://bucket/p") == "q/a.mp4"


def test_file_urls_are_paths(tmp_path: Path) -> None:
    (tmp_path / "a b.mp4").touch()
    assert local_file(f"file://{tmp_path}/a%20b.mp4") == str(tmp_path / "a b.mp4")
    assert local_file(f"file://localhost{tmp_path}/a b.mp4") == str(tmp_path / "a b.mp4")
    assert local_file("a.mp4") == "a.mp4"
    with pytest.raises(UsageError, match="three slashes"):
        local_file("file://a.mp4")


def test_no_network_is_asked_because_a_file_says_so() -> None:
    """A root that is only recorded is named; one that is given is used."""
    with pytest.raises(StoreError, match=r"are at s3://bucket/p; give root=s3://bucket/p"):
        place_of("a.mp4", "s3://bucket/p")
    assert place_of("a.mp4", "s3://bucket/p", "s3://bucket/p") == "s3://bucket/p/a.mp4"
    assert place_of("a.mp4", "s3://bucket/p", "/videos") == "/videos/a.mp4"
    with pytest.raises(StoreError, match="leads out"):
        place_of("../a.mp4", "/videos", "s3://bucket/p")
