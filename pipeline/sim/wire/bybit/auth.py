"""Signatures and clock windows of Bybit: REST headers and logins of sockets.

Source: Bybit V5 documentation "Integration Guidance" (timestamp, receive window, signature), "Connect" (auth).
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping

from pipeline.sim.exchange.accounts import SimAccount
from pipeline.sim.wire.auth import hmac_sha256_hex
from pipeline.sim.wire.bybit.market import BybitError

WINDOW_DEFAULT_MS = 5_000
AHEAD_MS = 1_000


def check_window(timestamp: str, window: str, now_ms: int) -> None:
    """``now - window <= timestamp < now + 1000``. Raises ``BybitError``."""
    window = window or str(WINDOW_DEFAULT_MS)
    good = all(text.isascii() and text.isdigit() for text in (timestamp, window))
    if not good or not now_ms - int(window) <= int(timestamp) < now_ms + AHEAD_MS:
        text = f"invalid request, please check your server timestamp or recv_window param. req_timestamp[{timestamp}]"
        raise BybitError(10002, f"{text},server_timestamp[{now_ms}],recv_window[{window}]")


def verify(account: SimAccount | None, headers: Mapping[str, str], signed: str, now_ms: int) -> SimAccount:
    """The account that signed a request; ``signed``: its query or its body. Raises ``BybitError``."""
    key = headers.get("X-BAPI-API-KEY", "")
    if account is None:
        raise BybitError(10003, "API key is invalid.")
    stamp, window = headers.get("X-BAPI-TIMESTAMP", ""), headers.get("X-BAPI-RECV-WINDOW", "")
    check_window(stamp, window, now_ms)
    wanted = hmac_sha256_hex(account.secret_of(key), f"{stamp}{key}{window}{signed}".encode())
    if not hmac.compare_digest(wanted, headers.get("X-BAPI-SIGN", "")):
        raise BybitError(10004, "error sign! please check your signature generation algorithm.")
    return account


def verify_login(account: SimAccount | None, key: str, expires: object, sign: object, now_ms: int) -> SimAccount:
    """The account that logs in on a socket. Raises ``BybitError``."""
    if account is None:
        raise BybitError(10003, "API key is invalid.")
    if not isinstance(expires, int) or expires <= now_ms or not isinstance(sign, str):
        raise BybitError(10001, "Params Error")
    wanted = hmac_sha256_hex(account.secret_of(key), f"GET/realtime{expires}".encode())
    if not hmac.compare_digest(wanted, sign):
        raise BybitError(10004, "error sign! please check your signature generation algorithm.")
    return account
