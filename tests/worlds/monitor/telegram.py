"""Telegram's bot interface on loopback: what people write, and what the bot sends, over real HTTP."""

from __future__ import annotations

import http.server
import threading
import time
from typing import Any

import msgspec


class Telegram:
    """``write`` is what somebody does in a chat; ``sent`` what the bot has sent. An update is given until a later
    offset confirms it, as the real one does. ``refused``: the status that every question for updates is answered;
    ``mute``: that of whatever the bot sends. ``name``: the bot's; "": nobody hears it."""

    def __init__(self, token: str) -> None:
        self.sent: list[dict[str, Any]] = []
        self.refused = self.mute = 0
        self.name = "My_Bot"
        self._written = 0
        self._updates: list[dict[str, Any]] = []
        self._news = threading.Condition()
        self._closed = False
        world = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                fields = msgspec.json.decode(self.rfile.read(int(self.headers["Content-Length"])))
                status, result = world._answer(self.path, fields, token)
                raw = msgspec.json.encode({"ok": status == 200, "result": result})
                self.send_response(status)
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, format: str, *args: Any) -> None:
                return

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def write(self, text: str, *, chat: int, age_s: int = 0) -> None:
        """Somebody writes ``text`` in a chat, ``age_s`` ago."""
        with self._news:
            message = {"chat": {"id": chat}, "from": {"id": 5, "username": "ann"}, "text": text}
            message["date"] = int(time.time()) - age_s
            self._written += 1
            self._updates.append({"update_id": self._written, "message": message})
            self._news.notify_all()

    def _answer(self, path: str, fields: dict[str, Any], token: str) -> tuple[int, Any]:
        if path == f"/bot{token}/sendMessage":
            self.sent.append(fields)
            return self.mute or 200, {}
        if path == f"/bot{token}/getMe":
            return (200, {"username": self.name}) if self.name else (502, None)
        if path != f"/bot{token}/getUpdates":
            return 404, None
        if self.refused:
            return self.refused, None
        with self._news:
            self._updates = self._due(fields)
            self._news.wait_for(lambda: self._closed or bool(self._due(fields)), timeout=float(fields["timeout"]))
            return 200, self._due(fields)

    def _due(self, fields: dict[str, Any]) -> list[dict[str, Any]]:
        return [row for row in self._updates if row["update_id"] >= fields["offset"]]

    def close(self) -> None:
        with self._news:
            self._closed = True
            self._news.notify_all()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
