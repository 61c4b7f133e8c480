"""Signatures and clock windows of Binance: REST (query and form body) and WebSocket API (parameters by name).

A key whose secret is a PEM text is an Ed25519 key: the venue verifies with its public half, signatures are base64.
Source: Binance spot REST API "SIGNED endpoint security", WebSocket API "Request security" (read 2026).
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote

from pipeline.sim.exchange.accounts import SimAccount
from pipeline.sim.wire.auth import hmac_sha256_hex
from pipeline.sim.wire.binance.formats import BinanceError

DEFAULT_RECV_WINDOW_MS = 5_000
RECV_WINDOW_MS_MAX = 60_000
FUTURE_TOLERANCE_MS = 1_000
_PEM = "PRIVATE KEY"


def rest_text(query: str, body: str) -> tuple[str, str]:
    """(text that the signature covers, the signature): query, then body without ``&`` between; signature taken out."""
    signature, kept = "", []
    for part in (query, body):
        pairs = []
        for pair in part.split("&") if part else ():
            if pair.startswith("signature="):
                signature = unquote(pair[len("signature=") :])
            else:
                pairs.append(pair)
        kept.append("&".join(pairs))
    return "".join(kept), signature


def rest_params(query: str, body: str) -> dict[str, str]:
    """Parameters of query and form body; the query wins where both name one."""
    return dict(parse_qsl(body, keep_blank_values=True)) | dict(parse_qsl(query, keep_blank_values=True))


def ws_params(params: Mapping[str, Any]) -> dict[str, str]:
    """Parameters of a WebSocket API call as text, as they are signed."""
    return {name: _text(value) for name, value in params.items() if value is not None}


def _text(value: Any) -> str:
    return "true" if value is True else "false" if value is False else str(value)


def ws_text(params: Mapping[str, str]) -> tuple[str, str]:
    """(text that the signature covers, the signature): all parameters but it, sorted by name."""
    text = "&".join(f"{name}={params[name]}" for name in sorted(params) if name != "signature")
    return text, params.get("signature", "")


def verify(
    accounts: Mapping[str, SimAccount],
    api_key: str | None,
    text: str,
    signature: str,
    params: Mapping[str, str],
    now_ms: int,
) -> SimAccount:
    """The account that signed. Raises ``BinanceError``: key, timestamp and window, signature, in this order."""
    if not api_key:
        raise BinanceError(-2014, "API-key format invalid.", 401)
    account = accounts.get(api_key)
    if account is None:
        raise BinanceError(-2015, "Invalid API-key, IP, or permissions for action.", 401)
    if not signature:
        raise missing("signature")
    check_window(params, now_ms)
    if not _is_signed(account.secret_of(api_key), text.encode(), signature):
        raise BinanceError(-1022, "Signature for this request is not valid.")
    return account


def missing(name: str) -> BinanceError:
    """The refusal of a request without a parameter."""
    return BinanceError(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")


def check_window(params: Mapping[str, str], now_ms: int) -> None:
    """Accepts ``timestamp < now + 1000`` and ``now - timestamp <= recvWindow``; raises ``BinanceError``."""
    stamp, window = params.get("timestamp", ""), params.get("recvWindow", str(DEFAULT_RECV_WINDOW_MS))
    if not stamp.isascii() or not stamp.isdigit():
        raise missing("timestamp")
    if not window.isascii() or not window.replace(".", "", 1).isdigit() or float(window) > RECV_WINDOW_MS_MAX:
        raise BinanceError(-1131, "recvWindow must be less than 60000")
    if int(stamp) >= now_ms + FUTURE_TOLERANCE_MS:
        text = "Timestamp for this request was 1000ms ahead of the server's time."
        raise BinanceError(-1021, text)
    if now_ms - int(stamp) > float(window):
        raise BinanceError(-1021, "Timestamp for this request is outside of the recvWindow.")


def deadline_ms(params: Mapping[str, str]) -> int:
    """Venue wall ms after which the matching engine no longer takes this request; 0 without a timestamp."""
    stamp = params.get("timestamp", "")
    return int(stamp) + int(float(params.get("recvWindow", DEFAULT_RECV_WINDOW_MS))) if stamp else 0


def is_ed25519(secret: str) -> bool:
    """Whether a key may log in: only those of a public-key kind may."""
    return _PEM in secret


def _is_signed(secret: str, text: bytes, signature: str) -> bool:
    if not is_ed25519(secret):
        return hmac.compare_digest(hmac_sha256_hex(secret, text), signature.lower())
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key = load_pem_private_key(secret.encode(), password=None)
    assert isinstance(key, Ed25519PrivateKey), "a scenario's PEM key is Ed25519"
    try:
        key.public_key().verify(base64.b64decode(signature, validate=True), text)
    except (InvalidSignature, binascii.Error):
        return False
    return True
