"""Requests that no browser sends, over a bare socket, and requests made at random.

The rule: no status of 500 or above, and nothing served that is not in the index.
"""

from __future__ import annotations

import re
import socket
from contextlib import suppress

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from tests.support.web_fixtures import SECRET, build_site, running


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory):
    names = ["a/v0.mp4", "a/old.avi"]
    return build_site(tmp_path_factory.mktemp("site"), names, hostile=True, texts=True)


@pytest.fixture(scope="module")
def address(made):
    with running(made.app) as found:
        yield found


def talk(address: str, data: bytes) -> bytes:
    """Send bytes as they are, and read until the other side is done."""
    host, port = re.fullmatch(r"http://([\d.]+):(\d+)", address).groups()
    with socket.create_connection((host, int(port)), timeout=3) as connection:
        connection.sendall(data)
        parts = []
        try:
            while part := connection.recv(65_536):
                parts.append(part)
        except (TimeoutError, ConnectionError):
            pass
    return b"".join(parts)


TARGETS = [
    b"/static/../app.py",
    b"/static/../../../../../../../../etc/passwd",
    b"/../videos/a/not_indexed.mp4",
    b"/media/../../a/not_indexed.mp4",
    b"/media/0/../../../secret.mp4",
    b"/media/%2e%2e%2f%2e%2e%2fsecret.mp4",
    b"/media/..\\..\\secret.mp4",
    b"/media/%c0%ae%c0%ae/secret.mp4",
    b"/media/%00",
    b"/media/\xff\xfe",
    b"/thumb/0?t=nan",
    b"/thumb/0?t=1e400",
    b"/thumb/0?t=-1",
    b"/clip/1?start=5&end=1",
    b"/clip/1?start=inf",
    b"/api/search?video=0&k=-1",
    b"/api/search?video=0&start=9999999",
    b"/api/search?upload=../../secret",
    b"/api/videos?first=-1",
    b"/api/videos?count=999999999999999999999999",
    b"/api/videos?folder=%ff%fe&text=%00",
    b"/api/folders?parent=..%2f..&text=%00",
    b"/api/folders?parent=%ff%fe",
    b"/api/find?path=../secret.mp4",
    b"/api/find?path=a%00b",
    b"/api/find",
    b"/api/examples",
    b"/api/examples?phrase=rain",
    b"/api/examples?like=nan,1,a/v0.mp4&not_like=,,a/v0.mp4",
    b"/api/examples?like=,,../secret.mp4",
    b"/api/examples?like_upload=,,..%2f..%2fsecret&phrase=%ff%fe",
    b"/api/teach/clips?order=%00&class=%ff&first=-1",
    b"/api/teach/clips?revision=99999999999999999999",
    b"/api/teach/clips?first=999999999&count=501",
    b"/api/teach/found?class=../../secret&format=csv",
    b"/api/teach/found?class=a&threshold=nan",
    b"/api/teach/label",
    b"/api/teach/../teach/head?name=..%2f..%2fsecret",
    b"http://evil.example/api/index",
    b"http://127.0.0.1/etc/passwd",
    b"*",
    b"/" + b"a" * 20_000,
]


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: repr(target[:40]))
def test_bare_requests(address, target):
    host = address.removeprefix("http://").encode()
    answer = talk(
        address, b"GET " + target + b" HTTP/1.1\r\nHost: " + host + b"\r\nConnection: close\r\n\r\n"
    )
    status = int(answer.split()[1])
    assert status < 500, answer[:300]
    assert SECRET not in answer
    assert b"root:" not in answer
    if status == 200:
        assert target.startswith(
            (b"/api/videos", b"/api/folders", b"/api/examples?phrase", b"/thumb", b"http://")
        )
        assert b"not_indexed" not in answer


