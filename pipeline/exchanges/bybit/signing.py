"""Bybit V5 signatures: REST headers, logins of the private and the order socket.

What is signed of a request is timestamp + key + window + S, where S is the query of a GET or the body of a POST exactly
as it is sent; of a login ``GET/realtime`` and when the login expires. Orders over the WebSocket API carry no signature:
the login of their connection does.

*Source:* Bybit V5 documentation "Integration Guidance", "Connect" (authentication). Golden vectors: equal to what
ccxt and pybit sign. RSA keys are documented, and not taken here.
"""

from __future__ import annotations

from pipeline.exchanges.transport.hmac_pads import HmacPads
from pipeline.model.errors import ConfigInvalid

RECV_WINDOW_MS = 5_000  # the venue's default; a longer one is not documented to be taken
LOGIN_LIFE_MS = 10_000  # from the venue's clock now to a login's ``expires``
PEM_MARK = "-----BEGIN"


class BybitSigner:
    """Signs with one account's key."""

    __slots__ = ("_pads", "api_key")

    def __init__(self, api_key: str, api_secret: str) -> None:
        """``api_secret``: an HMAC secret. Raises ``ConfigInvalid`` for a key in PEM."""
        if PEM_MARK in api_secret:
            raise ConfigInvalid(["api_secret: found a PEM text, wanted the secret of an HMAC key"])
        self.api_key = api_key
        self._pads = HmacPads(api_secret, "sha256")

    @staticmethod
    def window(recv_window_ms: int) -> int:
        """The window as the venue takes it; a shorter one only makes a request expire earlier."""
        return min(RECV_WINDOW_MS, max(1, recv_window_ms))

    def rest_headers(self, signed: str, timestamp_ms: int, recv_window_ms: int = RECV_WINDOW_MS) -> dict[str, str]:
        """Headers of a request; ``signed``: query or body as sent."""
        window = self.window(recv_window_ms)
        sign = self._pads.hexdigest(f"{timestamp_ms}{self.api_key}{window}{signed}".encode())
        return {
            "X-BAPI-API-KEY": self.api_key,
            "X-BAPI-TIMESTAMP": str(timestamp_ms),
            "X-BAPI-RECV-WINDOW": str(window),
            "X-BAPI-SIGN": sign,
        }

    def login(self, expires_ms: int) -> str:
        """Signature of a socket's ``auth``."""
        return self._pads.hexdigest(f"GET/realtime{expires_ms}".encode())

    def login_frame(self, now_ms: int, request_id: str) -> bytes:
        """The ``auth`` request of a socket, by the venue's clock."""
        expires_ms = now_ms + LOGIN_LIFE_MS
        args = f'"{self.api_key}",{expires_ms},"{self.login(expires_ms)}"'
        return f'{{"reqId":"{request_id}","req_id":"{request_id}","op":"auth","args":[{args}]}}'.encode()
