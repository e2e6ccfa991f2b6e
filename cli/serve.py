"""``vidfeat serve``: an index as a web page."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(
    "serve",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: vidfeat serve INDEX --labels labels.csv",
)
@click.argument("index", metavar="INDEX|ADDRESS")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8765, show_default=True, help="Port; 0 chooses a free one.")
@click.option("--root", type=click.Path(), help="Where the videos are: a folder or URL.")
@click.option(
    "--labels", type=click.Path(path_type=Path), metavar="CSV", help="Labels to filter by."
)
@click.option("--weights", metavar="NAME|FILE", help="Where the encoder's weights are.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1.")
@click.option(
    "--cache",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for pictures and segments.  [default: the user's cache folder]",
)
@click.option("--max-cache", default="2GiB", show_default=True, help="Maximum size of the cache.")
@click.option("--max-upload", default="512MiB", show_default=True, help="Largest dropped file.")
@click.option(
    "--follow-links", is_flag=True, help="Also serve videos outside the root that links lead to."
)
@click.option(
    "--allow-host",
    multiple=True,
    metavar="NAME",
    help="Another host name of the page, such as a proxy's; may be repeated.",
)
@click.option("--read-only", is_flag=True, help="Accept no labels and no dropped files.")
@click.option("--open", "open_page", is_flag=True, help="Open the page in the browser.")
def command(
    index: str,
    host: str,
    port: int,
    root: str | None,
    labels: Path | None,
    weights: str | None,
    device: str,
    cache: Path | None,
    max_cache: str,
    max_upload: str,
    follow_links: bool,
    allow_host: tuple[str, ...],
    read_only: bool,
    open_page: bool,
) -> None:
    """Open INDEX as a page: browse the videos, search by click, drop a file, see the map.

    INDEX may also be the address of a database that vidfeat push filled.
    """
    from vidfeat.index.choose import parse_size
    from vidfeat.web.server import ServeOptions, serve

    def ready(addresses: list[str]) -> None:
        for address in addresses[:-1]:
            click.echo(address)
        click.echo(f"{addresses[-1]}  (Ctrl+C to stop)")
        if host not in ("127.0.0.1", "localhost", "::1", "[::1]"):
            click.echo(
                "There is no password: anyone who can reach this address can watch the videos"
                + ("." if read_only else ", and label them (--read-only forbids that)."),
                err=True,
            )
        if open_page:
            import webbrowser

            webbrowser.open(addresses[-1])

    serve(
        index,
        ServeOptions(
            host=host,
            port=port,
            root=root,
            labels=labels,
            weights=weights,
            device=device,
            cache=cache,
            most_cache_bytes=parse_size(max_cache, "--max-cache"),
            most_upload_bytes=parse_size(max_upload, "--max-upload"),
            follow_links=follow_links,
            allow_hosts=allow_host,
            read_only=read_only,
        ),
        ready=ready,
    )
