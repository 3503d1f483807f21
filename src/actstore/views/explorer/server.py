"""Serving the explorer: on loopback, to its own pages only, with nothing from any other host."""

from __future__ import annotations

import os
import re
import socket
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from actstore.errors import ActstoreError, StoreError
from actstore.paths import LOOPBACK, PORT, free_port, is_loopback
from actstore.store.files.base import Location
from actstore.units import by, counted, human_bytes, unit_of

if TYPE_CHECKING:
    from panel.io.server import Server
    from panel.template import Template

    from actstore.views.explorer.page import Page
    from actstore.views.explorer.page_theme import PageTheme
    from actstore.views.explorer.source import Source


class Sources:
    """The source of a store, opened again when it has changed since; one for all pages."""

    def __init__(self, location: Location) -> None:
        self._location = location
        self._lock = threading.Lock()
        self._source: Source | None = None
        self._known: tuple[Any, ...] = ()
        self.get()

    def get(self) -> Source:
        """The source of the store as it is now.

        Raises
        ------
        StoreError
            if there is no store, or no committed block in it.
        """
        from actstore.store.store import Store
        from actstore.views.explorer.edits import progress_of
        from actstore.views.explorer.source import Source, written

        with self._lock:
            store = Store(self._location)
            known = (written(store), *map(bool, store.committed), store.reduced, *progress_of(store))
            if self._source is None or known != self._known:
                self._source, self._known = Source(store), known
            return self._source

    def since(self, source: Source) -> str:
        """What has changed in the store since a source was read: a sentence, "" for nothing."""
        from actstore.store.store import Store
        from actstore.views.explorer.source import written

        store = source.store
        if written(store) != source.written:
            return "The store has been written anew"
        more = sum(map(bool, Store(self._location).committed)) - sum(map(bool, store.committed)) if store.missing else 0
        what = unit_of(source.classified)
        return counted(more, f"more {what} is committed", f"more {what}s are committed") if more > 0 else ""


def serve(
    location: Location,
    *,
    port: int = PORT,
    address: str = LOOPBACK,
    origins: Sequence[str] = (),
    ready: Callable[[str], None] = lambda url: None,
) -> None:
    """Serve the explorer of the store at ``location`` until interrupted.

    Parameters
    ----------
    port
        0 takes any that is free.
    address
        the address to listen on. There is no login: anybody who reaches it can read the store.
    origins
        further HOST:PORT under which browsers reach the page, as through a tunnel that ends at another port.
    ready
        called with the page's address once it can be loaded.

    Raises
    ------
    StoreError
        if there is no store, no committed block in it, the address or port cannot be had, or an origin is none.
    """
    server, url = listen(location, port=port, address=address, origins=origins)
    ready(url)
    server.run_until_shutdown()


def listen(
    location: Location, *, port: int = 0, address: str = LOOPBACK, origins: Sequence[str] = ()
) -> tuple[Server, str]:
    """A server that :func:`serve` runs, and the address of its page."""
    for origin in origins:
        _check_origin(origin)
    # Scripts and style sheets come from this server, never from a content delivery network.
    os.environ["BOKEH_RESOURCES"] = "server"
    import holoviews as hv
    import panel as pn

    import actstore.views.explorer.page  # noqa: F401  # now, not while the first reader waits

    pn.config.loading_indicator = False
    pn.extension()
    hv.extension("bokeh", logo=False)
    hv.renderer("bokeh").webgl = False  # images gain nothing by it, and software drivers stall
    sources = Sources(location)
    port = free_port(address, port)
    server = pn.serve(
        {"/": lambda: page(sources)},
        port=port,
        address=address,
        websocket_origin=[*_hosts(address, port), *origins],
        show=False,
        start=False,
        verbose=False,
        title="actstore",
        # Forget a closed page soon: its figures are tens of megabytes.
        check_unused_sessions_milliseconds=5_000,
        unused_session_lifetime_milliseconds=15_000,
    )
    host = f"[{address}]" if ":" in address else address
    return server, f"http://{socket.gethostname() if address in ('0.0.0.0', '::') else host}:{port}/"


def _check_origin(origin: str) -> None:
    """Refuse an origin that is not HOST:PORT; the port is 80 by default."""
    found = re.fullmatch(r"(?:\[[0-9A-Fa-f:.]+\]|[\w.*-]+)(?::(\d{1,5}))?", origin)
    if not found or int(found[1] or 80) > 65535:
        raise StoreError(f"origin {origin!r} is not HOST:PORT: give it as localhost:6006")


