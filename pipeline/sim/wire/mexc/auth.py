"""MEXC's signatures and clock window, verified as its document says; its request budgets.

Source: MEXC spot v3 "SIGNED" rules; limits as reported in 2025 and 2026.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from urllib.parse import parse_qsl

import msgspec

from pipeline.sim.wire.auth import Account, AuthRefused, hmac_sha256_hex
from pipeline.sim.wire.rate_limits import Budget

MEXC_DEFAULT_RECV_WINDOW_MS = 5_000
MEXC_RECV_WINDOW_MS_MAX = 60_000
MEXC_FUTURE_TOLERANCE_MS = 1_000


class MexcLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Weight budgets are per endpoint. 500 per 10 s by the document, 300 per address reported in 2026."""

    ip: Budget = Budget(300, 10_000)
    uid: Budget = Budget(500, 10_000)
    place: Budget = Budget(5, 1_000)  # reported since 2025-03
    batch: Budget = Budget(2, 1_000)
    ws_in: Budget = Budget(100, 1_000)
    ws_topics_max: int = 30
    listen_keys_max: int = 60
    sockets_per_key_max: int = 5
    ban_factor: int = 3  # asking on past this many times the budget: 418 for ``ban_ms``
    ban_ms: int = 120_000


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
