"""A web server and a small S3 on this machine, with the faults of real ones.

Files are bytes by path, and each has an ETag. What goes wrong is set while it runs: connections
that are cut, wrong lengths, no ranges, another file under the same name. Each request is noted.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import pytest


@dataclass
class Faults:
    """What the server does wrong; by default nothing."""

    cut_after: int | None = None
    """Bytes of an answer, before the connection is closed."""
    cut_paths: tuple[str, ...] = ()
    """Only of these; of all without any."""
    cuts: int | None = None
    """So many answers are cut, and then no more."""
    ranges: bool = True
    total_off_by: int = 0
    """Added to the size that a ``Content-Range`` says."""
    start_off_by: int = 0
    tags: bool = True
    times: bool = True
    status: dict[str, int] = field(default_factory=dict)
    """By path: answer with this status alone."""
    busy: int = 0
    """So many requests are answered with 503."""
    swap: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    """By path: after so many bytes were sent of it, it is another file."""
    redirect: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Asked:
    """A request for a file."""

    method: str
    path: str
    range: str
    sent: int


class RemoteServer:
    """Serves ``files``; S3 sees the first name of a path as the bucket."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.faults = Faults()
        self.asked: list[Asked] = []
        self.queries: list[str] = []
        self.sent_of: dict[str, int] = {}
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server.answer(self)

            def do_HEAD(self) -> None:
                server.answer(self)

            def log_message(self, *arguments: Any) -> None:
                """Says nothing."""

        class Server(ThreadingHTTPServer):
            def handle_error(self, request: Any, client_address: Any) -> None:
                """A client that has gone is none."""

        self._httpd = Server(("127.0.0.1", 0), Handler)
        self._httpd.daemon_threads = True
        self._thread = threading.Thread(target=self._httpd.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._httpd.server_port}"

    def url(self, path: str) -> str:
        return f"{self.address}/{path}"

    def put_folder(self, folder: Path, below: str = "") -> None:
        """Serve all files of a folder under their relative paths."""
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                self.files[f"{below}{file.relative_to(folder).as_posix()}"] = file.read_bytes()

    def reset(self) -> None:
        """As at the start, but for the files."""
        self.faults = Faults()
        self.asked.clear()
        self.queries.clear()
        self.sent_of.clear()

    def close(self) -> None:
        self._httpd.shutdown()
        self._httpd.server_close()
        self._thread.join()

    @property
    def bytes_sent(self) -> int:
        return sum(asked.sent for asked in self.asked)

    # -- answers -------------------------------------------------------------------------------

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        split = urlsplit(handler.path)
        path = unquote(split.path).removeprefix("/")
        query = parse_qs(split.query, keep_blank_values=True)
        self.queries.append(split.query)
        faults = self.faults
        if faults.busy > 0:
            faults.busy -= 1
            self._say(handler, 503)
            return
        if "list-type" in query and path.strip("/") not in faults.status:
            self._list(handler, path.strip("/"), query)
            return
        if path in faults.redirect:
            self._say(handler, 302, {"Location": faults.redirect[path]})
            return
        if path.strip("/") in faults.status:
            self._say(handler, faults.status[path.strip("/")])
            return
        if path in faults.swap and self.sent_of.get(path, 0) >= faults.swap[path][0]:
            self.files[path] = faults.swap[path][1]
        data = self.files.get(path)
        if data is None:
            self._say(handler, 404)
            return
        self._send(handler, path, data)

    def _send(self, handler: BaseHTTPRequestHandler, path: str, data: bytes) -> None:
        faults = self.faults
        headers = {"Content-Type": "video/mp4"}
        tag = f'"{hashlib.md5(data).hexdigest()}"'
        if faults.tags:
            headers["ETag"] = tag
        if faults.times:
            headers["Last-Modified"] = "Thu, 01 Jan 2026 00:00:00 GMT"
        wanted = handler.headers.get("If-Match")
        if wanted is not None and wanted != tag:
            self._say(handler, 412)
            return
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", handler.headers.get("Range", ""))
        status, body = 200, data
        if faults.ranges:
            headers["Accept-Ranges"] = "bytes"
            if found is not None:
                start = int(found[1])
                if start >= len(data):
                    self._say(handler, 416, {"Content-Range": f"bytes */{len(data)}"})
                    return
                stop = min(len(data), int(found[2]) + 1 if found[2] else len(data))
                status, body = 206, data[start:stop]
                begins = start + faults.start_off_by
                total = len(data) + faults.total_off_by
                headers["Content-Range"] = f"bytes {begins}-{stop - 1}/{total}"
        headers["Content-Length"] = str(len(body))
        sent = 0 if handler.command == "HEAD" else len(body)
        concerned = not faults.cut_paths or path in faults.cut_paths
        concerned = concerned and (faults.cuts is None or faults.cuts > 0)
        if faults.cut_after is not None and sent > faults.cut_after and concerned:
            sent = faults.cut_after
            faults.cuts = None if faults.cuts is None else faults.cuts - 1
        self.asked.append(Asked(handler.command, path, handler.headers.get("Range", ""), sent))
        self.sent_of[path] = self.sent_of.get(path, 0) + sent
        cut = handler.command != "HEAD" and sent < len(body)
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body[:sent])
        if cut:
            handler.close_connection = True

    def _say(
        self,
        handler: BaseHTTPRequestHandler,
        status: int,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> None:
        handler.send_response(status)
        for name, value in (headers or {}).items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(body)

    def _list(
        self, handler: BaseHTTPRequestHandler, bucket: str, query: Mapping[str, list[str]]
    ) -> None:
        """ListObjectsV2, in one answer."""
        prefix = query.get("prefix", [""])[0]
        delimiter = query.get("delimiter", [""])[0]
        keys = [path.removeprefix(f"{bucket}/") for path in sorted(self.files)]
        keys = [key for key in keys if f"{bucket}/{key}" in self.files and key.startswith(prefix)]
        entries, folders = [], []
        for key in keys:
            rest = key[len(prefix) :]
            if delimiter and delimiter in rest:
                folder = prefix + rest.partition(delimiter)[0] + delimiter
                if folder not in folders:
                    folders.append(folder)
                continue
            data = self.files[f"{bucket}/{key}"]
            entries.append(
                f"<Contents><Key>{escape(key)}</Key><LastModified>2026-01-01T00:00:00.000Z"
                f"</LastModified><ETag>&quot;{hashlib.md5(data).hexdigest()}&quot;</ETag>"
                f"<Size>{len(data)}</Size><StorageClass>STANDARD</StorageClass></Contents>"
            )
        entries += [
            f"<CommonPrefixes><Prefix>{escape(folder)}</Prefix></CommonPrefixes>"
            for folder in folders
        ]
        body = (
            '<?xml version="1.0" encoding="UTF-8"?>'
            '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Name>{bucket}</Name><Prefix>{escape(prefix)}</Prefix>"
            f"<KeyCount>{len(keys)}</KeyCount><MaxKeys>1000</MaxKeys>"
            f"<IsTruncated>false</IsTruncated>{''.join(entries)}</ListBucketResult>"
        )
        self._say(handler, 200, {"Content-Type": "application/xml"}, body.encode())


@pytest.fixture(scope="module", name="running")
def running_server() -> Iterator[RemoteServer]:
    """One server for the tests of a file, which say with ``reset`` where they begin."""
    server = RemoteServer()
    try:
        yield server
    finally:
        server.close()


def point_s3_to(server: RemoteServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the clients of S3 ask this server, with credentials that mean nothing."""
    from s3fs import S3FileSystem

    S3FileSystem.clear_instance_cache()  # which may ask another server
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.address)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