def _hosts(address: str, port: int) -> list[str]:
    """The HOST:PORT under which browsers may reach ``address``."""
    names = [address, "localhost"] if is_loopback(address) else [address]
    if address in ("0.0.0.0", "::"):
        names = [LOOPBACK, "localhost", socket.gethostname(), socket.getfqdn()]
    return [f"{f'[{name}]' if ':' in name else name}:{port}" for name in dict.fromkeys(names)]


def page(sources: Sources) -> Template:
    """The page for one request of a browser."""
    import panel as pn

    from actstore.views.explorer.page import Page
    from actstore.views.explorer.page_theme import LIGHT, THEMES
    from actstore.views.explorer.state import as_query

    arguments = {name: value[0].decode(errors="replace") for name, value in (pn.state.session_args or {}).items()}
    theme = THEMES.get(arguments.pop("theme", ""), LIGHT)
    try:
        source = sources.get()
    except ActstoreError as error:
        return _failed(str(error), theme)
    shown = Page(source, theme, as_query(arguments))
    shown.watch(partial(sources.since, source))
    return laid_out(shown)


def laid_out(shown: Page) -> Template:
    """The parts of a page in their places."""
    from actstore.views.figures.theme import colours_of

    source, theme = shown.source, shown.theme
    height, width = source.space[-2:]
    path = str(source.store.path)
    missing = len(source.store.missing)
    counts = f"{counted(len(source.patients), 'patient')} · {counted(len(source.samples), source.noun)}"
    size = f"{counts} · {human_bytes(source.store.nbytes)}"
    if missing:
        size += f" · {missing} of {counted(source.store.layout.blocks, 'volume')} missing"
    template = _template(
        "explorer.html.j2",
        theme,
        store_name=path.rstrip("/").rpartition("/")[2],
        store_path=path,
        store_size=size,
        tall=height / width,
        images=f"{by((height, width))} {path}",
        example=f"{source.first_state().layer}/0",
        # Without any tensors the one line above the pictures says so, and three empty boxes are left out.
        maps=any(source.has_tensors.values()) or shown.activations.bars is not None,
        target=not source.classified,
        classes={} if source.classified else colours_of(source.store),
        count=shown.inputs.row.count,
        about_sample="Probabilities of this image" if source.classified else "Dice and confusion of this sample",
        values=shown.activations.bars is not None,
        steps="image" if source.classified and not source.is_3d else "slice",
    )
    rows = {"input": shown.inputs.row, "map": shown.activations.row}
    items: dict[str, Any] = {
        "sidebar": shown.sidebar,
        "downloads": shown.downloads,
        "notice": shown.notice,
        "progress": shown.background.progress,
        "metrics": shown.metrics,
        "colour": shown.sidebar.colour,
        "navigator_head": shown.navigator.head,
        "navigator": shown.navigator.figure.view,
        "tabs": shown.tabs,
        "bridge": shown.bridge,
        **{f"{name}_head": row.head for name, row in rows.items()},
        **{f"{name}_{i}": one.view for name, row in rows.items() for i, one in enumerate(row.pictures)},
    }
    if shown.activations.bars is not None:
        items["values"] = shown.activations.bars.view
    for name, item in items.items():
        template.add_panel(name, item)
    return template


def _template(name: str, theme: PageTheme, **variables: Any) -> Template:
    """A page from a template of this package; every variable is escaped, except the package's own files."""
    from actstore.views.explorer.html import TEMPLATES
    from actstore.views.explorer.page_theme import DARK, Day, Night, PageDesign, PageTemplate

    own = {key: Markup(TEMPLATES.joinpath(f"explorer.{key}").read_text(encoding="utf-8")) for key in ("css", "js")}
    template = PageTemplate(
        TEMPLATES.joinpath(name).read_text(encoding="utf-8"), design=PageDesign, theme=Night if theme is DARK else Day
    )
    other = "light" if theme is DARK else "dark"
    for key, value in {**variables, "theme": theme.name, "other_theme": other, **own}.items():
        template.add_variable(key, escape(value) if isinstance(value, str) else value)
    template.add_variable("colours", theme.variables)
    return template


def _failed(message: str, theme: PageTheme) -> Template:
    """A page that says why there is nothing to explore."""
    from actstore.views.explorer.html import html_pane

    template = _template("explorer_failed.html.j2", theme)
    template.add_panel("message", html_pane(object=escape(message)))
    return template
