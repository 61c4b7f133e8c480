"""``arb keys``: key files of an instance by exchange and role, written, listed masked, and tried at the exchange."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from pipeline.exchanges.factory import make_venue
from pipeline.model.config import EngineConfig
from pipeline.model.config_load import ENGINE_NAME_RE, NAME_RE
from pipeline.model.errors import BadInput
from pipeline.model.structs import Credentials
from workers.account_clients import KeyRole
from workers.credentials import (
    ALERT_URLS,
    GUARD_SUFFIX,
    LOCKED_SUFFIX,
    READ_SUFFIX,
    is_placeholder,
    key_fix,
    key_fix_of,
    write_private,
)
from workers.locked_keys import decrypt, encrypt
from workers.setup.checks import Check, State, as_fields
from workers.setup.network_checks import ask_key
from workers.state_folder import instance_dir

SUFFIXES: Mapping[KeyRole, str] = {KeyRole.TRADE: "", KeyRole.GUARD: GUARD_SUFFIX, KeyRole.READ: READ_SUFFIX}
MASKED_MIN = 12  # a shorter key is not shown in part


def masked(text: str) -> str:
    """A key as it may be shown."""
    return f"{text[:4]}…{text[-2:]}" if len(text) >= MASKED_MIN else "…"


def _file(instance: str, exchange: str, role: KeyRole) -> Path:
    return instance_dir(instance) / "keys" / f"{exchange}{SUFFIXES[role]}.json"


def add_key(
    instance: str, exchange: str, role: KeyRole, key: Credentials, passphrase: str, *, replace: bool
) -> dict[str, Any]:
    """Write a key file 0600, encrypted where there is a passphrase. Raises BadInput."""
    if not NAME_RE.fullmatch(exchange) or not ENGINE_NAME_RE.fullmatch(instance):
        raise BadInput(f"found exchange {exchange!r}, instance {instance!r}, wanted names as in the configuration")
    if exchange == ALERT_URLS:
        raise BadInput(f"found exchange {exchange!r}, which is the file of alert targets; wanted an exchange's name")
    if is_placeholder(key):
        raise BadInput("key: found a sample text, wanted the key that the exchange gave")
    plain = _file(instance, exchange, role)
    locked = plain.with_name(plain.name + LOCKED_SUFFIX)
    if not replace and (plain.exists() or locked.exists()):
        raise BadInput(f"found a key of {exchange} for {role} already; --replace writes it anew")
    instance_dir(instance, create=True)
    raw = msgspec.json.encode(key)
    path = locked if passphrase else plain
    write_private(path, encrypt(raw, passphrase) if passphrase else raw)
    (plain if passphrase else locked).unlink(missing_ok=True)
    shown = {"exchange": exchange, "role": str(role), "api_key": masked(key.api_key)}
    opens = " --passphrase" if passphrase else ""
    tried = f"arb keys test {exchange} --instance {instance}{opens}"
    return shown | {"file": str(path), "encrypted": bool(passphrase), "next": tried}


def list_keys(instance: str) -> list[dict[str, Any]]:
    """Every key file of the instance; secrets are not shown, keys masked."""
    rows = []
    for path in sorted((instance_dir(instance) / "keys").glob("*.json*")):
        if path.name.partition(".")[0] == ALERT_URLS:
            continue
        locked = path.name.endswith(LOCKED_SUFFIX)
        exchange, role = _named(path.name.removesuffix(LOCKED_SUFFIX).removesuffix(".json"))
        mode = stat.S_IMODE(path.stat().st_mode)
        shown = "locked" if locked else _shown(path)
        rows.append(
            {"exchange": exchange, "role": str(role), "api_key": shown, "encrypted": locked, "mode": f"{mode:04o}"}
            | {"problem": f"chmod 600 {path}" if mode & 0o077 else ""}
        )
    return rows


def _named(stem: str) -> tuple[str, KeyRole]:
    for role in (KeyRole.GUARD, KeyRole.READ):
        if stem.endswith(SUFFIXES[role]):
            return stem.removesuffix(SUFFIXES[role]), role
    return stem, KeyRole.TRADE


def _shown(path: Path) -> str:
    try:
        return masked(msgspec.json.decode(path.read_bytes(), type=Credentials).api_key)
    except (msgspec.DecodeError, UnicodeDecodeError, OSError):
        return "unreadable"


def try_keys(config: EngineConfig, instance: str, exchange: str, passphrase: str) -> list[dict[str, Any]]:
    """Ask each exchange with each of its keys, "" = all: accepted, withdrawal right, bound to addresses.

    Raises BadInput for an exchange that is not configured, and where there is no key to try.
    """
    if exchange and exchange not in config.feeds:
        raise BadInput(f"found {exchange!r}, wanted one of {', '.join(config.feeds)} of the configuration")
    rows: list[Check] = []
    for name in [exchange] if exchange else config.feeds:
        venue = next(venue for venue in config.venues if venue.exchange == name)
        for role in KeyRole:
            fix = key_fix(instance, name, str(role))
            key = _read(_file(instance, name, role), passphrase)
            if key is not None and role is KeyRole.READ:
                rows.append(_reader(name, spot=any(v.exchange == name and v.market == "spot" for v in config.venues)))
            if key is not None:
                found = asyncio.run(ask_key(make_venue(venue, key), venue, fix))
                rows += [row._replace(name=f"{role}: {row.name}") for row in found]
    if not rows:
        fix = key_fix(instance, exchange or config.feeds[0])
        raise BadInput(f"found no key of {exchange or ', '.join(config.feeds)}; {fix} writes one")
    return as_fields(rows)


def _reader(exchange: str, *, spot: bool) -> Check:
    """Who uses an exchange's read key: on futures whoever reads also sets leverage and margin mode."""
    state, text = (State.OK, "the poller, on the spot venue") if spot else (State.WARN, "nobody: no spot venue here")
    return Check(f"read: key of {exchange} used by", state, text, "a spot venue", "remove it; the trade key is used")


def _read(path: Path, passphrase: str) -> Credentials | None:
    locked = path.with_name(path.name + LOCKED_SUFFIX)
    if path.exists():
        raw = path.read_bytes()
    elif locked.exists():
        if not passphrase:
            raise BadInput(f"{locked.name}: locked; give --passphrase")
        raw = decrypt(locked, passphrase)
    else:
        return None
    try:
        return msgspec.json.decode(raw, type=Credentials)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise BadInput(f"{path.name}: found something else than a key; {key_fix_of(path)} writes it anew") from None
