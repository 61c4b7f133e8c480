"""API keys of an instance's exchanges: one JSON file per exchange, readable by its owner only, or sealed memory.

Keys that a passphrase has opened (``locked_keys.py``) and keys of a Python program that starts an instance lie in
sealed memory behind a descriptor that the processes with a need of them inherit: in no file, argument or variable.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from pipeline.model.config import EngineConfig
from pipeline.model.dialects import facts_of
from pipeline.model.enums import Mode
from pipeline.model.errors import ConfigInvalid
from pipeline.model.structs import Credentials
from workers.state_folder import instance_dir

READ_SUFFIX = ".read"  # <exchange>.read.json: the poller's key at spot venues; without one it uses the trade key
LOCKED_SUFFIX = ".fernet"  # of a key file that is encrypted at rest (``locked_keys.py``)
OPENED_VARIABLE = "ARB_OPENED_KEYS"  # number of the descriptor of opened keys, which an instance's processes inherit
OPENED_LINK = "/memfd:arb-keys (deleted)"  # what it leads to: memory without a name in any folder
GUARD_SUFFIX = ".guard"  # <exchange>.guard.json: the guard's own trade key; without one it uses the executor's
PLACEHOLDER = re.compile(r"\.\.\.|…|[<>{}]|^x+$|your|change.?me|placeholder|example|api.?(key|secret)$", re.IGNORECASE)
KEY_FORMAT = '{"api_key": "...", "api_secret": "...", "uid": ""}'
ALERT_URLS = "alerts"  # <state>/keys/alerts.json
ALERT_URLS_FORMAT = '{"TARGET": "https://...", "heartbeat": "https://..."}'
T = TypeVar("T")


class KeysLocked(ConfigInvalid):
    """The key is there, encrypted, and was not opened for this process."""


def load_credentials(config: EngineConfig, exchange: str, *, instance: str | None = None) -> Credentials | None:
    """Key of one exchange: of the opened keys (those that were handed over among them), else
    ``$CREDENTIALS_DIRECTORY/<exchange>.json`` (systemd), else ``<state>/keys/<exchange>.json``.

    None when there is no file, and in paper mode for one that is locked. Raises KeysLocked for that elsewhere,
    ConfigInvalid when the file is readable by others or is not the expected JSON (its content is never quoted).
    """
    name = instance or config.instance
    found = read_key_file(name, exchange, Credentials, f"a key, wanted {KEY_FORMAT}")
    locked = f"{exchange}.json{LOCKED_SUFFIX}"
    if found is None and config.mode is not Mode.PAPER and (instance_dir(name) / "keys" / locked).exists():
        raise KeysLocked([f"keys/{locked}: locked; `arb up --passphrase` opens it"])
    return found


def load_alert_urls(instance: str) -> dict[str, str]:
    """URLs of the alert targets, by target's name (and ``heartbeat``), of ``alerts.json``, which lies where keys lie.

    {} when there is no file. Raises as :func:`load_credentials`.
    """
    return read_key_file(instance, ALERT_URLS, dict[str, str], f"URLs by name, wanted {ALERT_URLS_FORMAT}") or {}


def read_key_file(instance: str, name: str, kind: type[T], wanted: str) -> T | None:
    """``<name>.json`` of the opened keys, else of ``$CREDENTIALS_DIRECTORY``, else of ``<state>/keys``; ``wanted``:
    what should be in it."""
    file = f"{name}.json"
    raw = opened_keys().get(file)  # first: a program that hands a key over means it
    brought = os.environ.get("CREDENTIALS_DIRECTORY")
    if raw is None and brought:
        raw = _private_file(Path(brought) / file)
    path = instance_dir(instance) / "keys" / file
    raw = _private_file(path) if raw is None else raw
    if raw is None:
        return None
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise ConfigInvalid([f"keys/{file}: found something else than {wanted}; write {path} anew"]) from None


def _private_file(path: Path) -> bytes | None:
    """Its content; None where there is no such file. Raises ConfigInvalid where others may read it."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        raw = path.read_bytes()
    except FileNotFoundError:
        return None
    if mode & 0o077:
        raise ConfigInvalid([f"keys/{path.name}: found mode {mode:04o}, wanted 0600; `chmod 600 {path}` mends it"])
    return raw


def opened_descriptor() -> int:
    """Descriptor of the opened keys (``locked_keys.py``) that this process has or has inherited; -1 without."""
    number = os.environ.get(OPENED_VARIABLE, "")
    try:
        return int(number) if number.isdecimal() and os.readlink(f"/proc/self/fd/{number}") == OPENED_LINK else -1
    except OSError:  # a process that was started by other means has the variable alone
        return -1


def opened_keys() -> dict[str, bytes]:
    """Content of the key files that were locked and are open now, by name without the suffix."""
    descriptor = opened_descriptor()
    if descriptor < 0:
        return {}
    return msgspec.json.decode(os.pread(descriptor, os.fstat(descriptor).st_size, 0), type=dict[str, bytes])


