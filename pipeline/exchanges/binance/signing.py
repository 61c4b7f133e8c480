"""Binance signatures (spot and USDⓈ-M): REST queries and parameters of the WebSocket API, HMAC and Ed25519 keys.

A secret that is a PEM text is an Ed25519 private key: its signatures are base64 (percent-encoded in a query), those of
an HMAC secret lower-case hex. In the WebSocket API all parameters, ``apiKey`` among them, are signed sorted by name.

*Source:* Binance spot REST API and USDⓈ-M futures API: request security (SIGNED); their vectors are golden tests.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import quote

from pipeline.exchanges.transport.hmac_pads import HmacPads
from pipeline.model.errors import ConfigInvalid

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

RECV_WINDOW_DEFAULT_MS = 5_000
RECV_WINDOW_MAX_MS = 60_000
HMAC_SIGNATURE_BYTES = 64
ED25519_SIGNATURE_BYTES = 88  # base64 of 64 bytes
PEM_MARK = "PRIVATE KEY"


class BinanceSigner:
    """Signs with one account's key. ``signature_bytes``: length of a signature as text."""

    __slots__ = ("_ed25519", "_pads", "api_key", "signature_bytes")

    def __init__(self, api_key: str, api_secret: str) -> None:
        """``api_secret``: an HMAC secret, or an unencrypted Ed25519 private key as PEM text. Raises ``ConfigInvalid``
        for another key in PEM."""
        self.api_key = api_key
        self._ed25519 = _private_key(api_secret) if PEM_MARK in api_secret else None
        self._pads = HmacPads("" if self._ed25519 is not None else api_secret, "sha256")
        self.signature_bytes = HMAC_SIGNATURE_BYTES if self._ed25519 is None else ED25519_SIGNATURE_BYTES

    def sign(self, payload: bytes) -> str:
        """Lower-case hex HMAC-SHA256 of ``payload``, or its Ed25519 signature in base64."""
        if self._ed25519 is None:
            return self._pads.hexdigest(payload)
        return base64.b64encode(self._ed25519.sign(payload)).decode()

    @staticmethod
    def window(recv_window_ms: int) -> int:
        """The window as the venue takes it."""
        return min(RECV_WINDOW_MAX_MS, max(1, recv_window_ms))

    def signed_query(self, query: str, *, timestamp_ms: int, recv_window_ms: int = RECV_WINDOW_DEFAULT_MS) -> str:
        """``query`` (already percent-encoded, as it must be before signing) with timestamp, window and signature."""
        head = f"{query}&" if query else ""
        text = f"{head}timestamp={timestamp_ms}&recvWindow={self.window(recv_window_ms)}"
        return f"{text}&signature={quote(self.sign(text.encode()), safe='')}"


def encode_query(params: Iterable[tuple[str, str]]) -> str:
    """Percent-encoded query in the given order."""
    return "&".join(f"{key}={quote(value, safe='-_.~')}" for key, value in params)


def _private_key(pem: str) -> Ed25519PrivateKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # whose texts may quote the key
        raise ConfigInvalid(["api_secret: a PEM text that cannot be read, wanted an unencrypted private key"]) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigInvalid([f"api_secret: found a {type(key).__name__}, wanted an Ed25519 key or an HMAC secret"])
    return key
