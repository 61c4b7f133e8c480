"""The HTTP server of the monitor on 127.0.0.1: ``/metrics``, ``/healthz``, ``/status`` (the text of ``arb status``),
and the page at ``/``.

Read-only: nothing that a client sends changes anything. A request whose Host is not this host's loopback is refused, so
that no web page of elsewhere reads it through somebody's browser.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from typing import Any

from aiohttp import web

from shm.errors import ShmError
from workers.monitor.page import HEADERS, STYLE
from workers.output import to_json

HOST = "127.0.0.1"
LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
CLIENTS_MAX = 64


class MonitorServer:
    """Serves what its callables return; each may raise ShmError (memory of another build): 503."""

    def __init__(
        self,
        metrics: Callable[[], bytes],
        health: Callable[[], tuple[bool, dict[str, Any]]],
        text: Callable[[], str],
        page: Callable[[], str],
    ) -> None:
        self._metrics = metrics
        self._health = health
        self._text = text
        self._page = page
        self._runner: web.AppRunner | None = None
        self.port = 0

    async def start(self, wanted_port: int) -> bool:
        """Listen at ``wanted_port``, where that is taken at any free one. Whether it is the wanted one."""
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, wanted_port))
            listener.listen(CLIENTS_MAX)
        except OSError as error:
            listener.close()
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            listener = socket.create_server((HOST, 0))
        self.port = int(listener.getsockname()[1])
        app = web.Application(middlewares=[_loopback_only])
        app.router.add_get("/metrics", self._serve_metrics)
        app.router.add_get("/healthz", self._serve_health)
        app.router.add_get("/status", self._serve_text)
        app.router.add_get("/style.css", _serve_style)
        app.router.add_get("/", self._serve_page)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await self._runner.setup()
        await web.SockSite(self._runner, listener).start()
        return wanted_port in (0, self.port)

    async def close(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _serve_metrics(self, request: web.Request) -> web.Response:
        try:
            return web.Response(body=self._metrics(), headers={"Content-Type": METRICS_TYPE})
        except ShmError as error:
            return web.Response(status=503, text=f"{error}\n")

    async def _serve_health(self, request: web.Request) -> web.Response:
        try:
            healthy, fields = self._health()
        except ShmError as error:
            healthy, fields = False, {"state": "unknown", "error": str(error)}
        return web.Response(
            status=200 if healthy else 503, text=to_json(fields) + "\n", content_type="application/json"
        )

    async def _serve_text(self, request: web.Request) -> web.Response:
        try:
            return web.Response(text=self._text() + "\n")
        except ShmError as error:
            return web.Response(status=503, text=f"{error}\n")

    async def _serve_page(self, request: web.Request) -> web.Response:
        try:
            return web.Response(text=self._page(), content_type="text/html", headers=HEADERS)
        except ShmError as error:
            return web.Response(status=503, text=f"{error}\n", headers=HEADERS)


async def _serve_style(request: web.Request) -> web.Response:
    return web.Response(text=STYLE, content_type="text/css", headers=HEADERS)


@web.middleware
async def _loopback_only(request: web.Request, handler: Callable[[web.Request], Any]) -> web.StreamResponse:
    host = request.host.rsplit(":", 1)[0] if not request.host.endswith("]") else request.host
    if host not in LOOPBACK_NAMES:
        return web.Response(status=403, text="found another Host than this host's loopback, wanted 127.0.0.1\n")
    response: web.StreamResponse = await handler(request)
    return response
