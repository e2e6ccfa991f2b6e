"""A small reverse proxy that serves another server below a path, as Jupyter and nginx do."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding"}


@contextmanager
def proxied(address: str, prefix: str, *, keep_host: bool = False) -> Iterator[str]:
    """Serve ``http://HOST:PORT`` below ``prefix`` (``/a/b``); yields the proxy's own address.

    With ``keep_host`` the Host header is passed on, as some proxies are told to.
    """
    target = address.removeprefix("http://")

    class Handler(BaseHTTPRequestHandler):
        def _pass_on(self) -> None:
            if not self.path.startswith(f"{prefix}/"):
                self.send_error(404)
                return
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = {k: v for k, v in self.headers.items() if k.lower() not in _HOP_BY_HOP}
            if not keep_host:
                headers = {k: v for k, v in headers.items() if k.lower() != "host"}
                headers["Host"] = target
            connection = http.client.HTTPConnection(target, timeout=60)
            try:
                connection.request(self.command, self.path[len(prefix) :], body or None, headers)
                answer = connection.getresponse()
                data = answer.read()
            finally:
                connection.close()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in {*_HOP_BY_HOP, "content-length"}:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = _pass_on

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}{prefix}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
