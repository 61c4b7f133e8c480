"""MEXC spot v3 signatures.

``signature`` = lower-case hex HMAC-SHA256(secret, query string immediately followed by the body). Everything is put
into the query (the body stays empty), as independent clients do. The server accepts ``timestamp < server + 1000`` and
``server - timestamp <= recvWindow`` (1..60000 ms, default 5000).

*Source:* MEXC spot v3, SIGNED endpoint security; four vectors are golden tests.
"""

from __future__ import annotations

from pipeline.exchanges.transport.hmac_pads import HmacPads

RECV_WINDOW_MIN_MS = 1
RECV_WINDOW_MAX_MS = 60_000
RECV_WINDOW_DEFAULT_MS = 5_000


class MexcSigner:
    """Signs query strings with one account's key."""

    __slots__ = ("_pads", "api_key")

    def __init__(self, api_key: str, api_secret: str) -> None:
        self.api_key = api_key
        self._pads = HmacPads(api_secret, "sha256")

    def sign(self, payload: bytes | memoryview) -> str:
        """Signature of query plus body."""
        return self._pads.hexdigest(payload)

    @staticmethod
    def window(recv_window_ms: int) -> int:
        """The window as the venue takes it."""
        return min(RECV_WINDOW_MAX_MS, max(RECV_WINDOW_MIN_MS, recv_window_ms))

    def signed_query(self, query: str, *, timestamp_ms: int, recv_window_ms: int = RECV_WINDOW_DEFAULT_MS) -> str:
        """``query`` with timestamp, window and signature appended, in this order."""
        window = self.window(recv_window_ms)
        head = f"{query}&" if query else ""
        text = f"{head}timestamp={timestamp_ms}&recvWindow={window}"
        return f"{text}&signature={self.sign(text.encode())}"
