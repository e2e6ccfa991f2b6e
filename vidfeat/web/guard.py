"""What is asked of every request: a host name of this server's own, and no other site behind it.

A page of another site can make a browser send requests here, and a name of its own can be made to
lead here. The Host header tells the second, Origin and Sec-Fetch-Site tell the first.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "media-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


class Guard:
    """Refuses strangers, and sets the headers that keep the page to itself.

    Args:
        app: what answers.
        hosts: names that this server goes by, in lower case, without port.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str]) -> None:
        self.app = app
        self.hosts = frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", []))
                present = {name.lower() for name, _ in headers}
                headers += [
                    (name.encode(), value.encode())
                    for name, value in HEADERS.items()
                    if name.encode() not in present
                ]
                message["headers"] = headers
            await send(message)

        refusal = self._refusal(scope)
        if refusal:
            answer = JSONResponse({"error": refusal}, status_code=403)
            await answer(scope, receive, send_with_headers)
            return
        await self.app(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> str:
        headers = _headers(scope)
        hosts = headers.get("host", [])
        if len(hosts) != 1 or host_name(hosts[0]) not in self.hosts:
            return "this server does not go by that name"
        own = {f"http://{hosts[0].lower()}", f"https://{hosts[0].lower()}"}
        if any(origin.lower() not in own for origin in headers.get("origin", [])):
            return "requests from other sites are refused"
        if any(site in ("cross-site", "same-site") for site in headers.get("sec-fetch-site", [])):
            modes = headers.get("sec-fetch-mode", [])
            # A link on another site may lead to the page itself, and to nothing else.
            if modes != ["navigate"] or scope["path"] != "/":
                return "requests from other sites are refused"
        return ""


def _headers(scope: Any) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        found.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return found


def host_name(value: str) -> str:
    """The name in a Host header, in lower case, without the port."""
    text = value.strip().lower()
    if text.startswith("["):
        return text.partition("]")[0][1:]
    name, colon, port = text.partition(":")
    return name if not colon or port.isdigit() else ""
