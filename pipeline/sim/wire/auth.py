"""Signatures and clock windows of the simulated venues, verified as the venues' documents say.

Every check ends in the account that signed, or in :class:`AuthRefused` with the venue's own status, code and text.
Nothing here knows HTTP or WebSocket framing beyond the raw texts that are signed.

Source: MEXC spot v3 "SIGNED" rules; Gate.io APIv4 "Authentication", WebSocket v4 "Authentication" and "Login".
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import Protocol, TypeVar
from urllib.parse import parse_qsl, unquote_plus

MEXC_DEFAULT_RECV_WINDOW_MS = 5_000
MEXC_RECV_WINDOW_MS_MAX = 60_000
MEXC_FUTURE_TOLERANCE_MS = 1_000
GATE_WINDOW_S = 60
_EMPTY_SHA512 = hashlib.sha512(b"").hexdigest()


class KeyHolder(Protocol):
    """The part of a simulated account that signing needs: several keys may open one account."""

    def secret_of(self, api_key: str) -> str:
        """The secret of a key; raises ``KeyError``."""


Account = TypeVar("Account", bound=KeyHolder)


class AuthRefused(Exception):
    """``code`` is MEXC's number or Gate.io's label; ``status`` the HTTP status of the refusal."""

    def __init__(self, status: int, code: int | str, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.status = status
        self.code = code
        self.text = text


def hmac_sha256_hex(secret: str, message: bytes) -> str:
    """Lower-case hex of HMAC-SHA256: what MEXC signs with."""
    return hmac.digest(secret.encode(), message, "sha256").hex()


def hmac_sha512_hex(secret: str, message: bytes) -> str:
    """Lower-case hex of HMAC-SHA512: what Gate.io signs with."""
    return hmac.digest(secret.encode(), message, "sha512").hex()


# --- MEXC -----------------------------------------------------------------------------------------------------------


def mexc_signed_text(query: str, body: str) -> tuple[str, str | None]:
    """(text that the signature covers, the signature): query immediately followed by body, ``signature`` taken out."""
    signature: str | None = None
    kept: list[str] = []
    for part in (query, body):
        pairs = []
        for pair in part.split("&") if part else ():
            if pair.startswith("signature="):
                signature = pair[len("signature=") :]
            else:
                pairs.append(pair)
        kept.append("&".join(pairs))
    return "".join(kept), signature


def mexc_params(query: str, body: str) -> dict[str, str]:
    """Parameters of query and form body together; the query wins where both name one."""
    params = dict(parse_qsl(body, keep_blank_values=True)) if body and not body.startswith(("{", "[")) else {}
    params.update(parse_qsl(query, keep_blank_values=True))
    return params


def verify_mexc(
    accounts: Mapping[str, Account], api_key: str | None, query: str, body: str, params: Mapping[str, str], now_ms: int
) -> Account:
    """Accept when ``timestamp < now + 1000`` and ``now - timestamp <= recvWindow`` and the HMAC-SHA256 is right.

    The signature is lower-case hex, as the document demands; upper case is refused.
    """
    if not api_key:
        raise AuthRefused(400, 400, "api key required")
    account = accounts.get(api_key)
    if account is None:
        raise AuthRefused(400, 10072, "Api key info invalid")
    text, signature = mexc_signed_text(query, body)
    if not signature:
        raise AuthRefused(400, 700004, "Mandatory parameter 'signature' was not sent, was empty/null, or malformed.")
    stamp = params.get("timestamp", "")
    if not stamp.isascii() or not stamp.isdigit():
        raise AuthRefused(400, 700004, "Mandatory parameter 'timestamp' was not sent, was empty/null, or malformed.")
    window = params.get("recvWindow", str(MEXC_DEFAULT_RECV_WINDOW_MS))
    if not window.isascii() or not window.isdigit() or int(window) > MEXC_RECV_WINDOW_MS_MAX:
        raise AuthRefused(400, 700005, "recvWindow must less than 60000")
    timestamp_ms = int(stamp)
    if timestamp_ms >= now_ms + MEXC_FUTURE_TOLERANCE_MS or now_ms - timestamp_ms > int(window):
        raise AuthRefused(400, 700003, "Timestamp for this request is outside of the recvWindow.")
    if not hmac.compare_digest(hmac_sha256_hex(account.secret_of(api_key), text.encode()), signature):
        raise AuthRefused(400, 700002, "Signature for this request is not valid.")
    return account


def mexc_deadline_ms(params: Mapping[str, str]) -> int:
    """Venue wall ms after which this signed request must no longer be carried out."""
    return int(params["timestamp"]) + int(params.get("recvWindow", MEXC_DEFAULT_RECV_WINDOW_MS))


# --- Gate.io --------------------------------------------------------------------------------------------------------


def gate_rest_text(method: str, path: str, query: str, body: bytes, timestamp: str) -> bytes:
    """Five lines: method, path, query as it was before encoding, SHA-512 of the body, timestamp in seconds."""
    body_hash = hashlib.sha512(body).hexdigest() if body else _EMPTY_SHA512
    return f"{method}\n{path}\n{unquote_plus(query)}\n{body_hash}\n{timestamp}".encode()


def gate_channel_text(channel: str, event: str, time_s: int) -> bytes:
    """What a private subscription signs. Source: Gate.io WebSocket v4 "Authentication"."""
    return f"channel={channel}&event={event}&time={time_s}".encode()


def gate_api_text(channel: str, req_param: bytes, timestamp: str) -> bytes:
    """What a WebSocket API login signs: ``api``, channel, raw JSON of ``req_param`` (empty when absent), timestamp."""
    return b"api\n" + channel.encode() + b"\n" + req_param + b"\n" + timestamp.encode()


def _gate_window(stamp: str, now_ms: int) -> None:
    """Seconds; the exchange's own SDK sends them with a fraction and signs that text."""
    whole, _, fraction = stamp.partition(".")
    is_number = stamp.isascii() and whole.isdigit() and (fraction.isdigit() or not fraction)
    if not is_number or abs(int(whole) - now_ms // 1000) > GATE_WINDOW_S:
        raise AuthRefused(
            403, "REQUEST_EXPIRED", f"gap between request Timestamp and server time exceeds {GATE_WINDOW_S} seconds"
        )


def _gate_key(accounts: Mapping[str, Account], api_key: str) -> Account:
    account = accounts.get(api_key)
    if account is None:
        raise AuthRefused(401, "INVALID_KEY", "Invalid key provided")
    return account


def _gate_signature(secret: str, text: bytes, signature: str) -> None:
    if not hmac.compare_digest(hmac_sha512_hex(secret, text), signature):
        raise AuthRefused(401, "INVALID_SIGNATURE", "Signature mismatch")


def verify_gate_rest(
    accounts: Mapping[str, Account],
    headers: Mapping[str, str],
    *,
    method: str,
    path: str,
    query: str,
    body: bytes,
    now_ms: int,
) -> Account:
    """Order of the checks as observed: headers, clock (60 s), key, signature; then ``x-gate-exptime``."""
    for name in ("Timestamp", "KEY", "SIGN"):
        if not headers.get(name.lower()):
            raise AuthRefused(400, "MISSING_REQUIRED_HEADER", f"Missing required header: {name}")
    stamp = headers["timestamp"]
    _gate_window(stamp, now_ms)
    account = _gate_key(accounts, headers["key"])
    secret = account.secret_of(headers["key"])
    _gate_signature(secret, gate_rest_text(method, path, query, body, stamp), headers["sign"])
    check_gate_exptime(headers, now_ms)
    return account


def gate_exptime_ms(headers: Mapping[str, str]) -> int:
    """``x-gate-exptime`` (unix ms); 0 when absent."""
    text = headers.get("x-gate-exptime", "")
    if not text:
        return 0
    if not text.isascii() or not text.isdigit():
        raise AuthRefused(400, "INVALID_PARAM_VALUE", "Invalid request header x-gate-exptime")
    return int(text)


def check_gate_exptime(headers: Mapping[str, str], now_ms: int) -> None:
    """Raises ``AuthRefused`` when the request's own expiry (``x-gate-exptime``, Unix ms) has passed."""
    expiry_ms = gate_exptime_ms(headers)
    if expiry_ms and now_ms > expiry_ms:
        raise AuthRefused(403, "REQUEST_EXPIRED", "Request Expired")


def verify_gate_channel(
    accounts: Mapping[str, Account], auth: Mapping[str, str], *, channel: str, event: str, time_s: int, now_ms: int
) -> Account:
    """Private channel subscription: HMAC-SHA512 over ``channel=C&event=E&time=T``."""
    _gate_window(str(time_s), now_ms)
    api_key = auth.get("KEY", "")
    account = _gate_key(accounts, api_key)
    _gate_signature(account.secret_of(api_key), gate_channel_text(channel, event, time_s), auth.get("SIGN", ""))
    return account


def verify_gate_login(
    accounts: Mapping[str, Account],
    *,
    channel: str,
    api_key: str,
    signature: str,
    timestamp: str,
    req_param: bytes,
    now_ms: int,
) -> Account:
    """The login of the WebSocket API: clock (60 s), key, signature. Raises ``AuthRefused``."""
    _gate_window(timestamp, now_ms)
    account = _gate_key(accounts, api_key)
    _gate_signature(account.secret_of(api_key), gate_api_text(channel, req_param, timestamp), signature)
    return account
