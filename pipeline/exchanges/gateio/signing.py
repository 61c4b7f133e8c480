"""Gate.io v4 signatures: REST, private channels, WebSocket trading. The same for spot and futures.

*Source:* Gate.io API v4: "API signature string generation", WebSocket authentication, API login; golden vectors.
"""

from __future__ import annotations

import hashlib

from pipeline.exchanges.transport.hmac_pads import HmacPads

EMPTY_BODY_SHA512 = hashlib.sha512(b"").hexdigest()


class GateSigner:
    """Signs with one account's key."""

    __slots__ = ("_pads", "api_key")

    def __init__(self, api_key: str, api_secret: str) -> None:
        self.api_key = api_key
        self._pads = HmacPads(api_secret, "sha512")

    def rest(self, method: str, path: str, query: str, body: bytes, timestamp_s: int) -> str:
        """SIGN header: ``path`` begins with /api/v4, ``query`` is the raw text after ``?`` in the order sent."""
        body_hash = hashlib.sha512(body).hexdigest() if body else EMPTY_BODY_SHA512
        return self._pads.hexdigest(f"{method}\n{path}\n{query}\n{body_hash}\n{timestamp_s}".encode())

    def rest_headers(self, method: str, path: str, query: str, body: bytes, timestamp_s: int) -> dict[str, str]:
        """KEY, Timestamp (more than 60 s off the venue's clock is refused) and SIGN."""
        return {
            "KEY": self.api_key,
            "Timestamp": str(timestamp_s),
            "SIGN": self.rest(method, path, query, body, timestamp_s),
        }

    def channel(self, channel: str, event: str, time_s: int) -> str:
        """``auth.SIGN`` of a private channel's subscribe frame."""
        return self._pads.hexdigest(f"channel={channel}&event={event}&time={time_s}".encode())

    def api_login(self, channel: str, req_param: bytes, time_s: int) -> str:
        """``payload.signature`` of spot.login / futures.login; ``req_param`` is empty for a login."""
        return self._pads.hexdigest(b"api\n%b\n%b\n%d" % (channel.encode(), req_param, time_s))
