"""Gate.io's signatures and clock window, verified as its document says; its request budgets.

Source: Gate.io APIv4 "Authentication", "Rate limit"; WebSocket v4 "Authentication" and "Login".
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from urllib.parse import unquote_plus

import msgspec

from pipeline.sim.wire.auth import Account, AuthRefused, hmac_sha512_hex
from pipeline.sim.wire.rate_limits import Budget, BudgetState

GATE_WINDOW_S = 60
_EMPTY_SHA512 = hashlib.sha512(b"").hexdigest()


class GateLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Gate.io's budgets. ``private`` and ``public`` are per endpoint. Source: Gate.io APIv4 "Rate limit"."""

    public: Budget = Budget(200, 10_000)
    spot_place: Budget = Budget(10, 1_000)  # per account and market
    spot_cancel: Budget = Budget(200, 1_000)
    futures_place: Budget = Budget(100, 1_000)
    futures_cancel: Budget = Budget(200, 1_000)
    private: Budget = Budget(200, 10_000)
    spot_ws_trading: Budget = Budget(10, 1_000)
    futures_ws_trading: Budget = Budget(100, 1_000)


def gate_headers(state: BudgetState) -> dict[str, str]:
    """Response headers that every limited Gate.io reply carries; the reset time is in unix seconds."""
    return {
        "X-Gate-RateLimit-Requests-Remain": str(state.remain),
        "X-Gate-RateLimit-Limit": str(state.limit),
        "X-Gate-RateLimit-Reset-Timestamp": str(state.reset_ms // 1000),
    }


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
