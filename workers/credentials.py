"""API keys of an instance's exchanges: one JSON file per exchange, readable by its owner only."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TypeVar

import msgspec

from pipeline.model.config import EngineConfig
from pipeline.model.errors import ConfigInvalid
from pipeline.model.structs import Credentials
from workers.state_folder import instance_dir

GUARD_SUFFIX = ".guard"  # <exchange>.guard.json: the guard's own trade key; without one it uses the executor's
KEY_FORMAT = '{"api_key": "...", "api_secret": "...", "uid": ""}'
ALERT_URLS = "alerts"  # <state>/keys/alerts.json
ALERT_URLS_FORMAT = '{"TARGET": "https://...", "heartbeat": "https://..."}'
T = TypeVar("T")


def load_credentials(config: EngineConfig, exchange: str, *, instance: str | None = None) -> Credentials | None:
    """Key of one exchange: ``$CREDENTIALS_DIRECTORY/<exchange>.json`` (systemd), else ``<state>/keys/<exchange>.json``.

    None when there is no file. Raises ConfigInvalid when the file is readable by others or is not the expected JSON
    (its content is never quoted).
    """
    return read_key_file(instance or config.instance, exchange, Credentials, f"a key, wanted {KEY_FORMAT}")


def load_alert_urls(instance: str) -> dict[str, str]:
    """URLs of who is told, by target's name (and ``heartbeat``), of ``alerts.json``, which lies where keys lie.

    {} when there is no file. Raises as :func:`load_credentials`.
    """
    return read_key_file(instance, ALERT_URLS, dict[str, str], f"URLs by name, wanted {ALERT_URLS_FORMAT}") or {}


def read_key_file(instance: str, name: str, kind: type[T], wanted: str) -> T | None:
    """``<name>.json`` of ``$CREDENTIALS_DIRECTORY``, else of ``<state>/keys``; ``wanted``: what should be in it."""
    folders = []
    if os.environ.get("CREDENTIALS_DIRECTORY"):
        folders.append(Path(os.environ["CREDENTIALS_DIRECTORY"]))
    folders.append(instance_dir(instance) / "keys")
    for folder in folders:
        path = folder / f"{name}.json"
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
            raw = path.read_bytes()
        except FileNotFoundError:
            continue
        if mode & 0o077:
            raise ConfigInvalid([f"keys/{name}.json: found mode {mode:04o}, wanted 0600; `chmod 600 {path}` mends it"])
        try:
            return msgspec.json.decode(raw, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise ConfigInvalid([f"keys/{name}.json: found something else than {wanted}; write {path} anew"]) from None
    return None


def store_credentials(instance: str, exchange: str, credentials: Credentials) -> Path:
    """Write a key file 0600 in the instance's state folder; the file never exists with a wider mode."""
    path = instance_dir(instance, create=True) / "keys" / f"{exchange}.json"
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as handle:
        handle.write(msgspec.json.encode(credentials))
    return path


def without_guard_key(config: EngineConfig, instance: str) -> list[str]:
    """Exchanges at which the guard trades with the executor's key because it has none of its own."""
    return [
        name for name in config.feeds if load_credentials(config, f"{name}{GUARD_SUFFIX}", instance=instance) is None
    ]


def missing_keys(config: EngineConfig, instance: str) -> list[str]:
    """One line for each exchange without a usable key, and where the key goes; [] when all are there."""
    errors = []
    for name in config.feeds:
        try:
            if load_credentials(config, name, instance=instance) is None:
                errors.append(
                    f"exchanges.{name}: found no key, needed for mode {config.mode}; put {KEY_FORMAT} into "
                    f"{instance_dir(instance) / 'keys' / name}.json (mode 0600), or $CREDENTIALS_DIRECTORY/{name}.json"
                )
        except ConfigInvalid as error:
            errors.extend(error.errors)
    return errors
