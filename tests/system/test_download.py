import hashlib
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.support import download_fixtures as web
from vidfeat.errors import DownloadError
from vidfeat.system import download
from vidfeat.system.download import Source, StderrProgress, cache_folder, fetch

CONTENT = bytes(range(256)) * 1200  # 307,200 bytes, five of the client's chunks
SHA256 = hashlib.sha256(CONTENT).hexdigest()
OTHER = b"x" + CONTENT[1:]


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    monkeypatch.setenv("VIDFEAT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def source(url, **options):
    values = {"sha256": SHA256, "stall_seconds": 0.3, "pause_seconds": 0.001, "attempts": 4}
    return Source(url, "net.pth", **(values | options))


def kept():
    """What lies in the cache, without what a running download needs."""
    folder = cache_folder()
    return sorted(p.name for p in folder.iterdir()) if folder.exists() else []


GOOD = {
    "in one go": (web.whole,),
    "cut once": (web.cut(100_000), web.whole),
    "cut three times": (web.cut(50_000), web.cut(50_000), web.cut(1), web.whole),
    "cut before the first byte": (web.cut(0), web.whole),
    "closed before a word": (web.slam, web.whole),
    "stalls": (web.stall(100_000, 1.0), web.whole),
    "a trickle": (web.trickle(2.0), web.ignoring_range),
    "ignores the range": (web.cut(100_000), web.ignoring_range),
    "ignores the range, is cut again": (
        web.cut(100_000),
        web.ignoring_range_and_cut(90_000),
        web.whole,
    ),
    "sends another range": (web.cut(100_000), web.other_range, web.whole),
    "promises more than there is": (web.lying(+1000),),
    "promises less than there is": (web.lying(-1000), web.whole),
    "says no length": (web.without_length,),
    "busy at first": (web.status(503), web.status(429), web.whole),
    "other bytes, cut, then the right ones": (
        lambda h, _c, s: web.cut(100_000)(h, OTHER, s),
        web.whole,
        web.whole,
    ),
}


@pytest.mark.parametrize("case", GOOD)
def test_the_file_comes_in_spite_of(case):
    with web.serving(CONTENT, *GOOD[case]) as server:
        path = fetch(source(server.url), lambda done, total: None)
        assert path.read_bytes() == CONTENT
        assert kept() == ["net.pth"]
        fetch(source(server.url))
        assert len(server.requests) <= len(GOOD[case]) + 1


BAD = {
    "other bytes": ((lambda h, _c, s: web.whole(h, OTHER, s),), "has the sha256"),
    "fewer bytes": ((lambda h, c, s: web.whole(h, c[:-1000], s),), "has the sha256"),
    "cut each time": ((web.cut(0),), "cut after 0 of 307200"),
    "stalls each time": ((web.stall(0, 0.5),), "stall"),
    "closed each time": ((web.slam,), "without response"),
    "gone": ((web.status(404),), "404 Not Found"),
    "forbidden": ((web.status(403),), "403 Forbidden"),
    "broken": ((web.status(500),), "500 Internal"),
    "a web page": ((web.web_page,), "a web page instead of the file"),
    "without end": ((web.endless,), "more than 400000 bytes were sent"),
}


@pytest.mark.parametrize("case", BAD)
def test_nothing_is_kept_when_the_server(case):
    behaviours, reason = BAD[case]
    with web.serving(CONTENT, *behaviours) as server, pytest.raises(DownloadError) as caught:
        fetch(source(server.url, max_bytes=400_000), lambda done, total: None)
    message = str(caught.value)
    assert reason in message
    assert server.url in message
    assert f"put net.pth into {cache_folder()}" in message
    assert "weights=FILE" in message and "model=bundled" in message
    assert "\n" not in message
    assert "net.pth" not in kept()


def test_no_network():
    with pytest.raises(DownloadError, match=r"put net\.pth into"):
        fetch(source("http://127.0.0.1:1/net.pth"))
    with pytest.raises(DownloadError, match=r"cannot download http://name\.invalid"):
        fetch(source("http://name.invalid/net.pth"))


def test_a_cut_download_goes_on_where_it_was(tmp_path):
    """Another process, later: what came is not fetched again."""
    with web.serving(CONTENT, web.cut(200_000)) as server, pytest.raises(DownloadError):
        fetch(source(server.url, attempts=1))
    assert kept() == ["net.pth.part"]
    with web.serving(CONTENT, web.whole) as server:
        fetch(source(server.url))
        assert server.requests == ["bytes=200000-"]


def test_a_whole_part_needs_no_more_bytes():
    cache_folder().mkdir(parents=True)
    (cache_folder() / "net.pth.part").write_bytes(CONTENT)
    with web.serving(CONTENT, web.whole) as server:
        assert fetch(source(server.url)).read_bytes() == CONTENT


def test_a_part_that_is_too_long_is_dropped():
    cache_folder().mkdir(parents=True)
    (cache_folder() / "net.pth.part").write_bytes(CONTENT + b"more")
    with web.serving(CONTENT, web.whole) as server:
        assert fetch(source(server.url)).read_bytes() == CONTENT


@pytest.mark.parametrize("digits", [8, 64])
def test_torch_hubs_cache_is_looked_into_first(digits):
    folder = download.torch_hub_folder()
    folder.mkdir(parents=True)
    (folder / "net.pth").write_bytes(CONTENT)
    path = fetch(source("http://127.0.0.1:1/net.pth", sha256=SHA256[:digits]))
    assert path == folder / "net.pth"
    assert kept() == []


def test_a_wrong_file_in_torch_hubs_cache_is_not_used():
    folder = download.torch_hub_folder()
    folder.mkdir(parents=True)
    (folder / "net.pth").write_bytes(OTHER)
    with web.serving(CONTENT) as server:
        assert fetch(source(server.url)).parent == cache_folder()
    assert (folder / "net.pth").read_bytes() == OTHER


def test_a_wrong_file_in_the_cache_is_put_aside_and_never_loaded():
    cache_folder().mkdir(parents=True)
    (cache_folder() / "net.pth").write_bytes(OTHER)
    with pytest.raises(DownloadError):
        fetch(source("http://127.0.0.1:1/net.pth"))
    assert kept() == ["net.pth.wrong-hash"]
    with web.serving(CONTENT) as server:
        assert fetch(source(server.url)).read_bytes() == CONTENT


def test_without_a_published_hash_the_first_one_counts():
    with web.serving(CONTENT) as server:
        path = fetch(source(server.url, sha256=""))
    assert (path.parent / "net.pth.sha256").read_text().strip() == SHA256
    assert fetch(source("http://127.0.0.1:1/", sha256="")) == path
    path.write_bytes(OTHER)
    with pytest.raises(DownloadError):
        fetch(source("http://127.0.0.1:1/", sha256=""))


def test_no_redirection_out_of_https():
    handler = download._SameScheme()
    request = download.urllib.request.Request("https://example.org/net.pth")
    with pytest.raises(download.urllib.error.URLError, match="without https"):
        handler.redirect_request(request, None, 302, "", {}, "http://example.org/net.pth")


def test_an_unwritable_cache_gives_way_to_a_temporary_one(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VIDFEAT_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(DownloadError, match=f"put net.pth into {tmp_path}/vidfeat-cache-"):
        fetch(Source("http://127.0.0.1:1/", "net.pth", attempts=1))
    assert str(tmp_path / "file") in capsys.readouterr().err


CHILD = """
import sys
from vidfeat.system.download import Source, fetch
path = fetch(Source(sys.argv[1], "net.pth", sys.argv[2], stall_seconds=20))
print(len(path.read_bytes()))
"""


def test_two_processes_at_once(tmp_path):
    """One downloads; the other waits for it and then asks for nothing."""
    begun = threading.Event()
    go = threading.Event()

    def slow(handler, content, start):
        begun.set()
        go.wait(20)
        web.whole(handler, content, start)

    with web.serving(CONTENT, slow) as server:
        command = [sys.executable, "-c", CHILD, server.url, SHA256]
        first = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert begun.wait(60)
        second = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        with pytest.raises(subprocess.TimeoutExpired):
            second.wait(1.0)
        go.set()
        for child in (first, second):
            output, _ = child.communicate(timeout=60)
            assert (child.returncode, output.strip()) == (0, str(len(CONTENT)))
        assert len(server.requests) == 1
    assert kept() == ["net.pth"]


def test_a_killed_download_leaves_no_file_and_no_lock(tmp_path):
    with web.serving(CONTENT, web.stall(100_000, 5.0), web.whole) as server:
        command = [sys.executable, "-c", CHILD, server.url, SHA256]
        child = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        part = cache_folder() / "net.pth.part"
        while not (part.exists() and part.stat().st_size) and child.poll() is None:
            pass
        child.kill()
        child.wait()
        assert "net.pth" not in kept()
        assert fetch(source(server.url)).read_bytes() == CONTENT


def test_progress(capsys):
    seen = []
    with web.serving(CONTENT) as server:
        fetch(source(server.url), lambda done, total: seen.append((done, total)))
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    bar = StderrProgress("net.pth")
    bar(0, 2_000_000)
    bar(2_000_000, 2_000_000)
    assert "downloading net.pth: 2.0 MB of 2.0 MB" in capsys.readouterr().err


def test_cache_folder_by_the_platform(monkeypatch):
    monkeypatch.delenv("VIDFEAT_CACHE")
    assert cache_folder().name == "weights"
    assert "vidfeat" in str(cache_folder())
    monkeypatch.setenv("VIDFEAT_CACHE", "~/x")
    assert cache_folder() == Path.home() / "x" / "weights"