@pytest.mark.parametrize(
    "head",
    [
        b"GET /api/index HTTP/1.1\r\nConnection: close\r\n\r\n",
        b"GET /api/index HTTP/1.0\r\n\r\n",
        b"GET /api/index HTTP/1.1\r\nHost: a\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
        b"GET /api/index HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"GET /api/index HTTP/1.1\r\nHost: 127.0.0.1 \xff\r\nConnection: close\r\n\r\n",
        b"POST /api/upload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999999999\r\n"
        b"Connection: close\r\n\r\n",
        b"POST /api/upload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -5\r\n\r\n",
        b"POST /api/upload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /media/0 HTTP/1.1\r\nHost: 127.0.0.1\r\nRange: bytes=0-0,1-1,2-2,bytes\r\n"
        b"Connection: close\r\n\r\n",
        b"GET /media/0 HTTP/1.1\r\nHost: 127.0.0.1\r\nRange: bytes=9999999999999999999-\r\n"
        b"Connection: close\r\n\r\n",
        b"POST /api/teach/label HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        b"Content-Length: 99999999999\r\nConnection: close\r\n\r\n{",
        b"POST /api/teach/undo HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\nzz\r\n",
        b"POST /api/teach/head HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://evil.example\r\n"
        b"Content-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}",
        b"GARBAGE\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
    ],
    ids=lambda head: repr(head[:60]),
)
def test_bare_heads(address, head):
    answer = talk(address, head if head.endswith(b"\n") else head + b"\r\n\r\n")
    if answer:
        status = int(answer.split()[1])
        assert 400 <= status < 500 or (status in (200, 206) and b"Range" in head), answer[:200]
    assert SECRET not in answer


SCHEMA = {
    "openapi": "3.1.0",
    "info": {"title": "page", "version": "1"},
    "paths": {
        path: {
            method: {
                "parameters": [
                    {"name": name, "in": where, "required": where == "path", "schema": schema}
                    for name, where, schema in parameters
                ],
                **(
                    {
                        "requestBody": {
                            "content": {
                                "application/octet-stream": {
                                    "schema": {"type": "string", "format": "binary"}
                                }
                            }
                        }
                    }
                    if method == "post"
                    else {}
                ),
                "responses": {"default": {"description": "anything below 500"}},
            }
        }
        for path, method, parameters in [
            (
                "/api/teach",
                "get",
                [("tab", "query", {"type": "string"})],
            ),
            (
                "/api/teach/clips",
                "get",
                [
                    ("order", "query", {"enum": ["uncertain", "certain", "mistakes", "labelled"]}),
                    ("class", "query", {"type": "string"}),
                    ("first", "query", {"type": "integer"}),
                    ("count", "query", {"type": "integer"}),
                    ("revision", "query", {"type": "integer"}),
                    ("folder", "query", {"type": "string"}),
                ],
            ),
            ("/api/teach/quality", "get", []),
            (
                "/api/teach/found",
                "get",
                [
                    ("class", "query", {"enum": ["a", "b"]}),
                    ("threshold", "query", {"type": "number"}),
                    ("format", "query", {"type": "string"}),
                    ("first", "query", {"type": "integer"}),
                ],
            ),
            ("/api/index", "get", []),
            ("/api/groups", "get", []),
            (
                "/api/folders",
                "get",
                [
                    ("parent", "query", {"type": "string"}),
                    ("text", "query", {"type": "string"}),
                ],
            ),
            ("/api/find", "get", [("path", "query", {"type": "string"})]),
            (
                "/api/videos",
                "get",
                [
                    ("first", "query", {"type": "integer"}),
                    ("count", "query", {"type": "integer"}),
                    ("folder", "query", {"type": "string"}),
                    ("label", "query", {"type": "string"}),
                    ("text", "query", {"type": "string"}),
                ],
            ),
            ("/api/videos/{video}", "get", [("video", "path", {"type": "string"})]),
            (
                "/api/search",
                "get",
                [
                    ("video", "query", {"type": "integer", "minimum": -2, "maximum": 9}),
                    ("upload", "query", {"type": "string"}),
                    ("start", "query", {"type": "number"}),
                    ("end", "query", {"type": "number"}),
                    ("k", "query", {"type": "integer"}),
                    ("per_video", "query", {"type": "integer"}),
                    ("folder", "query", {"type": "string"}),
                ],
            ),
            (
                "/api/examples",
                "get",
                [
                    (f"{no}{kind}", "query", {"type": "array", "items": {"type": "string"}})
                    for no in ("", "not_")
                    for kind in ("phrase", "like", "like_upload")
                ],
            ),
            ("/api/upload", "post", [("name", "query", {"type": "string"})]),
            (
                "/thumb/{video}",
                "get",
                [
                    ("video", "path", {"type": "integer", "minimum": 0, "maximum": 9}),
                    ("t", "query", {"type": "number"}),
                ],
            ),
            (
                "/media/{video}",
                "get",
                [
                    ("video", "path", {"type": "string"}),
                    ("range", "header", {"type": "string"}),
                ],
            ),
            (
                "/clip/{video}",
                "get",
                [
                    ("video", "path", {"type": "integer", "minimum": 0, "maximum": 9}),
                    ("start", "query", {"type": "number"}),
                    ("end", "query", {"type": "number"}),
                ],
            ),
            ("/static/{name}", "get", [("name", "path", {"type": "string"})]),
        ]
    },
}


NAME = {"type": "string", "maxLength": 90}
SPAN = {
    "anyOf": [
        {
            "type": "object",
            "properties": {"clip": {"type": "integer", "minimum": -2, "maximum": 60}},
            "required": ["clip"],
        },
        {
            "type": "object",
            "properties": {
                "video": {"type": "integer", "minimum": -1, "maximum": 7},
                "start": {"type": "number"},
                "end": {"type": "number"},
            },
            "required": ["video", "start", "end"],
        },
    ]
}
BODIES = {
    "/api/teach/label": {
        "spans": {"type": "array", "items": SPAN, "maxItems": 4},
        "label": {"anyOf": [NAME, {"type": "null"}, {"enum": ["a", "b"]}]},
        "tab": {"enum": ["x", "y"]},
        "revision": {"type": "integer"},
    },
    "/api/teach/undo": {"tab": {"type": "string"}},
    "/api/teach/head": {"name": NAME, "replace": {"type": "boolean"}},
}
for _path, _properties in BODIES.items():
    SCHEMA["paths"][_path] = {
        "post": {
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {
                        "schema": {
                            "type": "object",
                            "properties": _properties,
                            "required": list(_properties),
                        }
                    }
                },
            },
            "responses": {"default": {"description": "anything below 500"}},
        }
    }


