"""Binance signatures (spot and USDⓈ-M): REST queries.

*Source:* Binance spot REST API and USDⓈ-M futures API: request security (SIGNED); their vectors are golden tests.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import quote

from pipeline.exchanges.transport.hmac_pads import HmacPads

RECV_WINDOW_DEFAULT_MS = 5_000
RECV_WINDOW_MAX_MS = 60_000


class BinanceSigner:
    """Signs with one account's HMAC key."""

    __slots__ = ("_pads", "api_key")

    def __init__(self, api_key: str, api_secret: str) -> None:
        self.api_key = api_key
        self._pads = HmacPads(api_secret, "sha256")

    def sign(self, payload: bytes) -> str:
        """Lower-case hex HMAC-SHA256 of ``payload``."""
        return self._pads.hexdigest(payload)

    def signed_query(self, query: str, *, timestamp_ms: int, recv_window_ms: int = RECV_WINDOW_DEFAULT_MS) -> str:
        """``query`` (already percent-encoded, as it must be before signing) with timestamp, window and signature."""
        head = f"{query}&" if query else ""
        text = f"{head}timestamp={timestamp_ms}&recvWindow={min(RECV_WINDOW_MAX_MS, max(1, recv_window_ms))}"
        return f"{text}&signature={self.sign(text.encode())}"


def encode_query(params: Iterable[tuple[str, str]]) -> str:
    """Percent-encoded query in the given order."""
    return "&".join(f"{key}={quote(value, safe='-_.~')}" for key, value in params)
