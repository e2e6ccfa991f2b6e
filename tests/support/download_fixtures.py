"""A web server on this machine that misbehaves as told."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Behaviour = Callable[[BaseHTTPRequestHandler, bytes, int], None]


@contextmanager
def serving(content: bytes, *behaviours: Behaviour) -> Iterator["Server"]:
    """Serve bytes; request k is answered by behaviour k, later ones by the last."""
    server = Server(content, behaviours or (whole,))
    thread = threading.Thread(target=server.http.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.http.shutdown()
        thread.join()
        server.http.server_close()


class Server:
    def __init__(self, content: bytes, behaviours) -> None:
        self.requests: list[str] = []  # the Range header of each, or ""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                header = self.headers.get("Range", "")
                number = len(outer.requests)
                outer.requests.append(header)
                start = int(header.removeprefix("bytes=").rstrip("-")) if header else 0
                behaviours[min(number, len(behaviours) - 1)](self, content, start)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}/files/net.pth"


def _head(handler, start: int, total: int, length: int | None, kind: str) -> None:
    handler.send_response(206 if start else 200)
    if start:
        handler.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
    if length is not None:
        handler.send_header("Content-Length", str(length))
    handler.send_header("Content-Type", kind)
    handler.end_headers()


def whole(handler, content: bytes, start: int) -> None:
    """All that was asked for."""
    if start >= len(content):
        handler.send_response(416)
        handler.send_header("Content-Range", f"bytes */{len(content)}")
        handler.end_headers()
        return
    _head(handler, start, len(content), len(content) - start, "application/octet-stream")
    handler.wfile.write(content[start:])


def cut(after: int) -> Behaviour:
    """The connection ends after so many bytes of those that were promised."""

    def answer(handler, content: bytes, start: int) -> None:
        _head(handler, start, len(content), len(content) - start, "application/octet-stream")
        handler.wfile.write(content[start : start + after])

    return answer


def stall(after: int, seconds: float) -> Behaviour:
    """So many bytes, then silence."""

    def answer(handler, content: bytes, start: int) -> None:
        cut(after)(handler, content, start)
        handler.wfile.flush()
        time.sleep(seconds)

    return answer


def trickle(seconds: float) -> Behaviour:
    """A byte now and then, which keeps any timeout of a socket from firing."""

    def answer(handler, content: bytes, start: int) -> None:
        _head(handler, start, len(content), len(content) - start, "application/octet-stream")
        end = time.monotonic() + seconds
        try:
            while time.monotonic() < end:
                handler.wfile.write(b"x")
                handler.wfile.flush()
                time.sleep(0.02)
        except OSError:  # the client has given up
            pass

    return answer


def lying(difference: int) -> Behaviour:
    """All the bytes, under a length that is wrong by so many."""

    def answer(handler, content: bytes, start: int) -> None:
        length = len(content) - start + difference
        _head(handler, start, len(content) + difference, length, "application/octet-stream")
        handler.wfile.write(content[start:])

    return answer


def without_length(handler, content: bytes, start: int) -> None:
    """The length is not said."""
    _head(handler, start, len(content), None, "application/octet-stream")
    handler.wfile.write(content[start:])


def ignoring_range(handler, content: bytes, _start: int) -> None:
    """All of it, whatever was asked for."""
    whole(handler, content, 0)


def ignoring_range_and_cut(after: int) -> Behaviour:
    def answer(handler, content: bytes, _start: int) -> None:
        cut(after)(handler, content, 0)

    return answer


def other_range(handler, content: bytes, start: int) -> None:
    """A part, but not the one that was asked for."""
    _head(handler, max(start - 7, 1), len(content), len(content) - start, "x/y")
    handler.wfile.write(content[start:])


def endless(handler, content: bytes, _start: int) -> None:
    """More than the file, for as long as anyone reads."""
    _head(handler, 0, 0, None, "application/octet-stream")
    try:
        while True:
            handler.wfile.write(content)
    except OSError:
        pass


def web_page(handler, _content: bytes, _start: int) -> None:
    """What a file sharing site shows in place of a file that is gone."""
    _head(handler, 0, 0, 6, "text/html; charset=utf-8")
    handler.wfile.write(b"<html>")


def status(code: int) -> Behaviour:
    def answer(handler, _content: bytes, _start: int) -> None:
        handler.send_response(code)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def slam(handler, _content: bytes, _start: int) -> None:
    """The connection ends before a word."""
    handler.close_connection = True