@pytest.mark.slow
def test_schemathesis_finds_no_500(address, made):
    """Hundreds of requests out of the description above, valid and invalid."""
    schemathesis = pytest.importorskip("schemathesis")
    from hypothesis import HealthCheck, given, settings
    from hypothesis.errors import Unsatisfiable

    def others() -> dict[str, int]:
        """What lies beside the index and the cache, with its sizes."""
        inside = (made.folder / "INDEX", made.folder / "cache")
        return {
            str(path): path.lstat().st_size
            for path in made.folder.parent.rglob("*")
            if path not in inside and not any(one in path.parents for one in inside)
        }

    before = others()
    schema = schemathesis.openapi.from_dict(SCHEMA)
    seen: dict[int, int] = {}
    for result in schema.get_all_operations():
        operation = result.ok()
        modes = [
            schemathesis.GenerationMode.POSITIVE,
            schemathesis.GenerationMode.NEGATIVE,
        ]
        for mode in modes:
            try:
                strategy = operation.as_strategy(generation_mode=mode)
            except Exception:
                continue

            @settings(
                max_examples=15 if "upload" in operation.path else 60,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                database=None,
                derandomize=True,
            )
            @given(case=strategy)
            def check(case):
                answer = case.call(base_url=address, timeout=30)
                seen[answer.status_code] = seen.get(answer.status_code, 0) + 1
                assert answer.status_code < 500, answer.text[:300]
                assert SECRET not in answer.content

            with suppress(Unsatisfiable):  # an operation without parameters has no invalid ones
                check()
    assert sum(seen.values()) > 300
    assert 200 in seen
    assert others() == before
    heads = made.folder / "INDEX/heads"
    assert all((path / "head.json").is_file() for path in heads.glob("*"))
    print(dict(sorted(seen.items())))