def handed_over(keys: Mapping[str, Credentials]) -> dict[str, bytes]:
    """Content of the key files that the keys of a Python program stand for. ``keys``: by exchange; each serves every
    role there: a guard's or reader's key in some folder may be another account's."""
    return {
        f"{exchange}{suffix}.json": msgspec.json.encode(key)
        for exchange, key in keys.items()
        for suffix in ("", GUARD_SUFFIX, READ_SUFFIX)
    }


def store_credentials(instance: str, exchange: str, credentials: Credentials) -> Path:
    """Write a key file 0600 in the instance's state folder; the file never exists with a wider mode."""
    path = instance_dir(instance, create=True) / "keys" / f"{exchange}.json"
    write_private(path, msgspec.json.encode(credentials))
    return path


def write_private(path: Path, raw: bytes) -> None:
    """Write a file anew that its owner alone may read; it never exists with a wider mode."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as handle:
        handle.write(raw)


def without_guard_key(config: EngineConfig, instance: str) -> list[str]:
    """Exchanges at which the guard trades with the executor's key because it has none of its own."""
    found = []
    for name in config.trading_exchanges:
        own = load_credentials(config, f"{name}{GUARD_SUFFIX}", instance=instance)
        if own is None or own == _readable(config, name, instance):
            found.append(name)
    return found


def _readable(config: EngineConfig, name: str, instance: str) -> Credentials | None:
    """A trade key; None where it is not for this process: a guard with a key of its own trades without it."""
    try:
        return load_credentials(config, name, instance=instance)
    except ConfigInvalid:
        return None


def key_fix(instance: str, exchange: str, role: str = "trade") -> str:
    """The command that mends the key file of an exchange as it stands: wider than its owner, there already, absent."""
    suffix = {"trade": "", "guard": GUARD_SUFFIX, "read": READ_SUFFIX}[role]
    path = instance_dir(instance) / "keys" / f"{exchange}{suffix}.json"
    locked = path.with_name(path.name + LOCKED_SUFFIX)
    found = next((one for one in (path, locked) if one.exists()), None)
    if found is not None and stat.S_IMODE(found.stat().st_mode) & 0o077:
        return f"`chmod 600 {found}`"
    of_role = "" if role == "trade" else f" --role {role}"
    again = "" if found is None else " --encrypt --replace" if found == locked else " --replace"
    return f"`arb keys add {exchange}{of_role} --instance {instance}{again}`"


def key_fix_of(path: Path) -> str:
    """As :func:`key_fix`, for a key file of an instance, locked or not."""
    stem = path.name.removesuffix(LOCKED_SUFFIX).removesuffix(".json")
    suffix = next((one for one in (GUARD_SUFFIX, READ_SUFFIX) if stem.endswith(one)), "")
    return key_fix(path.parent.parent.name, stem.removesuffix(suffix), suffix.removeprefix(".") or "trade")


def is_placeholder(credentials: Credentials) -> bool:
    """Whether a key is the sample of some text, and not one that a venue has given."""
    texts = (credentials.api_key, credentials.api_secret)
    return any(not text.strip() or PLACEHOLDER.search(text) for text in texts) or " " in credentials.api_key.strip()


def missing_keys(config: EngineConfig, instance: str, given: Collection[str] = ()) -> list[str]:
    """One line for each exchange without a usable key, and where the key goes; [] when all are there. ``given``:
    exchanges whose keys the start will bring."""
    errors = []
    holders: dict[str, str] = {}  # of keys of accounts whose markets share a wallet
    dialects = {venue.exchange: venue.dialect for venue in config.trading_venues}
    for name in config.trading_exchanges:
        if name in given:
            continue
        try:
            found = load_credentials(config, name, instance=instance)
            if found is not None and name in dialects and facts_of(dialects[name]).one_wallet:
                holder = holders.setdefault(found.api_key, name)
                if holder != name:
                    text = "whose markets spend the same coins; wanted the key of another (sub-)account"
                    errors.append(f"keys/{name}.json: found the account of exchanges.{holder}, {text}")
            if found is not None and is_placeholder(found):
                errors.append(
                    f"keys/{name}.json: found a sample text, wanted the key that the exchange gave; "
                    f"{key_fix(instance, name)} writes it"
                )
            if found is None:
                errors.append(
                    f"exchanges.{name}: found no key, needed for mode {config.mode}; "
                    f"{key_fix(instance, name)}, or put {KEY_FORMAT} into "
                    f"{instance_dir(instance) / 'keys' / name}.json (mode 0600), or $CREDENTIALS_DIRECTORY/{name}.json"
                )
        except KeysLocked:
            continue  # it is there; the start that needs it asks for the passphrase
        except ConfigInvalid as error:
            errors.extend(error.errors)
    return errors
