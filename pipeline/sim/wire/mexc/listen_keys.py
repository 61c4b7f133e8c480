"""MEXC listen keys: made by a signed POST, alive 60 minutes from the last extension, at most 60 per user."""

from __future__ import annotations

import hashlib

from pipeline.sim.exchange.accounts import SimAccount
from pipeline.sim.wire.mexc.formats import MexcError

LIFE_MS = 60 * 60_000


class ListenKeys:
    """Keys of one venue. Texts are derived from uid and a counter, so that a seeded run repeats itself."""

    def __init__(self, keys_max: int, sockets_per_key_max: int) -> None:
        self._keys_max = keys_max
        self._sockets_per_key_max = sockets_per_key_max
        self._keys: dict[str, tuple[SimAccount, int]] = {}
        self._sockets: dict[str, int] = {}
        self._made = 0

    def create(self, account: SimAccount, now_ms: int) -> str:
        """A new key. Raises ``MexcError`` when the account has ``keys_max``."""
        if len(self.of(account, now_ms)) >= self._keys_max:
            raise MexcError(700004, f"listenKey: at most {self._keys_max} keys")
        self._made += 1
        key = hashlib.sha256(f"{account.uid}:{self._made}".encode()).hexdigest()
        self._keys[key] = (account, now_ms + LIFE_MS)
        return key

    def extend(self, account: SimAccount, key: str, now_ms: int) -> None:
        """Gives a key another 60 minutes. Raises ``MexcError`` when it is not the account's."""
        self._owned(account, key, now_ms)
        self._keys[key] = (account, now_ms + LIFE_MS)

    def close(self, account: SimAccount, key: str) -> None:
        """Ends a key. Raises ``MexcError`` when it is not the account's."""
        held = self._keys.get(key)
        if held is None or held[0] is not account:
            raise MexcError(700004, "listenKey does not exist")
        del self._keys[key]

    def of(self, account: SimAccount, now_ms: int) -> list[str]:
        """Living keys of an account."""
        return [key for key, (owner, until_ms) in self._keys.items() if owner is account and until_ms > now_ms]

    def account_of(self, key: str, now_ms: int) -> SimAccount | None:
        """None when the key is unknown or has expired."""
        held = self._keys.get(key)
        return held[0] if held is not None and held[1] > now_ms else None

    def socket_opened(self, key: str) -> bool:
        """False when this key already has as many sockets as the venue allows."""
        count = self._sockets.get(key, 0)
        if count >= self._sockets_per_key_max:
            return False
        self._sockets[key] = count + 1
        return True

    def socket_closed(self, key: str) -> None:
        """Frees the place of one socket of the key."""
        count = self._sockets.get(key, 0)
        if count > 1:
            self._sockets[key] = count - 1
        else:
            self._sockets.pop(key, None)

    def _owned(self, account: SimAccount, key: str, now_ms: int) -> None:
        if self.account_of(key, now_ms) is not account:
            raise MexcError(700004, "listenKey does not exist")
