"""Check every request: it must use a host name of this server, and not come from another site.

A page of another site can make a browser send requests here, and a foreign name can be made to
resolve to this server. Origin and Sec-Fetch-Site reveal the first, the Host header the second.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
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


@dataclass(frozen=True)
class HostNames:
    """The host names that a server accepts, in lower case and without ports.

    Attributes:
        own: its own names and addresses; its pages have the same name and port.
        allowed: names under which it is reached indirectly, such as that of a reverse proxy; its
            pages have that name and any port.
        any_address: accept every IP address. The owner of a name can make it resolve to this
            server; an address cannot be forged like that.
    """

    own: frozenset[str] = frozenset({"127.0.0.1", "localhost", "::1"})
    allowed: frozenset[str] = frozenset()
    any_address: bool = False

    def __contains__(self, name: str) -> bool:
        if name in self.own or name in self.allowed:
            return True
        if not self.any_address:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def is_origin(self, origin: str, host: str) -> bool:
        """Whether an Origin is a page of this server, which was requested as ``host``."""
        scheme, separator, place = origin.lower().partition("://")
        if scheme not in ("http", "https") or not separator:
            return False
        return place == host.lower() or host_name(place) in self.allowed


class Guard:
    """Refuses requests from other sites, and sets headers that isolate the page from them."""

    def __init__(self, app: ASGIApp, names: HostNames) -> None:
        self.app = app
        self.names = names

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
        if len(hosts) != 1 or host_name(hosts[0]) not in self.names:
            name = host_name(hosts[0])[:100] if len(hosts) == 1 else ""
            return (
                f"this server does not answer to the name {name!r}: "
                "start vidfeat serve with --allow-host for it"
            )
        if not all(self.names.is_origin(origin, hosts[0]) for origin in headers.get("origin", [])):
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
