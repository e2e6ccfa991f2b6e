"""The page below a path of another server, and by other names than its own."""

from __future__ import annotations

import json
import re
import urllib.request
from urllib.parse import urljoin

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from starlette.testclient import TestClient

from tests.support.prefix_proxy import proxied
from tests.support.web_fixtures import build_site, running
from vidfeat.web.guard import Guard, HostNames
from vidfeat.web.server import _own_names, page_addresses

ADDRESSES = re.compile(r"[\"'`](?:\./)?((?:static|api|thumb|media|clip)/[^\"'`?$]*)")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return build_site(tmp_path_factory.mktemp("site"), ["a/v0.mp4", "b/c/v1.mp4"], seconds=1.0)


def fetch(address: str) -> bytes:
    with urllib.request.urlopen(address, timeout=60) as answer:
        return answer.read()


def test_all_addresses_of_the_page_lead_through_the_proxy(site):
    with running(site.app) as address, proxied(address, "/user/me/proxy/8765") as page:
        found = {"static/page.html"} & set()
        queue = [f"{page}/"]
        while queue:
            here = queue.pop()
            text = fetch(here).decode()
            base = f"{page}/"
            for relative in ADDRESSES.findall(text):
                found.add(relative)
            for name in re.findall(r"(?:href|src)=\"([^\"#]+)\"", text) if here == base else []:
                assert not name.startswith("/"), name
                whole = urljoin(base, name)
                if whole not in found:
                    found.add(whole)
                    queue.append(whole)
            for name in re.findall(r"from \"(\./[^\"]+)\"", text):
                whole = urljoin(here, name)
                if whole not in found:
                    found.add(whole)
                    queue.append(whole)
            assert not re.search(r"[\"'`]/(api|static|thumb|media|clip)/", text), here
        assert any(name.endswith("folders.js") for name in found)
        assert json.loads(fetch(f"{page}/api/index"))["videos"] == 2
        assert fetch(f"{page}/thumb/0?t=0")[:2] == b"\xff\xd8"


def test_names_of_a_proxy_are_allowed_by_option(site):
    names = HostNames(allowed=frozenset({"videos.example.org"}))
    app = Guard(site.app.router, names)
    with TestClient(app, base_url="http://127.0.0.1") as client:
        asked = {"host": "videos.example.org"}
        assert client.get("/api/index", headers=asked).status_code == 200
        refused = client.get("/api/index", headers={"host": "other.example.org"})
        assert refused.status_code == 403
        assert "--allow-host" in refused.json()["error"]
        assert "other.example.org" in refused.json()["error"]
        for origin, status in [
            ("https://videos.example.org", 200),
            ("https://videos.example.org:8443", 200),
            ("https://evil.example", 403),
            ("https://videos.example.org.evil.example", 403),
            ("null", 403),
            ("file://videos.example.org", 403),
        ]:
            found = client.get("/api/index", headers={"host": "127.0.0.1", "origin": origin})
            assert found.status_code == status, origin


@pytest.mark.parametrize(
    ("host", "allowed"),
    [("192.168.7.9", True), ("fe80::1", True), ("evil.example", False), ("2130706433", False)],
)
def test_a_server_on_all_addresses_answers_to_any_address(host, allowed):
    assert (host in HostNames(_own_names("0.0.0.0"), any_address=True)) is allowed
    assert host not in HostNames(_own_names("127.0.0.1"))


def test_addresses_that_are_shown_can_be_opened():
    assert page_addresses("127.0.0.1", 8) == ["http://127.0.0.1:8/"]
    assert page_addresses("::1", 8) == ["http://[::1]:8/"]
    shown = page_addresses("0.0.0.0", 8)
    assert shown[-1] == "http://127.0.0.1:8/"
    assert not any("0.0.0.0" in address for address in shown)
