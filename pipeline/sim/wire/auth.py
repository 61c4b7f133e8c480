"""Signatures and clock windows of the simulated venues, verified as the venues' documents say.

A check ends in the account that signed, or in :class:`AuthRefused` with the venue's own status, code and text.
Nothing here knows HTTP or WebSocket framing beyond the raw texts that are signed.
The rules of a venue lie in its own folder.
"""

from __future__ import annotations

import hmac
from typing import Protocol, TypeVar


class KeyHolder(Protocol):
    """The part of a simulated account that signing needs: several keys may open one account."""

    def secret_of(self, api_key: str) -> str:
        """The secret of a key; raises ``KeyError``."""


Account = TypeVar("Account", bound=KeyHolder)


class AuthRefused(Exception):
    """``code`` is the venue's number or label; ``status`` the HTTP status of the refusal."""

    def __init__(self, status: int, code: int | str, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.status = status
        self.code = code
        self.text = text


def hmac_sha256_hex(secret: str, message: bytes) -> str:
    """Lower-case hex of HMAC-SHA256: of several venues."""
    return hmac.digest(secret.encode(), message, "sha256").hex()


def hmac_sha512_hex(secret: str, message: bytes) -> str:
    """Lower-case hex of HMAC-SHA512: of several venues."""
    return hmac.digest(secret.encode(), message, "sha512").hex()
