"""Serve an index as a web page."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from vidfeat.errors import MissingExtraError, UsageError
from vidfeat.index import VideoIndex
from vidfeat.index.databases import open_index
from vidfeat.index.query import QuerySource


@dataclass(frozen=True)
class ServeOptions:
    """How to serve.

    Attributes:
        host: address to listen on; any but the loopback exposes the videos to a network.
        port: port to listen on; 0 for any free one.
        root: where the videos are, if they have moved.
        labels: a labels.csv, for the filter.
        weights: where the encoder's weights are, if they have moved.
        device: device for the encoder.
        cache: folder of pictures and segments; None for the user's cache folder.
        most_cache_bytes: its maximum size.
        most_upload_bytes: maximum size of a video dropped on the page.
        follow_links: serve the targets of links below the root.
        read_only: accept no uploads and no labels.
        allow_hosts: additional host names of the page, such as that of a reverse proxy.
    """

    host: str = "127.0.0.1"
    port: int = 8765
    root: str | os.PathLike[str] | None = None
    labels: Path | None = None
    weights: str | None = None
    device: str = "auto"
    cache: Path | None = None
    most_cache_bytes: int = 2 << 30
    most_upload_bytes: int = 512 << 20
    follow_links: bool = False
    read_only: bool = False
    allow_hosts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.port < 65_536:
            raise UsageError(f"port must be from 0 to 65535, not {self.port}", field="port")
        if self.most_upload_bytes < 1 or self.most_cache_bytes < 1:
            raise UsageError(
                "most_upload_bytes and most_cache_bytes must be above 0",
                field=("most_upload_bytes", "most_cache_bytes"),
            )


def make_app(index: VideoIndex, options: ServeOptions) -> object:
    """The application of an index; see `vidfeat.web.app`.

    Raises:
        MissingExtraError: the web framework is not installed.
    """
    try:
        from vidfeat.web.app import create_app
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("starlette", "anyio"):
            raise
        raise MissingExtraError("web", "starlette", "the search page") from None
    from vidfeat.web.cache import Cache, default_folder
    from vidfeat.web.catalog import Catalog
    from vidfeat.web.guard import HostNames, host_name
    from vidfeat.web.uploads import Uploads

    labels = dict(index.labels)
    if options.labels is not None:
        from vidfeat.datasets.labels import read_labels

        labels = {row.path: row.label for row in read_labels(options.labels).rows}
    catalog = Catalog(index, root=options.root, labels=labels, follow_links=options.follow_links)
    source = QuerySource(index, root=options.root, weights=options.weights, device=options.device)
    return create_app(
        index,
        catalog,
        Cache(options.cache or default_folder(), options.most_cache_bytes),
        Uploads(source, options.most_upload_bytes),
        names=HostNames(
            _own_names(options.host),
            frozenset(host_name(name) for name in options.allow_hosts),
            any_address=options.host in _ALL_ADDRESSES,
        ),
        read_only=options.read_only,
    )


_ALL_ADDRESSES = ("0.0.0.0", "::", "")


def _own_names(host: str) -> frozenset[str]:
    own = frozenset({"127.0.0.1", "localhost", "::1"})
    if host in own:
        return own
    if host in _ALL_ADDRESSES:
        return own | {socket.gethostname().lower()}
    return own | {host.lower()}


def page_addresses(host: str, port: int) -> list[str]:
    """Addresses that open the page, those for other machines first.

    A browser cannot open ``0.0.0.0``: all addresses of this machine are shown instead.
    """
    names = [host]
    if host in _ALL_ADDRESSES:
        names = [*_machine_addresses(), socket.gethostname(), "127.0.0.1"]
    shown = (f"[{name}]" if ":" in name else name for name in dict.fromkeys(names))
    return [f"http://{name}:{port}/" for name in shown]


def _machine_addresses() -> list[str]:
    """Addresses of this machine that are not its loopback."""
    found: list[str] = []
    # No packet is sent: connecting a UDP socket only chooses the source address.
    chooser = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with chooser, contextlib.suppress(OSError):
        chooser.connect(("192.0.2.1", 9))
        found.append(chooser.getsockname()[0])
    with contextlib.suppress(OSError):
        known = socket.getaddrinfo(socket.gethostname(), None, type=socket.SOCK_STREAM)
        found += [str(entry[4][0]) for entry in known]
    return [text for text in dict.fromkeys(found) if not _is_loopback(text) and "%" not in text]


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def plain_host(host: str) -> str:
    """An address in the form for sockets: without the brackets of URLs, ``*`` for all addresses.

    Raises:
        UsageError: it is empty, which sockets would take for all addresses.
    """
    host = host.strip()
    if not host:
        raise UsageError("the host is empty: give 127.0.0.1, or 0.0.0.0 for all", field="host")
    if host == "*":
        return "0.0.0.0"
    if host.startswith("[") and host.endswith("]"):
        return host[1:-1]
    return host


def _listen(host: str, port: int) -> socket.socket:
    """A socket bound to an address.

    Raises:
        UsageError: the host is unknown or another machine's, or the port is not available.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(
            f"the host {host!r} is unknown ({reason}): give an address of this machine, such as "
            "127.0.0.1, or 0.0.0.0 for all of them",
            field="host",
        ) from None
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        reason = os.strerror(error.errno) if error.errno else str(error)
        if error.errno == errno.EADDRNOTAVAIL:
            raise UsageError(
                f"cannot listen on {host} ({reason}): it is not an address of this machine; give "
                "one of its own, such as 127.0.0.1",
                field="host",
            ) from None
        raise UsageError(
            f"cannot listen on {host} port {port} ({reason}): give another port", field="port"
        ) from None
    return listener


def serve(
    path: str | os.PathLike[str],
    options: ServeOptions,
    *,
    ready: Callable[[list[str]], None] | None = None,
) -> None:
    """Serve an index until the process is interrupted.

    Args:
        path: the index, or the address of a database.
        options: how to serve it.
        ready: called with the addresses of the page when it can be opened.

    Raises:
        StoreError: no index.
        UsageError: the host is unknown, or the port is taken.
        MissingExtraError: the web server is not installed.
    """
    try:
        import uvicorn
    except ModuleNotFoundError:
        raise MissingExtraError("web", "uvicorn", "the search page") from None
    options = replace(options, host=plain_host(options.host))
    index = open_index(path)
    # First bind the address, which may be taken: the application creates a folder of uploads, which
    # would have to be removed.
    listener = _listen(options.host, options.port)
    try:
        app = make_app(index, options)
    except BaseException:
        listener.close()
        raise
    port = listener.getsockname()[1]
    config = uvicorn.Config(
        app,  # type: ignore[arg-type]
        log_level="error",
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        limit_concurrency=256,
        timeout_keep_alive=20,
        timeout_graceful_shutdown=2,
    )
    with listener:
        if ready is not None:
            listener.listen(128)
            ready(page_addresses(options.host, port))
        uvicorn.Server(config).run(sockets=[listener])
