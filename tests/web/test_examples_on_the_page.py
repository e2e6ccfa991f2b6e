"""Queries of several examples over the page's routes: phrases, segments and uploads."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlencode

import pytest

pytest.importorskip("starlette")

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from tests.support.web_fixtures import SECRET, build_site
from vidfeat.web.examples import KINDS, MOST_TERMS

NAMES = ["a/v0.mp4", "b/v1.mp4", "a/v2.mp4", "b/v,3.mp4"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory):
    return build_site(tmp_path_factory.mktemp("site"), NAMES, seconds=1.0, texts=True, hostile=True)


@pytest.fixture(scope="module")
def client(site):
    with TestClient(site.app, base_url="http://127.0.0.1") as found:
        yield found


def ask(client: TestClient, *terms: tuple[str, str], status: int = 200) -> dict:
    answer = client.get(f"/api/examples?{urlencode(terms)}")
    assert answer.status_code == status, answer.text
    return answer.json()


def test_the_page_knows_whether_phrases_can_be_asked(client, tmp_path: Path) -> None:
    assert client.get("/api/index").json()["text"] is True
    plain = build_site(tmp_path, ["a/v0.mp4"], seconds=0.5)
    with TestClient(plain.app, base_url="http://127.0.0.1") as other:
        assert other.get("/api/index").json()["text"] is False
        error = ask(other, ("phrase", "v0"), status=400)["error"]
        assert "no text tower" in error
        assert "pe_core_s" in error
        assert ask(other, ("like", ",,a/v0.mp4"))["query"]["name"] == "a/v0.mp4"


def test_phrases_find_and_turn_away(client, site) -> None:
    found = ask(client, ("phrase", "v2"))
    assert found["results"][0]["path"] == "a/v2.mp4"
    assert found["terms"] == [{"kind": "phrase", "value": "v2", "negative": False, "name": "v2"}]
    both = ask(client, ("phrase", "v2"), ("phrase", "v1"), ("not_phrase", "v0"))
    assert [term["negative"] for term in both["terms"]] == [False, False, True]
    assert both["query"]["name"] == "v2 and v1, not v0"
    source = site.uploads.source
    (query,) = site.index.combined(
        [source.of_text("v2"), source.of_text("v1")], source.of_text("v0"), together=True
    )
    wanted = site.index.search(query, k=48)
    assert [row["path"] for row in both["results"]] == [match.video for match in wanted]
    assert both["results"][0]["score"] == pytest.approx(wanted[0].score, abs=1e-3)


def test_more_like_these(client, site) -> None:
    terms = [("like", "0,0.6,a/v0.mp4"), ("like", ",,b/v,3.mp4"), ("not_like", ",,b/v1.mp4")]
    found = ask(client, *terms)
    assert {row["path"] for row in found["results"]}.isdisjoint(
        {"a/v0.mp4", "b/v,3.mp4", "b/v1.mp4"}
    )
    first, second, third = found["terms"]
    row = site.index.videos.row_of["a/v0.mp4"]
    assert (first["id"], first["whole"], second["whole"]) == (row, False, True)
    assert first["end"] <= 0.85
    assert (second["name"], third["negative"]) == ("v,3.mp4", True)
    filtered = client.get(f"/api/examples?{urlencode([*terms, ('folder', 'a')])}").json()
    assert {row["folder"] for row in filtered["results"]} == {"a"}


def test_an_upload_among_the_examples(client, site) -> None:
    data = (site.root / "a/v0.mp4").read_bytes()
    token = client.post("/api/upload?name=mine.mp4", content=data).json()["query"]["upload"]
    found = ask(client, ("like_upload", f",,{token}"), ("not_phrase", "v1"))
    assert found["terms"][0]["name"] == "mine.mp4"
    assert found["results"][0]["path"] == "a/v0.mp4"
    error = ask(client, ("like_upload", ",,gone"), status=404)["error"]
    assert "drop the file again" in error


@pytest.mark.parametrize(
    ("terms", "status"),
    [
        ([], 400),
        ([("phrase", "")], 400),
        ([("phrase", " \t ")], 400),
        ([("phrase", "a" * 5000)], 400),
        ([("phrase", "a\0b")], 400),
        ([("not_phrase", "v0")], 400),
        ([("like", "a/v0.mp4")], 400),
        ([("like", "nan,1,a/v0.mp4")], 400),
        ([("like", "-1,1,a/v0.mp4")], 400),
        ([("like", "1e400,,a/v0.mp4")], 400),
        ([("like", "5,2,a/v0.mp4")], 400),
        ([("like", ",,../secret.mp4")], 404),
        ([("like", ",,a/not_indexed.mp4")], 404),
        ([("like", ",,\udce9".encode("utf-8", "surrogateescape").decode("latin-1"))], 404),
        ([("like_upload", ",,../../secret")], 404),
        ([("like", ",,a/v0.mp4")] * (MOST_TERMS + 1), 400),
        ([("like", ",,a/v0.mp4"), ("k", "-1")], 400),
    ],
)
def test_what_cannot_be_asked(client, terms, status) -> None:
    answer = client.get(f"/api/examples?{urlencode(terms)}")
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]
    assert SECRET not in answer.content


WORDS = st.text(max_size=12) | st.sampled_from(
    ["v0", "a/v0.mp4", ",,a/v0.mp4", "0,1,a/v2.mp4", ",,../secret.mp4", "1,,gone", "nan,nan,a"]
)
KIND_NAMES = [*KINDS, *(f"not_{kind}" for kind in KINDS), "folder", "label", "text", "k"]


@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(st.tuples(st.sampled_from(KIND_NAMES), WORDS), max_size=5))
def test_no_request_fails_the_server(client, terms) -> None:
    query = urlencode(terms, errors="surrogatepass")
    answer = client.get(f"/api/examples?{query}")
    assert answer.status_code < 500, answer.text
    assert SECRET not in answer.content


def test_other_sites_are_refused(client) -> None:
    for headers in ({"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"}):
        answer = client.get("/api/examples?phrase=v0", headers=headers)
        assert answer.status_code == 403
    assert client.post("/api/examples?phrase=v0").status_code == 405
