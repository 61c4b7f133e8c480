"""A receiver of messages on loopback: a real HTTP server in a thread, whose answers a test chooses."""

from __future__ import annotations

import http.server
import socket
import threading
from typing import Any

import msgspec


class WebhookReceiver:
    """``received``: (path, JSON object) of every POST, in order; ``status``: what it answers. ``url`` ends in ``/``."""

    def __init__(self, reserved: socket.socket | None = None) -> None:
        """``reserved``: a bound socket to listen on."""
        self.received: list[tuple[str, dict[str, Any]]] = []
        self.status = 200
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.received.append((self.path, msgspec.json.decode(raw)))
                self.send_response(receiver.status)
                if 300 <= receiver.status < 400:
                    self.send_header("Location", f"http://127.0.0.1:{receiver.port}/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                return

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler, reserved is None)
        if reserved is not None:
            self._server.socket.close()
            self._server.socket = reserved
            self._server.server_address = reserved.getsockname()
            self._server.server_activate()
        self.port = int(self._server.server_address[1])
        self.url = f"http://127.0.0.1:{self.port}/"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def messages(self, path: str = "/") -> list[dict[str, Any]]:
        """The objects that were POSTed to a path."""
        return [fields for at, fields in self.received if at == path]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
